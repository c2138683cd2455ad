// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Members of future<T> and event_loop that need whole futures, and what combinators are given.

#include <pulsar/core/future.hpp>

#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

/// What converts to a future by itself, as an Asio operation does.
template <class F>
concept operation_like = !is_future<F> && requires {
  typename F::value_type;
  requires std::is_convertible_v<F, future<typename F::value_type>>;
};

/// What combinators take: a future, or what converts to one.
template <class F>
concept future_like = is_future<std::remove_cvref_t<F>> || operation_like<std::remove_cvref_t<F>>;

template <class F>
using value_in = typename std::remove_cvref_t<F>::value_type;

/// The future that a combinator was given; an operation starts. A shared_future stays where it is.
template <class F>
future<value_in<F>> to_future(F&& f) {
  constexpr bool can_be_given = std::is_convertible_v<F, future<value_in<F>>>;
  static_assert(can_be_given,
                "a future has one owner and is handed over to whoever waits for it: write "
                "std::move(...) around it");
  if constexpr (can_be_given) {
    return std::forward<F>(f);
  } else {
    return {};
  }
}

/// What `future<R>::then` and commands make of a function's result: R of `future<R>`, else itself.
template <class R>
struct unwrap {
  using type = R;
};
template <class R>
struct unwrap<future<R>> {
  using type = R;
};
template <class R>
using unwrapped = typename unwrap<std::remove_cvref_t<R>>::type;

template <class R, class T, class F>
future<R> chain(event_loop&, future<T> before, F f, std::source_location where) {
  if constexpr (std::is_void_v<T>) {
    co_await std::move(before);
    if (this_step != nullptr) [[unlikely]] this_step->begin(step_watch::kind::callback, where);
    if constexpr (is_future<std::invoke_result_t<F&>>) {
      co_return co_await f();
    } else {
      co_return f();
    }
  } else {
    T value = co_await std::move(before);
    if (this_step != nullptr) [[unlikely]] this_step->begin(step_watch::kind::callback, where);
    if constexpr (is_future<std::invoke_result_t<F&, T>>) {
      co_return co_await f(std::forward<T>(value));
    } else {
      co_return f(std::forward<T>(value));
    }
  }
}

template <class F, class T>
struct then_result : std::invoke_result<F&, T> {};
template <class F>
struct then_result<F, void> : std::invoke_result<F&> {};

/// A coroutine that is a lambda or a function object refers to its closure while it runs.
template <class F>
inline constexpr bool has_closure = std::is_class_v<F> && !std::is_empty_v<F>;

/// Has a coroutine that fails report where another one failed.
struct failed_there {
  const state* other;
  bool await_ready() const noexcept { return other->what != cancellable::kind::frame; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> h) const noexcept {
    h.promise().where = static_cast<const frame*>(other)->where;
    return false;
  }
  void await_resume() const noexcept {}
};

/// Keeps `closure` until what it returned is done. The inner future goes with this frame, not
/// sooner: a result may be a reference into its frame.
template <class R, class F>
future<R> with_closure(event_loop&,
                       [[maybe_unused]] std::unique_ptr<F> closure,
                       future<R> inner) {
  std::exception_ptr failure;
  try {
    if constexpr (std::is_void_v<R>) {
      co_await inner;
      co_return;
    } else {
      co_return co_await inner;
    }
  } catch (...) {
    failure = std::current_exception();
  }
  const failed_there where{future_access::slot(inner)};
  co_await where;
  std::rethrow_exception(std::move(failure));
}

}  // namespace detail

template <class T>
template <class F>
auto future<T>::then(F f, std::source_location where) && {
  using result = detail::unwrapped<typename detail::then_result<F, T>::type>;
  event_loop& own = open_loop("then");
  return detail::chain<result>(own, std::move(*this), std::move(f), where);
}

template <class T>
promise<T> event_loop::create_future(source_location where) {
  return promise<T>(*this, where);
}

template <class T>
future<T> event_loop::create_task(future<T> what) {
  return what;
}

template <class F>
  requires std::is_invocable_v<F&>
auto event_loop::create_task(F&& what) {
  using made = std::invoke_result_t<F&>;
  static_assert(detail::is_future<made>,
                "what create_task and run_until_complete are given must return a future<...>");
  if (closed_) throw_closed("create_task");
  const detail::current_loop scope(*this);
  if constexpr (std::is_lvalue_reference_v<F> || !detail::has_closure<std::decay_t<F>>) {
    return what();
  } else {
    auto closure = std::make_unique<std::decay_t<F>>(std::forward<F>(what));
    made inner = (*closure)();
    event_loop* const its_loop = inner.valid() ? detail::loop_of_state(*inner.state_) : nullptr;
    if (its_loop == nullptr) return inner;
    return detail::with_closure(*its_loop, std::move(closure), std::move(inner));
  }
}

template <class T>
T event_loop::run_until_complete(future<T>& what) {
  return run_until_complete(detail::to_future(what));
}

template <class T>
T event_loop::run_until_complete(future<T>&& given) {
  future<T> what = std::move(given);
  if (!what.valid()) throw error(errc::already_called, "run_until_complete of an empty future");
  if (closed_) throw_closed("run_until_complete");
  if (what.state_->loop != this) {
    throw error(errc::wrong_loop, "run_until_complete was given a future of another event loop");
  }
  if (!what.done()) {
    // If it goes on without this call it must not stop the loop when it ends.
    struct stop_handle : handle {
      using handle::handle;
      ~stop_handle() { cancel(); }
    };
    detail::callback_base* const stopping = what.new_callback([this] { stop(); });
    const stop_handle scope(stopping);
    detail::add_callback(*what.state_, stopping);
    run_forever();
    if (!what.done()) throw error(errc::loop_stopped, "run_until_complete");
  }
  return what.result();
}

template <class F>
  requires std::is_invocable_v<F&>
auto event_loop::run_until_complete(F&& what) {
  check_may_run("run_until_complete");
  return run_until_complete(create_task(std::forward<F>(what)));
}

}  // namespace pulsar
