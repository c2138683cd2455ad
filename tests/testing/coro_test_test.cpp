// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/testing/coro_test.hpp>

#include <pulsar/core/async_mutex.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <set>
#include <string>

using namespace std::chrono_literals;
using pulsar::clock_kind;
using pulsar::event_loop;
using pulsar::future;
namespace testing = pulsar::testing;

namespace {

// What a body has gone through, over all its runs.
int started;
int ended;
int cancelled;

future<> two_sleeps() {
  ++started;
  try {
    co_await pulsar::sleep(1s);
    co_await pulsar::sleep(1s);
    ++ended;
  } catch (const pulsar::error&) {
    ++cancelled;
    CHECK_MESSAGE(false, "of a body that was given up no assertion counts");
    throw;
  }
}

future<> nothing_to_wait_for() {
  ++started;
  CHECK(event_loop::running() != nullptr);
  return pulsar::make_ready_future();
}

std::set<std::string> orders;

}  // namespace

TEST_SUITE("coro_test") {
  TEST_CASE("a body is run to its end, then given up at each of its awaits in each way") {
    started = ended = cancelled = 0;
    testing::run_coro_test(&two_sleeps, clock_kind::virtual_time, 100);
    CHECK(started > 6);
    CHECK(started % 3 == 1);
    CHECK(ended >= 1);
    CHECK(cancelled >= 4);
    // Where the loop was closed without time to end in, the body heard nothing.
    CHECK(ended + cancelled < started);
    CHECK_FALSE(testing::abandoned);
  }

  TEST_CASE("a body that waits for nothing runs once") {
    started = 0;
    testing::run_coro_test(&nothing_to_wait_for, clock_kind::steady, 100);
    CHECK(started == 1);
  }

  TEST_CASE("no more steps are tried than asked for") {
    started = ended = cancelled = 0;
    testing::run_coro_test(&two_sleeps, clock_kind::virtual_time, 1);
    CHECK(started == 4);
  }

  CORO_TEST_CASE("the clock of a case is virtual") {
    auto& loop = event_loop::current();
    co_await pulsar::sleep(1000h);
    CHECK(loop.time() == event_loop::time_point(1000h));
  }

  CORO_TEST_CASE_REAL("the clock of a real case is steady") {
    const auto before = std::chrono::steady_clock::now();
    co_await pulsar::sleep(1ms);
    CHECK(std::chrono::steady_clock::now() - before >= 1ms);
  }

  CORO_TEST_CASE_SEEDS(50, "a mutex lets one in at a time, under every seed") {
    auto& loop = event_loop::current();
    pulsar::async_mutex mutex;
    int inside = 0;
    std::string order;
    const auto enter = [](event_loop& l, pulsar::async_mutex& m, int& in, std::string& o,
                          char name) -> future<> {
      co_await pulsar::sleep(1ms, l);
      const auto lock = co_await m.lock(l);
      CHECK(++in == 1);
      o += name;
      co_await pulsar::sleep(1ms, l);
      --in;
    };
    pulsar::task_group group(loop);
    for (const char name : {'a', 'b', 'c'}) group.add(enter(loop, mutex, inside, order, name));
    co_await group.join();
    CHECK(order.size() == 3);
    orders.insert(order);
  }

  TEST_CASE("which came to it in every order") {
    CHECK(orders.size() == 6);
  }
}
