// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/handler.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace http = pulsar::http;
using pulsar::future;

namespace {

http::response plain(http::request&) { return "plain"; }

std::string answer_of(const http::handler& handler) {
  pulsar::event_loop loop;
  http::request request;
  future<http::response> later;
  const http::response now = handler(request, later);
  return later.valid() ? "later: " + later.result().body() : now.body();
}

}  // namespace

TEST_SUITE("handler") {
  TEST_CASE("any function of a request is a handler, whatever it gives that is a response") {
    CHECK(answer_of(&plain) == "plain");
    CHECK(answer_of([](http::request&) { return http::response(404, "none"); }) == "none");
    CHECK(answer_of([](const http::request&) { return "text"; }) == "text");
    CHECK(answer_of([](http::request&) { return std::string("string"); }) == "string");
    CHECK(answer_of([](auto& request) { return std::string(request.query()) + "generic"; }) ==
          "generic");
    CHECK(answer_of(std::function<http::response(http::request&)>(&plain)) == "plain");
    CHECK(answer_of([](http::request&) -> future<http::response> { co_return "future"; }) ==
          "later: future");
  }

  TEST_CASE("it owns its function, which may be one that cannot be copied, and may change") {
    const http::handler counting([own = std::make_unique<int>(0)](http::request&) mutable {
      return std::to_string(++*own);
    });
    CHECK(answer_of(counting) == "1");
    CHECK(answer_of(counting) == "2");
    auto guard = std::make_shared<int>(1);
    {
      http::handler first([guard](http::request&) { return "x"; });
      const http::handler second = std::move(first);
      CHECK(guard.use_count() == 2);
    }
    CHECK(guard.use_count() == 1);
    static_assert(std::is_nothrow_move_constructible_v<http::handler>);
    static_assert(!std::is_copy_constructible_v<http::handler>);
  }

  TEST_CASE("exceptions of the function pass through") {
    const http::handler failing(
        [](http::request&) -> http::response { throw std::logic_error("no"); });
    CHECK_THROWS_AS(answer_of(failing), std::logic_error);
  }
}
