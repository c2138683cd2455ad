// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The frame of a generator, and what stands in the frame of whoever asks it for an item.
//
// Between two items nothing runs in a generator. It is `parked` then, in the loop's list of states
// instead of its coroutines: it does not keep the loop from closing, and may be destroyed at once.

#include <pulsar/core/future.hpp>

#include <concepts>
#include <coroutine>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace pulsar {
template <class T>
class generator;
}

namespace pulsar::detail {

/// The part of a generator's promise that does not depend on the type of its items.
struct generator_frame : coroutine_base {
  explicit generator_frame(event_loop* l) noexcept : coroutine_base(l, false) {
    enlist(*this);
    park();
  }

  std::suspend_always initial_suspend() const noexcept { return {}; }

  struct last_of_generator {
    generator_frame& ended;
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<>) const noexcept {
      if (std::exchange(ended.driven, false)) return std::noop_coroutine();
      return finish(ended);
    }
    void await_resume() const noexcept {}
  };
  last_of_generator final_suspend() noexcept { return {*this}; }

  void return_void() noexcept { progress = status::value; }

  void park() noexcept {
    state_list::remove(*this);
    loop_access::states(*loop).insert(*this);
    parked = true;
  }

  /// It runs on, and returns here at its next item if it does not have to wait for that: then the
  /// stack does not grow, however many items there are. True if it has to, or if generators have
  /// asked generators so often that it is left to the loop.
  bool run_on() {
    parked = false;
    item = nullptr;
    waiting_on = nullptr;
    cancel_requested = false;  // whoever asked before was told as well
    {
      const loop_access::nesting level(*loop);
      if (level.too_deep()) {
        loop_access::push_ready(*loop, &later);
      } else {
        const context_scope scope(works_for);  // whoever called the consumer goes on in its own
        driven = true;
        handle.resume();
        if (!std::exchange(driven, false)) return false;
      }
    }
    state_list::remove(*this);
    born = loop_access::birth(*loop);  // those at the front of the list are the youngest
    loop_access::frames(*loop).insert(*this);
    return true;
  }

  /// At a co_yield: gives who to resume next.
  [[gnu::noinline]] std::coroutine_handle<> hand_out(const volatile void* yielded) noexcept {
    item = const_cast<void*>(yielded);
    if (std::exchange(driven, false)) {
      parked = true;
      return std::noop_coroutine();
    }
    if (abandoned) {
      handle.destroy();
      return std::noop_coroutine();
    }
    park();
    if (awaiter == nullptr) return std::noop_coroutine();
    if (loop_access::hand_over(*loop)) return awaiter->handle;
    loop_access::push_ready(*loop, awaiter->ready());
    return std::noop_coroutine();
  }

  bool parked = false;
  bool driven = false;  // by who asked for the item, who has not suspended yet
  void* item = nullptr;

 private:
  struct later_node : task_node {
    explicit later_node(generator_frame& g) noexcept : task_node(&run), of(g) {}
    static void run(task_node* node, bool drop) {
      if (drop) return;
      generator_frame& g = static_cast<later_node*>(node)->of;
      g.resumed();
      g.handle.resume();
    }
    generator_frame& of;
  };
  later_node later{*this};
};

/// What a generator does with its frame at its end.
[[gnu::noinline]] inline void let_go_of_generator(state& s) noexcept {
  auto& g = static_cast<generator_frame&>(s);
  if (g.awaiter != nullptr || !g.parked) return let_go(s, release_as::dropped);
  destroy_nested(&g);
}

/// Waits for the next item: what does not depend on its type.
struct next_awaiter_base : future_awaiter {
  explicit next_awaiter_base(state** s) noexcept { slot = s; }
  next_awaiter_base(next_awaiter_base&&) = delete;
  ~next_awaiter_base() {
    // Still waiting: the frame is freed without being resumed.
    if (handle && *slot != nullptr) [[unlikely]]
      (*slot)->awaiter = nullptr;
    if (owned != nullptr) [[unlikely]]
      let_go_of_generator(*owned);
  }

  bool await_ready() const {
    if (*slot == nullptr) throw error(errc::already_called, "next() of an empty generator");
    return (*slot)->done();
  }

  template <class P>
  requires std::is_base_of_v<frame, P>
  bool await_suspend(std::coroutine_handle<P> h) { return ask(h.promise(), h); }

 protected:
  void* finished() {
    state& s = **slot;
    if (handle) {
      handle = nullptr;
      s.awaiter = nullptr;
      waiter->resumed();
      if (s.progress == status::failed) throw_from_await(waiter, s);
      if (owned != nullptr) throw error(errc::cancelled, "the generator was dropped");
    }
    if (!s.done()) return static_cast<generator_frame&>(s).item;
    s.seen |= state::end_seen;
    return nullptr;
  }

 private:
  [[gnu::noinline]] bool ask(frame& consumer, std::coroutine_handle<> h) {
    auto& g = static_cast<generator_frame&>(**slot);
    if (!g.parked) {
      throw error(errc::already_called, "two coroutines ask the same generator for an item");
    }
    if (g.loop == nullptr) throw error(errc::loop_closed, "next() of a generator");
    if (consumer.loop != g.loop) throw_wrong_loop();
    if (std::exchange(consumer.cancel_requested, false)) throw error(errc::cancelled);
    if (!consumer.listed) enlist(consumer);
    waiter = &consumer;
    consumer.waiting_on = &g;
    handle = h;
    g.awaiter = this;
    return g.run_on();
  }
};

template <class T>
struct next_awaiter : next_awaiter_base {
  using next_awaiter_base::next_awaiter_base;

  std::remove_reference_t<T>* await_resume() {
    return static_cast<std::remove_reference_t<T>*>(finished());
  }
};

/// What a `co_yield` of `T` suspends by: the item stays where it is, or is copied to here.
template <class T>
struct yield_in_place {
  T& item;
  bool await_ready() const noexcept { return false; }
  template <class P>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) const noexcept {
    return h.promise().hand_out(std::addressof(item));
  }
  void await_resume() const noexcept {}
};
template <class T>
struct yield_of_copy {
  explicit yield_of_copy(const T& given) : item(given) {}
  yield_of_copy(yield_of_copy&&) = delete;
  bool await_ready() const noexcept { return false; }
  template <class P>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) noexcept {
    return h.promise().hand_out(std::addressof(item));
  }
  void await_resume() const noexcept {}

  T item;
};

/// The promise type of coroutines that return generator<T>.
template <class T>
class generator_promise final : public generator_frame {
  using element = std::remove_reference_t<T>;
  static constexpr bool by_reference = std::is_reference_v<T>;

 public:
  generator_promise() : generator_promise(made{}, event_loop::current()) {}
  template <class... Args>
  requires(sizeof...(Args) > 0) explicit generator_promise(Args&... args)
      : generator_promise(made{}, loop_of(args...)) {}

  generator<T> get_return_object(
      std::source_location here = std::source_location::current()) noexcept {
    static_assert(alignof(generator_promise) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__,
                  "a coroutine's frame does not heed the alignment of this type: give "
                  "std::unique_ptrs to it");
    this->where = here;
    return generator<T>(this);
  }

  yield_in_place<element> yield_value(
      element& given, std::source_location here = std::source_location::current()) noexcept
      requires(by_reference || std::is_const_v<element>) {
    where = here;
    return {given};
  }
  yield_in_place<element> yield_value(
      element&& given, std::source_location here = std::source_location::current()) noexcept
      requires(!by_reference) {
    where = here;
    return {given};
  }
  // The body's own variable is not the consumer's to change.
  yield_of_copy<element> yield_value(
      const element& given,
      std::source_location here =
          std::source_location::current()) requires(!by_reference && !std::is_const_v<element> &&
                                                    std::copy_constructible<element>) {
    where = here;
    return yield_of_copy<element>(given);
  }

 private:
  struct made {};
  generator_promise(made, event_loop& l) noexcept : generator_frame(&l) {
    this->handle = std::coroutine_handle<generator_promise>::from_promise(*this);
  }
};

}  // namespace pulsar::detail
