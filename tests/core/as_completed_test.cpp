// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/as_completed.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/futures.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::code_of;
using future_test::new_steps;
using future_test::steps;
using pulsar::as_completed;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::promise;

namespace {

template <class T>
future<T> after(event_loop::duration delay, T value) {
  co_await pulsar::sleep(delay);
  co_return value;
}

future<int> fail_after(event_loop::duration delay, std::string text) {
  co_await pulsar::sleep(delay);
  throw std::runtime_error(text);
}

future<int> noting(steps s, event_loop::duration delay) {
  try {
    co_await pulsar::sleep(delay);
  } catch (const pulsar::error&) {
    s->push_back("cancelled");
    throw;
  }
  s->push_back("ended");
  co_return 1;
}

}  // namespace

TEST_SUITE("as_completed") {
  CORO_TEST_CASE("gives each when it is done, with its place among the arguments") {
    auto done = as_completed(after(3ms, 'c'), after(1ms, 'a'), after(2ms, 'b'));
    CHECK(done.size() == 3);
    std::string order;
    std::vector<std::size_t> places;
    while (auto next = co_await done.next()) {
      order += next->value();
      places.push_back(next->index());
    }
    CHECK(order == "abc");
    CHECK(places == std::vector<std::size_t>{1, 2, 0});
    CHECK(done.size() == 0);
    auto more = co_await done.next();
    CHECK_FALSE(more.has_value());
  }

  CORO_TEST_CASE("a vector may be empty, and its results move-only or nothing") {
    auto none = as_completed(std::vector<future<int>>());
    auto nothing = co_await none.next();
    CHECK_FALSE(nothing.has_value());

    std::vector<future<std::unique_ptr<int>>> boxes;
    boxes.push_back(after(2ms, std::make_unique<int>(2)));
    boxes.push_back(after(1ms, std::make_unique<int>(1)));
    auto unpacked = as_completed(std::move(boxes));
    auto first = co_await unpacked.next();
    const std::unique_ptr<int> box = std::move(first->value());
    CHECK(*box == 1);

    auto sleeps = as_completed(pulsar::sleep(2ms), pulsar::sleep(1ms));
    auto shorter = co_await sleeps.next();
    CHECK(shorter->index() == 1);
    shorter->value();
  }

  CORO_TEST_CASE("those that had ended already come first, in their own order") {
    auto done =
        as_completed(after(1ms, 1), pulsar::make_ready_future(2), pulsar::make_ready_future(3));
    std::vector<int> order;
    while (auto next = co_await done.next()) order.push_back(next->value());
    CHECK(order == std::vector<int>{2, 3, 1});
  }

  CORO_TEST_CASE("a failure is an outcome like any other") {
    auto done = as_completed(fail_after(1ms, "broken"), after(2ms, 2));
    auto first = co_await done.next();
    CHECK_FALSE(first->outcome().has_value());
    CHECK(first->outcome().message() == "broken");
    CHECK_THROWS_AS(first->value(), std::runtime_error);
    auto second = co_await done.next();
    CHECK(second->value() == 2);
  }

  CORO_TEST_CASE("giving up one wait loses nothing") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto done = as_completed(after(10ms, 1), after(20ms, 2));
    auto early = co_await as_result(with_timeout(done.next(), 1ms));
    CHECK(early.code() == errc::timed_out);
    auto dropped = done.next();
    dropped = {};
    auto first = co_await done.next();
    CHECK(first->value() == 1);
    auto second = co_await done.next();
    CHECK(second->value() == 2);
  }

  CORO_TEST_CASE("several may wait, in line, and those who are too many get nothing") {
    auto done = as_completed(after(2ms, 2), after(1ms, 1));
    auto all = co_await pulsar::when_all(done.next(), done.next(), done.next());
    CHECK(std::get<0>(all)->value() == 1);
    CHECK(std::get<1>(all)->value() == 2);
    CHECK_FALSE(std::get<2>(all).has_value());
  }

  CORO_TEST_CASE("dropping it cancels those that have not ended, and fails who waits") {
    auto s = new_steps();
    future<pulsar::completions<int>::item> waiting;
    {
      auto done = as_completed(noting(s, 1ms), noting(s, 1h));
      auto first = co_await done.next();
      CHECK(first->value() == 1);
      waiting = done.next();
    }
    auto r = co_await as_result(std::move(waiting));
    CHECK(r.code() == errc::broken_promise);
    co_await pulsar::sleep(1ms);
    CHECK(*s == std::vector<std::string>{"ended", "cancelled"});
  }

  CORO_TEST_CASE("assigning to it drops what it held, at once") {
    auto s = new_steps();
    auto done = as_completed(noting(s, 1h));
    done = as_completed(noting(s, 1ms));
    co_await pulsar::sleep(0s);
    CHECK(*s == std::vector<std::string>{"cancelled"});
    auto first = co_await done.next();
    CHECK(first->value() == 1);
  }

  CORO_TEST_CASE("cancelling it gives the rest as cancelled") {
    auto s = new_steps();
    auto done = as_completed(noting(s, 1h), noting(s, 1ms), noting(s, 1h));
    auto first = co_await done.next();
    CHECK(first->index() == 1);
    done.cancel();
    int cancelled = 0;
    while (auto next = co_await done.next()) {
      if (next->outcome().code() == errc::cancelled) ++cancelled;
    }
    CHECK(cancelled == 2);
  }

  TEST_CASE("a future of a closed loop is refused, and the others are cancelled") {
    event_loop closed(clock_kind::virtual_time);
    event_loop loop(clock_kind::virtual_time);
    promise<int> never(closed);
    promise<int> pending(loop);
    std::vector<future<int>> fs;
    fs.push_back(pending.get_future());
    fs.push_back(never.get_future());
    closed.close();
    CHECK_THROWS_AS(static_cast<void>(as_completed(std::move(fs))), pulsar::error);
    CHECK(pending.cancelled());
  }

  TEST_CASE("an empty future is refused") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<future<int>> some(1);
    CHECK_THROWS_AS(static_cast<void>(as_completed(std::move(some))), pulsar::error);
  }
}
