// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// A time limit that all who work below know of.
///
///     auto page = co_await with_deadline(5s, [&] { return render(request); });
///     // in render, however deep:
///     co_await with_timeout(ask_cache(key), std::min(remaining(), 100ms));
///
/// The difference from `with_timeout`: who is called may ask how much time is left, to tell a peer
/// or not to begin at all. Nested ones never extend it.

#include <pulsar/core/context.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/timeout.hpp>

#include <algorithm>
#include <type_traits>
#include <utility>

namespace pulsar {

/// By when the code that runs here has to be done, by its loop's `time()`; the end of time if
/// nobody has said.
inline const context_value<event_loop::time_point> deadline(event_loop::time_point::max());

/// How long that is from now; zero when it has passed, the longest duration without a deadline.
inline event_loop::duration remaining(event_loop& loop = event_loop::current()) {
  const auto when = deadline.get();
  if (when == event_loop::time_point::max()) return event_loop::duration::max();
  return std::max(when - loop.time(), event_loop::duration::zero());
}

/// Calls `f()`, which returns a future, with the deadline `when`, or the one that is there if that
/// is earlier; gives its result. What is not done by then is cancelled, and fails with
/// `errc::timed_out`, as by `wait_until`. Cancelling it cancels the future of `f`. With g++ 12 name an
/// `f` that captures more than references and numbers: see make.hpp.
template <class F>
requires detail::is_future<std::invoke_result_t<F&>>
auto with_deadline(event_loop::time_point when, F&& f) {
  detail::refuse_temporaries<F>();
  when = std::min(when, deadline.get());
  return wait_until(with_value(deadline, when, f), when);
}

/// The same, from now.
template <class F>
requires detail::is_future<std::invoke_result_t<F&>>
auto with_deadline(event_loop::duration limit, F&& f) {
  detail::refuse_temporaries<F>();
  const auto now = event_loop::current().time();
  const bool far = limit > event_loop::time_point::max() - now;
  return with_deadline(far ? event_loop::time_point::max() : now + limit, f);
}

}  // namespace pulsar
