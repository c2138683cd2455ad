// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Futures of pulsar for Asio's completion tokens, and `asio::awaitable` for pulsar's coroutines.
///
///     asio::awaitable<void> theirs() {
///       page p = co_await async_wait(fetch(url), asio::use_awaitable);
///     }
///     future<> ours() {
///       co_await theirs();
///       co_await with_timeout(as_future(theirs()), 5s);
///     }
///
///     async_wait(fetch(url), [](std::exception_ptr e, page p) { ... });
///
///     // From a coroutine or a handler of another context, in another thread:
///     page p = co_await async_run(loop, [] { return fetch(url); }, asio::use_awaitable);
///
/// Asio's own operations are awaited with `use_future`; see operation.hpp. With Clang, Asio before
/// 1.24 finds its coroutines only if ASIO_HAS_CO_AWAIT is defined, as the CMake targets do.

#include <pulsar/core/detail/interop.hpp>
#include <pulsar/core/detail/run_threadsafe.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/operation.hpp>

#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>

#include <exception>
#include <type_traits>
#include <utility>

namespace pulsar {

/// Waits for `f` with any completion token: a handler `void(std::exception_ptr, T)`, or
/// `void(std::exception_ptr)` for `future<>`, is called by its associated executor (the loop's
/// context if it has none), never inside this call, and allocates by its associated allocator. When
/// its cancellation slot is told of any type of cancellation, `f` is cancelled. To be called, and
/// with a lazy token to be started, in the thread of the loop of `f`; the handler's executor may
/// be elsewhere, and its context must outlive the wait. If the loop closes before, or has closed,
/// the handler is given `errc::loop_closed`; for an empty future `errc::already_called`. Where there
/// is no such loop any more, a handler without an executor is called by the loop of this thread, or
/// by `asio::system_executor`. Throws nothing of its own.
template <class T, class Token>
auto async_wait(future<T> f, Token&& token) {
  if constexpr (detail::check_completion<T>()) {
    return asio::async_initiate<Token, typename detail::completion_of<T>::signature>(
        [](auto handler, future<T> what) {
          using wait = detail::handler_wait<T, decltype(handler)>;
          if (!what.valid()) {
            return detail::refuse<T>(std::move(handler),
                                     error(errc::already_called, "async_wait of an empty future"));
          }
          auto& state = *detail::future_access::slot(what);
          event_loop* const loop = detail::loop_of_state(state);
          if (loop == nullptr) {
            return detail::refuse<T>(std::move(handler), error(errc::loop_closed, "async_wait"));
          }
          const detail::counted_pointer<wait> waiting(new wait(*loop, std::move(handler)));
          wait::heed_cancellation(waiting);
          waiting->wait_for(std::move(what));
        },
        token, std::move(f));
  }
}

/// Calls `f()`, which returns a future, in the thread of `loop`, and waits for that as
/// `async_wait` does. Any thread, while the loop object lives. If that is closed, the handler is given
/// `errc::loop_closed`, as there. Throws nothing of its own.
template <class F, class Token>
  requires(detail::is_future<std::invoke_result_t<std::decay_t<F>&>>)
auto async_run(event_loop& loop, F&& f, Token&& token) {
  detail::refuse_temporaries<F>();
  using T = detail::result_of_work<F>;
  if constexpr (detail::check_completion<T>()) {
    return asio::async_initiate<Token, typename detail::completion_of<T>::signature>(
        [&loop](auto handler, std::decay_t<F> work) {
          using wait = detail::handler_wait<T, decltype(handler)>;
          detail::counted_pointer<wait> waiting(new wait(loop, std::move(handler)));
          wait::heed_cancellation(waiting);
          detail::begin_for_handler<T>(loop, std::move(waiting), std::move(work));
        },
        token, std::forward<F>(f));
  }
}

/// Runs a coroutine of Asio on the context of `loop`, and gives its result, for combinators; a
/// coroutine of pulsar may `co_await` one as it is. Cancelling or dropping that emits
/// `asio::cancellation_type::all` to what the coroutine waits for; it is waited for until it has
/// ended, as an operation is.
template <class T, class Executor>
future<T> as_future(asio::awaitable<T, Executor> coroutine,
                    event_loop& loop = event_loop::current()) {
  static_cast<void>(loop);  // on which it runs
  co_return co_await std::move(coroutine);
}

/// The same with a coroutine that runs elsewhere: on `executor`, which one thread runs, or a
/// strand. Cancelling or dropping that tells the coroutine there, and does not wait for it. The
/// context of `executor` must live until the future is done, or gone and the coroutine ended; one
/// that goes before, and with it the coroutine, makes the future fail with `errc::broken_promise`,
/// but must not go at the same moment as the future is cancelled or dropped.
template <class T, class Executor, class Where>
future<T> as_future(const Where& executor,
                    asio::awaitable<T, Executor> coroutine,
                    event_loop& loop = event_loop::current()) {
  return detail::await_elsewhere(loop, executor, std::move(coroutine));
}

}  // namespace pulsar

namespace asio {

// Found where a coroutine of pulsar awaits one of Asio.
template <class T, class Executor>
auto await_in_pulsar(pulsar::event_loop& loop, awaitable<T, Executor>&& coroutine) {
  return co_spawn(loop.get_executor(), std::move(coroutine), pulsar::use_future);
}

}  // namespace asio
