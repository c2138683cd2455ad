// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/async_mutex.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"

#include <chrono>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::async_mutex;
using pulsar::event_loop;
using pulsar::future;
using pulsar::task_group;

namespace {

future<> add_slowly(async_mutex& mutex, int& sum, std::vector<int>& order, int number) {
  const auto lock = co_await mutex.lock();
  const int before = sum;
  co_await pulsar::sleep(1ms);
  sum = before + 1;
  order.push_back(number);
}

}  // namespace

TEST_SUITE("async_mutex") {
  CORO_TEST_CASE("what spans an await happens one at a time, in the order of asking") {
    async_mutex mutex;
    int sum = 0;
    std::vector<int> order;
    task_group group;
    for (int i = 0; i < 4; ++i) group.add(add_slowly(mutex, sum, order, i));
    CHECK(mutex.locked());
    co_await group.join();
    CHECK(sum == 4);
    CHECK(order == std::vector<int>{0, 1, 2, 3});
    CHECK_FALSE(mutex.locked());
  }

  CORO_TEST_CASE("it is free again when who held it has failed or was cancelled") {
    async_mutex mutex;
    int sum = 0;
    std::vector<int> order;
    auto held = add_slowly(mutex, sum, order, 0);
    auto waiting = add_slowly(mutex, sum, order, 1);
    held.cancel();
    co_await std::move(waiting);
    CHECK(order == std::vector<int>{1});
    CHECK_FALSE(mutex.locked());
  }

  CORO_TEST_CASE("a limit of time on lock leaves the mutex to the next one") {
    async_mutex mutex;
    auto held = mutex.try_lock();
    CHECK(held);
    auto late = co_await as_result(with_timeout(mutex.lock(), 1ms));
    CHECK(late.code() == pulsar::errc::timed_out);
    CHECK(mutex.locked());
    held.release();
    CHECK_FALSE(mutex.locked());
    const auto next = co_await mutex.lock();
    CHECK(mutex.locked());
  }

  CORO_TEST_CASE("try_lock takes it only if it is free") {
    async_mutex mutex;
    auto lock = mutex.try_lock();
    CHECK(lock);
    CHECK_FALSE(mutex.try_lock());
    lock.release();
    CHECK(mutex.try_lock());
    co_return;
  }

  TEST_CASE("who waits when its loop closes never has it, and the next one does") {
    async_mutex mutex;
    event_loop loop;
    auto lock = mutex.try_lock();
    future<async_mutex::guard> kept;
    {
      event_loop gone;
      kept = mutex.lock(gone);
    }
    CHECK(kept.cancelled());
    auto next = mutex.lock(loop);
    lock.release();
    CHECK(next.done());
    next = {};
    CHECK_FALSE(mutex.locked());
  }
}
