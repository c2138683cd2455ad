// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `retry`: trying again what failed, later and later (pulsar's retry_over_time).
///
///     const auto fetch_page = [&] { return with_timeout(fetch(url), 5s); };
///     auto page = co_await retry({.tries = 4, .first = 200ms}, fetch_page);
///
///     const auto refused = [](std::error_code e) { return e == std::errc::connection_refused; };
///     auto peer = co_await retry(retry_policy{}, dial, refused);
///
/// Before the n-th try after the first it waits for a random time up to `first * factor^(n-1)`,
/// `longest` at most ("full jitter": those who failed together do not come back together).

#include <pulsar/core/future.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/timeout.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <system_error>
#include <type_traits>
#include <utility>

namespace pulsar {

/// How often `retry` tries, and how long it waits in between.
struct retry_policy {
  /// Calls in all; zero for no limit.
  unsigned tries = 5;
  /// The most it waits before the second try.
  event_loop::duration first = std::chrono::milliseconds(100);
  /// By which that grows with each try.
  double factor = 2;
  /// The most it ever waits.
  event_loop::duration longest = std::chrono::seconds(30);
  /// No try begins later than this after the call; zero for no limit. A try is not cut short.
  event_loop::duration limit = event_loop::duration::zero();
  /// Waits for the whole time, not for a random part of it.
  enum class jitter_kind { full, none } jitter = jitter_kind::full;
  /// Of the random times; zero takes the loop's own, which depend on nothing but the order of the
  /// calls when its clock is virtual.
  std::uint64_t seed = 0;
};

namespace detail {

class random_bits {
 public:
  explicit random_bits(std::uint64_t seed) noexcept : state_(seed) {}

  /// From zero up to, but not including, one.
  double fraction() noexcept { return static_cast<double>(next_random(state_) >> 11U) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

/// The random numbers of a loop: virtual time begins at zero, any other at some nanosecond.
class loop_random final : public loop_extension, public random_bits {
 public:
  explicit loop_random(event_loop& loop) noexcept
      : random_bits(static_cast<std::uint64_t>(loop.time().time_since_epoch().count())) {}
};

inline event_loop::duration next_wait(const retry_policy& policy,
                                      double& most,
                                      random_bits& random) {
  const auto longest = static_cast<double>(policy.longest.count());
  double wait = std::clamp(most, 0.0, longest);
  most = std::min(most * policy.factor, longest);
  if (policy.jitter == retry_policy::jitter_kind::full) wait *= random.fraction();
  if (wait >= longest) return policy.longest;  // which a double may not hold
  return event_loop::duration(static_cast<event_loop::duration::rep>(wait));
}

/// Nobody wants what was cancelled any more.
inline bool worth_a_try(const std::exception_ptr& failure, std::error_code& code) noexcept {
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& e) {
    code = e.code();
    return code != std::errc::operation_canceled;
  } catch (...) {
    code = errc::command_failed;
    return true;
  }
}

struct any_failure {
  bool operator()(std::error_code) const noexcept { return true; }
};

template <class P>
bool says_again(P& again, const std::exception_ptr& failure, std::error_code code) {
  if constexpr (std::is_invocable_r_v<bool, P&, std::error_code>) {
    return again(code);
  } else {
    return again(failure);
  }
}

template <class F, class P>
concept may_be_retried = is_future<std::invoke_result_t<F&>> &&
                         (std::is_invocable_r_v<bool, P&, std::error_code> ||
                          std::is_invocable_r_v<bool, P&, std::exception_ptr>);

template <class F, class P>
future<unwrapped<std::invoke_result_t<F&>>> retry_calls(retry_policy policy, F call, P again) {
  event_loop& loop = event_loop::current();
  const auto begin = loop.time();
  random_bits own(policy.seed);
  double most = static_cast<double>(policy.first.count());
  for (unsigned tried = 1;; ++tried) {
    std::exception_ptr failure;
    try {
      auto trying = call();
      co_return co_await std::move(trying);
    } catch (...) {
      failure = std::current_exception();
    }
    std::error_code code;
    if (!worth_a_try(failure, code) || tried == policy.tries) {
      std::rethrow_exception(std::move(failure));
    }
    auto& random = policy.seed != 0 ? own : loop_access::local<loop_random>(loop);
    const auto wait = next_wait(policy, most, random);
    const bool late = policy.limit > event_loop::duration::zero() &&
                      wait > policy.limit - (loop.time() - begin);
    if (late || !says_again(again, failure, code)) {
      std::rethrow_exception(std::move(failure));
    }
    failure = nullptr;
    co_await sleep(wait);
  }
}

}  // namespace detail

/// Calls `call()`, which returns a future, until that gives a result, and gives it; throws the last
/// failure when the policy allows no other try, or `again` says no to it: it is called with the
/// failure's `std::error_code` (`errc::command_failed` if it has none), or with the
/// `std::exception_ptr`, whichever it takes, and is the place to log it. What was cancelled is
/// never tried again. Cancelling it cancels the try under way, or the wait. `call` and `again` are
/// kept until it is done; with g++ 12 name those that capture more than references and numbers: see
/// make.hpp.
template <class F, class P = detail::any_failure>
  requires detail::may_be_retried<std::decay_t<F>, std::decay_t<P>>
auto retry(retry_policy policy, F&& call, P&& again = P()) {
  detail::refuse_temporaries<F, P>();
  return detail::retry_calls<std::decay_t<F>, std::decay_t<P>>(policy, std::forward<F>(call),
                                                              std::forward<P>(again));
}

}  // namespace pulsar
