// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/async_event.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"

#include <chrono>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::async_event;
using pulsar::errc;
using pulsar::future;
using pulsar::task_group;

namespace {

future<> wait_and_note(async_event& event, std::vector<int>& order, int number) {
  co_await event.wait();
  order.push_back(number);
}

}  // namespace

TEST_SUITE("async_event") {
  CORO_TEST_CASE("set wakes all who wait, in the order in which they came") {
    async_event event;
    std::vector<int> order;
    task_group group;
    for (int i = 0; i < 3; ++i) group.add(wait_and_note(event, order, i));
    co_await pulsar::sleep(1ms);
    CHECK(order.empty());
    event.set();
    CHECK(order.empty());  // they resume from the loop
    co_await group.join();
    CHECK(order == std::vector<int>{0, 1, 2});
  }

  CORO_TEST_CASE("who comes when it is set does not wait") {
    async_event event;
    event.set();
    CHECK(event.is_set());
    auto waited = event.wait();
    CHECK(waited.done());
    co_await std::move(waited);
    event.clear();
    CHECK_FALSE(event.is_set());
    auto again = event.wait();
    CHECK_FALSE(again.done());
    again.cancel();
    const auto ended = co_await as_result(std::move(again));
    CHECK(ended.code() == errc::cancelled);
  }

  CORO_TEST_CASE("who was woken has waited, even if it is cleared at once") {
    async_event event;
    auto waiting = event.wait();
    event.set();
    event.clear();
    co_await std::move(waiting);
    CHECK_FALSE(event.is_set());
  }

  CORO_TEST_CASE("who is cancelled or dropped while it waits leaves the others alone") {
    const without_debug_mode scope;  // it drops futures on purpose
    async_event event;
    auto first = event.wait();
    auto second = event.wait();
    auto third = event.wait();
    CHECK(second.cancel());
    first = {};
    event.set();
    co_await std::move(third);
    const auto cancelled = co_await as_result(std::move(second));
    CHECK(cancelled.code() == errc::cancelled);
  }

  CORO_TEST_CASE("who waits when it ends fails") {
    future<> waiting;
    {
      async_event event;
      waiting = event.wait();
    }
    const auto ended = co_await as_result(std::move(waiting));
    CHECK(ended.code() == errc::broken_promise);
  }

  TEST_CASE("it may outlive the loops of those who wait") {
    async_event event;
    future<> kept;
    {
      pulsar::event_loop loop;
      kept = event.wait(loop);
    }
    event.set();
    CHECK(kept.done());
  }
}
