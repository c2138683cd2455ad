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

template <class... Ts>
future<std::tuple<stored<Ts>...>> all_of(future<Ts>... fs) {
  const gatherer set(&has_failed);
  (set->watch(fs), ...);
  set->settle();
  co_await *set;
  std::size_t index = 0;
  ((index++ == set->decisive() ? rethrow_failure(fs) : void()), ...);
  co_return std::tuple<stored<Ts>...>(take_stored(fs)...);
}

template <class... Ts>
future<std::tuple<result<Ts>...>> outcomes_of(future<Ts>... fs) {
  const gatherer set(&ends_nothing);
  (set->watch(fs), ...);
  co_await *set;
  co_return std::tuple<result<Ts>...>(take_outcome(fs)...);
}

}  // namespace detail

/// Done when all of `fs`, futures or operations, are; a tuple of their results, `std::monostate`
/// for `future<>`. Throws what the first that failed threw.
template <detail::future_like... Fs>
future<std::tuple<detail::stored<detail::value_in<Fs>>...>> when_all(Fs&&... fs) {
  return detail::all_of(detail::to_future(std::forward<Fs>(fs))...);
}

/// The same for a vector, which may be empty; of references, as `std::reference_wrapper`.
template <class T>
  requires(!std::is_void_v<T>)
future<std::vector<detail::held_value<T>>> when_all(std::vector<future<T>> fs) {
  const detail::gatherer set(&detail::has_failed);
  for (auto& f : fs) set->watch(f);
  set->settle();
  co_await *set;
  if (set->decisive() != detail::gathering::none) detail::rethrow_failure(fs[set->decisive()]);
  std::vector<detail::held_value<T>> results;
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

/// Done when all are, whatever became of them; a tuple of `result<T>`. Throws nothing of theirs: a
/// failure that you do not look at is lost, and reported nowhere.
template <detail::future_like... Fs>
future<std::tuple<result<detail::value_in<Fs>>...>> when_all_settled(Fs&&... fs) {
  return detail::outcomes_of(detail::to_future(std::forward<Fs>(fs))...);
}

/// The same for a vector, which may be empty.
template <class T>
future<std::vector<result<T>>> when_all_settled(std::vector<future<T>> fs) {
  const detail::gatherer set(&detail::ends_nothing);
  for (auto& f : fs) set->watch(f);
  co_await *set;
  std::vector<result<T>> outcomes;
  outcomes.reserve(fs.size());
  for (auto& f : fs) outcomes.push_back(detail::take_outcome(f));
  co_return outcomes;
}

}  // namespace pulsar
