// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/limits.hpp>

#include <doctest/doctest.h>

#include "feed.hpp"

#include <string>

namespace http = pulsar::http;

TEST_SUITE("http::limits") {
  TEST_CASE("by default a request is bounded as the documentation says") {
    const auto error_of = [](const std::string& input) { return http_test::feed(input).error; };
    const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
    const auto line = [](std::size_t size) { return "X: " + std::string(size - 3, 'a') + "\r\n"; };
    const auto target = [](std::size_t size) {
      return "GET /" + std::string(size - 14, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n";
    };
    CHECK(!error_of(target(8190)));
    CHECK(error_of(target(8191)) == http::errc::target_too_long);
    CHECK(!error_of(head + line(8190) + "\r\n"));
    CHECK(error_of(head + line(8191) + "\r\n") == http::errc::header_too_large);

    std::string lines;
    for (int i = 0; i < 7; ++i) lines += line(8190);
    CHECK(!error_of(head + lines + line(8000) + "\r\n"));
    CHECK(error_of(head + lines + line(8190) + "\r\n") == http::errc::header_too_large);

    std::string many;
    for (int i = 0; i < 99; ++i) many += "X: y\r\n";
    CHECK(!error_of(head + many + "\r\n"));
    CHECK(error_of(head + many + "X: y\r\n\r\n") == http::errc::too_many_headers);

    const std::string body(1024 * 1024, 'b');
    CHECK(!error_of(head + "Content-Length: 1048576\r\n\r\n" + body));
    CHECK(error_of(head + "Content-Length: 1048577\r\n\r\n") == http::errc::body_too_large);
  }

  TEST_CASE("one limit can be named without the others") {
    const http::limits bounds{.body = 64 << 20};
    CHECK(bounds.body == 67'108'864);
    CHECK(bounds.headers == http::limits().headers);
  }
}
