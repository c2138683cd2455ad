// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `result<T>`: a value or a failure, for those who would rather look than catch.
///
///     auto r = co_await as_result(send(bank, "audit"_cmd, "bob"));
///     if (!r) log::warning("no audit: {}", r.message());

#include <pulsar/core/future.hpp>

#include <coroutine>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

namespace pulsar {

namespace detail {

template <class T>
struct held_as {
  using type = T;
};
template <>
struct held_as<void> {
  using type = std::monostate;
};
template <class T>
struct held_as<T&> {
  using type = std::reference_wrapper<T>;
};
template <class T>
using held_value = typename held_as<T>::type;

}  // namespace detail

/// A value, or the exception in its place. A reference is held as `std::reference_wrapper`.
template <class T = void>
class [[nodiscard]] result {
  static_assert(!std::is_same_v<std::remove_cvref_t<T>, std::exception_ptr>,
                "a result of std::exception_ptr could not tell its value from its failure: "
                "give the pointer a struct of its own");
  using held = detail::held_value<T>;
  using element = std::conditional_t<std::is_void_v<T>, held, std::remove_reference_t<T>>;

 public:
  using value_type = T;

  template <class U = held>
    requires(!std::is_same_v<std::remove_cvref_t<U>, result> &&
             !std::is_same_v<std::remove_cvref_t<U>, std::exception_ptr> &&
             std::is_constructible_v<held, U>)
  result(U&& value) : value_(std::in_place, std::forward<U>(value)) {}
  /// A failure, which must not be null.
  result(std::exception_ptr failure) noexcept : failure_(std::move(failure)) {
    PULSAR_ASSERT(failure_ != nullptr, "a result needs a value or a failure, not a null pointer");
  }

  bool has_value() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return has_value(); }

  /// The value; throws the failure if there is none.
  decltype(auto) value() & {
    check();
    if constexpr (!std::is_void_v<T>) return static_cast<T&>(*value_);
  }
  decltype(auto) value() const& {
    check();
    if constexpr (!std::is_void_v<T>) return static_cast<const T&>(*value_);
  }
  T value() && {
    check();
    if constexpr (!std::is_void_v<T>) return std::move(*value_);
  }

  /// The value, which must be there.
  element& operator*() noexcept {
    PULSAR_ASSERT(has_value(), "this result is a failure: ask has_value() first");
    return *value_;
  }
  const element& operator*() const noexcept {
    PULSAR_ASSERT(has_value(), "this result is a failure: ask has_value() first");
    return *value_;
  }
  element* operator->() noexcept { return std::addressof(**this); }
  const element* operator->() const noexcept { return std::addressof(**this); }

  /// The failure, or null.
  std::exception_ptr exception() const noexcept { return failure_; }

  /// The code of a failure that is a `std::system_error`; else `errc::command_failed`, or no error.
  std::error_code code() const noexcept {
    try {
      if (failure_) std::rethrow_exception(failure_);
    } catch (const std::system_error& e) {
      return e.code();
    } catch (...) {
      return errc::command_failed;
    }
    return {};
  }

  /// The text of the failure.
  std::string message() const { return detail::describe(failure_); }

 private:
  void check() const {
    if (failure_) std::rethrow_exception(failure_);
    PULSAR_ASSERT(has_value(), "this result was moved from");
  }

  std::optional<held> value_;
  std::exception_ptr failure_;
};

namespace detail {

/// Of a coroutine that gives a cancellation as a value: who waits for it, and was cancelled with it
/// if at all, has been told.
struct cancellation_told {
  bool await_ready() const noexcept { return false; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> h) const noexcept {
    const future_awaiter* const above = h.promise().awaiter;
    if (above != nullptr && above->waiter != nullptr) above->waiter->cancel_requested = false;
    return false;
  }
  void await_resume() const noexcept {}
};

template <class T>
future<result<T>> outcome_of_future(future<T> f) {
  std::exception_ptr failure;
  try {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(f);
      co_return result<T>(std::monostate{});
    } else {
      co_return result<T>(co_await std::move(f));
    }
  } catch (...) {
    failure = std::current_exception();
  }
  if (is_cancelled(failure)) co_await cancellation_told();
  co_return result<T>(std::move(failure));
}

}  // namespace detail

/// Waits for `f`, a future or an operation, and gives its outcome as a value. Cancelling it cancels
/// `f`; the outcome is then that of `f`. Whoever awaits this and is cancelled is told by a result
/// of `errc::cancelled`, once, as by a throw: what it awaits next waits again.
template <detail::future_like F>
future<result<detail::value_in<F>>> as_result(F&& f) {
  return detail::outcome_of_future(detail::to_future(std::forward<F>(f)));
}

}  // namespace pulsar
