// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/request.hpp>

#include <doctest/doctest.h>

#include "feed.hpp"

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace http = pulsar::http;

TEST_SUITE("http::request") {
  TEST_CASE("a request that nobody has filled is empty") {
    const http::request request;
    CHECK(request.method() == http::method::unknown);
    CHECK(request.target().empty());
    CHECK(request.path().empty());
    CHECK(request.query().empty());
    CHECK(request.host().empty());
    CHECK(request.headers().empty());
    CHECK(request.trailers().empty());
    CHECK(request.body().empty());
    CHECK(request.header("host").empty());
    CHECK_FALSE(request.content_length().has_value());
    CHECK_FALSE(request.keep_alive());
    CHECK_FALSE(request.expects_continue());
    CHECK(request.upgrade().empty());
  }

  TEST_CASE("the parts of a request are found by their names") {
    std::string bytes =
        "POST /a%20b?c=d HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: me\r\n"
        "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
    http::parser parser;
    http::request request;
    REQUIRE(parser.parse(bytes.data(), bytes.size(), request) == http::progress::complete);
    CHECK(request.method() == http::method::post);
    CHECK(request.method_name() == "POST");
    CHECK(request.target() == "/a%20b?c=d");
    CHECK(request.path() == "/a%20b");
    CHECK(request.query() == "c=d");
    CHECK(request.version() == http::version::http_1_1);
    CHECK(request.host() == "www.example.com");
    CHECK(request.content_type() == "text/plain");
    CHECK(request.content_length() == 2U);
    CHECK(request.header("USER-agent") == "me");
    CHECK(request.header("Accept").empty());
    CHECK(request.headers().size() == 4);
    CHECK(request.body() == "hi");
    CHECK(std::string(request.body()) == "hi");
    CHECK(request.keep_alive());
  }

  TEST_CASE("a request moves with its headers and is not copied") {
    static_assert(!std::is_copy_constructible_v<http::request>);
    static_assert(std::is_nothrow_move_constructible_v<http::request>);
    std::string bytes = "GET / HTTP/1.1\r\n";
    for (int i = 0; i < 50; ++i) bytes += "X-" + std::to_string(i) + ": y\r\n";
    bytes += "Host: a\r\n\r\n";
    http::parser parser;
    http::request request;
    REQUIRE(parser.parse(bytes.data(), bytes.size(), request) == http::progress::complete);
    const http::request moved = std::move(request);
    CHECK(moved.headers().size() == 51);
    CHECK(moved.host() == "a");
    CHECK(moved.header("x-49") == "y");
  }

  TEST_CASE("a request is not an aggregate") { static_assert(!std::is_aggregate_v<http::request>); }
}
