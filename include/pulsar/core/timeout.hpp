// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Waiting for time, or no longer than that: `sleep`, `with_timeout`, `wait_until`.
///
///     co_await sleep(100ms);
///     auto page = co_await with_timeout(fetch(url), 5s);            // throws errc::timed_out
///     auto same = co_await wait_until(fetch(url), loop.time() + 5s);
///     co_await wait_until([] { return access("ready", F_OK) == 0; });   // asks again and again
///
/// The precision is a millisecond; nothing is early.

#include <pulsar/core/future.hpp>
#include <pulsar/core/make.hpp>

#include <asio/error.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

struct sleep_state final : shared_state<void> {
  struct node : timer_node {
    explicit node(sleep_state& s) noexcept : timer_node(&fire), owner(s) {}
    static void fire(timer_node* n, bool drop) {
      sleep_state& s = static_cast<node*>(n)->owner;
      if (!drop) s.succeed();
      s.drop();
    }
    sleep_state& owner;
  };

  struct turn_node : task_node {
    explicit turn_node(sleep_state& s) noexcept : task_node(&run), owner(s) {}
    static void run(task_node* n, bool drop) {
      sleep_state& s = static_cast<turn_node*>(n)->owner;
      if (!drop && !s.done()) s.succeed();
      s.drop();
    }
    sleep_state& owner;
  };

  using shared_state<void>::shared_state;

  void on_cancelled() noexcept override {
    if (timer.cancel()) drop();
  }
  void describe(wait_description& to) const override {
    to.text = "a sleep";
    to.until = &timer;
  }

  node timer{*this};
  turn_node turn{*this};
};

/// Cancels what it watches when time is up.
struct time_limit final : timer_node {
  explicit time_limit(state* s) noexcept : timer_node(&fire), watched(s) {}
  static void fire(timer_node* n, bool drop) {
    auto* self = static_cast<time_limit*>(n);
    if (drop || self->watched->done()) return;
    self->expired = true;
    cancel_chain(self->watched);
  }
  state* watched;
  bool expired = false;
};

}  // namespace detail

/// Done after `delay`, by the loop's clock; one turn of the loop later if `delay` is zero. Cancelling
/// it frees its timer.
inline future<> sleep(event_loop::duration delay, event_loop& loop = event_loop::current()) {
  auto* state = new detail::sleep_state(loop);
  state->handed_out = true;
  ++state->count;
  if (delay <= event_loop::duration::zero()) {
    detail::loop_access::push_ready(loop, &state->turn);
  } else {
    detail::loop_access::arm_after(loop, state->timer, delay);
  }
  return detail::future_access::make<void>(state);
}

/// Done when the loop's `time()` reaches `when`.
inline future<> sleep_until(event_loop::time_point when,
                            event_loop& loop = event_loop::current()) {
  auto* state = new detail::sleep_state(loop);
  state->handed_out = true;
  ++state->count;
  detail::loop_access::arm_at(loop, state->timer, when);
  return detail::future_access::make<void>(state);
}

namespace detail {

inline void arm(event_loop& loop, timer_node& node, event_loop::duration delay) noexcept {
  loop_access::arm_after(loop, node, delay);
}
inline void arm(event_loop& loop, timer_node& node, event_loop::time_point when) noexcept {
  loop_access::arm_at(loop, node, when);
}

[[noreturn]] inline void throw_timed_out(event_loop::duration limit) {
  limit = std::max(limit, event_loop::duration::zero());
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
  throw error(errc::timed_out,
              "not done within " +
                  (ms % 1000 == 0 ? std::to_string(ms / 1000) + " s" : std::to_string(ms) + " ms"));
}
[[noreturn]] inline void throw_timed_out(event_loop::time_point) { throw error(errc::timed_out); }

// `Limit`: a duration or a time_point.
template <class T, class Limit>
future<T> limited(future<T> f, Limit limit) {
  detail::time_limit watch(detail::future_access::slot(f));
  // By its own loop: a future of another one is refused by the await.
  if (f.valid() && !f.done()) arm(event_loop::current(), watch, limit);
  try {
    co_return co_await f;
  } catch (const std::system_error& e) {
    // A coroutine that looks at its operations with `use_result` may pass on what Asio calls it.
    const bool cancelled =
        e.code() == errc::cancelled || e.code() == asio::error::operation_aborted;
    if (watch.expired && cancelled) throw_timed_out(limit);
    throw;
  }
}

template <class F>
future<> ask_until(F condition, event_loop::duration every) {
  for (bool holds = false;;) {
    if constexpr (is_future<std::invoke_result_t<F&>>) {
      auto asked = condition();
      holds = static_cast<bool>(co_await std::move(asked));
    } else {
      holds = static_cast<bool>(condition());
    }
    if (holds) co_return;
    co_await sleep(every);
  }
}

}  // namespace detail

/// The result of `f`, a future or an operation, if it is done within `limit`; else `f` is
/// cancelled, and once it has ended this throws `errc::timed_out` ("not done within 250 ms"). If
/// `f` ends with a result all the same, or with a failure of its own, that is given: nothing is
/// lost. Cancelling it cancels `f`.
template <detail::future_like F>
future<detail::value_in<F>> with_timeout(F&& f, event_loop::duration limit) {
  return detail::limited(detail::to_future(std::forward<F>(f)), limit);
}

/// The same with the time by which `f` has to be done, by the loop's `time()`.
template <detail::future_like F>
future<detail::value_in<F>> wait_until(F&& f, event_loop::time_point when) {
  return detail::limited(detail::to_future(std::forward<F>(f)), when);
}

/// Done when `condition()`, which gives what converts to `bool` or a future of that, is true. It is
/// called at once and then every so often: for what nobody announces, as a file or another process
/// (pulsar's async_while); within the program use `async_event`. Throws what `condition` throws. With
/// g++ 12 name a `condition` that captures more than references and numbers: see make.hpp.
template <class F>
  requires std::is_invocable_v<std::decay_t<F>&> && (!detail::future_like<F>)
future<> wait_until(F&& condition, event_loop::duration every = std::chrono::milliseconds(10)) {
  detail::refuse_temporaries<F>();
  return detail::ask_until<std::decay_t<F>>(std::forward<F>(condition), every);
}

}  // namespace pulsar
