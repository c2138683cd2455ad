// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The states of futures that are made by hand, and what all states do with their values.

#include <pulsar/core/detail/recycler.hpp>
#include <pulsar/core/detail/state.hpp>
#include <pulsar/core/event_loop.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace pulsar::detail {

inline bool is_cancelled(const std::exception_ptr& failure) noexcept {
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::system_error& e) {
    return e.code() == errc::cancelled;
  } catch (...) {
  }
  return false;
}

/// Reports a failure that nobody awaits any more.
[[gnu::noinline]] inline void report_unseen(event_loop* loop,
                                           const std::exception_ptr& failure,
                                           std::source_location where) noexcept {
  if (loop == nullptr || is_cancelled(failure)) return;
  loop->call_exception_handler({"a future failed and nobody awaited it", failure, where});
}

/// The loop of a state, null if that is closed: nobody tells a frame that is not listed.
inline event_loop* loop_of_state(const state& s) noexcept {
  return s.listed || loop_access::is_open(s.loop) ? s.loop : nullptr;
}

/// Reports, in debug mode, a future that is dropped although it is pending, or has a value that
/// nobody has looked at; unless its loop closes, or an exception passes by.
[[gnu::noinline]] inline void report_unused(state& s, std::source_location where) noexcept {
  if (s.done() && ((s.seen & state::end_seen) != 0 || s.progress != status::value)) return;
  event_loop* const loop = loop_of_state(s);
  if (loop == nullptr || !loop_access::looks_for_faults(*loop)) return;
  if (std::uncaught_exceptions() > 0) return;
  loop->call_exception_handler(
      {s.done() ? "a future was dropped with its result, which nobody has looked at"
                : "a future was dropped while pending, which cancels it: await it, keep it, or call "
                  "cancel() or detach()",
       nullptr, where});
}

/// Room for a value that is not there from the start.
template <class T>
struct value_room {
  alignas(T) std::byte bytes[sizeof(T)];
};
template <>
struct value_room<void> {};
template <class T>
struct value_room<T&> {};

/// Can a reference of type `T` be bound to an argument of type `A` itself, not to a temporary?
template <class T, class A>
inline constexpr bool binds_directly =
    std::is_lvalue_reference_v<A> &&
    std::is_convertible_v<std::remove_reference_t<A>*, std::remove_reference_t<T>*>;
template <class T, class V>
inline constexpr bool binds_directly<T, std::reference_wrapper<V>> = binds_directly<T, V&>;
template <class T, class V>
inline constexpr bool binds_directly<T, std::reference_wrapper<V>&> = binds_directly<T, V&>;
template <class T, class V>
inline constexpr bool binds_directly<T, const std::reference_wrapper<V>&> = binds_directly<T, V&>;

template <class T, class... Args>
void put_value(state& s, value_room<T>& room, Args&&... args) {
  if constexpr (std::is_reference_v<T>) {
    static_assert((binds_directly<T, Args> && ...),
                  "the future of a reference was given a temporary, which ends here: give it an "
                  "lvalue of that type, or make the future one of a value");
    T refers_to(args...);
    s.value = const_cast<void*>(static_cast<const volatile void*>(std::addressof(refers_to)));
  } else if constexpr (!std::is_void_v<T>) {
    s.value = std::construct_at(static_cast<T*>(static_cast<void*>(room.bytes)),
                                static_cast<Args&&>(args)...);
  }
  s.progress = status::value;
}
template <class T>
void destroy_value(state& s) noexcept {
  if constexpr (!std::is_void_v<T> && !std::is_trivially_destructible_v<T>) {
    if (s.has_value()) static_cast<T*>(s.value)->~T();
  }
}

// What an await seldom does stands in functions of their own, out of the way: inlined into every
// coroutine it would crowd out the registers of what always happens.

/// The failure of a state, or why there is no value.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_no_value(state& s) {
  if (!s.done()) throw error(errc::not_ready, "result() of a pending future");
  if (s.progress != status::failed) {
    throw error(errc::already_called, "the result of this future was taken before");
  }
  s.observe();
  std::rethrow_exception(s.failure);
}

template <class T>
T take(state& s) {
  if (s.progress != status::value) [[unlikely]] throw_no_value(s);
  s.progress = status::taken;
  if constexpr (std::is_reference_v<T>) {
    return *static_cast<std::remove_reference_t<T>*>(s.value);
  } else if constexpr (!std::is_void_v<T>) {
    return static_cast<T&&>(*static_cast<T*>(s.value));
  }
}

/// Runs `node` from the loop when the state is done, which may be now.
inline void add_callback(state& s, task_node* node) noexcept {
  event_loop* const loop = loop_of_state(s);
  s.seen |= state::end_seen;
  if (loop == nullptr) {
    node->call(node, true);
  } else if (s.done()) {
    loop_access::push_ready(*loop, node);
  } else {
    loop_access::check_thread(*loop, "add_done_callback");
    node->next = s.callbacks;
    s.callbacks = node;
    s.watched = true;
  }
}

[[gnu::noinline]] inline void schedule_callbacks(state& s) noexcept {
  for (task_node* node = take_callbacks(s); node != nullptr;) {
    task_node* next = node->next;
    loop_access::push_ready(*s.loop, node);
    node = next;
  }
}

/// Wakes whoever waits for a state that is done, from the loop.
inline void wake(state& s) noexcept {
  if (s.awaiter != nullptr) loop_access::push_ready(*s.loop, s.awaiter->ready());
  if (s.callbacks != nullptr) schedule_callbacks(s);
}

/// What a coroutine waits for, for people.
struct wait_description {
  std::string text;                   // "a read from 127.0.0.1:80"
  const timer_node* until = nullptr;  // then it ends at the latest
};

/// A state made by hand, whatever its value, shared by the future and whoever settles it.
struct hand_made_state : state, recycled {
  explicit hand_made_state(event_loop& l, std::source_location made = {}) noexcept
      : state(&l, &request_cancel, &let_go), where(made) {
    loop_access::check_thread(l, "making a future or promise");
    loop_access::states(l).insert(*this);
  }
  virtual ~hand_made_state() {
    state_list::remove(*this);
    if (callbacks != nullptr) free_callbacks(*this);
    std::destroy_at(&failure);
  }

  void fail(std::exception_ptr why) noexcept {
    failure = std::move(why);
    progress = status::failed;
    wake(*this);
  }

  void drop() noexcept {
    if (--count > 0) return;
    if (progress == status::failed && !observed() && handed_out) report_unseen(loop, failure, where);
    delete this;
  }

  /// The future's side does not want it any more.
  virtual void on_cancelled() noexcept {}
  /// It is pending, and its loop has closed: nobody is woken.
  virtual void on_loop_closed() noexcept {}

  /// What a coroutine waits for with it, for people.
  virtual const char* name() const noexcept { return "an operation"; }
  /// The same, if there is more to say of it.
  virtual void describe(wait_description& to) const { to.text = name(); }

  /// Calls `f(with, s)` for each `s` that is waited for by this.
  virtual void each_awaited(void (*)(void* with, state& s), void*) const noexcept {}

  std::source_location where;  // it was made, if that is known
  std::uint32_t count = 1;
  bool handed_out = false;
  bool cancelled_by_user = false;

 private:
  static cancellable* request_cancel(cancellable* c) noexcept {
    auto* self = static_cast<hand_made_state*>(c);
    if (self->done()) return nullptr;
    self->cancelled_by_user = true;
    ++self->count;
    self->on_cancelled();
    if (!self->done()) self->fail(std::make_exception_ptr(error(errc::cancelled)));
    self->drop();
    return nullptr;
  }

  void lose_loop() noexcept {
    ++count;
    if (callbacks != nullptr) free_callbacks(*this);
    if (!done()) on_loop_closed();
    drop();
  }

  static void let_go(state* s, release_as how) noexcept {
    auto* self = static_cast<hand_made_state*>(s);
    if (how == release_as::loop_closed) [[unlikely]] return self->lose_loop();
    if (loops_in_debug.load(std::memory_order_relaxed) != 0) [[unlikely]] {
      if (how == release_as::dropped) report_unused(*self, self->where);
    }
    if (how == release_as::dropped && !self->done()) {
      self->observe();
      request_cancel(self);
    }
    self->drop();
  }
};

/// The part of a `promise`'s state that does not depend on the type of the value.
struct promised_state : hand_made_state {
  using hand_made_state::hand_made_state;

  void on_cancelled() noexcept override {
    if (!hook) return;
    try {
      std::exchange(hook, nullptr)();
    } catch (...) {
      if (loop != nullptr) report_callback_failure(*loop);
    }
  }
  const char* name() const noexcept override { return "a promise"; }

  std::function<void()> hook;
};

/// With the room for the value.
template <class T, class Base = hand_made_state>
struct shared_state : Base {
  using Base::Base;
  ~shared_state() override { destroy_value<T>(*this); }

  template <class... Args>
  void succeed(Args&&... args) {
    put_value<T>(*this, room, static_cast<Args&&>(args)...);
    wake(*this);
  }

  [[no_unique_address]] value_room<T> room;
};

}  // namespace pulsar::detail
