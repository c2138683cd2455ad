// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `future<T>` and `promise<T>`: a result that is not there yet (pulsar's Deferred), and the
/// coroutine type.
///
///     pulsar::future<int> twice(pulsar::future<int> f) { co_return 2 * co_await std::move(f); }
///
///     pulsar::event_loop loop;
///     auto p = loop.create_future<int>();
///     auto f = twice(p.get_future());
///     p.set_value(21);
///     loop.run_until_complete(std::move(f));   // 42
///
/// A coroutine runs at once, up to its first await. It belongs to the loop of its `event_loop&`
/// parameter if it has one, else to the loop that runs, else to the only one alive in the thread.
/// Dropping a pending future requests its cancellation and lets it end on its own; `detach` lets
/// it run. Futures belong to the thread of their loop.

#include <pulsar/core/detail/awaiter.hpp>
#include <pulsar/core/detail/coroutine.hpp>
#include <pulsar/core/event_loop.hpp>

#include <coroutine>
#include <exception>
#include <functional>
#include <memory>
#include <source_location>
#include <system_error>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

/// The members of every future<T> that do not depend on T.
class future_base {
 public:
  future_base(const future_base&) = delete;
  future_base& operator=(const future_base&) = delete;

  /// True unless it was moved from, awaited as an rvalue, or detached.
  bool valid() const noexcept { return state_ != nullptr; }

  /// True when there is a result or a failure.
  bool done() const noexcept {
    const bool is_done = checked().done();
    if (is_done) state_->seen |= state::end_seen;
    return is_done;
  }

  /// True when it failed with `errc::cancelled`.
  bool cancelled() const noexcept {
    return checked().progress == status::failed && is_cancelled(checked().failure);
  }

  /// The failure, or null; then it counts as seen. Throws `errc::not_ready` before `done()`.
  std::exception_ptr exception() const {
    if (!done()) throw error(errc::not_ready, "exception() of a pending future");
    checked().observe();
    if (checked().progress != status::failed) return nullptr;
    return checked().failure;
  }

  /// Asks what runs to stop: its innermost operation fails with `errc::cancelled`, or, if none is
  /// pending, its next await does. False if it is done already, a result is never lost, if its
  /// loop is closed, and of an empty future: one that was moved into `with_timeout`, `when_any` or
  /// another coroutine has nothing left to cancel. Keep what that gave, and cancel it.
  bool cancel() noexcept {
    if (state_ == nullptr || state_->done() || state_->loop == nullptr) return false;
    loop_access::check_thread(*state_->loop, "cancelling a future");
    cancel_chain(state_);
    return true;
  }

  /// Calls `f()` from the loop when it is done, in its next turn if it is; in the order of the
  /// calls. Throws `errc::loop_closed`.
  template <class F>
  void add_done_callback(F&& f, std::source_location where = std::source_location::current()) {
    add_callback(checked(), new_callback(std::forward<F>(f), where));
  }

  /// Lets it run on without an owner. A failure goes to the loop's exception handler.
  void detach() noexcept {
    if (state_ != nullptr) release(release_as::detached);
  }

  /// The loop it belongs to, which must not be closed.
  event_loop& loop() const noexcept {
    event_loop* const open = loop_of_state(checked());
    PULSAR_ASSERT(open != nullptr, "the loop of this future is closed");
    return *open;
  }

 protected:
  friend struct future_access;
  friend class pulsar::event_loop;

  future_base() noexcept = default;
  explicit future_base(state* s) noexcept : state_(s) {}
  future_base(future_base&& other) noexcept { take_over(other); }
  future_base& operator=(future_base&& other) noexcept {
    if (this != &other) {
      reset();
      take_over(other);
    }
    return *this;
  }
  ~future_base() { reset(); }

  state& checked() const noexcept {
    PULSAR_ASSERT(state_ != nullptr, "this future was moved from, awaited or detached");
    return *state_;
  }

  /// Throws `errc::loop_closed`.
  event_loop& open_loop(const char* what) const {
    event_loop* const open = loop_of_state(checked());
    if (open == nullptr) throw error(errc::loop_closed, what);
    return *open;
  }

  state* give_up() noexcept { return std::exchange(state_, nullptr); }

  state* state_ = nullptr;

 private:
  template <class F>
  callback_base* new_callback(F&& f, std::source_location where = {}) {
    event_loop& open = open_loop("add_done_callback");
    return new callback<std::decay_t<F>>(open, std::forward<F>(f), where);
  }

  void take_over(future_base& other) noexcept {
    state_ = other.give_up();
    // Who waits for it finds it here from now on.
    if (state_ != nullptr && state_->awaiter != nullptr) state_->awaiter->slot = &state_;
  }
  void release(release_as how) noexcept { let_go(*give_up(), how); }
  void reset() noexcept {
    if (state_ != nullptr) release(release_as::dropped);
  }
};

state*& future_access::slot(future_base& f) noexcept { return f.state_; }

}  // namespace detail

/// A result of type `T` (a value, a reference, nothing) or a failure, now or later. Move-only, for
/// one awaiter, of the thread of its loop; also what a coroutine returns.
template <class T>
class [[nodiscard("a future that is dropped is cancelled: co_await it, keep it, or detach() it")]]
future : public detail::future_base {
  static_assert(!std::is_rvalue_reference_v<T>, "a future cannot hold an rvalue reference");

 public:
  using value_type = T;
  using promise_type = detail::coroutine<T>;

  future() noexcept = default;
  future(future&&) noexcept = default;
  future& operator=(future&&) noexcept = default;

  /// The result, moved out; or throws the failure. Throws `errc::not_ready` before `done()`, and
  /// `errc::already_called` when the result was taken before.
  T result() { return detail::take<T>(checked()); }

  /// A future of `f(result)`; `f` may return a future, which is waited for. A failure passes by.
  /// Throws `errc::loop_closed`.
  template <class F>
  auto then(F f, std::source_location where = std::source_location::current()) &&;

  /// Waits; gives the result, or throws the failure. One awaiter only: the result is moved out.
  auto operator co_await() & noexcept { return detail::lvalue_awaiter<T>(&state_); }
  auto operator co_await() && noexcept { return detail::rvalue_awaiter<T>(give_up()); }

 private:
  friend struct detail::future_access;
  explicit future(detail::state* state) noexcept : future_base(state) {}
};

namespace detail {

/// The members of every promise<T> that do not depend on T.
class promise_base {
 public:
  promise_base(const promise_base&) = delete;
  promise_base& operator=(const promise_base&) = delete;

  /// Settles it with a failure; otherwise as `set_value`. Throws `std::errc::invalid_argument` for
  /// a null pointer.
  void set_exception(std::exception_ptr failure) {
    if (failure == nullptr) {
      throw error(std::make_error_code(std::errc::invalid_argument),
                  "set_exception was given no exception");
    }
    if (!may_settle()) return;
    state_->fail(std::move(failure));
    drop_hook();
  }
  void set_exception(std::error_code code) {
    set_exception(std::make_exception_ptr(error(code)));
  }

  /// True when it was settled, or cancelled by the other side.
  bool done() const noexcept { return checked().done(); }

  /// True when the future's side has cancelled or dropped it: nobody wants the value.
  bool cancelled() const noexcept { return checked().cancelled_by_user; }

  /// `f()` is called at most once, when the future's side cancels or drops it; at once if it has.
  /// Settling frees it uncalled.
  void on_cancel(std::function<void()> f) {
    if (checked().cancelled_by_user) {
      if (f) f();
    } else if (!state_->done()) {
      state_->hook = std::move(f);
    }
  }

 protected:
  explicit promise_base(promised_state* s) noexcept : state_(s) {}
  promise_base(promise_base&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  promise_base& operator=(promise_base&& other) noexcept {
    promised_state* const theirs = std::exchange(other.state_, nullptr);
    give_up(std::exchange(state_, theirs));
    return *this;
  }
  ~promise_base() { give_up(state_); }

  promised_state& checked() const noexcept {
    PULSAR_ASSERT(state_ != nullptr, "this promise was moved from");
    return *state_;
  }

  // The state, counted for the future.
  promised_state* hand_out() {
    if (std::exchange(checked().handed_out, true)) {
      throw error(errc::already_called, "get_future was called before");
    }
    ++state_->count;
    return state_;
  }

  bool may_settle() {
    if (checked().loop != nullptr) {
      loop_access::check_thread(*state_->loop, "settling a promise");
    }
    if (state_->cancelled_by_user) return false;
    if (state_->done()) throw error(errc::already_called, "the promise was settled before");
    return true;
  }

  // Last: it may own this promise.
  void drop_hook() noexcept {
    if (state_->hook) [[unlikely]] static_cast<void>(std::exchange(state_->hook, nullptr));
  }

  promised_state* state_;

 private:
  static void give_up(promised_state* s) noexcept {
    if (s == nullptr) return;
    // A future that is being cancelled, by which `on_cancel` may end this, fails on its own.
    if (!s->done() && !s->cancelled_by_user) {
      s->fail(std::make_exception_ptr(error(errc::broken_promise)));
    }
    s->drop();
  }
};

}  // namespace detail

/// The producer's end of a future. Belongs to the thread of its loop.
template <class T>
class promise : public detail::promise_base {
  using state = detail::shared_state<T, detail::promised_state>;

 public:
  /// Bound to `loop`.
  explicit promise(event_loop& loop = event_loop::current(),
                   std::source_location where = std::source_location::current())
      : promise_base(new state(loop, where)) {}
  promise(promise&&) noexcept = default;
  promise& operator=(promise&&) noexcept = default;
  /// An unsettled future fails with `errc::broken_promise`.
  ~promise() = default;

  /// The future; once. Throws `errc::already_called`.
  future<T> get_future() { return detail::future_access::make<T>(hand_out()); }

  /// Settles it with a value made from `args`. Whoever waits resumes from the loop, never inside
  /// this call. Throws `errc::already_called` the second time; does nothing when the other side
  /// has cancelled.
  template <class... Args>
  void set_value(Args&&... args) {
    if (!may_settle()) return;
    static_cast<state*>(state_)->succeed(std::forward<Args>(args)...);
    drop_hook();
  }

 private:
  friend struct detail::future_access;
  explicit promise(state* made) noexcept : promise_base(made) {}
};

/// A future that is done.
template <class T>
future<std::decay_t<T>> make_ready_future(T&& value) {
  promise<std::decay_t<T>> p;
  p.set_value(std::forward<T>(value));
  return p.get_future();
}
inline future<> make_ready_future() {
  promise<> p;
  p.set_value();
  return p.get_future();
}

/// A future that has failed.
template <class T = void>
future<T> make_exceptional_future(std::exception_ptr failure) {
  promise<T> p;
  p.set_exception(std::move(failure));
  return p.get_future();
}

}  // namespace pulsar

#include <pulsar/core/detail/future_members.hpp>
