// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `handle`: what `call_soon`, `call_later` and `call_at` return (PEP 3156's Handle).
///
///     auto h = loop.call_later(5s, [] { log::warning("still waiting"); });
///     h.cancel();   // not called any more
///
/// Dropping a handle does not cancel the callback.

#include <pulsar/core/detail/context.hpp>
#include <pulsar/core/detail/recycler.hpp>
#include <pulsar/core/detail/task_node.hpp>
#include <pulsar/core/timer_wheel.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace pulsar {
class event_loop;

namespace detail {

// Defined with the loop.
void report_callback_failure(event_loop& loop) noexcept;

/// A callback in a loop's hands, counted: once for the loop while it may still call it, once for
/// each handle. The function is freed as soon as it is not needed, however long a handle is kept.
/// Its type is known to `call` alone: with `drop` that also frees the function when the callback
/// was cancelled, and the callback when nobody counts it any more.
struct callback_base : task_node, recycled {
  enum class stage : std::uint8_t { waiting, called, over };

  callback_base(function f, event_loop& l) noexcept : task_node(f), loop(l) {}

  void drop() noexcept {
    if (--count == 0) call(this, true);
  }

  /// Frees the function.
  void cancel() noexcept {
    cancelled = true;
    if (reached == stage::waiting) call(this, true);
  }

  event_loop& loop;
  std::uint32_t count = 1;
  stage reached = stage::waiting;
  bool cancelled = false;
};

/// The loop would drop what such a function returns, and so cancel the coroutine.
template <class F>
concept returns_coroutine = requires { typename std::invoke_result_t<F&>::promise_type; };

template <class F>
struct callback_of : callback_base {
  static_assert(!returns_coroutine<F>,
                "a callback that returns a future would be cancelled as soon as it has begun: give "
                "it to create_task, or have it call detach() on the future");

  template <class G>
  callback_of(function c, event_loop& l, G&& g) : callback_base(c, l), f(std::forward<G>(g)) {}
  ~callback_of() {
    if constexpr (!std::is_trivially_destructible_v<F>) free_function();
  }

  void free_function() noexcept {
    if (std::exchange(reached, stage::over) != stage::over) std::destroy_at(&f);
  }

  /// What the owner of a handle asked for; false if it was the loop that dropped it.
  template <class Final>
  static bool asked(Final* self) noexcept {
    if (self->count == 0) {
      delete self;
      return true;
    }
    if (!self->cancelled || self->reached != stage::waiting) return false;
    self->disarm();
    return true;
  }

  /// Calls it unless it was cancelled, and gives the loop's count back.
  template <class Final>
  static void call_once(Final* self, bool drop_it) {
    if (drop_it) {
      if (asked(self)) return;
    } else if (self->reached == stage::waiting) {
      self->reached = stage::called;
      try {
        self->f();
      } catch (...) {
        report_callback_failure(self->loop);
      }
    }
    if (self->count == 1) {
      delete self;
    } else {
      self->free_function();
      self->drop();
    }
  }

  union {
    F f;
  };
};

template <class F>
struct callback final : callback_of<F> {
  template <class G>
  callback(event_loop& l, G&& g) : callback_of<F>(&run, l, std::forward<G>(g)) {}

  // The loop keeps its count until the node comes out of the ready queue.
  void disarm() noexcept { this->free_function(); }

  static void run(task_node* node, bool drop) {
    callback_of<F>::call_once(&static_cast<callback&>(*node), drop);
  }
};

/// A callback with a deadline.
template <class F>
struct timed_callback final : callback_of<F> {
  struct node : timer_node {
    explicit node(timed_callback& o) noexcept : timer_node(&fire), owner(o) {}
    static void fire(timer_node* n, bool drop) {
      callback_of<F>::call_once(&static_cast<node*>(n)->owner, drop);
    }
    timed_callback& owner;
  };

  template <class G>
  timed_callback(event_loop& l, G&& g) : callback_of<F>(&ask, l, std::forward<G>(g)) {}

  static void ask(task_node* node, bool) noexcept {
    callback_of<F>::asked(&static_cast<timed_callback&>(*node));
  }

  void disarm() noexcept {
    if (!timer.cancel()) return;
    this->free_function();
    this->drop();
  }

  node timer{*this};
};

}  // namespace detail

/// Refers to a callback that was handed to a loop. Belongs to the loop's thread.
class handle {
 public:
  handle() noexcept = default;
  explicit handle(detail::callback_base* node) noexcept : node_(node) { ++node_->count; }
  handle(handle&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  handle(const handle& other) noexcept : node_(other.node_) {
    if (node_ != nullptr) ++node_->count;
  }
  handle& operator=(handle other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~handle() {
    if (node_ != nullptr) node_->drop();
  }

  /// The callback will not be called, and what it holds is freed. Nothing if it was called.
  void cancel() noexcept {
    if (node_ != nullptr && !node_->cancelled) node_->cancel();
  }

  /// True after `cancel`.
  bool cancelled() const noexcept { return node_ != nullptr && node_->cancelled; }

 private:
  detail::callback_base* node_ = nullptr;
};

}  // namespace pulsar
