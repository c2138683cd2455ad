// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `shared_future<T>`: one result for several who wait.
///
///     pulsar::shared_future<config> loading(load_config());
///     group.add(serve(loading));
///     group.add(watch(loading));
///     const config& c = co_await loading;
///
/// Who is cancelled while it waits goes alone: the work and the others go on (asyncio.shield). The
/// work is cancelled when nobody is left, copies and waiters, or by `cancel()`, for all.

#include <pulsar/core/detail/shared_future.hpp>
#include <pulsar/core/future.hpp>

#include <exception>
#include <utility>

namespace pulsar {

template <class T = void>
class shared_future;

namespace detail {
template <class T>
const state* state_of(const shared_future<T>& f) noexcept;
}

/// A future that is copied and awaited as often as one likes. Its copies belong to the thread of
/// its loop. The result stays in it: it is there as long as a copy is.
template <class T>
class shared_future {
 public:
  /// What awaiting gives: `const T&`, but `T` itself for a reference or nothing.
  using value_type = detail::shared_result<T>;

  shared_future() noexcept = default;

  /// Shares `f`. Throws `errc::already_called` for an empty future.
  explicit shared_future(future<T> f) {
    if (!f.valid()) throw error(errc::already_called, "shared_future of an empty future");
    source_ = detail::counted_pointer<detail::shared_source>(new detail::shared_source(f));
  }

  /// True unless it was made without a future, or moved from.
  bool valid() const noexcept { return source_ != nullptr; }

  /// True when there is a result or a failure.
  bool done() const noexcept {
    const bool is_done = checked().done();
    if (is_done) checked().seen |= detail::state::end_seen;
    return is_done;
  }

  /// True when it failed with `errc::cancelled`.
  bool cancelled() const noexcept {
    return checked().progress == detail::status::failed && detail::is_cancelled(checked().failure);
  }

  /// The result, or throws the failure. Throws `errc::not_ready` before `done()`.
  value_type result() const {
    detail::state& s = checked();
    s.seen |= detail::state::end_seen;
    if (s.progress != detail::status::value) detail::throw_no_value(s);
    return detail::value_of<T>(s);
  }

  /// The failure, or null; then it counts as seen. Throws `errc::not_ready` before `done()`.
  std::exception_ptr exception() const {
    if (!done()) throw error(errc::not_ready, "exception() of a pending future");
    checked().observe();
    return checked().progress == detail::status::failed ? checked().failure : nullptr;
  }

  /// Asks the work to stop, for all who wait; as `future<T>::cancel`.
  bool cancel() const noexcept {
    if (!valid() || done() || checked().loop == nullptr) return false;
    detail::cancel_chain(&checked());
    return true;
  }

  /// Calls `f()` from the loop when it is done, in its next turn if it is. Throws
  /// `errc::loop_closed`.
  template <class F>
  void add_done_callback(F&& f) const {
    event_loop* const open = detail::loop_of_state(checked());
    if (open == nullptr) throw error(errc::loop_closed, "add_done_callback");
    detail::add_callback(checked(),
                         new detail::callback<std::decay_t<F>>(*open, std::forward<F>(f)));
  }

  /// The loop it belongs to, which must not be closed.
  event_loop& loop() const noexcept {
    event_loop* const open = detail::loop_of_state(checked());
    PULSAR_ASSERT(open != nullptr, "the loop of this future is closed");
    return *open;
  }

  /// Waits; gives the result, or throws the failure. Those who wait resume in the order in which
  /// they came, from the loop.
  auto operator co_await() const { return detail::shared_awaiter<T>(source_.get()); }

  /// A future of its own that waits for it: what combinators take.
  operator future<value_type>() const { return wait(*this); }

 private:
  template <class U>
  friend const detail::state* detail::state_of(const shared_future<U>& f) noexcept;

  static future<value_type> wait(shared_future self) { co_return co_await self; }

  detail::state& checked() const noexcept {
    PULSAR_ASSERT(valid(), "this shared_future is empty");
    return source_->what();
  }

  detail::counted_pointer<detail::shared_source> source_;
};

template <class T>
shared_future(future<T>) -> shared_future<T>;

namespace detail {

/// Null if it is empty.
template <class T>
const state* state_of(const shared_future<T>& f) noexcept {
  return f.source_ ? &f.source_->what() : nullptr;
}

}  // namespace detail

}  // namespace pulsar
