// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `send_wait` and `send_then`: asking actors from threads without a loop.
///
///     long cents = send_wait(5s, bank, "deposit"_cmd, "ann", 250);   // blocks
///
///     send_then([](pulsar::result<long> cents) { ... }, bank, "deposit"_cmd, "ann", 250);
///
/// All that `send` takes may stand behind the first argument. What fails there fails here, with the
/// same exceptions. The asking is done in a thread of pulsar's own, which begins with the first call
/// and which all share.

#include <pulsar/actors/detail/background_loop.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/core/detail/blocking_wait.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/run_threadsafe.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

template <class R, class Callback>
future<> answer_by_callback(event_loop&, future<R> answer, Callback callback) {
  callback(co_await as_result(std::move(answer)));
}

template <class F>
void report_to(event_loop& loop, F&& f) noexcept {
  try {
    f();
  } catch (...) {
    report_callback_failure(loop);
  }
}

/// An argument on its way to another thread, where `send` gets it as if it had been named there.
template <class T>
decltype(auto) hand_on(T& kept) {
  if constexpr (is_freed_twice<T>()) {
    return moved(kept);
  } else {
    return std::move(kept);
  }
}

/// Has `ask(args...)` called in the loop of the background, where it may take so long, and waits.
template <class Ask, class... Args>
auto ask_and_wait(event_loop::duration timeout, Ask ask, Args&&... args) {
  check_may_block("send_wait");
  timeout = std::min<event_loop::duration>(timeout, std::chrono::years(50));  // it is added to
  auto work = [timeout, ask, kept = std::tuple<travelling<Args>...>(std::forward<Args>(args)...)]()
                  mutable {
    return with_value(chosen_timeout, timeout, [&] {
      return std::apply([&](auto&... a) { return ask(hand_on(a)...); }, kept);
    });
  };
  // The send keeps the time, and says what was asked; unless a callback there holds it up.
  return run_threadsafe(background_loop::get(), std::move(work))
      .get(timeout + std::chrono::milliseconds(100));
}

/// Has `ask(args...)` called in a loop, and `callback` with what that gives.
template <class Callback, class Ask, class... Args>
void ask_and_call(Callback&& callback, Ask ask, Args&&... args) {
  event_loop* const here = event_loop::running();
  event_loop& loop = here != nullptr ? *here : background_loop::get();
  auto work = [&loop, ask, callback = std::decay_t<Callback>(std::forward<Callback>(callback)),
               kept = std::tuple<travelling<Args>...>(std::forward<Args>(args)...)]() mutable {
    report_to(loop, [&] {
      auto answer = std::apply([&](auto&... a) { return ask(hand_on(a)...); }, kept);
      answer_by_callback(loop, std::move(answer), std::move(callback)).detach();
    });
  };
  if (here != nullptr) {
    work();
  } else if (!loop.call_soon_threadsafe(std::move(work))) {
    throw error(errc::loop_closed, "send_then: the program ends");
  }
}

}  // namespace detail

/// Runs the command on the actor, blocks this thread until it has, and gives its result or throws
/// its failure; `errc::timed_out` when that takes longer than `timeout`, however long that is: the
/// command is not cancelled. Any thread in which no loop runs, else `errc::already_running`.
/// Arguments are moved or copied, texts as `std::string`.
template <class Ref, class... Args>
auto send_wait(event_loop::duration timeout, const Ref& ref, Args&&... args) {
  return detail::ask_and_wait(
      timeout, [ref](auto&&... a) { return send(ref, std::forward<decltype(a)>(a)...); },
      std::forward<Args>(args)...);
}

/// The same, by the member function.
template <auto Function, class A, class... Args>
requires std::is_member_function_pointer_v<decltype(Function)>
auto send_wait(event_loop::duration timeout, const actor_ref<A>& ref, Args&&... args) {
  return detail::ask_and_wait(
      timeout, [ref](auto&&... a) { return send<Function>(ref, std::forward<decltype(a)>(a)...); },
      std::forward<Args>(args)...);
}

/// The same, by the name of the command alone.
template <class R, class Ref, class... Args>
R send_wait(event_loop::duration timeout,
            const Ref& ref,
            std::string_view command,
            Args&&... args) {
  return detail::ask_and_wait(
      timeout,
      [ref](std::string name, auto&&... a) {
        return send<R>(ref, name, std::forward<decltype(a)>(a)...);
      },
      std::string(command), std::forward<Args>(args)...);
}

/// Runs the command on the actor and calls `callback` with the `result<R>` of that, once: in this
/// thread's loop if one runs, else in a thread of pulsar's own, which all callbacks share and none
/// should block. Any thread. Arguments are moved or copied, texts as `std::string`. What `callback`
/// throws goes to the exception handler of that loop, which logs it.
template <class Callback, class Ref, class... Args>
void send_then(Callback&& callback, const Ref& ref, Args&&... args) {
  detail::ask_and_call(
      std::forward<Callback>(callback),
      [ref](auto&&... a) { return send(ref, std::forward<decltype(a)>(a)...); },
      std::forward<Args>(args)...);
}

/// The same, by the member function.
template <auto Function, class Callback, class A, class... Args>
requires std::is_member_function_pointer_v<decltype(Function)>
void send_then(Callback&& callback, const actor_ref<A>& ref, Args&&... args) {
  detail::ask_and_call(
      std::forward<Callback>(callback),
      [ref](auto&&... a) { return send<Function>(ref, std::forward<decltype(a)>(a)...); },
      std::forward<Args>(args)...);
}

/// The same, by the name of the command alone.
template <class R, class Callback, class Ref, class... Args>
void send_then(Callback&& callback, const Ref& ref, std::string_view command, Args&&... args) {
  detail::ask_and_call(
      std::forward<Callback>(callback),
      [ref](std::string name, auto&&... a) {
        return send<R>(ref, name, std::forward<decltype(a)>(a)...);
      },
      std::string(command), std::forward<Args>(args)...);
}

}  // namespace pulsar
