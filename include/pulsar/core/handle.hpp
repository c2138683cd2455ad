// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `handle`: what `call_soon`, `call_later`, `call_at`, `call_repeatedly` and `call_every` return
/// (PEP 3156's Handle and asyncio's TimerHandle in one).
///
///     auto h = loop.call_later(5s, [] { log::warning("still waiting"); });
///     h.cancel();   // not called any more
///
/// Dropping a handle does not cancel the callback.

#include <pulsar/core/detail/context.hpp>
#include <pulsar/core/detail/recycler.hpp>
#include <pulsar/core/detail/step.hpp>
#include <pulsar/core/detail/task_node.hpp>
#include <pulsar/core/timer_wheel.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <source_location>
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

  callback_base(function f,
                event_loop& l,
                std::source_location w,
                bool with_deadline = false) noexcept
      : task_node(f), loop(l), where(w), timed(with_deadline) {}

  void drop() noexcept {
    if (--count == 0) call(this, true);
  }

  /// Frees the function.
  inline void cancel() noexcept;

  /// Ends the program if it waits in the loop of another thread and somebody looks for such faults.
  void check_thread() const noexcept;

  event_loop& loop;
  std::source_location where;  // it was handed to the loop, if that is known
  std::uint32_t count = 1;
  stage reached = stage::waiting;
  bool cancelled = false;
  const bool timed;
};

/// One with a deadline.
struct timed_callback_base : callback_base, timer_node {
  timed_callback_base(task_node::function f, event_loop& l, std::source_location w) noexcept
      : callback_base(f, l, w, true), timer_node(&fire) {}

  static void fire(timer_node* node, bool drop) {
    auto* const self = static_cast<timed_callback_base*>(node);
    self->call(self, drop);
    if (this_step != nullptr) [[unlikely]] this_step->end();
  }
};

/// One that is due every `period` from `start` on. One that is late is not called for what it has
/// missed.
struct periodic_callback_base : timed_callback_base {
  using duration = std::chrono::steady_clock::duration;

  periodic_callback_base(task_node::function f,
                         event_loop& l,
                         std::source_location w,
                         duration p) noexcept;

  /// Has the loop call it again.
  bool again() noexcept;

  const duration period;
  const std::chrono::steady_clock::time_point start;
};

/// One that is due once a turn of the loop.
struct turn_callback_base : callback_base {
  using callback_base::callback_base;

  bool again() noexcept;
};

void callback_base::cancel() noexcept {
  check_thread();
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

  template <class G, class... Rest>
  callback(event_loop& l, G&& g, std::source_location w = {}, Rest... rest)
      : Base(&run, l, w, rest...), f(std::forward<G>(g)) {}
  ~callback() { free_function(); }

  void free_function() noexcept {
    // First the mark: the destructor may come back here, by cancel() or as its loop closes.
    if (std::exchange(this->reached, stage::over) != stage::over) f.~F();
  }

  /// Calls it unless it was dropped or cancelled, and gives a count back, unless it is to be called
  /// again.
  static void run(task_node* node, bool drop) {
    auto* const self = static_cast<callback*>(node);
    if (!drop && self->reached == stage::waiting) {
      self->reached = stage::called;
      if (this_step != nullptr) [[unlikely]] {
        this_step->begin(step_watch::kind::callback, self->where);
      }
      try {
        self->f();
      } catch (...) {
        if constexpr (requires { self->again(); }) self->cancelled = true;
        report_callback_failure(self->loop);
      }
      if constexpr (requires { self->again(); }) {
        if (!self->cancelled) {
          self->reached = stage::waiting;
          if (self->again()) return;
        }
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

  /// True after `cancel`, and of a repeated one that threw.
  bool cancelled() const noexcept { return node_ != nullptr && node_->cancelled; }

  /// When it is due, or was, by the loop's `time()` and in whole milliseconds; of a repeated one the
  /// next time. Nothing for what has no deadline, and for what was cancelled before its loop went on.
  std::optional<std::chrono::steady_clock::time_point> when() const noexcept;

 private:
  detail::callback_base* node_ = nullptr;
};

}  // namespace pulsar
