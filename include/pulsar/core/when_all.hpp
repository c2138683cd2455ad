// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Waiting for several futures at once (pulsar's MultiDeferred).
///
///     auto both = co_await when_all(load_user(id), load_posts(id));   // a tuple
///     auto all = co_await when_all(std::move(futures));               // a vector
///
/// The first failure cancels the others; when all have ended it is rethrown. Later ones go to the
/// loop's exception handler. Cancelling the result cancels every one. The results keep the order
/// of the arguments.

#include <pulsar/core/detail/gathering.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/result.hpp>

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace pulsar {

namespace detail {

/// What a future<void> leaves in a tuple.
template <class T>
using stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

template <class T>
stored<T> take_stored(future<T>& f) {
  if constexpr (std::is_void_v<T>) {
    f.result();
    return {};
  } else {
    return f.result();
  }
}

template <class T>
result<T> take_outcome(future<T>& f) {
  if (auto failure = f.exception()) return failure;
  return take_stored(f);
}

template <class T>
void rethrow_failure(future<T>& f) {
  if (auto failure = f.exception()) std::rethrow_exception(failure);
}

}  // namespace detail

/// Done when all are; a tuple of their results, `std::monostate` for `future<>`. Throws what the
/// first that failed threw.
template <class... Ts>
future<std::tuple<detail::stored<Ts>...>> when_all(future<Ts>... fs) {
  const detail::gatherer set(&detail::has_failed);
  (set->watch(fs), ...);
  set->settle();
  co_await *set;
  std::size_t index = 0;
  ((index++ == set->decisive() ? detail::rethrow_failure(fs) : void()), ...);
  co_return std::tuple<detail::stored<Ts>...>(detail::take_stored(fs)...);
}

/// The same for a vector, which may be empty.
template <class T>
  requires(!std::is_void_v<T>)
future<std::vector<T>> when_all(std::vector<future<T>> fs) {
  const detail::gatherer set(&detail::has_failed);
  for (auto& f : fs) set->watch(f);
  set->settle();
  co_await *set;
  if (set->decisive() != detail::gathering::none) detail::rethrow_failure(fs[set->decisive()]);
  std::vector<T> results;
  results.reserve(fs.size());
  for (auto& f : fs) results.push_back(f.result());
  co_return results;
}
template <class T>
  requires std::is_void_v<T>
future<> when_all(std::vector<future<T>> fs) {
  const detail::gatherer set(&detail::has_failed);
  for (auto& f : fs) set->watch(f);
  set->settle();
  co_await *set;
  if (set->decisive() != detail::gathering::none) detail::rethrow_failure(fs[set->decisive()]);
  for (auto& f : fs) f.result();
}

/// Done when all are, whatever became of them; a tuple of `result<T>`. Throws nothing.
template <class... Ts>
future<std::tuple<result<Ts>...>> when_all_settled(future<Ts>... fs) {
  const detail::gatherer set([](const detail::state&) { return false; });
  (set->watch(fs), ...);
  co_await *set;
  co_return std::tuple<result<Ts>...>(detail::take_outcome(fs)...);
}

}  // namespace pulsar
