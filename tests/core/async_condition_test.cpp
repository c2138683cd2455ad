// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/async_condition.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"

#include <chrono>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::async_condition;
using pulsar::async_mutex;
using pulsar::errc;
using pulsar::future;
using pulsar::task_group;

namespace {

struct shop {
  async_mutex mutex{};
  async_condition changed{mutex};
  std::vector<int> stock{};
  std::vector<int> sold{};
};

future<> buy(shop& from, int customer) {
  auto lock = co_await from.mutex.lock();
  while (from.stock.empty()) co_await from.changed.wait(lock);
  from.stock.pop_back();
  from.sold.push_back(customer);
}

future<> deliver(shop& to, int number) {
  auto lock = co_await to.mutex.lock();
  to.stock.push_back(number);
  to.changed.notify_one();
}

future<> wait_once(async_mutex& mutex, async_condition& changed, int& woken) {
  auto lock = co_await mutex.lock();
  co_await changed.wait(lock);
  ++woken;
}

}  // namespace

TEST_SUITE("async_condition") {
  CORO_TEST_CASE("each notification wakes the one that has waited longest") {
    shop corner;
    task_group customers;
    for (int i = 0; i < 3; ++i) customers.add(buy(corner, i));
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(corner.mutex.locked());
    for (int i = 0; i < 3; ++i) co_await deliver(corner, i);
    co_await customers.join();
    CHECK(corner.sold == std::vector<int>{0, 1, 2});
  }

  CORO_TEST_CASE("notify_all wakes everybody, one after the other") {
    shop corner;
    task_group customers;
    for (int i = 0; i < 3; ++i) customers.add(buy(corner, i));
    co_await pulsar::sleep(1ms);
    {
      auto lock = co_await corner.mutex.lock();
      corner.stock = {1, 2, 3};
      corner.changed.notify_all();
    }
    co_await customers.join();
    CHECK(corner.sold.size() == 3);
  }

  CORO_TEST_CASE("who is cancelled while it waits holds the mutex again when it is told") {
    shop corner;
    static bool held;
    held = false;
    const auto customer = [](shop& at) -> future<> {
      auto lock = co_await at.mutex.lock();
      try {
        co_await at.changed.wait(lock);
      } catch (const pulsar::error&) {
        held = static_cast<bool>(lock);
        throw;
      }
    };
    auto waiting = customer(corner);
    co_await pulsar::sleep(1ms);
    auto lock = co_await corner.mutex.lock();
    CHECK(waiting.cancel());
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(waiting.done());
    lock.release();
    const auto ended = co_await as_result(std::move(waiting));
    CHECK(ended.code() == errc::cancelled);
    CHECK(held);
    CHECK_FALSE(corner.mutex.locked());
  }

  CORO_TEST_CASE("what was meant for one who is cancelled then goes to the next") {
    shop corner;
    auto first = buy(corner, 1);
    auto second = buy(corner, 2);
    co_await pulsar::sleep(1ms);
    auto lock = co_await corner.mutex.lock();
    corner.stock.push_back(1);
    corner.changed.notify_one();
    co_await pulsar::sleep(1ms);  // the first one was told, and waits for the mutex
    CHECK(first.cancel());
    lock.release();
    co_await std::move(second);
    CHECK(corner.sold == std::vector<int>{2});
    const auto ended = co_await as_result(std::move(first));
    CHECK(ended.code() == errc::cancelled);
  }

  CORO_TEST_CASE("who drops its wait does not hold the mutex, and leaves the notification") {
    const without_debug_mode scope;  // it drops futures on purpose
    async_mutex mutex;
    async_condition changed(mutex);
    int woken = 0;
    // Dropped while it waits to be notified, or for the mutex, or when it is about to have that.
    for (int way = 0; way < 3; ++way) {
      auto guard = std::make_unique<async_mutex::guard>(co_await mutex.lock());
      auto dropped = changed.wait(*guard);
      auto other = wait_once(mutex, changed, woken);
      auto lock = co_await mutex.lock();
      if (way > 0) changed.notify_one();
      co_await pulsar::sleep(0s);
      if (way > 1) lock.release();
      dropped = {};
      guard.reset();
      lock.release();
      if (way == 0) {
        co_await pulsar::sleep(1ms);
        changed.notify_one();
      }
      co_await std::move(other);
      CHECK(woken == way + 1);
      CHECK_FALSE(mutex.locked());
    }
  }

  CORO_TEST_CASE("so it is when the wait is dropped inside another coroutine, with its guard") {
    const without_debug_mode scope;  // it drops futures on purpose
    async_mutex mutex;
    async_condition changed(mutex);
    int woken = 0;
    for (int way = 0; way < 3; ++way) {
      auto guard = std::make_unique<async_mutex::guard>(co_await mutex.lock());
      auto dropped = pulsar::with_timeout(changed.wait(*guard), 1h);
      auto both = pulsar::when_all(std::move(dropped), pulsar::sleep(1h));
      auto other = wait_once(mutex, changed, woken);
      auto lock = co_await mutex.lock();
      if (way > 0) changed.notify_one();
      co_await pulsar::sleep(0s);
      if (way > 1) lock.release();
      both = {};
      guard.reset();
      lock.release();
      co_await pulsar::sleep(1ms);
      if (way == 0) changed.notify_one();
      co_await std::move(other);
      CHECK(woken == way + 1);
      CHECK_FALSE(mutex.locked());
    }
  }

  CORO_TEST_CASE("a guard may be moved while the mutex is waited for, and holds it where it is") {
    async_mutex mutex;
    async_condition changed(mutex);
    auto guard = co_await mutex.lock();
    auto waiting = changed.wait(guard);
    async_mutex::guard elsewhere = std::move(guard);
    async_mutex::guard at_last;
    at_last = std::move(elsewhere);
    changed.notify_one();
    co_await std::move(waiting);
    CHECK(static_cast<bool>(at_last));
    CHECK_FALSE(static_cast<bool>(guard));
    CHECK_FALSE(static_cast<bool>(elsewhere));
  }

  CORO_TEST_CASE("a guard that is released while its wait goes on is let be") {
    async_mutex mutex;
    async_condition changed(mutex);
    auto guard = co_await mutex.lock();
    auto waiting = changed.wait(guard);
    guard.release();
    changed.notify_one();
    co_await std::move(waiting);
    CHECK_FALSE(static_cast<bool>(guard));
    CHECK_FALSE(mutex.locked());
    auto again = co_await mutex.lock();
    CHECK(static_cast<bool>(again));
  }

  CORO_TEST_CASE("a guard of nothing, or of another mutex, is refused") {
    shop corner;
    async_mutex::guard none;
    const auto unlocked = [&] { corner.changed.wait(none).detach(); };
    CHECK_THROWS_AS(unlocked(), std::system_error);
    async_mutex other;
    auto wrong = co_await other.lock();
    const auto mistaken = [&] { corner.changed.wait(wrong).detach(); };
    CHECK_THROWS_AS(mistaken(), std::system_error);
  }
}
