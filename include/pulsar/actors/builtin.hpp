// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The commands that every actor has: `cmd::ping`, `cmd::echo`, `cmd::run`, `cmd::info`,
/// `cmd::stop`.
///
///     co_await send(bank, cmd::ping);                        // "pong"
///     co_await send(bank, cmd::echo, 42);                    // 42
///     co_await send(bank, cmd::run, pulsar::fn<&compute>, 7);  // compute(7), in bank's process
///     co_await send(bank, cmd::stop);                        // done when it has ended

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/command.hpp>

#include <string>
#include <type_traits>
#include <utility>

namespace pulsar {

/// A free function of this program as an argument of `cmd::run`: `fn<&compute>`. It may take an
/// `actor_base&` first: the actor it runs on.
template <auto Function>
struct function {};
template <auto Function>
inline constexpr function<Function> fn{};

namespace detail {

inline std::string ping_of(actor_base&) { return "pong"; }
inline actor_info info_of(actor_base& a) { return a.info(); }
inline future<> stop_of(actor_base& a) { return a.stop(); }

template <class T>
T echo_of(actor_base&, T value) {
  return value;
}

/// A free function as a command's: with an `actor_base&` in front.
template <auto Function, class Type = decltype(Function)>
struct plain_signature;
template <auto Function, class R, class... P>
struct plain_signature<Function, R (*)(P...)> {
  static R call(actor_base&, P... args) { return Function(static_cast<P&&>(args)...); }
};
template <auto Function, class R, class... P>
struct plain_signature<Function, R (*)(actor_base&, P...)> {
  static R call(actor_base& a, P... args) { return Function(a, static_cast<P&&>(args)...); }
};
template <auto Function, class R, class... P>
struct plain_signature<Function, R (*)(P...) noexcept> : plain_signature<Function, R (*)(P...)> {};

}  // namespace detail

namespace cmd {

/// "pong".
inline constexpr command<"ping", &detail::ping_of> ping{};
/// An `actor_info`.
inline constexpr command<"info", &detail::info_of> info{};
/// Ends the actor as `actor_base::stop` does; answered when it has ended.
inline constexpr command<"stop", &detail::stop_of> stop{};

/// Gives its argument back.
struct echo_command {};
inline constexpr echo_command echo{};
/// Runs a function of this program on the actor.
struct run_command {};
inline constexpr run_command run{};

}  // namespace cmd
}  // namespace pulsar
