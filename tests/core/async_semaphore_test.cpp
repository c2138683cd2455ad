// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/async_semaphore.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::async_semaphore;
using pulsar::errc;
using pulsar::future;
using pulsar::task_group;
using permit = async_semaphore::permit;

namespace {

struct load {
  int now = 0;
  int most = 0;
  std::vector<int> order{};
};

future<> work(async_semaphore& semaphore, load& seen, int number) {
  const auto held = co_await semaphore.acquire();
  seen.order.push_back(number);
  seen.most = std::max(seen.most, ++seen.now);
  co_await pulsar::sleep(10ms);
  --seen.now;
}

}  // namespace

TEST_SUITE("async_semaphore") {
  CORO_TEST_CASE("no more work at a time than there are permits, first come, first served") {
    async_semaphore semaphore(3);
    load seen;
    task_group group;
    for (int i = 0; i < 8; ++i) group.add(work(semaphore, seen, i));
    CHECK(semaphore.available() == 0);
    co_await group.join();
    CHECK(seen.most == 3);
    CHECK(seen.order == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(semaphore.available() == 3);
  }

  CORO_TEST_CASE("who comes later does not overtake those who wait") {
    async_semaphore semaphore(1);
    auto held = semaphore.try_acquire();
    CHECK(held);
    auto waiting = semaphore.acquire();
    held.release();
    CHECK_FALSE(held);
    CHECK_FALSE(semaphore.try_acquire());  // it is the waiting one's already
    const auto got = co_await std::move(waiting);
    CHECK(got);
    CHECK(semaphore.available() == 0);
  }

  CORO_TEST_CASE("a permit is given back by its end, by assignment, and once") {
    async_semaphore semaphore(2);
    {
      auto one = semaphore.try_acquire();
      auto moved = std::move(one);
      CHECK_FALSE(one);
      CHECK(moved);
      CHECK(semaphore.available() == 1);
      moved = semaphore.try_acquire();
      CHECK(semaphore.available() == 1);
      moved.release();
      moved.release();
      CHECK(semaphore.available() == 2);
    }
    CHECK(semaphore.available() == 2);
    co_return;
  }

  CORO_TEST_CASE("who is cancelled while it waits takes no permit") {
    async_semaphore semaphore(1);
    auto held = semaphore.try_acquire();
    auto first = semaphore.acquire();
    auto second = semaphore.acquire();
    CHECK(first.cancel());
    held.release();
    const auto got = co_await std::move(second);
    CHECK(got);
    const auto cancelled = co_await as_result(std::move(first));
    CHECK(cancelled.code() == errc::cancelled);
  }

  CORO_TEST_CASE("a permit that nobody took goes to the next one") {
    async_semaphore semaphore(1);
    auto held = semaphore.try_acquire();
    auto dropped = semaphore.acquire();
    auto next = semaphore.acquire();
    held.release();
    CHECK(dropped.done());
    CHECK_FALSE(next.done());
    dropped = {};
    const auto got = co_await std::move(next);
    CHECK(got);
  }

  CORO_TEST_CASE("a limit of time on acquire loses no permit") {
    async_semaphore semaphore(1);
    auto held = semaphore.try_acquire();
    const auto late = co_await as_result(pulsar::with_timeout(semaphore.acquire(), 5ms));
    CHECK(late.code() == errc::timed_out);
    held.release();
    CHECK(semaphore.available() == 1);
  }

  CORO_TEST_CASE("permits may outlive the semaphore, and who waits for it fails") {
    std::optional<async_semaphore> semaphore(std::in_place, 1);
    auto held = semaphore->try_acquire();
    auto waiting = semaphore->acquire();
    semaphore.reset();
    const auto ended = co_await as_result(std::move(waiting));
    CHECK(ended.code() == errc::broken_promise);
    held.release();
  }
}
