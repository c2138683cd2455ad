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
/// each handle.
struct callback_base : task_node, recycled {
  callback_base(function f, event_loop& l) noexcept : task_node(f), loop(l) {}
  virtual ~callback_base() = default;
  virtual void disarm() noexcept {}    // takes it off the wheel, with the loop's count

  void drop() noexcept {
    if (--count == 0) delete this;
  }

  event_loop& loop;
  std::uint32_t count = 1;
  bool cancelled = false;
};

template <class F>
struct callback : callback_base {
  template <class G>
  callback(event_loop& l, G&& g) : callback_base(&run, l), f(std::forward<G>(g)) {}

  static void run(task_node* node, bool drop) {
    auto* self = static_cast<callback*>(node);
    if (!drop && !self->cancelled) {
      try {
        self->f();
      } catch (...) {
        report_callback_failure(self->loop);
      }
    }
    self->drop();
  }

  F f;
};

/// A callback with a deadline, and with a period if it is to be called again.
template <class F>
struct timed_callback : callback_base {
  struct node : timer_node {
    explicit node(timed_callback& o) noexcept : timer_node(&fire), owner(o) {}
    static void fire(timer_node* n, bool drop) { static_cast<node*>(n)->owner.on_time(drop); }
    timed_callback& owner;
  };

  template <class G>
  timed_callback(event_loop& l, G&& g) : callback_base(nullptr, l), f(std::forward<G>(g)) {}

  void disarm() noexcept override {
    if (timer.cancel()) drop();
  }

  void on_time(bool dropped) {
    if (!dropped) {
      try {
        f();
      } catch (...) {
        report_callback_failure(loop);
      }
    }
    drop();
  }

  node timer{*this};
  F f;
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

  /// The callback will not be called, and what it holds is freed soon. Nothing if it was called.
  void cancel() noexcept {
    if (node_ == nullptr || node_->cancelled) return;
    node_->cancelled = true;
    node_->disarm();
  }

  /// True after `cancel`.
  bool cancelled() const noexcept { return node_ != nullptr && node_->cancelled; }

 private:
  detail::callback_base* node_ = nullptr;
};

}  // namespace pulsar
