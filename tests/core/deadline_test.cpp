// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/deadline.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"

#include <chrono>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::deadline;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::remaining;
using pulsar::with_deadline;

namespace {

future<event_loop::duration> remaining_after(event_loop::duration delay) {
  co_await pulsar::sleep(delay);
  co_return remaining();
}

}  // namespace

TEST_SUITE("deadline") {
  CORO_TEST_CASE("all below know how much time is left") {
    CHECK(remaining() == event_loop::duration::max());
    const auto left = co_await with_deadline(10s, [] { return remaining_after(3s); });
    CHECK(left == 7s);
    CHECK(deadline.get() == event_loop::time_point::max());
  }

  CORO_TEST_CASE("what is not done by then is cancelled") {
    auto& loop = event_loop::current();
    const auto start = loop.time();
    auto late = co_await as_result(with_deadline(1s, [] { return pulsar::sleep(1h); }));
    CHECK(late.code() == errc::timed_out);
    CHECK(loop.time() - start == 1s);
  }

  CORO_TEST_CASE("a nested one may be earlier, never later") {
    const auto nested = []() -> future<std::vector<event_loop::duration>> {
      std::vector<event_loop::duration> seen;
      const auto left = [] { return remaining_after(1s); };
      seen.push_back(co_await with_deadline(1h, left));
      seen.push_back(co_await with_deadline(2s, left));
      seen.push_back(remaining());
      co_return seen;
    };
    const auto seen = co_await with_deadline(10s, nested);
    CHECK(seen == std::vector<event_loop::duration>{9s, 1s, 8s});

    const auto start = event_loop::current().time();
    const auto too_long = [] { return with_deadline(1h, [] { return pulsar::sleep(30min); }); };
    auto late = co_await as_result(with_deadline(1s, too_long));
    CHECK(late.code() == errc::timed_out);
    CHECK(event_loop::current().time() - start == 1s);
  }

  CORO_TEST_CASE("one that has passed leaves nothing, and cancels at once what waits") {
    auto& loop = event_loop::current();
    co_await pulsar::sleep(1h);
    event_loop::duration left = 1h;
    const auto begin = [&left] {
      left = remaining();
      return pulsar::sleep(1h);
    };
    auto late = co_await as_result(with_deadline(loop.time() - 1s, begin));
    CHECK(left == 0s);
    CHECK(late.code() == errc::timed_out);
    CHECK(loop.time() == event_loop::time_point(1h));
  }

  CORO_TEST_CASE("the longest deadline is none") {
    const auto left =
        co_await with_deadline(event_loop::duration::max(), [] { return remaining_after(1s); });
    CHECK(left == event_loop::duration::max());
  }
}
