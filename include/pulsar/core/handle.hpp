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
#include <type_traits>
#include <utility>

namespace pulsar {
class event_loop;

namespace detail {

// Defined with the loop.
void report_callback_failure(event_loop& loop) noexcept;

/// A callback in a loop's hands, counted: once for the loop while it may still call it, once for
/// each handle. The function is freed as soon as it is not needed, however long a handle is kept.
/// Its type is known to `call` alone: that frees the callback too when nobody else counts it, so
/// most code exists once for all types.
struct callback_base : task_node, recycled {
  enum class stage : std::uint8_t { waiting, called, over };

  callback_base(function f, event_loop& l, bool with_deadline = false) noexcept
      : task_node(f), loop(l), timed(with_deadline) {}

  void drop() noexcept {
    if (--count == 0) call(this, true);
  }

  /// Frees the function.
  inline void cancel() noexcept;

  event_loop& loop;
  std::uint32_t count = 1;
  stage reached = stage::waiting;
  bool cancelled = false;
  const bool timed;
};

/// One with a deadline.
struct timed_callback_base : callback_base, timer_node {
  timed_callback_base(task_node::function f, event_loop& l) noexcept
      : callback_base(f, l, true), timer_node(&fire) {}

  static void fire(timer_node* node, bool drop) {
    auto* const self = static_cast<timed_callback_base*>(node);
    self->call(self, drop);
  }
};

void callback_base::cancel() noexcept {
  cancelled = true;
  if (reached != stage::waiting) return;
  if (!timed) {
    ++count;  // the loop keeps its own until the node comes out of the ready queue
  } else if (!static_cast<timed_callback_base*>(this)->timer_node::cancel()) {
    return;
  }
  call(this, true);
}

/// The loop would drop what such a function returns, and so cancel the coroutine.
template <class F>
concept returns_coroutine = requires { typename std::invoke_result_t<F&>::promise_type; };

template <class F, class Base = callback_base>
struct callback final : Base {
  static_assert(!returns_coroutine<F>,
                "a callback that returns a future would be cancelled as soon as it has begun: give "
                "it to create_task, or have it call detach() on the future");

  using stage = callback_base::stage;

  template <class G>
  callback(event_loop& l, G&& g) : Base(&run, l), f(std::forward<G>(g)) {}
  ~callback() { free_function(); }

  void free_function() noexcept {
    // First the mark: the destructor may come back here, by cancel() or as its loop closes.
    if (std::exchange(this->reached, stage::over) != stage::over) f.~F();
  }

  /// Calls it unless it was dropped or cancelled, and gives a count back.
  static void run(task_node* node, bool drop) {
    auto* const self = static_cast<callback*>(node);
    if (!drop && self->reached == stage::waiting) {
      self->reached = stage::called;
      try {
        self->f();
      } catch (...) {
        report_callback_failure(self->loop);
      }
    }
    if (self->count <= 1) {
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
using timed_callback = callback<F, timed_callback_base>;

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
