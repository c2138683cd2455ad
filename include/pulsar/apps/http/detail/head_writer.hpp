// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Writes the head of a response: gathered on the stack, so that a small response reaches the
// output in one append, and no bound is needed on a large one.

#include <pulsar/apps/http/status.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace pulsar::http::detail {

// "HTTP/1.1 200 OK\r\n" of every registered code, rendered when compiled.
struct status_line {
  std::array<char, 64> text{};
  std::uint8_t size = 0;

  constexpr void put(std::string_view part) {
    for (const char c : part) text[size++] = c;
  }
  constexpr std::string_view view() const noexcept { return {text.data(), size}; }
};

constexpr status_line make_status_line(int code) {
  status_line line;
  line.put("HTTP/1.1 ");
  const char digits[] = {static_cast<char>('0' + code / 100),
                         static_cast<char>('0' + code / 10 % 10),
                         static_cast<char>('0' + code % 10), ' '};
  line.put({digits, 4});
  line.put(reason(code));
  line.put("\r\n");
  return line;
}

constexpr int first_code = 100;
constexpr int last_code = 511;

inline constexpr auto registered_codes = [] {
  std::array<std::uint8_t, last_code - first_code + 1> places{};  // in `status_lines` + 1
  std::uint8_t n = 0;
  for (int code = first_code; code <= last_code; ++code) {
    if (!reason(code).empty()) places[static_cast<std::size_t>(code - first_code)] = ++n;
  }
  return places;
}();

constexpr std::size_t registered_count = [] {
  std::size_t n = 0;
  for (const auto place : registered_codes) n = place > n ? place : n;
  return n;
}();

inline constexpr auto status_lines = [] {
  std::array<status_line, registered_count> lines{};
  for (int code = first_code; code <= last_code; ++code) {
    const auto place = registered_codes[static_cast<std::size_t>(code - first_code)];
    if (place != 0) lines[place - 1U] = make_status_line(code);
  }
  return lines;
}();

template <class Out>
class head_writer {
 public:
  explicit head_writer(Out& out) noexcept : out_(out) {}

  void put(std::string_view text) {
    if (text.size() > buffer_.size() - size_) [[unlikely]] {
      flush();
      if (text.size() > buffer_.size()) {
        out_.append(text);
        return;
      }
    }
    std::memcpy(buffer_.data() + size_, text.data(), text.size());
    size_ += text.size();
  }

  void put_status(int code) {
    if (code == 200) [[likely]]
      return put("HTTP/1.1 200 OK\r\n");
    if (code >= first_code && code <= last_code) {
      const auto place = registered_codes[static_cast<std::size_t>(code - first_code)];
      if (place != 0) return put(status_lines[place - 1U].view());
    }
    put(make_status_line(code).view());
  }

  void put_number(std::uint64_t value) {
    char digits[20];
    char* first = digits + sizeof digits;
    do {
      *--first = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    put({first, static_cast<std::size_t>(digits + sizeof digits - first)});
  }

  // The last text, which may be a large one.
  void finish(std::string_view body) {
    if (!body.empty()) put(body);
    flush();
  }

 private:
  void flush() {
    if (size_ != 0) out_.append(std::string_view(buffer_.data(), size_));
    size_ = 0;
  }

  Out& out_;
  std::size_t size_ = 0;
  std::array<char, 1024> buffer_;
};

}  // namespace pulsar::http::detail
