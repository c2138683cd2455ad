// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `async_condition`: coroutines wait for what a mutex guards to change (asyncio.Condition).
///
///     auto lock = co_await mutex.lock();
///     while (stock.empty()) co_await changed.wait(lock);
///
/// Elsewhere, with the mutex held: `stock.push_back(x); changed.notify_one();`

#include <pulsar/core/async_mutex.hpp>

#include <coroutine>
#include <exception>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

/// Tells a coroutine whether its future is gone.
struct nobody_waits {
  bool await_ready() const noexcept { return false; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> h) noexcept {
    gone = h.promise().abandoned;
    return false;
  }
  bool await_resume() const noexcept { return gone; }

  bool gone = false;
};

}  // namespace detail

/// Belongs to one thread, and to one mutex. Those who wait when it or the mutex ends fail with
/// `errc::broken_promise`.
class async_condition {
 public:
  explicit async_condition(async_mutex& mutex) : core_(new core(mutex.one_.core_)) {}
  async_condition(const async_condition&) = delete;
  async_condition& operator=(const async_condition&) = delete;
  ~async_condition() {
    core_->waiting.fail_all(std::make_exception_ptr(error(errc::broken_promise)));
  }

  /// Gives `held` back, waits to be notified, and holds the mutex again when it is done, also when
  /// it was cancelled. `held` may be moved meanwhile. It stays empty if the future itself is dropped;
  /// if it goes or is released before, nobody holds the mutex in its place. Throws
  /// `std::errc::operation_not_permitted` if `held` does not hold this condition's mutex. Look at
  /// what you wait for again afterwards.
  template <class = void>  // as the coroutine in it
  future<> wait(async_mutex::guard& held, event_loop& loop = event_loop::current()) {
    if (held.of_.get() != core_->mutex.get()) {
      throw error(std::make_error_code(std::errc::operation_not_permitted),
                  "async_condition::wait was given a guard that does not hold its mutex");
    }
    return wait_and_lock(loop, core_, held, core_->waiting.wait(loop));
  }

  /// Wakes the first who waits, if there is one. The mutex should be held.
  void notify_one() { core_->notify_one(); }

  /// Wakes all who wait now.
  void notify_all() {
    while (!core_->waiting.empty()) core_->notify_one();
  }

 private:
  struct core : detail::counted {
    explicit core(detail::counted_pointer<async_semaphore::core> m) noexcept
        : mutex(std::move(m)) {}

    void notify_one() {
      if (!waiting.empty()) waiting.wake_first();
    }

    const detail::counted_pointer<async_semaphore::core> mutex;
    detail::waiting_line<> waiting{"a condition"};
  };

  // A template, like every coroutine of a header: g++ 12 emits the body of any other, used or not.
  template <class = void>
  static future<> wait_and_lock(event_loop& loop,
                                detail::counted_pointer<core> self,
                                async_mutex::guard& held,
                                future<> woken) {
    held.release();
    const async_mutex::guard::borrower lent(held);
    std::exception_ptr why;
    try {
      co_await std::move(woken);
    } catch (...) {
      why = std::current_exception();
    }
    const bool notified = why == nullptr;
    async_mutex::guard mine;
    const bool was_dropped = co_await detail::nobody_waits();
    bool dropped = was_dropped || lent.from == nullptr;
    while (!mine && !dropped) {
      try {
        auto again = self->mutex->acquire(loop);
        mine = co_await std::move(again);
      } catch (const std::system_error& e) {
        why = std::current_exception();
        if (e.code() != errc::cancelled) break;  // the mutex is gone
      }
      const bool is_dropped = co_await detail::nobody_waits();
      dropped = is_dropped || lent.from == nullptr;
    }
    const bool holds = static_cast<bool>(mine);
    if (!dropped) *lent.from = std::move(mine);
    if (why == nullptr && !dropped) co_return;
    if (notified && (holds || dropped)) self->notify_one();  // what was meant for one is not lost
    if (why != nullptr) std::rethrow_exception(std::move(why));
  }

  detail::counted_pointer<core> core_;
};

}  // namespace pulsar
