// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `make` and `moved`: arguments inside a `co_await` that g++ 12 would free twice otherwise.
///
///     co_await send(log, "write"_cmd, pulsar::make<entry>("text", 3));    // not entry{"text", 3}
///
///     auto count = [path] { return count_lines(path); };                  // path: a std::string
///     auto lines = co_await loop.run_in_executor(count);                  // a copy of it, or
///     auto lines = co_await loop.run_in_executor(pulsar::moved(count));   // count itself
///
/// g++ 12 destroys a temporary that stands in a `co_await` twice if it is an aggregate, or a lambda
/// that captures, with members that have to be destroyed. What takes values or functions there
/// refuses such a temporary when that compiler compiles it, also outside a `co_await`, which looks
/// the same from inside. Lambdas that capture by reference, or numbers, are fine everywhere.

#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pulsar {

/// A value on its way into a call; see `make` and `moved`. Stands for what it holds where that is
/// called, and converts to it.
template <class T>
class made {
 public:
  template <class... Args>
  explicit made(std::in_place_t, Args&&... args) : value_{std::forward<Args>(args)...} {}
  operator T() && { return std::move(value_); }

  template <class... Args>
  std::invoke_result_t<T&, Args...> operator()(Args&&... args) {
    return value_(std::forward<Args>(args)...);
  }

 private:
  T value_;
};

/// An aggregate made in place: `send(log, "write"_cmd, pulsar::make<entry>("text", 3))`.
template <class T, class... Args>
made<T> make(Args&&... args) {
  return made<T>(std::in_place, std::forward<Args>(args)...);
}

/// A variable given away, where `std::move(x)` of an aggregate or a lambda is refused.
template <class T>
made<T> moved(T& value) {
  return made<T>(std::in_place, std::move(value));
}

namespace detail {

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12
/// The type of a lambda: "main()::<lambda(int)>", but not "wrapper<main()::<lambda(int)> >".
template <class T>
consteval bool is_lambda() {
  constexpr std::string_view function = __PRETTY_FUNCTION__;  // "... is_lambda() [with T = X]"
  std::size_t at = function.size() - 2;
  for (int depth = 0; at > 0; --at) {
    if (function[at] == '>') ++depth;
    if (function[at] == '<') --depth;
    if (depth == 0) break;
  }
  return function.substr(at).starts_with("<lambda(");
}

template <class Arg>
inline constexpr bool is_temporary_to_free =
    !std::is_lvalue_reference_v<Arg> && !std::is_array_v<std::remove_cvref_t<Arg>> &&
    !std::is_trivially_destructible_v<std::remove_cvref_t<Arg>>;

template <class Arg>
consteval bool is_freed_twice() {
  if constexpr (is_temporary_to_free<Arg>) return std::is_aggregate_v<std::remove_cvref_t<Arg>>;
  return false;
}
template <class Arg>
consteval bool is_lambda_freed_twice() {
  if constexpr (is_temporary_to_free<Arg>) return is_lambda<std::remove_cvref_t<Arg>>();
  return false;
}
#else
template <class Arg>
consteval bool is_freed_twice() {
  return false;
}
template <class Arg>
consteval bool is_lambda_freed_twice() {
  return false;
}
#endif

/// Refuses temporaries that g++ 12 would free twice; true if there are none. `Args` as deduced for
/// `Args&&`.
template <class... Args>
consteval bool check_temporaries() {
  constexpr bool freed_once = !(is_freed_twice<Args>() || ...);
  static_assert(freed_once,
                "g++ 12.2 frees this temporary twice: name it, or write pulsar::make<T>(...)");
  constexpr bool lambda_freed_once = !(is_lambda_freed_twice<Args>() || ...);
  static_assert(lambda_freed_once,
                "g++ 12.2 frees this lambda twice: name it, and hand over the name, of which a copy "
                "is made, or pulsar::moved(name)");
  return freed_once && lambda_freed_once;
}

/// The same where nothing follows from it.
template <class... Args>
consteval void refuse_temporaries() {
  static_cast<void>(check_temporaries<Args...>());
}

/// As a parameter by value would be.
template <class F>
std::decay_t<F> copy_of(F&& f) {
  return std::forward<F>(f);
}

}  // namespace detail

}  // namespace pulsar
