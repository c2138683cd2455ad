// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What another thread is to bring to a loop, an executor's result or that of a coroutine elsewhere,
// is work of the loop's context: `run()` of a user's context must not return before it is there.

#include <pulsar/core/event_loop.hpp>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <cstddef>
#include <optional>

namespace pulsar::detail {

/// Counts that work of one loop, which virtual time does not overtake either.
class outside_work final : public loop_extension {
 public:
  explicit outside_work(event_loop& loop) noexcept : loop_(loop) {}

  static outside_work& of(event_loop& loop) { return loop_access::local<outside_work>(loop); }
  /// The same, or null once the loop has closed.
  static outside_work* find(event_loop& loop) noexcept {
    return loop_access::find_local<outside_work>(loop);
  }

  void begin() noexcept {
    loop_access::io_started(loop_);
    if (count_++ == 0) guard_.emplace(loop_.get_executor());
  }

  void end() noexcept {
    loop_access::io_ended(loop_);
    if (--count_ > 0) return;
    // A context that runs out of work outside a handler counts as stopped from then on.
    loop_access::post_turn(loop_);
    guard_.reset();
  }

 private:
  event_loop& loop_;
  std::size_t count_ = 0;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> guard_;
};

}  // namespace pulsar::detail
