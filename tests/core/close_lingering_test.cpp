// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/close_lingering.hpp>
#include <pulsar/core/connect.hpp>
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/server.hpp>

#include <doctest/doctest.h>
#include <support/coro_test.hpp>
#include <support/futures.hpp>

#include <chrono>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using future_test::code_of;
using pulsar::as_result;
using pulsar::close_lingering;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::memory_pair;
using pulsar::stream;

namespace {

// Answers a request that it has not read to its end.
future<> refuse(stream peer) {
  const std::string line = co_await peer.read_line();
  peer.write("too much: " + line);
  co_await close_lingering(std::move(peer));
}

future<> flood(stream to) {
  const std::string much(1000, 'x');
  for (;;) {
    to.write(much);
    co_await to.drain();
    co_await pulsar::sleep(10ms);
  }
}

}  // namespace

TEST_SUITE("close_lingering") {
  CORO_TEST_CASE("the other side reads all, whatever it has sent that nobody reads") {
    auto [a, b] = memory_pair(1024);
    b.write("request\n" + std::string(100'000, 'x'));
    auto serving = refuse(std::move(a));
    const std::string answer = co_await b.read();
    CHECK(answer == "too much: request\n");
    co_await b.close();
    co_await std::move(serving);
  }

  CORO_TEST_CASE("an end that is there already ends it at once") {
    auto& loop = event_loop::current();
    auto [a, b] = memory_pair();
    b.write("last");
    b.write_eof();
    const auto start = loop.time();
    co_await close_lingering(std::move(a));
    CHECK(loop.time() == start);
    const std::string end = co_await b.read();
    CHECK(end.empty());
  }

  CORO_TEST_CASE("one that never ends, silent or not, is waited for no longer than the limit") {
    auto& loop = event_loop::current();
    for (const bool loud : {false, true}) {
      auto [a, b] = memory_pair(1024);
      future<> sending;
      if (loud) sending = flood(std::move(b));
      a.write("bye");
      const auto start = loop.time();
      co_await close_lingering(std::move(a), 2s);
      CHECK(loop.time() == start + 2s);
      if (loud) {
        const auto r = co_await as_result(std::move(sending));
        CHECK_FALSE(r);
      }
    }
  }

  CORO_TEST_CASE("one that fails or goes ends it at once") {
    auto& loop = event_loop::current();
    auto [a, b] = memory_pair();
    a.write("bye");
    auto closing = close_lingering(std::move(a));
    const auto start = loop.time();
    b.abort();
    const auto r = co_await as_result(std::move(closing));
    CHECK(loop.time() == start);
  }

  CORO_TEST_CASE("bytes that nobody takes are sent for as long as by close") {
    auto& loop = event_loop::current();
    auto [a, b] = memory_pair(10);
    const std::string text(1000, 'x');
    a.write(text);
    auto closing = close_lingering(std::move(a), 1s);
    const auto start = loop.time();
    co_await pulsar::sleep(10s);
    CHECK_FALSE(closing.done());
    const std::string all = co_await b.read_to_end();
    CHECK(all == text);
    co_await std::move(closing);
    CHECK(loop.time() == start + 10s);
  }

  CORO_TEST_CASE("cancelling it is an abort") {
    auto [a, b] = memory_pair(10);
    a.write(std::string(1000, 'x'));
    auto closing = close_lingering(std::move(a), 1h);
    const auto given_up = co_await as_result(pulsar::with_timeout(std::move(closing), 1s));
    CHECK(code_of(given_up) == errc::timed_out);
    const auto r = co_await as_result(b.read_to_end());
    CHECK(code_of(r) == std::errc::connection_reset);
  }

  CORO_TEST_CASE_REAL("over TCP the other side may send all of it, and reads the answer") {
    pulsar::server at = co_await pulsar::start_server(&refuse, "127.0.0.1:0");
    stream client = co_await pulsar::connect(at.addresses()[0]);
    client.write("request\n" + std::string(20'000'000, 'x'));
    const auto sent = co_await as_result(client.drain());
    CHECK_MESSAGE(sent.has_value(), sent.message());  // a close alone resets the connection
    const auto answer = co_await as_result(client.read_to_end());
    CHECK_MESSAGE(answer.has_value(), answer.message());
    if (answer) CHECK(*answer == "too much: request\n");
  }
}
