// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/resolve.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"

#include <chrono>
#include <semaphore>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::address;
using pulsar::as_result;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::executor;
using pulsar::future;

namespace {

std::string text_of(const pulsar::resolved_address& found) {
  return address::of(found.endpoint).to_string();
}

}  // namespace

TEST_SUITE("resolve") {
  CORO_TEST_CASE("numbers are read at once, without a thread") {
    auto& loop = event_loop::current();
    auto looking = loop.getaddrinfo("192.0.2.7", 80);
    CHECK(looking.done());
    const auto v4 = co_await std::move(looking);
    CHECK(v4.size() == 1);
    CHECK(text_of(v4[0]) == "192.0.2.7:80");
    CHECK(v4[0].family == AF_INET);
    CHECK(v4[0].type == SOCK_STREAM);
    CHECK(v4[0].protocol == IPPROTO_TCP);
    const auto v6 = co_await loop.getaddrinfo("2001:db8::1", "65535", {.type = SOCK_DGRAM});
    CHECK(text_of(v6[0]) == "[2001:db8::1]:65535");
    CHECK(v6[0].family == AF_INET6);
    CHECK(v6[0].protocol == IPPROTO_UDP);
  }

  TEST_CASE("a name is looked up as a whole or not at all") {
    event_loop loop;
    CHECK_THROWS_AS(static_cast<void>(loop.getaddrinfo(std::string("127.0.0.1\0.org", 14), 80)),
                    std::system_error);
    CHECK_THROWS_AS(static_cast<void>(loop.getaddrinfo("127.0.0.1", std::string("80\0x", 4))),
                    std::system_error);
  }

  CORO_TEST_CASE_REAL("a name of this machine is looked up") {
    auto& loop = event_loop::current();
    const auto found = co_await loop.getaddrinfo("localhost", 8060, {.family = AF_INET});
    CHECK(text_of(found.at(0)) == "127.0.0.1:8060");
    const auto loopback = co_await loop.getaddrinfo("", 8060, {.family = AF_INET});
    CHECK(text_of(loopback.at(0)) == "127.0.0.1:8060");
    const auto everywhere =
        co_await loop.getaddrinfo("", 8060, {.family = AF_INET, .flags = AI_PASSIVE});
    CHECK(text_of(everywhere.at(0)) == "0.0.0.0:8060");
  }

  CORO_TEST_CASE_REAL("each type of socket has an entry if none is asked for") {
    auto& loop = event_loop::current();
    const auto found = co_await loop.getaddrinfo("127.0.0.1", 53, {.type = 0});
    CHECK(found.size() > 1);
    for (const auto& each : found) CHECK(text_of(each) == "127.0.0.1:53");
  }

  CORO_TEST_CASE_REAL("what is not known fails with the resolver's code and a sentence") {
    auto& loop = event_loop::current();
    const auto host =
        co_await as_result(loop.getaddrinfo("no.such.host", 80, {.flags = AI_NUMERICHOST}));
    CHECK(host.code() == asio::error::host_not_found);
    CHECK(host.message().starts_with("the host \"no.such.host\" is not known: check its name"));
    const auto service = co_await as_result(loop.getaddrinfo("127.0.0.1", "no-such-service"));
    CHECK(service.code() == asio::error::service_not_found);
    CHECK(service.message().starts_with("\"no-such-service\" is no known service"));
    const auto family = co_await as_result(loop.getaddrinfo("::1", 80, {.family = AF_INET}));
    CHECK(family.code() == asio::error::host_not_found);
    const auto unknown = co_await as_result(loop.getaddrinfo("127.0.0.1", 80, {.family = 77}));
    CHECK(unknown.code() == asio::error::address_family_not_supported);
    const auto flags = co_await as_result(loop.getaddrinfo("localhost", 80, {.flags = 1 << 30}));
    CHECK(flags.code() == std::errc::invalid_argument);
    const auto nothing = co_await as_result(loop.getaddrinfo("", ""));
    CHECK(nothing.code() == asio::error::host_not_found);
  }

  CORO_TEST_CASE_REAL("an endpoint has names, or numbers if they are asked for") {
    auto& loop = event_loop::current();
    const auto where = address("127.0.0.1:80").resolve();
    const auto numbers = co_await loop.getnameinfo(where, NI_NUMERICHOST | NI_NUMERICSERV);
    CHECK(numbers.host == "127.0.0.1");
    CHECK(numbers.service == "80");
    const asio::ip::tcp::endpoint typed(asio::ip::make_address("::1"), 9);
    const auto v6 = co_await loop.getnameinfo(typed, NI_NUMERICHOST | NI_NUMERICSERV);
    CHECK(v6.host == "::1");
    const auto none = co_await as_result(loop.getnameinfo(address::endpoint(), 0));
    CHECK(none.code() == asio::error::address_family_not_supported);
  }

  TEST_CASE("a look-up that is cancelled is left to itself at once") {
    std::binary_semaphore gate(0);
    executor one(1);
    event_loop loop;
    loop.set_default_executor(one);
    auto blocking = loop.run_in_executor([&gate] { gate.acquire(); });
    const auto body = [](event_loop& l) -> future<std::error_code> {
      const auto found = co_await as_result(with_timeout(l.getaddrinfo("localhost", 80), 1ms));
      co_return found.code();
    };
    CHECK(loop.run_until_complete([&] { return body(loop); }) == errc::timed_out);
    auto dropped = loop.getaddrinfo("localhost", 80);
    dropped = {};
    gate.release();
    loop.run_until_complete(std::move(blocking));
  }

  TEST_CASE("a closed loop looks nothing up") {
    event_loop loop;
    loop.close();
    CHECK_THROWS_AS(loop.getaddrinfo("127.0.0.1", 80).detach(), pulsar::error);
  }
}
