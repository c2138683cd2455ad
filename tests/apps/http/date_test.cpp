// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/date.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <clocale>
#include <cstdint>
#include <ctime>
#include <limits>
#include <string>

namespace http = pulsar::http;

TEST_SUITE("http::date") {
  TEST_CASE("a date is written as RFC 9110 has it") {
    CHECK(http::format_date(784'111'777).view() == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(http::format_date(0).view() == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(http::format_date(951'827'696).view() == "Tue, 29 Feb 2000 12:34:56 GMT");
    CHECK(http::date_text().view() == http::format_date(0).view());
  }

  TEST_CASE("dates agree with the C library") {
    std::uint64_t state = 1;
    for (int i = 0; i < 20'000; ++i) {
      state = state * 6'364'136'223'846'793'005U + 1;
      const auto time = static_cast<std::time_t>(state >> 30) % 253'402'300'800;
      std::tm parts{};
      ::gmtime_r(&time, &parts);
      char text[64];
      const auto size = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
      REQUIRE(http::format_date(time).view() == std::string(text, size));
    }
  }

  TEST_CASE("a time that has no such text is the nearest that has one") {
    CHECK(http::format_date(std::numeric_limits<std::time_t>::max()).view() ==
          "Fri, 31 Dec 9999 23:59:59 GMT");
    CHECK(http::format_date(std::numeric_limits<std::time_t>::min()).view() ==
          "Sat, 01 Jan 0000 00:00:00 GMT");
    CHECK(http::format_date(-1).view() == "Wed, 31 Dec 1969 23:59:59 GMT");
  }

  TEST_CASE("a time point counts to the second before it") {
    using namespace std::chrono;
    CHECK(http::format_date(system_clock::time_point(milliseconds(1'999))).view() ==
          "Thu, 01 Jan 1970 00:00:01 GMT");
    CHECK(http::format_date(system_clock::time_point(milliseconds(-1))).view() ==
          "Wed, 31 Dec 1969 23:59:59 GMT");
  }

  TEST_CASE("the clock follows the second it is told") {
    http::date_clock clock;
    CHECK(clock.at(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(clock.at(784'111'777) == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(clock.at(784'111'777) == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(clock.at(784'111'778) == "Sun, 06 Nov 1994 08:49:38 GMT");
    CHECK(clock.at(784'111'776) == "Sun, 06 Nov 1994 08:49:36 GMT");
  }
}
