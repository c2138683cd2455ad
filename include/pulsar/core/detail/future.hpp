// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The states behind future<T>, and the promise type of its coroutines.

#include <pulsar/core/detail/recycler.hpp>
#include <pulsar/core/detail/state.hpp>
#include <pulsar/core/event_loop.hpp>

#include <coroutine>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace pulsar::detail {

/// Makes `loop` the running one of this thread while it lives.
class current_loop {
 public:
  explicit current_loop(event_loop& loop) noexcept
      : before_(std::exchange(this_thread_loops.running, &loop)) {}
  current_loop(const current_loop&) = delete;
  current_loop& operator=(const current_loop&) = delete;
  ~current_loop() { this_thread_loops.running = before_; }

 private:
  event_loop* before_;
};

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

/// Room for a value that is not there from the start.
template <class T>
union value_room {
  value_room() noexcept {}
  ~value_room() {}
  T value;
};
template <>
union value_room<void> {};
template <class T>
union value_room<T&> {};

template <class T, class... Args>
void put_value(state& s, value_room<T>& room, Args&&... args) {
  if constexpr (std::is_reference_v<T>) {
    T refers_to(args...);
    s.value = const_cast<void*>(static_cast<const volatile void*>(std::addressof(refers_to)));
  } else if constexpr (!std::is_void_v<T>) {
    s.value = std::construct_at(&room.value, std::forward<Args>(args)...);
  }
  s.progress = status::value;
}
template <class T>
void destroy_value(state& s) noexcept {
  if constexpr (!std::is_void_v<T> && !std::is_reference_v<T>) {
    if (s.value != nullptr) std::destroy_at(static_cast<T*>(s.value));
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
  s.observed = true;
  std::rethrow_exception(s.failure);
}

template <class T>
T take(state& s) {
  if (s.progress != status::value) [[unlikely]] throw_no_value(s);
  s.progress = status::taken;
  if constexpr (std::is_reference_v<T>) {
    return *static_cast<std::remove_reference_t<T>*>(s.value);
  } else if constexpr (!std::is_void_v<T>) {
    return std::move(*static_cast<T*>(s.value));
  }
}

/// Runs `node` from the loop when the state is done, which may be now.
inline void add_callback(state& s, task_node* node) noexcept {
  if (s.loop == nullptr) {
    node->call(node, true);
  } else if (s.done()) {
    loop_access::push_ready(*s.loop, node);
  } else {
    node->next = s.callbacks;
    s.callbacks = node;
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
  if (s.awaiter != nullptr) loop_access::push_ready(*s.loop, s.awaiter);
  if (s.callbacks != nullptr) schedule_callbacks(s);
}

/// A state made by hand, shared by the future and whoever settles it.
template <class T>
struct shared_state : state, recycled {
  explicit shared_state(event_loop& l) noexcept
      : state(&l, &request_cancel, kind::state, &let_go) {
    loop_access::states(l).insert(*this);
  }
  virtual ~shared_state() {
    state_list::remove(*this);
    destroy_value<T>(*this);
    if (callbacks != nullptr) free_callbacks(*this);
  }

  template <class... Args>
  void succeed(Args&&... args) {
    put_value<T>(*this, room, std::forward<Args>(args)...);
    wake(*this);
  }

  void fail(std::exception_ptr why) noexcept {
    failure = std::move(why);
    progress = status::failed;
    wake(*this);
  }

  void drop() noexcept {
    if (--count > 0) return;
    if (progress == status::failed && !observed && handed_out) report_unseen(loop, failure, {});
    delete this;
  }

  /// The future's side does not want it any more.
  virtual void on_cancelled() noexcept {}

  std::uint32_t count = 1;
  bool handed_out = false;
  bool cancelled_by_user = false;
  [[no_unique_address]] value_room<T> room;

 private:
  static cancellable* request_cancel(cancellable* c) noexcept {
    auto* self = static_cast<shared_state*>(c);
    if (self->done()) return nullptr;
    self->cancelled_by_user = true;
    ++self->count;
    self->on_cancelled();
    if (!self->done()) self->fail(std::make_exception_ptr(error(errc::cancelled)));
    self->drop();
    return nullptr;
  }

  static void let_go(state* s, release_as how) noexcept {
    auto* self = static_cast<shared_state*>(s);
    if (how == release_as::dropped && !self->done()) {
      self->observed = true;
      request_cancel(self);
    }
    self->drop();
  }
};

/// The state behind a `promise`.
template <class T>
struct promise_state final : shared_state<T> {
  using shared_state<T>::shared_state;

  void on_cancelled() noexcept override {
    if (!hook) return;
    try {
      std::exchange(hook, nullptr)();
    } catch (...) {
      if (this->loop != nullptr) report_callback_failure(*this->loop);
    }
  }

  std::function<void()> hook;
};

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_not_awaitable(const state* s) {
  throw error(errc::already_called, s == nullptr ? "co_await of an empty future"
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

/// An await that gives no value; `waiter` is null if it did not suspend.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_from_await(frame* waiter, state& s) {
  if (waiter != nullptr && waiter->cancel_requested && s.progress == status::failed &&
      is_cancelled(s.failure)) {
    waiter->cancel_requested = false;
  }
  throw_no_value(s);
}

/// Waits for a future on behalf of a coroutine.
template <class T>
struct awaiter_base : future_awaiter {
  state* target() const noexcept { return *slot; }

  bool await_ready() const noexcept { return target() != nullptr && target()->done(); }

  template <class P>
  void await_suspend(std::coroutine_handle<P> h) {
    state* s = target();
    if (s == nullptr || s->awaiter != nullptr) [[unlikely]] throw_not_awaitable(s);
    if constexpr (std::is_base_of_v<frame, P>) {
      frame& f = h.promise();
      if (f.loop != s->loop) [[unlikely]] throw_wrong_loop();
      if (f.cancel_requested) [[unlikely]] throw_cancelled(f, s);
      waiter = &f;
      f.waiting_on = s;
    }
    handle = h;
    s->awaiter = this;
  }

  T await_resume() {
    state& s = *target();
    if (handle) {
      handle = nullptr;
      s.awaiter = nullptr;
      if (waiter != nullptr) waiter->resumed();
    }
    if (s.progress != status::value) [[unlikely]] throw_from_await(waiter, s);
    return take<T>(s);
  }

  ~awaiter_base() {
    // Still waiting: the frame is freed without being resumed.
    if (handle && target() != nullptr) [[unlikely]] target()->awaiter = nullptr;
    if (owned != nullptr) let_go(*owned, release_as::dropped);
  }
};

template <class T>
struct lvalue_awaiter : awaiter_base<T> {
  explicit lvalue_awaiter(state** s) noexcept { this->slot = s; }
  lvalue_awaiter(lvalue_awaiter&&) = delete;
};

template <class T>
struct rvalue_awaiter : awaiter_base<T> {
  explicit rvalue_awaiter(state* s) noexcept {
    this->owned = s;
    this->slot = &this->owned;
  }
  rvalue_awaiter(rvalue_awaiter&&) = delete;
};

/// The loop among the arguments of a coroutine, else the current one.
inline event_loop& loop_of() { return event_loop::current(); }
template <class First, class... Rest>
event_loop& loop_of(First& first, Rest&... rest) {
  if constexpr (std::is_same_v<std::remove_const_t<First>, event_loop>) {
    return first;
  } else {
    return loop_of(rest...);
  }
}

template <class T>
class coroutine;

struct future_access {
  template <class T>
  static future<T> make(state* s) noexcept {
    return future<T>(s);
  }
  template <class T>
  static state*& slot(future<T>& f) noexcept {
    return f.state_;
  }
};

[[gnu::noinline]] inline void let_go_of_pending(frame* f, release_as how) noexcept {
  if (f->loop == nullptr) {
    const auto context = left_frames::take(*f);  // goes behind the frame
    destroy_suspended(f);
  } else if (loop_access::closing(*f->loop)) {
    destroy_suspended(f);
  } else {
    f->abandoned = true;
    if (how == release_as::dropped) cancel_chain(f);
  }
}

inline void let_go_of_frame(state* s, release_as how) noexcept {
  auto* f = static_cast<frame*>(s);
  if (!f->done()) [[unlikely]] return let_go_of_pending(f, how);
  if (f->progress == status::failed && !f->observed) [[unlikely]] {
    report_unseen(f->loop, f->failure, f->where);
  }
  destroy_done(f);
}

/// Can a parameter of that type own the frame of another coroutine? What is incomplete or cannot
/// be moved, as a loop, is no parameter but what a reference refers to.
template <class P>
consteval bool may_own_frames() {
  if constexpr (requires { sizeof(P); }) {
    return !std::is_trivially_destructible_v<P> && std::is_move_constructible_v<P>;
  } else {
    return false;
  }
}

[[gnu::noinline]] inline void end_abandoned(frame& f) noexcept {
  if (f.progress == status::failed) report_unseen(f.loop, f.failure, f.where);
  f.handle.destroy();
}

/// What a coroutine does last: gives who to resume next.
inline std::coroutine_handle<> finish(frame& f) noexcept {
  event_loop& loop = *f.loop;
  if (f.callbacks != nullptr) [[unlikely]] schedule_callbacks(f);
  if (f.abandoned) [[unlikely]] {
    end_abandoned(f);
    return std::noop_coroutine();
  }
  future_awaiter* awaiter = f.awaiter;
  if (awaiter == nullptr) return std::noop_coroutine();
  if (loop_access::hand_over(loop)) return awaiter->handle;
  loop_access::push_ready(loop, awaiter);
  return std::noop_coroutine();
}

template <class T>
struct coroutine_result {
  template <class U = T>
  void return_value(U&& value) {
    auto& self = static_cast<coroutine<T>&>(*this);
    put_value<T>(self, room, std::forward<U>(value));
  }

  value_room<T> room;
};

template <>
struct coroutine_result<void> {
  inline void return_void() noexcept;
};

/// The promise type of coroutines that return future<T>.
template <class T>
class coroutine final : public frame, public coroutine_result<T> {
 public:
  template <class... Args>
  explicit coroutine(Args&... args) : frame(&loop_of(args...), &let_go_of_frame) {
    flat = !(may_own_frames<Args>() || ...);
    handle = std::coroutine_handle<coroutine>::from_promise(*this);
    loop_access::frames(*loop).insert(*this);
  }
  ~coroutine() {
    state_list::remove(*this);
    if (!done()) [[unlikely]] {
      if (loop == nullptr) left_frames::take(*this);
      if (callbacks != nullptr) free_callbacks(*this);
    }
    destroy_value<T>(*this);
  }

  static void* operator new(std::size_t size) { return recycler::allocate(size); }
  static void operator delete(void* memory, std::size_t size) noexcept {
    recycler::deallocate(memory, size);
  }

  future<T> get_return_object() noexcept { return future_access::make<T>(this); }

  std::suspend_never initial_suspend(
      std::source_location here = std::source_location::current()) noexcept {
    where = here;
    return {};
  }

  struct last {
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<coroutine> h) const noexcept {
      return finish(h.promise());
    }
    void await_resume() const noexcept {}
  };
  last final_suspend() const noexcept { return {}; }

  void unhandled_exception() noexcept {
    failure = std::current_exception();
    progress = status::failed;
  }

  template <class A>
  A&& await_transform(A&& a,
                      std::source_location here = std::source_location::current()) noexcept {
    where = here;
    return static_cast<A&&>(a);
  }
};

void coroutine_result<void>::return_void() noexcept {
  static_cast<coroutine<void>*>(this)->progress = status::value;
}

}  // namespace pulsar::detail
