// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Work on its way to a loop from another thread, and its result on the way back.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/result.hpp>

#include <atomic>
#include <exception>
#include <type_traits>
#include <utility>
#include <variant>

namespace pulsar::detail {

/// A future of a loop, and an order to cancel it that may come from another thread.
class cancelled_from_outside : public counted, task_node {
 public:
  cancelled_from_outside() noexcept : task_node(&run) {}

  /// Any thread. The work is cancelled, or does not begin.
  void request_cancel(loop_inbox& home) noexcept {
    if (requested_.exchange(true, std::memory_order_relaxed)) return;
    take();
    if (!home.push(this)) drop();
  }

  // In the loop's thread.
  bool unwanted = false;
  state** under_way = nullptr;

 private:
  static void run(task_node* node, bool dropped) {
    auto* const self = static_cast<cancelled_from_outside*>(node);
    self->unwanted = true;
    state** const work = self->under_way;
    if (!dropped && work != nullptr && *work != nullptr) cancel_chain(*work);
    self->drop();
  }

  std::atomic<bool> requested_{false};
};

/// Where the result goes: to be told once, in the loop's thread or that of who asked.
template <class T>
class outside_call : public cancelled_from_outside {
 public:
  virtual void settle(result<T> outcome) noexcept = 0;
};

/// Settles at its end what was not settled: its loop has closed.
template <class T>
class outside_settler {
 public:
  explicit outside_settler(counted_pointer<outside_call<T>> call) noexcept
      : call_(std::move(call)) {}
  outside_settler(outside_settler&&) noexcept = default;
  outside_settler& operator=(outside_settler&&) = delete;
  ~outside_settler() {
    if (call_) settle(std::make_exception_ptr(error(errc::loop_closed, "work from outside")));
  }

  void settle(result<T> outcome) noexcept {
    call_->under_way = nullptr;
    std::exchange(call_, nullptr)->settle(std::move(outcome));
  }

  outside_call<T>& call() const noexcept { return *call_; }
  /// Nobody is to be told.
  void forget() noexcept { call_ = nullptr; }

 private:
  counted_pointer<outside_call<T>> call_;
};

/// Runs `f` in the loop. The exception of a failure is given away, not shared with this thread.
template <class F, class R>
future<> run_inside(event_loop& loop, outside_settler<R> to, F f) {
  std::exception_ptr failure;
  if (to.call().unwanted) failure = std::make_exception_ptr(error(errc::cancelled));
  if (failure == nullptr) {
    try {
      if constexpr (is_future<std::invoke_result_t<F&>>) {
        auto inner = f();
        to.call().under_way = &future_access::slot(inner);
        if constexpr (std::is_void_v<R>) {
          co_await inner;
          to.settle(std::monostate());
        } else {
          R value = co_await inner;
          to.settle(std::move(value));
        }
      } else if constexpr (std::is_void_v<R>) {
        f();
        to.settle(std::monostate());
      } else {
        to.settle(f());
      }
      co_return;
    } catch (...) {
      failure = std::current_exception();
    }
  }
  static_cast<void>(loop);
  to.settle(std::move(failure));
}

template <class F, class R>
struct work_from_outside final : task_node {
  template <class G>
  work_from_outside(event_loop& l, counted_pointer<outside_call<R>> whom, G&& work)
      : task_node(&run), loop(l), to(std::move(whom)), f(std::forward<G>(work)) {}

  static void run(task_node* node, bool drop) {
    auto* const self = static_cast<work_from_outside*>(node);
    if (!drop) run_inside<F, R>(self->loop, std::move(self->to), std::move(self->f)).detach();
    delete self;
  }

  event_loop& loop;
  outside_settler<R> to;
  F f;
};

/// False, and nobody is told, if the loop is closed. Any thread.
template <class R, class F>
bool start_inside(event_loop& loop, counted_pointer<outside_call<R>> call, F&& f) {
  using work = work_from_outside<std::decay_t<F>, R>;
  auto* const node = new work(loop, std::move(call), std::forward<F>(f));
  if (loop_access::inbox(loop)->push(node)) return true;
  node->to.forget();
  delete node;
  return false;
}

template <class F>
using result_of_work = unwrapped<std::invoke_result_t<std::decay_t<F>&>>;

}  // namespace pulsar::detail
