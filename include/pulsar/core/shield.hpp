// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `shield`: work that goes on when whoever waits for it is cancelled (asyncio.shield).
///
///     co_await shield(commit(transaction));
///
/// It does not wait for the work: who waits is told `errc::cancelled` and leaves, and the work goes
/// on behind it. So `commit` must own what it uses, by value or shared, and refer to nothing of the
/// coroutine that shields it. What is to be over before that leaves belongs in a group that waits:
/// `with_task_group`, `task_group::wait` (task_group.hpp).
///
/// For several who wait for the same work see shared_future.hpp.

#include <pulsar/core/future.hpp>

#include <exception>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

/// Of the future that `shield` gives.
template <class T>
struct shield_state final : shared_state<T, promised_state> {
  shield_state(event_loop& l, state& w) : shared_state<T, promised_state>(l), work(w) {}

  const char* name() const noexcept override { return "a shield"; }
  void each_awaited(void (*f)(void*, state&), void* with) const noexcept override { f(with, work); }

  state& work;  // is there as long as this is pending
};

template <class T>
future<> carry_over(event_loop&, future<T> inner, promise<T> outer) {
  std::exception_ptr failure;
  try {
    if constexpr (std::is_void_v<T>) {
      co_await inner;
      outer.set_value();
    } else {
      T value = co_await inner;
      outer.set_value(std::forward<T>(value));
    }
    co_return;
  } catch (...) {
    failure = std::current_exception();
  }
  if (outer.cancelled()) {  // nobody else will see it
    const failed_there where{future_access::slot(inner)};
    co_await where;
    std::rethrow_exception(std::move(failure));
  }
  outer.set_exception(std::move(failure));
}

}  // namespace detail

/// A future of what `f` gives. Cancelling or dropping that leaves `f` running, as if it had been
/// detached, without waiting for it: what `f` refers to must outlive it. Its result is dropped, and
/// a failure goes to the loop's exception handler. The end of the loop cancels `f` all the same.
/// Throws `errc::already_called` for an empty future, `errc::loop_closed`.
template <class T>
future<T> shield(future<T> f) {
  if (!f.valid()) throw error(errc::already_called, "shield of an empty future");
  if (f.done()) return f;
  event_loop* const open = detail::loop_of_state(*detail::future_access::slot(f));
  if (open == nullptr) throw error(errc::loop_closed, "shield");
  event_loop& loop = *open;
  auto outer = detail::future_access::promise_of<T>(
      new detail::shield_state<T>(loop, *detail::future_access::slot(f)));
  future<T> shielded = outer.get_future();
  detail::carry_over(loop, std::move(f), std::move(outer)).detach();
  return shielded;
}

/// The same for what converts to a future by itself, as an operation does: it starts.
template <detail::operation_like F>
future<detail::value_in<F>> shield(F&& f) {
  return shield(detail::to_future(std::forward<F>(f)));
}

}  // namespace pulsar
