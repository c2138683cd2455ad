// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `async_mutex`: one coroutine at a time (asyncio.Lock).
///
///     const auto lock = co_await mutex.lock();   // until the end of the block, across awaits

#include <pulsar/core/async_semaphore.hpp>

namespace pulsar {

/// Belongs to one thread; for what spans an await, nothing else needs it there. Fair, and not
/// recursive: who has it and asks again waits for ever.
class async_mutex {
 public:
  /// Holds it, and gives it back when it ends.
  using guard = async_semaphore::permit;

  /// The mutex, once it is free. Those who wait when it ends fail with `errc::broken_promise`.
  future<guard> lock(event_loop& loop = event_loop::current()) { return one_.acquire(loop); }

  /// An empty guard if it is not free.
  guard try_lock() noexcept { return one_.try_acquire(); }

  bool locked() const noexcept { return one_.available() == 0; }

 private:
  friend class async_condition;

  async_semaphore one_{1, "a mutex"};
};

}  // namespace pulsar
