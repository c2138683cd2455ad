// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/response.hpp>
#include <pulsar/core/buffer.hpp>

#include <doctest/doctest.h>

#include "feed.hpp"

#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace http = pulsar::http;

namespace {

std::string wire(const http::response& response, const http::delivery& how = {}) {
  std::string out;
  serialize(response, how, out);
  return out;
}

/// Counts the appends of a response.
struct counting_output {
  int appends = 0;
  std::string text;
  void append(std::string_view part) {
    ++appends;
    text += part;
  }
};

}  // namespace

TEST_SUITE("http::response") {
  TEST_CASE("hello world, byte by byte") {
    CHECK(wire(http::response("Hello, World!\n"),
               {.date = "Sun, 06 Nov 1994 08:49:37 GMT", .server = "pulsar"}) ==
          "HTTP/1.1 200 OK\r\n"
          "Server: pulsar\r\n"
          "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
          "Content-Type: text/plain; charset=utf-8\r\n"
          "Content-Length: 14\r\n"
          "\r\n"
          "Hello, World!\n");
  }

  TEST_CASE("a response is made of a text, a code, or both") {
    CHECK(http::response().code() == 200);
    CHECK(http::response("a").body() == "a");
    CHECK(http::response(std::string("a")).body() == "a");
    CHECK(http::response(std::string_view("a")).body() == "a");
    CHECK(http::response(404).code() == 404);
    CHECK(http::response(404, "no").body() == "no");
    CHECK(http::response(http::status::created, "yes").code() == 201);
    const http::response implicit = "text";
    CHECK(implicit.body() == "text");
    static_assert(!std::is_aggregate_v<http::response>);
    static_assert(std::is_nothrow_move_constructible_v<http::response>);
  }

  TEST_CASE("a code that is none is refused") {
    for (const int code : {-1, 0, 99, 600, 1000}) {
      CAPTURE(code);
      try {
        const http::response response(code);
        FAIL("taken");
      } catch (const pulsar::error& e) {
        CHECK(e.code() == std::errc::invalid_argument);
        CHECK(std::string(e.what()).starts_with("there is no HTTP status " + std::to_string(code)));
      }
    }
    CHECK(http::response(100).code() == 100);
    CHECK(http::response(599).code() == 599);
  }

  TEST_CASE("each code has its status line") {
    for (int code = 200; code <= 599; ++code) {
      CAPTURE(code);
      const std::string line =
          "HTTP/1.1 " + std::to_string(code) + " " + std::string(http::reason(code)) + "\r\n";
      CHECK(wire(http::response(code)).starts_with(line));
    }
  }

  TEST_CASE("an empty body has length 0 and no type") {
    CHECK(wire(http::response()) == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(wire(http::response(205, "dropped")) ==
          "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n");
  }

  TEST_CASE("headers stand in their order behind those of the server") {
    const auto response = http::response(200, "{}")
                              .content_type("application/json")
                              .header("X-A", "1")
                              .header("Set-Cookie", "a=1")
                              .header("Set-Cookie", "b=2");
    CHECK(wire(response) ==
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\nX-A: 1\r\n"
          "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n{}");
    CHECK(response.content_type() == "application/json");
    CHECK(http::response("a").content_type() == "text/plain; charset=utf-8");
  }

  TEST_CASE("what may stand once is replaced") {
    http::response response("a");
    response.header("content-type", "a/b").header("Content-Type", "c/d").content_type("e/f");
    response.header("Server", "mine").header("Date", "today");
    CHECK(wire(response, {.date = "now", .server = "pulsar"}) ==
          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Type: e/f\r\nServer: mine\r\n"
          "Date: today\r\n\r\na");
  }

  TEST_CASE("a header that breaks out of its line is refused") {
    http::response response("a");
    CHECK_THROWS_AS(response.header("X", "a\r\nY: b"), pulsar::error);
    CHECK_THROWS_AS(response.header("X\r\nY", "b"), pulsar::error);
    CHECK_THROWS_AS(response.content_type("a/b\nX: y"), pulsar::error);
    CHECK_THROWS_AS(response.header("Connection", "keep\r\nX: y"), pulsar::error);
    CHECK(response.headers().empty());
    CHECK(response.content_type() == "text/plain; charset=utf-8");
  }

  TEST_CASE("the length is the server's word") {
    for (const char* name : {"Content-Length", "content-length", "Transfer-Encoding"}) {
      CAPTURE(name);
      try {
        http::response response("a");
        response.header(name, "1");
        FAIL("taken");
      } catch (const pulsar::error& e) {
        CHECK(e.code() == http::errc::bad_header_name);
        CHECK(std::string(e.what()).find("is written by the server: give the body instead") !=
              std::string::npos);
      }
    }
    // Others of that length are taken.
    CHECK(http::response("a")
              .header("Accept-Charset", "x")
              .header("X-Forwarded-Prefix", "y")
              .code() == 200);
  }

  TEST_CASE("the connection is kept if nobody says otherwise") {
    const http::delivery closing{.keep_alive = false};
    const http::delivery old{.version = http::version::http_1_0};
    const http::delivery old_closing{.version = http::version::http_1_0, .keep_alive = false};
    const auto connection = [](const http::response& response, const http::delivery& how) {
      const std::string text = wire(response, how);
      const auto at = text.find("Connection: ");
      if (at == std::string::npos) return std::string();
      CHECK(text.find("Connection: ", at + 1) == std::string::npos);
      return text.substr(at + 12, text.find('\r', at) - at - 12);
    };
    CHECK(connection("a", {}) == "");
    CHECK(connection("a", closing) == "close");
    CHECK(connection("a", old) == "keep-alive");
    CHECK(connection("a", old_closing) == "close");
    CHECK(connection(http::response("a").close(), {}) == "close");
    CHECK(connection(http::response("a").header("connection", "Close"), {}) == "close");
    CHECK(connection(http::response("a").header("Connection", "close"), closing) == "close");
    CHECK(connection(http::response("a").header("Connection", "keep-alive"), closing) == "close");
    CHECK(connection(http::response("a").header("Connection", "keep-alive"), {}) == "");
    CHECK(connection(http::response(101).header("Connection", "upgrade"), {}) == "upgrade");
    CHECK_FALSE(http::response("a").close().keep_alive());
    CHECK_FALSE(http::response("a").header("Connection", "close").keep_alive());
    CHECK(http::response("a").keep_alive());
  }

  TEST_CASE("HEAD gets the head of the response alone") {
    CHECK(
        wire(http::response("hello"), {.method = http::method::head}) ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\n");
  }

  TEST_CASE("responses that never have a body have neither body nor length") {
    CHECK(wire(http::response(204, "dropped")) == "HTTP/1.1 204 No Content\r\n\r\n");
    CHECK(wire(http::response(304, "dropped").header("ETag", "\"a\"")) ==
          "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n");
    CHECK(
        wire(http::response(101).header("Upgrade", "websocket").header("Connection", "Upgrade")) ==
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    CHECK(wire(http::response(103).header("Link", "</a>"), {.keep_alive = false}) ==
          "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
  }

  TEST_CASE("a tunnel has no length, a refused one has") {
    const http::delivery connect{.method = http::method::connect};
    CHECK(wire(http::response(200, "dropped"), connect) == "HTTP/1.1 200 OK\r\n\r\n");
    CHECK(wire(http::response(502), connect) ==
          "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
  }

  TEST_CASE("a response of any size is written whole") {
    for (const std::size_t size : {0U, 1U, 900U, 1023U, 1024U, 1025U, 5000U, 100'000U}) {
      CAPTURE(size);
      const std::string body(size, 'b');
      const std::string head = size == 0 ? "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                                         : "HTTP/1.1 200 OK\r\nContent-Type: text/plain; "
                                           "charset=utf-8\r\nContent-Length: " +
                                               std::to_string(size) + "\r\n\r\n";
      CHECK(wire(http::response(body)) == head + body);
      const std::string value(size, 'v');
      CHECK(wire(http::response(204).header("X", value)) ==
            "HTTP/1.1 204 No Content\r\nX: " + value + "\r\n\r\n");
    }
  }

  TEST_CASE("a small response is one append, and goes behind what is there") {
    counting_output out;
    serialize(http::response("Hello, World!\n"), {.date = "now"}, out);
    CHECK(out.appends == 1);
    pulsar::buffer buffer;
    buffer.append(std::string_view("before "));
    serialize(http::response(204), {}, buffer);
    CHECK(buffer.text() == "before HTTP/1.1 204 No Content\r\n\r\n");
  }

  TEST_CASE("a delivery takes from the request what matters to the answer") {
    std::string bytes = "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    http::parser parser;
    http::request request;
    REQUIRE(parser.parse(bytes.data(), bytes.size(), request) == http::progress::complete);
    CHECK(wire(http::response("hello"), delivery_for(request, "now", "me")) ==
          "HTTP/1.1 200 OK\r\nServer: me\r\nDate: now\r\n"
          "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n"
          "Connection: keep-alive\r\n\r\n");
  }

  TEST_CASE("a refusal tells its reason and closes the connection") {
    CHECK(wire(http::refusal(http::errc::missing_host)) ==
          "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
          "Content-Length: 44\r\nConnection: close\r\n\r\n"
          "400 Bad Request: the Host header is missing\n");
    CHECK(http::refusal(http::errc::target_too_long).code() == 414);
    CHECK(http::refusal(std::make_error_code(std::errc::io_error)).body() ==
          "500 Internal Server Error\n");
    CHECK_FALSE(http::refusal(http::errc::bad_host).keep_alive());
  }

  TEST_CASE("the interim answer is a head without headers") {
    CHECK(http::continue_line == "HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(wire(http::response(100)) == http::continue_line);
  }

  TEST_CASE("a body is replaced") {
    http::response response("a");
    response.body("bc");
    CHECK(response.body() == "bc");
    CHECK(http::response(404).body("none").body() == "none");
  }
}
