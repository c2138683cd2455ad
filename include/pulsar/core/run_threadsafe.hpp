// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `run_threadsafe`: work for a loop from other threads (asyncio.run_coroutine_threadsafe).
///
///     // In a thread without a loop:
///     auto asked = run_threadsafe(loop, [] { return fetch("https://example.org"); });
///     page p = asked.get(5s);
///
///     run_threadsafe(loop, [] { return fetch("https://example.org"); },
///                    [](pulsar::result<page> p) { ... });
///
/// With a completion token of Asio: `async_run` in interop.hpp.

#include <pulsar/core/detail/blocking_wait.hpp>
#include <pulsar/core/detail/run_threadsafe.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/result.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

/// A result that a thread waits for.
template <class T>
class awaited_outside final : public outside_call<T> {
 public:
  void settle(result<T> outcome) noexcept override {
    const std::lock_guard lock(mutex_);
    outcome_.emplace(std::move(outcome));
    settled_.notify_all();
  }

  bool done() const {
    const std::lock_guard lock(mutex_);
    return outcome_.has_value();
  }

  /// False if there is no result after `limit`; without one it waits for as long as it takes.
  bool wait(const std::chrono::nanoseconds* limit) {
    std::unique_lock lock(mutex_);
    return wait_blocking(lock, settled_, limit, [this] { return outcome_.has_value(); });
  }

  result<T> take() {
    const std::lock_guard lock(mutex_);
    result<T> taken = std::move(*outcome_);
    return taken;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable settled_;
  std::optional<result<T>> outcome_;
};

}  // namespace detail

/// A result that comes from a loop, for a thread without one. Move-only; one thread at a time.
/// Dropping it cancels the work, as with `future<T>`.
template <class T = void>
class [[nodiscard(
    "dropping it cancels the work: get() it, keep it, or detach() it")]] blocking_future {
 public:
  blocking_future() noexcept = default;
  blocking_future(blocking_future &&) noexcept = default;
  blocking_future& operator=(blocking_future&& other) noexcept {
    if (this == &other) return *this;
    const blocking_future before(std::move(*this));
    call_ = std::move(other.call_);
    inbox_ = std::move(other.inbox_);
    return *this;
  }
  ~blocking_future() { cancel(); }

  /// True unless it was moved from, taken or detached.
  bool valid() const noexcept { return call_ != nullptr; }
  /// True when there is a result or a failure.
  bool done() const { return checked().done(); }

  /// Blocks until there is a result and gives it, or throws the failure: `errc::cancelled`,
  /// `errc::loop_closed` if the loop closed before, or what the work threw. Throws
  /// `errc::already_running` where a loop runs, which must not be blocked.
  T get() {
    check_may_block();
    checked().wait(nullptr);
    return take();
  }

  /// The same, for `limit` at most: then the work is cancelled and this throws `errc::timed_out`.
  T get(std::chrono::nanoseconds limit) {
    check_may_block();
    if (!checked().wait(&limit)) {
      cancel();
      call_ = nullptr;
      throw error(errc::timed_out, "blocking_future::get");
    }
    return take();
  }

  /// Blocks until it is done, for `limit` at most; true if it is.
  bool wait_for(std::chrono::nanoseconds limit) {
    check_may_block();
    return checked().wait(&limit);
  }

  /// Asks the work to stop, soon: it fails with `errc::cancelled` unless it has ended by then.
  void cancel() noexcept {
    if (call_ != nullptr && !call_->done()) call_->request_cancel(*inbox_);
  }

  /// Lets the work run on; its result is dropped.
  void detach() noexcept { call_ = nullptr; }

 private:
  template <class F>
  friend auto run_threadsafe(event_loop & loop, F && f)->blocking_future<detail::result_of_work<F>>;

  detail::awaited_outside<T>& checked() const {
    PULSAR_ASSERT(valid(), "this blocking_future was moved from, taken or detached");
    return *call_;
  }

  static void check_may_block() { detail::check_may_block("blocking_future::get"); }

  T take() { return std::exchange(call_, nullptr)->take().value(); }

  detail::counted_pointer<detail::awaited_outside<T>> call_;
  detail::counted_pointer<detail::loop_inbox> inbox_;
};

/// Calls `f()` in the thread of `loop`, soon; what it gives, or what the future gives that it
/// returns. Any thread, while the loop object lives. If the loop is closed, or closes before `f`
/// has ended, the result is `errc::loop_closed` or `errc::cancelled`. `f` is kept until it is done.
template <class F>
auto run_threadsafe(event_loop& loop, F&& f) -> blocking_future<detail::result_of_work<F>> {
  using T = detail::result_of_work<F>;
  static_assert(std::is_void_v<T> || std::is_object_v<T>,
                "what comes from another thread must be a value, not a reference");
  blocking_future<T> made;
  made.inbox_ = detail::loop_access::inbox(loop);
  made.call_ =
      detail::counted_pointer<detail::awaited_outside<T>>(new detail::awaited_outside<T>());
  if (!detail::start_inside<T>(loop, detail::share<detail::outside_call<T>>(*made.call_),
                               std::forward<F>(f))) {
    made.call_->settle(std::make_exception_ptr(error(errc::loop_closed, "run_threadsafe")));
  }
  return made;
}

/// The same with a function that is called with the `result<T>`, once, in the thread of the loop.
/// What it throws goes to the loop's exception handler. Throws `errc::loop_closed` if the loop is
/// closed; if that closes later, the function is called with that failure.
template <class F, class Callback>
requires std::is_invocable_v<Callback&, result<detail::result_of_work<F>>>
void run_threadsafe(event_loop& loop, F&& f, Callback&& done) {
  using T = detail::result_of_work<F>;
  struct told final : detail::outside_call<T> {
    told(event_loop& l, Callback&& c) : on(l), callback(std::forward<Callback>(c)) {}
    void settle(result<T> outcome) noexcept override {
      try {
        callback(std::move(outcome));
      } catch (...) {
        detail::report_callback_failure(on);
      }
    }
    event_loop& on;
    std::decay_t<Callback> callback;
  };
  detail::counted_pointer<detail::outside_call<T>> call(
      new told(loop, std::forward<Callback>(done)));
  if (!detail::start_inside<T>(loop, std::move(call), std::forward<F>(f))) {
    throw error(errc::loop_closed, "run_threadsafe");
  }
}

}  // namespace pulsar
