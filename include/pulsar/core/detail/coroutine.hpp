// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The promise type of coroutines that return future<T>: which loop they belong to, and how they end.

#include <pulsar/core/detail/shared_state.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
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

/// The loop among the arguments of a coroutine, else the current one.
inline event_loop& loop_of() { return event_loop::current(); }
template <class First, class... Rest>
event_loop& loop_of(First& first, Rest&... rest) {
  if constexpr (std::is_same_v<First, event_loop>) {
    return first;
  } else {
    return loop_of(rest...);
  }
}
template <class... Args>
inline constexpr bool names_loop = (std::is_same_v<Args, event_loop> || ...);

class future_base;

struct future_access {
  template <class T>
  static future<T> make(state* s) noexcept {
    return future<T>(s);
  }
  static inline state*& slot(future_base& f) noexcept;
  /// The promise that settles `made`, which it takes over.
  template <class T>
  static promise<T> promise_of(shared_state<T, promised_state>* made) noexcept {
    return promise<T>(made);
  }
};

/// A coroutine is about to suspend for the first time, or has failed.
inline void enlist(frame& f) noexcept {
  f.born = loop_access::birth(*f.loop);
  f.listed = true;
  loop_access::frames(*f.loop).insert(f);
  f.callbacks = nullptr;
  std::construct_at(&f.failure);
  f.waiting_on = nullptr;
  f.works_for = this_context;
  if (f.works_for != nullptr) f.works_for->take();
}
[[gnu::noinline]] inline void enlist_first(frame& f) noexcept { enlist(f); }

[[gnu::noinline]] inline void let_go_of_pending(frame* f, release_as how) noexcept {
  if (loops_in_debug.load(std::memory_order_relaxed) != 0 && how == release_as::dropped &&
      !f->cancel_requested) {
    report_unused(*f, f->where);
  }
  if (f->loop == nullptr) {
    const auto context = take_context(*f);  // goes behind the frame
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
  if (f->progress == status::failed && !f->observed()) [[unlikely]] {
    report_unseen(f->loop, f->failure, f->where);
  } else if (loops_in_debug.load(std::memory_order_relaxed) != 0) [[unlikely]] {
    if (how == release_as::dropped) report_unused(*f, f->where);
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
  context* const worked_for = f.works_for;
  if (worked_for != nullptr) worked_for->take();  // parameters go last, and may look at it
  f.handle.destroy();
  this_context = nullptr;
  if (worked_for != nullptr) worked_for->drop();
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

  void unhandled_exception() noexcept { fail_with_current(*this); }

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

  /// Of what another library made, for which a header has said how: see interop.hpp.
  template <class A>
    requires requires(event_loop& l, A&& a) { await_in_pulsar(l, static_cast<A&&>(a)); }
  auto await_transform(A&& a, std::source_location here = std::source_location::current()) {
    where = here;
    if (!listed) enlist_first(*this);
    return await_in_pulsar(*loop, static_cast<A&&>(a));
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
  template <std::same_as<event_loop> Loop, class... Rest>
  explicit coroutine(Loop& l, Rest&...)
      : coroutine(made{}, l, !(may_own_frames<Rest>() || ...)) {}
  template <class... Args>
    requires names_loop<Args...> || (may_own_frames<Args>() || ...)
  explicit coroutine(Args&... args)
      : coroutine(made{}, loop_of(args...), !(may_own_frames<Args>() || ...)) {}

  future<T> get_return_object(
      std::source_location here = std::source_location::current()) noexcept {
    this->where = here;
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
