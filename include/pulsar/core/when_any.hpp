// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The first of several futures.
///
///     auto first = co_await when_any(inbox.receive(), sleep(1s));
///     if (first.index() == 0) handle(first.get<0>());
///
/// The others are cancelled and waited for, so nothing of them runs on. A failure is an outcome
/// like any other: one that nobody looks at is lost, and reported nowhere.

#include <pulsar/core/detail/gathering.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/when_all.hpp>

#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

namespace pulsar {

/// The outcomes of `when_any`. Those of the losers are `errc::cancelled`, unless one ended all the
/// same: then its value is here and not lost. A failure is thrown by `get` alone: what you do not
/// look at is lost, that of the first one too.
template <class... Ts>
class [[nodiscard("failures are in it, and nowhere else: call get() or outcome()")]] first_of {
 public:
  first_of(std::size_t index, std::tuple<result<Ts>...> outcomes)
      : index_(index), outcomes_(std::move(outcomes)) {}

  /// Which one ended first, counted from zero.
  std::size_t index() const noexcept { return index_; }

  /// The value of the I-th; throws its failure.
  template <std::size_t I>
  decltype(auto) get() {
    return std::get<I>(outcomes_).value();
  }

  /// The outcome of the I-th.
  template <std::size_t I>
  auto& outcome() noexcept {
    return std::get<I>(outcomes_);
  }

 private:
  std::size_t index_;
  std::tuple<result<Ts>...> outcomes_;
};

/// The same for a vector of futures.
template <class T>
class [[nodiscard(
    "failures are in it, and nowhere else: call get() or outcomes()")]] first_of_many {
 public:
  first_of_many(std::size_t index, std::vector<result<T>> outcomes)
      : index_(index), outcomes_(std::move(outcomes)) {}

  std::size_t index() const noexcept { return index_; }
  /// The value of the one that ended first; throws its failure.
  decltype(auto) get() { return outcomes_[index_].value(); }
  std::vector<result<T>>& outcomes() noexcept { return outcomes_; }

 private:
  std::size_t index_;
  std::vector<result<T>> outcomes_;
};

namespace detail {

template <class... Ts>
future<first_of<Ts...>> any_of(future<Ts>... fs) {
  const gatherer set(&has_ended);
  (set->watch(fs), ...);
  set->settle();
  co_await *set;
  if (set->interrupted() && (fs.cancelled() && ...)) throw error(errc::cancelled);
  co_return first_of<Ts...>(set->decisive(),
                            std::tuple<result<Ts>...>(take_outcome(fs)...));
}

}  // namespace detail

/// Done when one of `fs`, futures or operations, is done, with a result or a failure, and the
/// others have been cancelled and have ended. Cancelling it cancels every one and waits for all; if
/// they are all cancelled then, it throws `errc::cancelled`, else the outcomes are given. It throws
/// nothing of theirs: what you do not look at is lost.
template <detail::future_like... Fs>
  requires(sizeof...(Fs) > 0)
future<first_of<detail::value_in<Fs>...>> when_any(Fs&&... fs) {
  return detail::any_of(detail::to_future(std::forward<Fs>(fs))...);
}

/// The same for a vector. Throws `errc::not_ready` when it is empty: nothing can be first.
template <class T>
future<first_of_many<T>> when_any(std::vector<future<T>> fs) {
  if (fs.empty()) throw error(errc::not_ready, "when_any of no futures");
  const detail::gatherer set(&detail::has_ended);
  for (auto& f : fs) set->watch(f);
  set->settle();
  co_await *set;
  bool nothing = set->interrupted();
  for (auto& f : fs) nothing = nothing && f.cancelled();
  if (nothing) throw error(errc::cancelled);
  std::vector<result<T>> outcomes;
  outcomes.reserve(fs.size());
  for (auto& f : fs) outcomes.push_back(detail::take_outcome(f));
  co_return first_of_many<T>(set->decisive(), std::move(outcomes));
}

}  // namespace pulsar
