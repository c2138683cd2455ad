// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What stands in a coroutine's frame while it awaits a future.

#include <pulsar/core/detail/coroutine.hpp>
#include <pulsar/core/detail/shared_state.hpp>

#include <coroutine>
#include <type_traits>

namespace pulsar::detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_not_awaitable(const state* s) {
  throw error(errc::already_called, s == nullptr ? "co_await of an empty future: one is awaited once"
                                                 : "two coroutines await the same future");
}

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_wrong_loop() {
  throw error(errc::wrong_loop, "co_await of a future that belongs to another event loop");
}

/// The coroutine was cancelled while nothing was pending: its next await, of `s`, fails.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_cancelled(frame& waiter, state* s) {
  waiter.cancel_requested = false;
  cancel_chain(s);
  waiter.resumed();
  throw error(errc::cancelled);
}

/// An await that suspended and gives no value; `waiter` is null if no coroutine of ours waited.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_from_await(frame* waiter, state& s) {
  if (waiter != nullptr && waiter->cancel_requested && s.progress == status::failed &&
      is_cancelled(s.failure)) {
    waiter->cancel_requested = false;
  }
  throw_no_value(s);
}

/// The value of a state that nobody refers to was moved out.
[[gnu::noinline]] inline void let_go_of_taken(state& s) noexcept {
  s.progress = status::taken;
  let_go(s, release_as::dropped);
}

/// Waits for a future on behalf of a coroutine: what does not depend on the type of the value.
struct awaiter_base : future_awaiter {
  awaiter_base() noexcept = default;
  awaiter_base(awaiter_base&&) = delete;

 protected:
  static bool is_done(const state* s) {
    if (s == nullptr) [[unlikely]] throw_not_awaitable(s);
    return s->done();
  }

  template <class P>
  void suspend(std::coroutine_handle<P> h) {
    state* const s = *slot;
    if (s->awaiter != nullptr) [[unlikely]] throw_not_awaitable(s);
    if constexpr (std::is_base_of_v<frame, P>) {
      wait_in(h.promise(), s);
    } else {
      waiter = nullptr;
    }
    handle = h;
    s->awaiter = this;
  }

  /// `s` has ended; throws unless it has a value.
  state& ended(state& s) {
    if (handle) {
      handle = nullptr;
      s.awaiter = nullptr;
      if (waiter != nullptr) waiter->resumed();
      if (s.progress != status::value) [[unlikely]] throw_from_await(waiter, s);
    } else if (s.progress != status::value) [[unlikely]] {
      throw_no_value(s);
    }
    return s;
  }

 private:
  void wait_in(frame& f, state* s) {
    if (f.loop != s->loop) [[unlikely]] throw_wrong_loop();
    if (f.cancel_requested) [[unlikely]] throw_cancelled(f, s);
    if (!f.listed) enlist(f);
    waiter = &f;
    f.waiting_on = s;
  }
};

/// Of a future that keeps its state.
struct lvalue_awaiter_base : awaiter_base {
  explicit lvalue_awaiter_base(state** s) noexcept { slot = s; }
  ~lvalue_awaiter_base() {
    // Still waiting: the frame is freed without being resumed.
    if (handle && *slot != nullptr) [[unlikely]] (*slot)->awaiter = nullptr;
    if (owned != nullptr) [[unlikely]] let_go(*owned, release_as::dropped);
  }

  bool await_ready() const { return is_done(*slot); }
  template <class P>
  void await_suspend(std::coroutine_handle<P> h) {
    suspend(h);
  }
};

template <class T>
struct lvalue_awaiter : lvalue_awaiter_base {
  using lvalue_awaiter_base::lvalue_awaiter_base;

  T await_resume() { return take<T>(ended(**slot)); }
};

/// Of a future that has given its state up.
struct rvalue_awaiter_base : awaiter_base {
  explicit rvalue_awaiter_base(state* s) noexcept { owned = s; }
  ~rvalue_awaiter_base() {
    if (owned != nullptr) [[unlikely]] let_go_unused();
  }

  bool await_ready() const { return is_done(owned); }
  template <class P>
  void await_suspend(std::coroutine_handle<P> h) {
    slot = &owned;
    suspend(h);
  }

 protected:
  void free_state(state& s) noexcept {
    if (s.flat) [[likely]] {
      static_cast<frame&>(s).handle.destroy();
    } else {
      let_go_of_taken(s);
    }
    owned = nullptr;
  }

 private:
  [[gnu::noinline]] void let_go_unused() noexcept {
    // Still waiting: the frame is freed without being resumed.
    if (handle) owned->awaiter = nullptr;
    let_go(*owned, release_as::dropped);
  }
};

template <class T>
struct rvalue_awaiter : rvalue_awaiter_base {
  using rvalue_awaiter_base::rvalue_awaiter_base;

  // A value is moved out, and the state freed at once.
  T await_resume() {
    state& s = ended(*owned);
    if constexpr (std::is_reference_v<T>) {  // may refer to what the coroutine owns
      return take<T>(s);
    } else if constexpr (std::is_void_v<T>) {
      free_state(s);
    } else {
      T value(static_cast<T&&>(*static_cast<T*>(s.value)));
      free_state(s);
      return value;
    }
  }
};

}  // namespace pulsar::detail
