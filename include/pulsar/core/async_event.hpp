// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `async_event`: coroutines wait until it is set (asyncio.Event).
///
///     async_event ready;
///     co_await ready.wait();   // elsewhere: ready.set();

#include <pulsar/core/detail/waiters.hpp>

namespace pulsar {

/// Belongs to one thread. Those who wait when it ends fail with `errc::broken_promise`.
class async_event {
 public:
  bool is_set() const noexcept { return set_; }

  /// Wakes all who wait; they resume from the loop, in the order in which they came.
  void set() {
    set_ = true;
    while (!waiting_.empty()) waiting_.wake_first();
  }

  /// Those who come from now on wait again.
  void clear() noexcept { set_ = false; }

  /// Done once it is set, at once if it is. Who was woken has waited, even if it is cleared before
  /// they resume.
  future<> wait(event_loop& loop = event_loop::current()) {
    return set_ ? detail::settled<void>(loop) : waiting_.wait(loop);
  }

 private:
  bool set_ = false;
  detail::waiting_line<> waiting_{"an event"};
};

}  // namespace pulsar
