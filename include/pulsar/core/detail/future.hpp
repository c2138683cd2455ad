// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The states behind future<T>, and the promise type of its coroutines.

#include <pulsar/core/detail/recycler.hpp>
#include <pulsar/core/detail/state.hpp>
#include <pulsar/core/event_loop.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
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
    s.value = ::new (static_cast<void*>(room.bytes)) T(static_cast<Args&&>(args)...);
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
    return static_cast<T&&>(*static_cast<T*>(s.value));
  }
}

/// The loop of a state, null if that is closed: nobody tells a frame that is not listed.
inline event_loop* loop_of_state(const state& s) noexcept {
  return s.listed || loop_access::is_open(s.loop) ? s.loop : nullptr;
}

/// Runs `node` from the loop when the state is done, which may be now.
inline void add_callback(state& s, task_node* node) noexcept {
  event_loop* const loop = loop_of_state(s);
  if (loop == nullptr) {
    node->call(node, true);
  } else if (s.done()) {
    loop_access::push_ready(*loop, node);
  } else {
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

/// A state made by hand, whatever its value, shared by the future and whoever settles it.
struct hand_made_state : state, recycled {
  explicit hand_made_state(event_loop& l) noexcept : state(&l, &request_cancel, &let_go) {
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
    if (progress == status::failed && !observed && handed_out) report_unseen(loop, failure, {});
    delete this;
  }

  /// The future's side does not want it any more.
  virtual void on_cancelled() noexcept {}

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

  static void let_go(state* s, release_as how) noexcept {
    auto* self = static_cast<hand_made_state*>(s);
    if (how == release_as::dropped && !self->done()) {
      self->observed = true;
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

/// A coroutine is about to suspend for the first time, or has failed.
inline void enlist(frame& f) noexcept {
  loop_access::check_thread(*f.loop, "a coroutine");
  f.listed = true;
  loop_access::frames(*f.loop).insert(f);
  f.callbacks = nullptr;
  std::construct_at(&f.failure);
  f.waiting_on = nullptr;
  f.works_for = this_context;
  if (f.works_for != nullptr) f.works_for->take();
}
[[gnu::noinline]] inline void enlist_first(frame& f) noexcept { enlist(f); }

/// The value of a state that nobody refers to was moved out.
[[gnu::noinline]] inline void let_go_of_taken(state& s) noexcept { let_go(s, release_as::dropped); }

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
template <class... Args>
inline constexpr bool names_loop =
    (std::is_same_v<std::remove_const_t<Args>, event_loop> || ...);

class future_base;

struct future_access {
  template <class T>
  static future<T> make(state* s) noexcept {
    return future<T>(s);
  }
  static inline state*& slot(future_base& f) noexcept;
};

[[gnu::noinline]] inline void let_go_of_pending(frame* f, release_as how) noexcept {
  if (f->loop == nullptr) {
    const auto context = left_frames::take(*f);  // goes behind the frame
    destroy_suspended(f);
  } else if (loop_access::closing(*f->loop)) {
    destroy_suspended(f);
  } else {
    f->abandoned = f->watched = true;
    if (how == release_as::dropped) cancel_chain(f);
  }
}

inline void let_go_of_frame(frame* f, release_as how) noexcept {
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

/// Of a coroutine that is done and watched; false if its frame is gone.
[[gnu::noinline]] inline bool tell_watchers(frame& f) noexcept {
  if (f.callbacks != nullptr) schedule_callbacks(f);
  if (!f.abandoned) return true;
  if (f.progress == status::failed) report_unseen(f.loop, f.failure, f.where);
  f.handle.destroy();
  return false;
}

/// Of a coroutine that is done and awaited or watched: gives who to resume next.
[[gnu::noinline]] inline std::coroutine_handle<> pass_on(frame& f) noexcept {
  if (f.watched && !tell_watchers(f)) [[unlikely]] return std::noop_coroutine();
  future_awaiter* awaiter = f.awaiter;
  if (awaiter == nullptr) return std::noop_coroutine();
  event_loop& loop = *f.loop;
  if (loop_access::hand_over(loop)) return awaiter->handle;
  loop_access::push_ready(loop, awaiter->ready());
  return std::noop_coroutine();
}

/// What a coroutine does last.
[[gnu::always_inline]] inline std::coroutine_handle<> finish(frame& f) noexcept {
  if (f.awaiter == nullptr && !f.watched) return std::noop_coroutine();
  return pass_on(f);
}

[[gnu::noinline]] inline void fail_with_current(frame& f) noexcept {
  if (!f.listed) enlist(f);
  f.failure = std::current_exception();
  f.progress = status::failed;
}

template <class T>
inline constexpr bool is_future = false;
template <class T>
inline constexpr bool is_future<future<T>> = true;

/// The part of a coroutine's promise type that does not depend on the type of its value.
struct coroutine_base : frame {
  using frame::frame;

  static void* operator new(std::size_t size) { return recycler::allocate(size); }
  static void operator delete(void* memory, std::size_t size) noexcept {
    recycler::deallocate(memory, size);
  }

  std::suspend_never initial_suspend() const noexcept { return {}; }

  struct last {
    frame& ended;
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<>) const noexcept {
      return finish(ended);
    }
    void await_resume() const noexcept {}
  };
  last final_suspend() noexcept { return {*this}; }

  void unhandled_exception(
      std::source_location here = std::source_location::current()) noexcept {
    if (where.line() == 0) where = here;
    fail_with_current(*this);
  }

  template <class A>
  A&& await_transform(A&& a,
                      std::source_location here = std::source_location::current()) noexcept {
    where = here;
    // An await of a future does that itself if it suspends.
    if constexpr (!is_future<std::remove_cvref_t<A>>) {
      if (!listed) enlist_first(*this);
    }
    return static_cast<A&&>(a);
  }
};

template <class T>
struct returning : coroutine_base {
  using coroutine_base::coroutine_base;
  ~returning() { destroy_value<T>(*this); }

  template <class U = T>
  void return_value(U&& given) {
    static_assert(std::is_reference_v<T> || std::is_convertible_v<U, T>,
                  "what is co_returned does not convert to the future's type by itself: write the "
                  "type out");
    put_value<T>(*this, room, static_cast<U&&>(given));
  }

  [[no_unique_address]] value_room<T> room;
};

template <>
struct returning<void> : coroutine_base {
  using coroutine_base::coroutine_base;

  void return_void() noexcept { progress = status::value; }
};

/// The promise type of coroutines that return future<T>.
template <class T>
class coroutine final : public returning<T> {
 public:
  // Three forms, of which most coroutines need no template.
  coroutine() : coroutine(made{}, event_loop::current(), true) {}
  template <class... Rest>
  explicit coroutine(event_loop& l, Rest&...)
      : coroutine(made{}, l, !(may_own_frames<Rest>() || ...)) {}
  template <class... Args>
    requires names_loop<Args...> || (may_own_frames<Args>() || ...)
  explicit coroutine(Args&... args)
      : coroutine(made{}, loop_of(args...), !(may_own_frames<Args>() || ...)) {}

  future<T> get_return_object() noexcept {
    static_assert(alignof(coroutine) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__,
                  "a coroutine's frame does not heed the alignment of this type: return a "
                  "std::unique_ptr to it");
    return future_access::make<T>(this);
  }

 private:
  struct made {};
  coroutine(made, event_loop& l, bool is_flat) noexcept : returning<T>(&l, is_flat) {
    this->handle = std::coroutine_handle<coroutine>::from_promise(*this);
  }
};

}  // namespace pulsar::detail
