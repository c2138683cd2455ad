// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/status.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace http = pulsar::http;

TEST_SUITE("http::status") {
  TEST_CASE("registered codes have phrases of their own, others have none") {
    std::set<std::string> phrases;
    for (int code = -1; code < 1000; ++code) {
      CAPTURE(code);
      const auto phrase = http::reason(code);
      if (!phrase.empty()) CHECK(phrases.emplace(phrase).second);
    }
    CHECK(phrases.size() == 62);
    CHECK(http::reason(200) == "OK");
    CHECK(http::reason(http::status::not_found) == "Not Found");
    CHECK(http::reason(http::status::http_version_not_supported) == "HTTP Version Not Supported");
    CHECK(http::reason(299).empty());
  }

  TEST_CASE("interim answers, 204 and 304 have no body") {
    for (const int code : {100, 101, 103, 199, 204, 304}) CHECK(http::is_bodiless(code));
    for (const int code : {200, 205, 206, 300, 404, 500}) CHECK_FALSE(http::is_bodiless(code));
  }
}
