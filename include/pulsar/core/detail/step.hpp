// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What runs in a loop in debug mode, so that whoever holds it up can be named. A loop that is not
// in debug mode pays a look at a pointer.

#include <chrono>
#include <source_location>

namespace pulsar::detail {

/// Times what runs between two of its calls. One thread.
class step_watch {
 public:
  enum class kind { none, inner, callback, coroutine };

  /// What ran before has ended and something else begins. `where`: of a callback where it was given
  /// to the loop, of a coroutine the await behind which it goes on.
  void begin(kind what, std::source_location where = {}) noexcept;

  /// Nothing that it knows of runs.
  void end() noexcept;

  std::chrono::steady_clock::duration limit = std::chrono::milliseconds(100);

 private:
  kind what_ = kind::none;
  std::source_location where_;
  std::chrono::steady_clock::time_point since_;
};

/// Of the loop in debug mode that runs in this thread; null if there is none.
inline constinit thread_local step_watch* this_step = nullptr;

}  // namespace pulsar::detail
