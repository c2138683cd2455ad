// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/parser.hpp>

#include <doctest/doctest.h>

#include "feed.hpp"
#include "parser_cases.hpp"

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace http = pulsar::http;
using http_test::bad_messages;
using http_test::every_byte;
using http_test::feed;
using http_test::good_messages;
using http_test::outcome;
using http_test::trimming;

namespace {

const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string chunked_head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The error of `input`, and that it is the same whole and byte by byte.
std::error_code error_of(std::string_view input, const http::limits& bounds) {
  const outcome whole = feed(input, {}, bounds);
  CHECK(feed(input, every_byte(input.size()), bounds) == whole);
  return whole.error;
}

}  // namespace

TEST_SUITE("http::parser") {
  TEST_CASE("a good message comes out the same however it is cut") {
    for (const auto& c : good_messages()) {
      CAPTURE(c.what);
      const outcome expected{{}, c.request, c.rest, true};
      CHECK(feed(c.input).request == c.request);
      CHECK(feed(c.input) == expected);
      CHECK(feed(c.input, every_byte(c.input.size())) == expected);
      CHECK(feed(c.input, every_byte(c.input.size()), {}, trimming::yes) == expected);
      for (std::size_t cut = 0; cut <= c.input.size(); ++cut) {
        REQUIRE(feed(c.input, {cut}) == expected);
        REQUIRE(feed(c.input, {cut}, {}, trimming::yes) == expected);
      }
    }
  }

  TEST_CASE("a bad message is refused for the same reason however it is cut") {
    for (const auto& c : bad_messages()) {
      CAPTURE(c.what);
      const outcome expected{c.error, {}, {}, true};
      CHECK(feed(c.input).error == c.error);
      CHECK(feed(c.input, every_byte(c.input.size())) == expected);
      CHECK(feed(c.input, every_byte(c.input.size()), {}, trimming::yes) == expected);
      for (std::size_t cut = 0; cut <= c.input.size(); ++cut) {
        REQUIRE(feed(c.input, {cut}) == expected);
      }
    }
  }

  TEST_CASE("no prefix of a good message is taken for a whole one") {
    for (const auto& c : good_messages()) {
      CAPTURE(c.what);
      const std::string_view message(c.input.data(), c.input.size() - c.rest.size());
      for (std::size_t size = 0; size < message.size(); ++size) {
        const outcome got = feed(message.substr(0, size));
        REQUIRE(got.request.empty());
        const bool idle = message.substr(0, size).find_first_not_of("\r\n") == std::string::npos;
        REQUIRE(got.error == (idle ? std::error_code() : http::errc::truncated));
      }
    }
  }

  TEST_CASE("every control byte but the tab is refused in a value, every other one is taken") {
    for (int c = 0; c < 256; ++c) {
      const std::string input =
          "GET / HTTP/1.1\r\nHost: a\r\nX: long enough to be scanned in steps " +
          std::string(1, static_cast<char>(c)) + " \r\nY: b\r\n\r\n";
      CAPTURE(c);
      const bool good = c == '\t' || (c >= 0x20 && c != 0x7f);
      CHECK(!error_of(input, {}) == good);
    }
  }

  TEST_CASE("exactly the characters of a token are taken in a name") {
    for (int c = 0; c < 256; ++c) {
      const std::string mark(1, static_cast<char>(c));
      const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      const bool good =
          alnum || (c != 0 && std::string("!#$%&'*+-.^_`|~").find(mark) != std::string::npos);
      CAPTURE(c);
      // A colon ends the name early, and is then part of the value.
      if (c == ':') continue;
      CHECK(!error_of("GET / HTTP/1.1\r\nHost: a\r\nX-Name" + mark + "s: b\r\n\r\n", {}) == good);
      CHECK(
          !error_of("GET / HTTP/1.1\r\nHost: a\r\nX-A-Name-Of-Many-Letters" + mark + ": b\r\n\r\n",
                    {}) == good);
    }
  }

  TEST_CASE("exactly visible ASCII without '#' is taken in a target") {
    for (int c = 0; c < 256; ++c) {
      CAPTURE(c);
      const std::string target = "/a-target-of-some-length" + std::string(1, static_cast<char>(c));
      const bool good = c > 0x20 && c < 0x7f && c != '#';
      // A blank ends the target, and what follows is no version.
      CHECK(!error_of("GET " + target + "b HTTP/1.1\r\nHost: a\r\n\r\n", {}) == good);
    }
  }

  TEST_CASE("requests of one read come out one after another") {
    std::string bytes = get + "POST /b HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nabc" +
                        chunked_head + "2\r\nde\r\n0\r\nX: y\r\n\r\n" + "\r\n" + get + "GET /half";
    pulsar::buffer in;
    in.append(bytes);
    http::parser parser;
    http::request request;
    std::vector<std::string> seen;
    while (parser.parse(in, request) == http::progress::complete) {
      seen.push_back(std::string(request.path()) + " " + std::string(request.body()));
      in.consume(parser.consumed());
    }
    CHECK(seen == std::vector<std::string>{"/ ", "/b abc", "/ de", "/ "});
    CHECK(!parser.error());
    CHECK(parser.started());
    CHECK(in.text() == "GET /half");
    CHECK(parser.finish() == http::errc::truncated);
  }

  TEST_CASE("a request that is filled anew keeps nothing of the one before") {
    std::string first =
        "POST http://x/a?b HTTP/1.0\r\nHost: b\r\nConnection: keep-alive\r\nContent-Type: c/d\r\n"
        "Content-Length: 2\r\n\r\nxy";
    std::string second = get;
    http::parser parser;
    http::request request;
    REQUIRE(parser.parse(first.data(), first.size(), request) == http::progress::complete);
    REQUIRE(parser.parse(second.data(), second.size(), request) == http::progress::complete);
    CHECK(http_test::dump(request) ==
          "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] body=");
  }

  TEST_CASE("an idle connection may end, one within a message may not") {
    http::parser parser;
    http::request request;
    CHECK(!parser.finish());
    CHECK_FALSE(parser.started());
    std::string bytes = "\r\n";
    CHECK(parser.parse(bytes.data(), bytes.size(), request) == http::progress::incomplete);
    CHECK(!parser.finish());
    bytes += "G";
    CHECK(parser.parse(bytes.data(), bytes.size(), request) == http::progress::incomplete);
    CHECK(parser.started());
    CHECK(parser.finish() == http::errc::truncated);
    parser.reset();
    CHECK(!parser.finish());
    bytes = get;
    CHECK(parser.parse(bytes.data(), bytes.size(), request) == http::progress::complete);
    CHECK(!parser.finish());
    CHECK_FALSE(parser.started());
  }

  TEST_CASE("a failure stays until the parser is reset") {
    http::parser parser;
    http::request request;
    std::string bytes = "GET x HTTP/1.1\r\n";
    CHECK(parser.parse(bytes.data(), bytes.size(), request) == http::progress::failed);
    CHECK(parser.error() == http::errc::bad_target);
    bytes = get;
    CHECK(parser.parse(bytes.data(), bytes.size(), request) == http::progress::failed);
    CHECK(parser.error() == http::errc::bad_target);
    CHECK(parser.finish() == http::errc::bad_target);
    parser.reset();
    CHECK(parser.parse(bytes.data(), bytes.size(), request) == http::progress::complete);
    CHECK(!parser.error());
  }

  TEST_CASE("the method and target of a refused request can be logged") {
    http::parser parser;
    http::request request;
    std::string bytes = "BREW /pot HTTP/1.1\r\n";
    REQUIRE(parser.parse(bytes.data(), bytes.size(), request) == http::progress::failed);
    CHECK(request.method() == http::method::unknown);
    CHECK(request.method_name() == "BREW");
    CHECK(request.target() == "/pot");
  }

  TEST_CASE("the head can be read while the body is awaited") {
    http::parser parser;
    http::request request;
    std::string bytes =
        "POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
    REQUIRE(parser.parse(bytes.data(), bytes.size(), request) == http::progress::incomplete);
    CHECK(parser.awaits_body());
    CHECK(request.expects_continue());
    CHECK(request.path() == "/up");
    CHECK(parser.missing() == 10);
    bytes += "1234567";
    REQUIRE(parser.parse(bytes.data(), bytes.size(), request) == http::progress::incomplete);
    CHECK(parser.missing() == 3);
    CHECK(request.body().empty());
    bytes += "890";
    REQUIRE(parser.parse(bytes.data(), bytes.size(), request) == http::progress::complete);
    CHECK_FALSE(parser.awaits_body());
    CHECK(request.body() == "1234567890");
  }

  TEST_CASE("trimming keeps a chunked message as small as its body") {
    http::parser parser;
    http::request request;
    pulsar::buffer in;
    in.append(chunked_head);
    const std::size_t chunks = 1000;
    std::size_t largest = 0;
    for (std::size_t i = 0; i < chunks; ++i) {
      in.append(std::string_view("1;a-long-extension\r\nx\r\n"));
      REQUIRE(parser.parse(in, request) == http::progress::incomplete);
      in.truncate(parser.trim());
      largest = std::max(largest, in.size());
    }
    CHECK(largest == chunked_head.size() + chunks);
    in.append(std::string_view("0\r\nX: y\r\n"));
    REQUIRE(parser.parse(in, request) == http::progress::incomplete);
    in.truncate(parser.trim());
    in.append(std::string_view("\r\n" + get));
    REQUIRE(parser.parse(in, request) == http::progress::complete);
    CHECK(request.body() == std::string(chunks, 'x'));
    CHECK(request.trailers()[0].value == "y");
    in.consume(parser.consumed());
    CHECK(in.text() == get);
  }

  TEST_CASE("the work does not grow with the number of reads") {
    // Fed byte by byte, reading from the start each time would look at 8 GB.
    std::string bytes = "GET /" + std::string(60'000, 'a') +
                        " HTTP/1.1\r\nHost: a\r\nX: " + std::string(60'000, 'b') + "\r\n\r\n";
    http::parser parser({.request_line = 70'000, .header_line = 70'000, .header_bytes = 70'000});
    http::request request;
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      REQUIRE(parser.parse(bytes.data(), size, request) == http::progress::incomplete);
    }
    CHECK(parser.parse(bytes.data(), bytes.size(), request) == http::progress::complete);
    CHECK(request.path().size() == 60'001);
  }

  TEST_CASE("the request line may be as long as its limit") {
    for (const std::uint32_t limit : {20U, 31U, 32U, 33U, 64U, 8190U}) {
      CAPTURE(limit);
      const http::limits bounds{.request_line = limit};
      const std::string tail = "\r\nHost: a\r\n\r\n";
      const std::string target = std::string("/").append(limit - 14, 'a');
      CHECK(!error_of("GET " + target + " HTTP/1.1" + tail, bounds));
      CHECK(error_of("GET " + target + "a HTTP/1.1" + tail, bounds) == http::errc::target_too_long);
      CHECK(error_of("GET /" + std::string(limit, 'a'), bounds) == http::errc::target_too_long);
      CHECK(error_of(std::string(limit + 1, 'A'), bounds) == http::errc::unknown_method);
    }
  }

  TEST_CASE("a header line may be as long as its limit") {
    for (const std::uint32_t limit : {8U, 15U, 16U, 17U, 63U, 64U, 65U, 8190U}) {
      CAPTURE(limit);
      const http::limits bounds{.header_line = limit};
      const auto with = [](const std::string& text) {
        return "GET / HTTP/1.1\r\nHost: a\r\n" + text + "\r\n\r\n";
      };
      CHECK(!error_of(with("X:" + std::string(limit - 2, 'b')), bounds));
      CHECK(!error_of(with("X:" + std::string(limit - 2, ' ')), bounds));
      CHECK(!error_of(with(std::string(limit - 1, 'n') + ":"), bounds));
      CHECK(error_of(with("X:" + std::string(limit - 1, 'b')), bounds) ==
            http::errc::header_too_large);
      CHECK(error_of(with("X:" + std::string(limit - 1, ' ')), bounds) ==
            http::errc::header_too_large);
      CHECK(error_of(with(std::string(limit, 'n') + ":"), bounds) == http::errc::header_too_large);
      CHECK(error_of(with(std::string(limit + 1, 'n')), bounds) == http::errc::header_too_large);
    }
  }

  TEST_CASE("all header lines together have a limit") {
    // "Host: a" and two line ends are 11 bytes, each further line 30.
    std::string lines;
    for (int i = 0; i < 10; ++i) lines += "X-Header: " + std::string(18, 'a') + "\r\n";
    const std::string input = "GET / HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n";
    CHECK(!error_of(input, {.header_bytes = 311}));
    CHECK(error_of(input, {.header_bytes = 305}) == http::errc::header_too_large);
    CHECK(error_of(input, {.header_bytes = 280}) == http::errc::header_too_large);
    CHECK(error_of(input, {.header_bytes = 1}) == http::errc::header_too_large);
    const std::string trailers = chunked_head + "0\r\n" + lines + "\r\n";
    CHECK(!error_of(trailers, {.header_bytes = 302}));
    CHECK(error_of(trailers, {.header_bytes = 280}) == http::errc::header_too_large);
  }

  TEST_CASE("the number of headers and trailers has a limit") {
    for (const std::size_t limit : {1U, 2U, 31U, 32U, 33U, 40U, 100U}) {
      CAPTURE(limit);
      const http::limits bounds{.headers = static_cast<std::uint32_t>(limit)};
      std::string input = "GET / HTTP/1.1\r\nHost: a\r\n";
      for (std::size_t i = 1; i < limit; ++i) input += "X-" + std::to_string(i) + ": y\r\n";
      CHECK(!error_of(input + "\r\n", bounds));
      CHECK(error_of(input + "Z: y\r\n\r\n", bounds) == http::errc::too_many_headers);
    }
    const std::string input = chunked_head + "0\r\nX: a\r\nY: b\r\n\r\n";
    CHECK(!error_of(input, {.headers = 4}));
    CHECK(error_of(input, {.headers = 3}) == http::errc::too_many_headers);
  }

  TEST_CASE("more headers than are stored in place come out in order") {
    std::string input = "GET / HTTP/1.1\r\n";
    for (int i = 0; i < 90; ++i)
      input += "X-" + std::to_string(i) + ": v" + std::to_string(i) + "\r\n";
    input += "Host: a\r\n\r\n";
    http::parser parser;
    http::request request;
    for (int round = 0; round < 3; ++round) {
      REQUIRE(parser.parse(input.data(), input.size(), request) == http::progress::complete);
      REQUIRE(request.headers().size() == 91);
      CHECK(request.headers()[31].value == "v31");
      CHECK(request.headers()[32].value == "v32");
      CHECK(request.headers()[89].value == "v89");
      CHECK(request.host() == "a");
      std::string small = get;
      REQUIRE(parser.parse(small.data(), small.size(), request) == http::progress::complete);
      CHECK(request.headers().size() == 1);
    }
  }

  TEST_CASE("the body has a limit, known length or not") {
    const http::limits bounds{.body = 5};
    const std::string length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ";
    CHECK(!error_of(length + "5\r\n\r\nabcde", bounds));
    CHECK(error_of(length + "6\r\n\r\nabcdef", bounds) == http::errc::body_too_large);
    CHECK(!error_of(chunked_head + "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", bounds));
    CHECK(error_of(chunked_head + "2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n", bounds) ==
          http::errc::body_too_large);
    CHECK(error_of(chunked_head + "6\r\n", bounds) == http::errc::body_too_large);
    // A limit beyond what is addressable must not overflow.
    const http::limits none{.body = UINT64_MAX};
    CHECK(error_of(length + "99999999999999999999999\r\n\r\n", none) == http::errc::body_too_large);
    CHECK(error_of(chunked_head + "ffffffffffffffff\r\n", none) == http::errc::body_too_large);
    CHECK(!error_of(length + "5\r\n\r\nabcde", none));
  }

  TEST_CASE("chunk extensions may not outgrow the body by more than their limit") {
    const http::limits bounds{.chunk_extensions = 8};
    CHECK(!error_of(chunked_head + "1;abcdefg\r\nx\r\n0\r\n\r\n", bounds));
    CHECK(error_of(chunked_head + "1;abcdefgh\r\nx\r\n0\r\n\r\n", bounds) ==
          http::errc::chunk_extensions_too_large);
    CHECK(!error_of(chunked_head + "a;abcdefg\r\n0123456789\r\n0;abcdefghi\r\n\r\n", bounds));
    CHECK(error_of(chunked_head + "1;abc\r\nx\r\n1;abc\r\nx\r\n0;abc\r\n\r\n", bounds) ==
          http::errc::chunk_extensions_too_large);
  }

  TEST_CASE("the example of the header works") {
    pulsar::buffer in;
    in.append(get + get);
    http::parser parser;
    http::request request;
    int answered = 0;
    for (bool open = true; open;) {
      switch (parser.parse(in, request)) {
        case http::progress::incomplete: open = false; break;
        case http::progress::complete:
          ++answered;
          in.consume(parser.consumed());
          break;
        case http::progress::failed: FAIL("refused: ", parser.error().message());
      }
    }
    CHECK(answered == 2);
    CHECK(in.empty());
  }

  TEST_CASE("each case of the table is another one") {
    std::set<std::string> inputs;
    for (const auto& c : good_messages()) CHECK(inputs.insert(c.input).second);
    for (const auto& c : bad_messages()) CHECK(inputs.insert(c.input).second);
  }
}
