// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/method.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <set>
#include <string>

namespace http = pulsar::http;

TEST_SUITE("http::method") {
  TEST_CASE("each name leads back to its method") {
    std::set<std::string> names;
    for (std::size_t i = 1; i < http::method_count; ++i) {
      const auto method = static_cast<http::method>(i);
      CAPTURE(to_string(method));
      CHECK(http::parse_method(to_string(method)) == method);
      CHECK(names.emplace(to_string(method)).second);
    }
    CHECK(to_string(http::method::delete_) == "DELETE");
  }

  TEST_CASE("another name, or another case, is unknown") {
    for (const char* name : {"", "G", "GOT", "get", "Get", "HEAP", "PATCHES", "PATHS", "REMOVE",
                             "OPTION", "OPTIONZ", "UNKNOWN", "PROPFIND"}) {
      CAPTURE(name);
      CHECK(http::parse_method(name) == http::method::unknown);
    }
  }

  TEST_CASE("safe and idempotent methods are those of RFC 9110") {
    std::set<http::method> safe;
    std::set<http::method> idempotent;
    for (std::size_t i = 0; i < http::method_count; ++i) {
      const auto method = static_cast<http::method>(i);
      if (http::is_safe(method)) safe.insert(method);
      if (http::is_idempotent(method)) idempotent.insert(method);
    }
    using enum http::method;
    CHECK(safe == std::set<http::method>{get, head, options, trace});
    CHECK(idempotent == std::set<http::method>{get, head, options, trace, put, delete_});
  }

  TEST_CASE("versions have their names") {
    CHECK(to_string(http::version::http_1_0) == "HTTP/1.0");
    CHECK(to_string(http::version::http_1_1) == "HTTP/1.1");
  }
}
