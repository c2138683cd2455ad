// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// A coroutine, run to its end in no time: on a loop whose clock jumps from deadline to deadline.
///
///     pulsar::testing::run([](pulsar::event_loop& loop) -> pulsar::future<> {
///       const auto start = loop.time();
///       co_await keep_alive(connection);            // has a deadline of an hour
///       assert(loop.time() - start == 1h);
///     });
///
/// For any test framework: what goes wrong is thrown. Sockets, children and other threads live in
/// real time; what waits for them is tested with `clock_kind::steady`, or with streams in memory.

#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>

#include <asio/executor_work_guard.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace pulsar::testing {

/// How `run` runs.
struct run_options {
  clock_kind clock = clock_kind::virtual_time;
  /// Decides the order of coroutines that are ready together (`event_loop::set_seed`); 0: they go on
  /// in the order in which they became ready.
  std::uint64_t seed = 0;
  /// With the steady clock: how long nothing may happen.
  event_loop::duration patience = std::chrono::seconds(20);
};

/// Runs one handler of `loop`; false if there is none, and none will come: with the steady clock,
/// if none has come within `patience`.
inline bool step(event_loop& loop, const run_options& options = {}) {
  auto& context = loop.context();
  if (context.stopped()) context.restart();
  if (options.clock == clock_kind::virtual_time) return context.run_one() > 0;
  // Another thread may be about to bring work.
  const auto wait_for_others = asio::make_work_guard(context);
  return context.run_one_for(options.patience) > 0;
}

/// Has `loop` go by `options`.
inline void prepare(event_loop& loop, const run_options& options) {
  if (options.seed != 0) loop.set_seed(options.seed);
}

/// Steps until `running` is done. Throws `errc::loop_stopped` if it waits for what never happens.
inline std::size_t run_to_the_end(event_loop& loop,
                                  pulsar::detail::future_base& running,
                                  const run_options& options) {
  std::size_t steps = 0;
  for (; !running.done(); ++steps) {
    if (!step(loop, options)) {
      throw error(errc::loop_stopped, "the body waits for what never happens");
    }
  }
  return steps;
}

/// Calls `body(loop)`, or `body()`, with a fresh loop and runs that until the future which it returns
/// is done; gives the result. Throws what the body throws, then what reached the loop's exception
/// handler, and `errc::loop_stopped` if the body waits for what never happens. When it returns, what
/// the body left behind has been cancelled and has ended.
template <class F>
auto run(F&& body, const run_options& options = {}) {
  std::optional<failure_report> unseen;
  event_loop loop(options.clock);
  prepare(loop, options);
  loop.set_exception_handler([&unseen](const failure_report& report) {
    if (!unseen) unseen = report;
  });
  const auto check = [&] {
    loop.close();
    if (!unseen) return;
    if (unseen->exception) std::rethrow_exception(unseen->exception);
    throw std::runtime_error(unseen->message);
  };
  auto running = loop.create_task([&] {
    if constexpr (std::is_invocable_v<F&, event_loop&>) {
      return body(loop);
    } else {
      return body();
    }
  });
  run_to_the_end(loop, running, options);
  if constexpr (std::is_void_v<decltype(running.result())>) {
    running.result();
    check();
  } else {
    auto result = running.result();
    check();
    return result;
  }
}

}  // namespace pulsar::testing
