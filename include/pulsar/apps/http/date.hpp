// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The date as HTTP writes it: "Sun, 06 Nov 1994 08:49:37 GMT".
///
///     response.header("Last-Modified", http::format_date(file_time).view());
///
///     http::date_clock clock;                        // one a loop
///     how.date = clock.at(std::time(nullptr));       // formats once a second
///
/// This is the one form that RFC 9110 5.6.7 lets anybody send (IMF-fixdate).

#include <array>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <string_view>

namespace pulsar::http {

/// The text of a date, held by value.
class date_text {
 public:
  static constexpr std::size_t size = 29;

  /// The first second of 1970.
  constexpr date_text() noexcept : date_text(0) {}

  /// `seconds` since 1970, UTC; a time outside the years 0 to 9999 counts as the nearest within.
  constexpr explicit date_text(std::time_t seconds) noexcept {
    constexpr std::time_t year_0 = -62'167'219'200;
    constexpr std::time_t year_9999 = 253'402'300'799;
    seconds = seconds < year_0 ? year_0 : seconds > year_9999 ? year_9999 : seconds;
    const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date(day);
    const std::chrono::hh_mm_ss clock(time - day);
    constexpr std::string_view days = "SunMonTueWedThuFriSat";
    constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    copy(0, days.substr(std::chrono::weekday(day).c_encoding() * 3, 3));
    copy(3, ", ");
    digits(5, static_cast<unsigned>(date.day()));
    text_[7] = ' ';
    copy(8, months.substr((static_cast<unsigned>(date.month()) - 1) * 3, 3));
    text_[11] = ' ';
    const auto year = static_cast<unsigned>(static_cast<int>(date.year()));
    digits(12, year / 100);
    digits(14, year % 100);
    text_[16] = ' ';
    digits(17, static_cast<unsigned>(clock.hours().count()));
    text_[19] = ':';
    digits(20, static_cast<unsigned>(clock.minutes().count()));
    text_[22] = ':';
    digits(23, static_cast<unsigned>(clock.seconds().count()));
    copy(25, " GMT");
  }

  constexpr std::string_view view() const noexcept { return {text_.data(), text_.size()}; }

 private:
  constexpr void copy(std::size_t at, std::string_view text) noexcept {
    for (const char c : text) text_[at++] = c;
  }
  constexpr void digits(std::size_t at, unsigned value) noexcept {
    text_[at] = static_cast<char>('0' + value / 10);
    text_[at + 1] = static_cast<char>('0' + value % 10);
  }

  std::array<char, size> text_{};
};

/// The text of that time.
constexpr date_text format_date(std::time_t seconds) noexcept { return date_text(seconds); }

/// The text of that time, to the second.
constexpr date_text format_date(std::chrono::system_clock::time_point time) noexcept {
  return date_text(static_cast<std::time_t>(
      std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count()));
}

/// The text of the present, formatted anew only when the second has changed.
class date_clock {
 public:
  /// Good until the next call.
  std::string_view at(std::time_t now) noexcept {
    if (now != second_) {
      second_ = now;
      text_ = date_text(now);
    }
    return text_.view();
  }

 private:
  std::time_t second_ = 0;
  date_text text_;
};

}  // namespace pulsar::http
