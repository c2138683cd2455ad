// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Values that follow a chain of awaits (PEP 567's context variables).
///
///     inline const pulsar::context_value<std::string> trace_id;
///
///     co_await with_value(trace_id, request.id(), [&] { return handle(request); });
///     // in handle, and in all that it calls and awaits:
///     log::info("request {}", trace_id.get());
///
///     co_await with_log_field("request", "17", [&] { return handle(request); });
///     // 2026-11-21 07:33:07.123 [4711] [info] [arbiter] [request=17] not found
///
/// A coroutine keeps the context in which it was called, and has it back whenever it goes on;
/// `then`, `create_task`, the combinators and generators are coroutines too. Callbacks of the loop
/// (`call_soon`, `call_later`, `add_done_callback`) run in none, and so do other threads: what a
/// callback is to know is given to it, or `bind_context` is. Commands that are sent to an actor run
/// in the context of that actor. What uses none of this does not pay for it.

#include <pulsar/core/detail/context.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/make.hpp>

#include <string>
#include <string_view>
#include <utility>

namespace pulsar {

/// Names a value of contexts by its own address: an object of namespace scope, mostly, which must
/// outlive all that runs in a context that has it.
template <class T>
class context_value {
 public:
  /// `fallback` is what `get` gives where there is none.
  explicit constexpr context_value(T fallback = T()) : fallback_(std::move(fallback)) {}
  context_value(const context_value&) = delete;
  context_value& operator=(const context_value&) = delete;

  /// The innermost value of the code that runs here, or the fallback; valid until that returns or
  /// is suspended.
  const T& get() const noexcept {
    const T* const found = find();
    return found != nullptr ? *found : fallback_;
  }

  /// The same, or null. Takes a step for each value that was added further in.
  const T* find() const noexcept {
    const detail::context* c = detail::this_context;
    for (; c != nullptr && c->addition != nullptr; c = c->addition->outer) {
      if (c->addition->key == this) return static_cast<const T*>(c->addition->value);
    }
    return nullptr;
  }

 private:
  T fallback_;
};

namespace detail {

template <class T>
struct added_value final : context_addition {
  template <class V>
  added_value(const context_value<T>& name, V&& v)
      : context_addition(this_context), held(std::forward<V>(v)) {
    key = &name;
    value = &held;
  }
  T held;
};

struct added_field final : context_addition {
  added_field(std::string_view name, std::string_view text) : context_addition(this_context) {
    fields.append("[").append(name).append("=").append(text).append("] ");
  }
};

template <class F>
decltype(auto) call_with(context_addition* added, F&& f) {
  refuse_temporaries<F>();
  const counted_pointer<context> where(new context(added));
  const context_scope scope(where.get());
  return std::forward<F>(f)();
}

}  // namespace detail

/// Calls `f()` with a value of type `T` made from `value`, and gives what it gives. Coroutines that
/// it calls keep the value for as long as they run; `f` itself may return a future, but is no
/// coroutine if it captures something: it is gone when this returns. With g++ 12 name one that captures
/// more than references and numbers: see make.hpp.
template <class T, class V, class F>
decltype(auto) with_value(const context_value<T>& name, V&& value, F&& f) {
  return detail::call_with(new detail::added_value<T>(name, std::forward<V>(value)),
                           std::forward<F>(f));
}

/// Calls `f()` so that what it and the coroutines it calls log carries `[name=text]`; as
/// `with_value`.
template <class F>
decltype(auto) with_log_field(std::string_view name, std::string_view text, F&& f) {
  return detail::call_with(new detail::added_field(name, text), std::forward<F>(f));
}

/// A function that calls `f` in the context in which `bind_context` was called, for callbacks. It
/// belongs to this thread.
template <class F>
auto bind_context(F f) {
  detail::counted_pointer<detail::context> here;
  if (detail::this_context != nullptr) here = detail::share(*detail::this_context);
  return [here = std::move(here), f = std::move(f)](auto&&... args) mutable -> decltype(auto) {
    const detail::context_scope scope(here.get());
    return f(std::forward<decltype(args)>(args)...);
  };
}

}  // namespace pulsar
