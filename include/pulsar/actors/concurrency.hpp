// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Where a spawned actor lives: the policies `concurrency::coroutine` and `concurrency::thread`;
/// `concurrency::process` stands in process.hpp.
///
///     auto here = co_await pulsar::spawn<ledger, pulsar::concurrency::coroutine>();
///
/// A policy is a type with a `name`, `remote` (must arguments travel?) and `spawn<A>`; programs may
/// add their own.

#include <pulsar/actors/detail/local_actors.hpp>

#include <concepts>
#include <string_view>
#include <tuple>
#include <utility>

namespace pulsar {

/// What `spawn<A, Policy>` asks of a policy.
template <class P>
concept concurrency_policy = requires {
  { P::name } -> std::convertible_to<std::string_view>;
  { P::remote } -> std::convertible_to<bool>;
};

namespace concurrency {

/// In the loop of the caller: millions of actors.
struct coroutine {
  static constexpr std::string_view name = "coroutine";
  static constexpr bool remote = false;

  template <class A, class... Args>
  static future<actor_ref<A>> spawn(spawn_options options, std::tuple<Args...> args) {
    auto& loop = event_loop::current();
    auto maker = detail::maker_of<A>(detail::birth_of(options), std::move(args));
    return detail::ref_when_born<A>(loop, detail::give_birth(loop, std::move(maker)));
  }
};

/// In a thread with a loop of its own. Values are moved between threads, never shared.
struct thread {
  static constexpr std::string_view name = "thread";
  static constexpr bool remote = false;

  template <class A, class... Args>
  static future<actor_ref<A>> spawn(spawn_options options, std::tuple<Args...> args) {
    auto& loop = event_loop::current();
    auto maker = detail::maker_of<A>(detail::birth_of(options), std::move(args));
    return detail::ref_when_born<A>(loop, detail::give_birth_in_thread(loop, std::move(maker)));
  }
};

}  // namespace concurrency
}  // namespace pulsar
