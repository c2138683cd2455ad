// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Test cases of doctest whose body is a coroutine.
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
/// CORO_TEST_CASE_SEEDS(200, "...") runs the body under 200 seeds besides, each of which has another
/// order of what is ready together, and gives it up somewhere under each. seeds.hpp says how to
/// repeat one that failed.
///
/// A body must do the same each time it runs, and must have no subcases. The assertions of doctest
/// count up to the moment when the loop is given up; what the body meets when it is cancelled proves
/// nothing. Hence this header redefines their short names (CHECK, REQUIRE ...), which outside such a
/// body do what they always did; with DOCTEST_CONFIG_NO_SHORT_MACRO_NAMES it lets them be, and
/// CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK(...)) does the same.

#include <pulsar/core/future.hpp>
#include <pulsar/testing/seeds.hpp>
#include <pulsar/testing/virtual_time.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace pulsar::testing {

/// True from the moment when the loop of this run is given up. Then assertions do nothing.
inline bool abandoned = false;

/// How a loop is given up.
enum class ending { closed, dropped, freed };

using coro_body = future<> (*)();

/// Runs it once, and fails the test case by what reaches the loop's exception handler; returns how
/// many handlers that took.
inline std::size_t run_body(coro_body what, const run_options& options) {
  abandoned = false;
  event_loop loop(options.clock);
  prepare(loop, options);
  loop.set_exception_handler([](const failure_report& report) {
    const std::string text = report.message + ": " + pulsar::detail::describe(report.exception);
    DOCTEST_FAIL_CHECK(doctest::String(text.c_str()));
  });
  auto running = loop.create_task(what);
  const std::size_t steps = run_to_the_end(loop, running, options);
  running.result();
  return steps;
}

/// Runs it on a loop that is given up after so many steps.
inline void run_and_abandon(coro_body what,
                            const run_options& options,
                            std::size_t steps,
                            ending how) {
  DOCTEST_INFO("abandoned after handlers: " << steps << ", way: " << static_cast<int>(how));
  abandoned = false;
  future<> kept;
  {
    event_loop loop(options.clock);
    prepare(loop, options);
    loop.set_exception_handler([](const failure_report&) {});
    kept = loop.create_task(what);
    for (std::size_t i = 0; i < steps && !kept.done() && step(loop, options); ++i) {
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

/// Runs it, and abandons it after 0, 1, 2 ... steps, as far as `most` of them.
inline void run_coro_test(coro_body what, clock_kind clock, std::size_t most) {
  const run_options options{.clock = clock};
  const std::size_t steps = run_body(what, options);
  for (std::size_t k = 0; k < steps && k < most; ++k) {
    for (const auto how : {ending::closed, ending::dropped, ending::freed}) {
      run_and_abandon(what, options, k, how);
    }
  }
}

inline void say_the_seed(std::uint64_t seed, const std::function<void()>& run) {
  DOCTEST_INFO("repeat it with PULSAR_SEED=" << seed);
  run();
}

/// Every seed of this program is said beside the assertions that fail under it.
inline const bool seeds_are_said = (seed_scope = &say_the_seed, true);

/// Runs it under each seed, and abandons it somewhere.
inline void run_seeded_coro_test(coro_body what, std::size_t seeds) {
  run_coro_test(what, clock_kind::virtual_time, 100);
  for_each_seed(seeds, [what](std::uint64_t seed) {
    const run_options options{.seed = seed};
    const std::size_t steps = run_body(what, options);
    if (steps == 0) return;
    run_and_abandon(what, options, seed % steps, static_cast<ending>(seed / steps % 3));
  });
}

}  // namespace pulsar::testing

#define CORO_TEST_CASE_NAMED(body, sentence, ...)                     \
  static ::pulsar::future<> body();                                   \
  DOCTEST_TEST_CASE(sentence) { ::pulsar::testing::__VA_ARGS__; }     \
  static ::pulsar::future<> body()

#define CORO_TEST_CASE_CLOCK(body, sentence, clock, most) \
  CORO_TEST_CASE_NAMED(body, sentence, run_coro_test(&body, ::pulsar::clock_kind::clock, most))

#define CORO_TEST_CASE_SEEDED(body, sentence, seeds) \
  CORO_TEST_CASE_NAMED(body, sentence, run_seeded_coro_test(&body, seeds))

#define CORO_TEST_CASE(sentence) \
  CORO_TEST_CASE_CLOCK(DOCTEST_ANONYMOUS(coro_test_body_), sentence, virtual_time, 100)

#define CORO_TEST_CASE_REAL(sentence) \
  CORO_TEST_CASE_CLOCK(DOCTEST_ANONYMOUS(coro_test_body_), sentence, steady, 25)

#define CORO_TEST_CASE_SEEDS(seeds, sentence) \
  CORO_TEST_CASE_SEEDED(DOCTEST_ANONYMOUS(coro_test_body_), sentence, seeds)

// The assertions of a body that was given up are skipped.
#define CORO_TEST_UNLESS_ABANDONED(...)  \
  do {                                   \
    if (!::pulsar::testing::abandoned) { \
      __VA_ARGS__;                       \
    }                                    \
  } while (false)

#ifndef DOCTEST_CONFIG_NO_SHORT_MACRO_NAMES
#undef CHECK
#define CHECK(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK(__VA_ARGS__))
#undef CHECK_FALSE
#define CHECK_FALSE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_FALSE(__VA_ARGS__))
#undef CHECK_MESSAGE
#define CHECK_MESSAGE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_MESSAGE(__VA_ARGS__))
#undef CHECK_FALSE_MESSAGE
#define CHECK_FALSE_MESSAGE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_FALSE_MESSAGE(__VA_ARGS__))
#undef CHECK_THROWS
#define CHECK_THROWS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_THROWS(__VA_ARGS__))
#undef CHECK_THROWS_AS
#define CHECK_THROWS_AS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_THROWS_AS(__VA_ARGS__))
#undef CHECK_THROWS_WITH
#define CHECK_THROWS_WITH(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_THROWS_WITH(__VA_ARGS__))
#undef CHECK_THROWS_WITH_AS
#define CHECK_THROWS_WITH_AS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_THROWS_WITH_AS(__VA_ARGS__))
#undef CHECK_NOTHROW
#define CHECK_NOTHROW(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_NOTHROW(__VA_ARGS__))
#undef CHECK_EQ
#define CHECK_EQ(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_EQ(__VA_ARGS__))
#undef CHECK_NE
#define CHECK_NE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_NE(__VA_ARGS__))
#undef CHECK_GT
#define CHECK_GT(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_GT(__VA_ARGS__))
#undef CHECK_LT
#define CHECK_LT(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_LT(__VA_ARGS__))
#undef CHECK_GE
#define CHECK_GE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_GE(__VA_ARGS__))
#undef CHECK_LE
#define CHECK_LE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_LE(__VA_ARGS__))
#undef CHECK_UNARY
#define CHECK_UNARY(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_UNARY(__VA_ARGS__))
#undef CHECK_UNARY_FALSE
#define CHECK_UNARY_FALSE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_CHECK_UNARY_FALSE(__VA_ARGS__))
#undef REQUIRE
#define REQUIRE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE(__VA_ARGS__))
#undef REQUIRE_FALSE
#define REQUIRE_FALSE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_FALSE(__VA_ARGS__))
#undef REQUIRE_MESSAGE
#define REQUIRE_MESSAGE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_MESSAGE(__VA_ARGS__))
#undef REQUIRE_FALSE_MESSAGE
#define REQUIRE_FALSE_MESSAGE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_FALSE_MESSAGE(__VA_ARGS__))
#undef REQUIRE_THROWS
#define REQUIRE_THROWS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_THROWS(__VA_ARGS__))
#undef REQUIRE_THROWS_AS
#define REQUIRE_THROWS_AS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_THROWS_AS(__VA_ARGS__))
#undef REQUIRE_THROWS_WITH
#define REQUIRE_THROWS_WITH(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_THROWS_WITH(__VA_ARGS__))
#undef REQUIRE_THROWS_WITH_AS
#define REQUIRE_THROWS_WITH_AS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_THROWS_WITH_AS(__VA_ARGS__))
#undef REQUIRE_NOTHROW
#define REQUIRE_NOTHROW(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_NOTHROW(__VA_ARGS__))
#undef REQUIRE_EQ
#define REQUIRE_EQ(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_EQ(__VA_ARGS__))
#undef REQUIRE_NE
#define REQUIRE_NE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_NE(__VA_ARGS__))
#undef REQUIRE_GT
#define REQUIRE_GT(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_GT(__VA_ARGS__))
#undef REQUIRE_LT
#define REQUIRE_LT(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_LT(__VA_ARGS__))
#undef REQUIRE_GE
#define REQUIRE_GE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_GE(__VA_ARGS__))
#undef REQUIRE_LE
#define REQUIRE_LE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_LE(__VA_ARGS__))
#undef REQUIRE_UNARY
#define REQUIRE_UNARY(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_UNARY(__VA_ARGS__))
#undef REQUIRE_UNARY_FALSE
#define REQUIRE_UNARY_FALSE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_REQUIRE_UNARY_FALSE(__VA_ARGS__))
#undef WARN
#define WARN(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN(__VA_ARGS__))
#undef WARN_FALSE
#define WARN_FALSE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_FALSE(__VA_ARGS__))
#undef WARN_MESSAGE
#define WARN_MESSAGE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_MESSAGE(__VA_ARGS__))
#undef WARN_FALSE_MESSAGE
#define WARN_FALSE_MESSAGE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_FALSE_MESSAGE(__VA_ARGS__))
#undef WARN_THROWS
#define WARN_THROWS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_THROWS(__VA_ARGS__))
#undef WARN_THROWS_AS
#define WARN_THROWS_AS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_THROWS_AS(__VA_ARGS__))
#undef WARN_THROWS_WITH
#define WARN_THROWS_WITH(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_THROWS_WITH(__VA_ARGS__))
#undef WARN_THROWS_WITH_AS
#define WARN_THROWS_WITH_AS(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_THROWS_WITH_AS(__VA_ARGS__))
#undef WARN_NOTHROW
#define WARN_NOTHROW(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_NOTHROW(__VA_ARGS__))
#undef WARN_EQ
#define WARN_EQ(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_EQ(__VA_ARGS__))
#undef WARN_NE
#define WARN_NE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_NE(__VA_ARGS__))
#undef WARN_GT
#define WARN_GT(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_GT(__VA_ARGS__))
#undef WARN_LT
#define WARN_LT(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_LT(__VA_ARGS__))
#undef WARN_GE
#define WARN_GE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_GE(__VA_ARGS__))
#undef WARN_LE
#define WARN_LE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_LE(__VA_ARGS__))
#undef WARN_UNARY
#define WARN_UNARY(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_UNARY(__VA_ARGS__))
#undef WARN_UNARY_FALSE
#define WARN_UNARY_FALSE(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_WARN_UNARY_FALSE(__VA_ARGS__))
#undef FAIL
#define FAIL(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_FAIL(__VA_ARGS__))
#undef FAIL_CHECK
#define FAIL_CHECK(...) CORO_TEST_UNLESS_ABANDONED(DOCTEST_FAIL_CHECK(__VA_ARGS__))
#endif
