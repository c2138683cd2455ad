// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Test cases whose body is a coroutine.
///
///     CORO_TEST_CASE("a sleep takes its time") {
///       auto& loop = pulsar::event_loop::current();
///       const auto start = loop.time();
///       co_await pulsar::sleep(1h);
///       CHECK(loop.time() - start == 1h);
///     }
///
/// The body runs on a fresh loop with virtual clock until it is done; a body that waits for what
/// can never happen fails. Then it runs again and again, each time on a fresh loop that is given up
/// after k = 0, 1, 2... handlers, in each of three ways: its loop is closed, its future is dropped
/// before that, its loop is closed without any time to end in. With AddressSanitizer this proves
/// for every suspension point that nothing leaks and nothing is used after it is gone.
///
/// CORO_TEST_CASE_REAL is for what waits for the world (sockets, signals, threads): its loops have
/// the steady clock.
///
/// A body must do the same each time it runs. The assertions of doctest count up to the moment
/// when the loop is given up; what the body meets when it is cancelled proves nothing.

#include <pulsar/core/future.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>

namespace coro_test {

/// True from the moment when the loop of this run is given up. Then assertions do nothing.
inline bool abandoned = false;

enum class ending { closed, dropped, freed };

using body = pulsar::future<> (*)();

/// How long a handler may keep a test with the steady clock waiting.
inline constexpr auto patience = std::chrono::seconds(20);

/// Runs one handler; false if there is none, and none will come.
inline bool step(pulsar::event_loop& loop, pulsar::clock_kind kind) {
  auto& context = loop.context();
  if (context.stopped()) context.restart();
  if (kind == pulsar::clock_kind::virtual_time) return context.run_one() > 0;
  // Another thread may be about to bring work.
  const auto wait_for_others = asio::make_work_guard(context);
  return context.run_one_for(patience) > 0;
}

/// Runs it and returns how many handlers that took.
inline std::size_t run_to_the_end(body what, pulsar::clock_kind kind) {
  abandoned = false;
  pulsar::event_loop loop(kind);
  loop.set_exception_handler([](const pulsar::failure_report& report) {
    DOCTEST_FAIL_CHECK(
        (report.message + ": " + pulsar::detail::describe(report.exception)).c_str());
  });
  auto running = loop.create_task(what);
  std::size_t steps = 0;
  for (; !running.done(); ++steps) {
    if (!step(loop, kind)) DOCTEST_FAIL("the body waits for what never happens");
  }
  running.result();
  return steps;
}

inline void run_and_abandon(body what, pulsar::clock_kind kind, std::size_t steps, ending how) {
  DOCTEST_INFO("abandoned after handlers: " << steps << ", way: " << static_cast<int>(how));
  abandoned = false;
  pulsar::future<> kept;
  {
    pulsar::event_loop loop(kind);
    loop.set_exception_handler([](const pulsar::failure_report&) {});
    kept = loop.create_task(what);
    for (std::size_t i = 0; i < steps && !kept.done() && step(loop, kind); ++i) {
    }
    abandoned = true;
    if (how == ending::dropped) kept = {};
    loop.close(how == ending::freed ? std::chrono::seconds(0) : std::chrono::seconds(5));
    if (how == ending::closed && !kept.done()) {
      DOCTEST_FAIL_CHECK("closing the loop did not end the body");
    }
  }
  kept = {};
  abandoned = false;
}

/// The cases of CORO_TEST_CASE. `most`: how many numbers of steps are tried, from zero.
inline void run(body what, pulsar::clock_kind kind, std::size_t most) {
  const std::size_t steps = run_to_the_end(what, kind);
  for (std::size_t k = 0; k < steps && k < most; ++k) {
    for (const auto how : {ending::closed, ending::dropped, ending::freed}) {
      run_and_abandon(what, kind, k, how);
    }
  }
}

}  // namespace coro_test

#define CORO_TEST_CASE_NAMED(body, sentence, kind, most)     \
  static pulsar::future<> body();                            \
  DOCTEST_TEST_CASE(sentence) { coro_test::run(&body, kind, most); } \
  static pulsar::future<> body()

#define CORO_TEST_CASE(sentence)                                              \
  CORO_TEST_CASE_NAMED(DOCTEST_ANONYMOUS(coro_test_body_), sentence,          \
                       pulsar::clock_kind::virtual_time, 100)

#define CORO_TEST_CASE_REAL(sentence)                                         \
  CORO_TEST_CASE_NAMED(DOCTEST_ANONYMOUS(coro_test_body_), sentence,          \
                       pulsar::clock_kind::steady, 25)

// The assertions of a body that was given up are skipped.
#define CORO_TEST_UNLESS_ABANDONED(...) \
  do {                                  \
    if (!coro_test::abandoned) {        \
      __VA_ARGS__;                      \
    }                                   \
  } while (false)

#undef CHECK
#define CHECK(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK(__VA_ARGS__))
#undef CHECK_FALSE
#define CHECK_FALSE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_FALSE(__VA_ARGS__))
#undef CHECK_MESSAGE
#define CHECK_MESSAGE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_MESSAGE(__VA_ARGS__))
#undef CHECK_THROWS_AS
#define CHECK_THROWS_AS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_THROWS_AS(__VA_ARGS__))
#undef REQUIRE
#define REQUIRE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE(__VA_ARGS__))
#undef FAIL
#define FAIL(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_FAIL(__VA_ARGS__))
#undef FAIL_CHECK
#define FAIL_CHECK(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_FAIL_CHECK(__VA_ARGS__))
