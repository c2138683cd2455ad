// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How a thread without a loop waits for what another one brings.

#include <pulsar/core/error.hpp>
#include <pulsar/core/event_loop.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>

namespace pulsar::detail {

/// Throws `errc::already_running` in a thread whose loop `what` would hold up.
inline void check_may_block(const char* what) {
  if (event_loop::running() == nullptr) return;
  throw error(errc::already_running,
              std::string(what) + " blocks, and an event loop runs in this thread: use co_await");
}

/// Blocks until `over()`, for `limit` at most, without one for as long as it takes; false if it is
/// not over by then.
template <class Over>
bool wait_blocking(std::unique_lock<std::mutex>& lock,
                   std::condition_variable& woken,
                   const std::chrono::nanoseconds* limit,
                   Over over) {
  if (limit == nullptr) {
    woken.wait(lock, over);
    return true;
  }
  const auto until = loop_data::later(std::chrono::steady_clock::now(), *limit);
  return woken.wait_until(lock, until, over);
}

}  // namespace pulsar::detail
