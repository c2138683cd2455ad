// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/result.hpp>
#include <pulsar/core/retry.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"
#include "support/futures.hpp"

#include <chrono>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::retry;
using pulsar::retry_policy;

namespace {

using times = std::vector<event_loop::duration>;

// Fails so often, and notes when it was called.
struct flaky {
  times* calls;
  int failures;
  future<int> operator()() {
    calls->push_back(event_loop::current().time().time_since_epoch());
    if (static_cast<int>(calls->size()) <= failures) {
      return pulsar::make_exceptional_future<int>(
          std::make_exception_ptr(std::runtime_error("not yet")));
    }
    return pulsar::make_ready_future(static_cast<int>(calls->size()));
  }
};

constexpr auto plain = retry_policy::jitter_kind::none;

times run(retry_policy policy, int failures) {
  event_loop loop(clock_kind::virtual_time);
  times calls;
  const flaky call{&calls, failures};
  auto done = loop.create_task([&] { return as_result(retry(policy, call)); });
  static_cast<void>(loop.run_until_complete(std::move(done)));
  return calls;
}

}  // namespace

TEST_SUITE("retry") {
  CORO_TEST_CASE("calls again until there is a result") {
    times calls;
    const flaky call{&calls, 3};
    const int value = co_await retry(retry_policy{}, call);
    CHECK(value == 4);
    CHECK(calls.size() == 4);
  }

  TEST_CASE("what succeeds at once is called once, and nothing waits") {
    event_loop loop(clock_kind::virtual_time);
    times calls;
    const flaky call{&calls, 0};
    auto done = loop.create_task([&] { return retry(retry_policy{}, call); });
    CHECK(done.done());
    CHECK(done.result() == 1);
  }

  TEST_CASE("each wait is longer by the factor, up to the longest") {
    const auto calls =
        run({.tries = 6, .first = 100ms, .factor = 3, .longest = 1s, .jitter = plain}, 100);
    CHECK(calls == times{0ms, 100ms, 400ms, 1300ms, 2300ms, 3300ms});
  }

  TEST_CASE("after the last try its failure is thrown") {
    event_loop loop(clock_kind::virtual_time);
    times calls;
    const flaky call{&calls, 100};
    const auto last = loop.run_until_complete([&] { return as_result(retry({.tries = 3}, call)); });
    CHECK(last.message() == "not yet");
    CHECK(calls.size() == 3);
  }

  TEST_CASE("no try begins behind the limit, and without one there is no end of tries") {
    CHECK(run({.tries = 0, .first = 1s, .factor = 1, .limit = 3500ms, .jitter = plain}, 100) ==
          times{0s, 1s, 2s, 3s});
    CHECK(run({.tries = 0, .first = 1s, .jitter = plain}, 1000).size() == 1001);
  }

  TEST_CASE("the longest wait there is does not end at once") {
    constexpr auto for_ever = event_loop::duration::max();
    CHECK(run({.first = for_ever, .longest = for_ever, .limit = 1h, .jitter = plain}, 100) ==
          times{0s});
  }

  TEST_CASE("the waits are random parts of the whole, and the same for the same seed") {
    const retry_policy policy{.tries = 8, .first = 1s, .factor = 1};
    const auto first = run(policy, 100);
    CHECK(first == run(policy, 100));  // a virtual clock
    retry_policy seeded = policy;
    seeded.seed = 1;
    const auto other = run(seeded, 100);
    CHECK(other == run(seeded, 100));
    CHECK(other != first);
    for (const auto& calls : {first, other}) {
      for (std::size_t i = 1; i < calls.size(); ++i) {
        CHECK(calls[i] - calls[i - 1] >= 0s);
        CHECK(calls[i] - calls[i - 1] <= 1001ms);
      }
    }
  }

  CORO_TEST_CASE("those who failed together do not come back together") {
    times calls;
    const flaky call{&calls, 2};
    auto one = retry(retry_policy{}, call);
    auto two = retry(retry_policy{}, call);
    co_await std::move(one);
    co_await std::move(two);
    CHECK(calls.size() == 4);
    CHECK(calls[2] != calls[3]);
  }

  CORO_TEST_CASE("the predicate sees each failure and says whether another try is worth it") {
    std::vector<std::error_code> seen;
    int calls = 0;
    const auto call = [&calls]() -> future<> {
      const auto code =
          ++calls < 3 ? std::errc::connection_refused : std::errc::no_such_file_or_directory;
      return pulsar::make_exceptional_future(
          std::make_exception_ptr(std::system_error(std::make_error_code(code))));
    };
    const auto refused = [&seen](std::error_code e) {
      seen.push_back(e);
      return e == std::errc::connection_refused;
    };
    auto r = co_await as_result(retry(retry_policy{}, call, refused));
    CHECK(r.code() == std::errc::no_such_file_or_directory);
    CHECK(calls == 3);
    CHECK(seen.size() == 3);

    times other;
    const flaky never{&other, 100};
    const auto by_type = [](const std::exception_ptr& why) {
      return pulsar::detail::describe(why) != "not yet";
    };
    auto stopped = co_await as_result(retry(retry_policy{}, never, by_type));
    CHECK_FALSE(stopped.has_value());
    CHECK(other.size() == 1);
  }

  CORO_TEST_CASE("a failure without a code is command_failed to a predicate of codes") {
    times calls;
    const flaky call{&calls, 1};
    const auto any = [](std::error_code e) { return e == errc::command_failed; };
    const int value = co_await retry(retry_policy{}, call, any);
    CHECK(value == 2);
  }

  CORO_TEST_CASE("what was cancelled is not tried again") {
    int calls = 0;
    const auto call = [&calls]() -> future<int> {
      ++calls;
      return pulsar::make_exceptional_future<int>(
          std::make_exception_ptr(pulsar::error(errc::cancelled)));
    };
    auto r = co_await as_result(retry(retry_policy{}, call));
    CHECK(r.code() == errc::cancelled);
    CHECK(calls == 1);
  }

  CORO_TEST_CASE("cancelling it ends the try under way, or the wait") {
    times calls;
    const flaky call{&calls, 100};
    auto waiting = retry({.tries = 0, .first = 1h, .jitter = plain}, call);
    co_await pulsar::sleep(1ms);
    waiting.cancel();
    auto r = co_await as_result(std::move(waiting));
    CHECK(r.code() == errc::cancelled);
    CHECK(calls.size() == 1);

    const auto slow = []() -> future<> { co_await pulsar::sleep(1h); };
    auto trying = retry(retry_policy{}, slow);
    co_await pulsar::sleep(1ms);
    trying.cancel();
    auto t = co_await as_result(std::move(trying));
    CHECK(t.code() == errc::cancelled);
  }

  CORO_TEST_CASE("a try that throws at once, or passes its limit, is tried again") {
    int calls = 0;
    const auto call = [&calls]() -> future<> {
      if (++calls == 1) throw std::runtime_error("at once");
      return with_timeout(
          pulsar::sleep(calls == 2 ? event_loop::duration(1h) : event_loop::duration(1ms)), 1min);
    };
    co_await retry(retry_policy{}, call);
    CHECK(calls == 3);
  }
}
