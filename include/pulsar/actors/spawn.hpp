// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `spawn`: a new actor.
///
///     auto a = co_await pulsar::spawn<ledger, pulsar::concurrency::thread>();
///     auto b = co_await pulsar::spawn<ledger>(pulsar::spawn_options{.name = "bank"});
///     auto c = co_await pulsar::spawn<greeter>("hello", 3);   // the constructor's arguments
///
/// Done when the actor's `on_start` has; fails with what its constructor or `on_start` threw.
/// Without a policy the program's default decides: process, or what `--concurrency` or the
/// environment's PULSAR_CONCURRENCY says.

#include <pulsar/actors/concurrency.hpp>
#include <pulsar/actors/process.hpp>

#include <atomic>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar {

/// The policies a program can name at run time.
enum class concurrency_kind { process, thread, coroutine };

/// "process", "thread", "coroutine".
constexpr std::string_view to_string(concurrency_kind kind) noexcept {
  switch (kind) {
    case concurrency_kind::thread: return concurrency::thread::name;
    case concurrency_kind::coroutine: return concurrency::coroutine::name;
    default: return concurrency::process::name;
  }
}

namespace detail {

/// Gives the policy of that name; false if there is none.
constexpr bool find_concurrency(std::string_view name, concurrency_kind& found) noexcept {
  for (const auto kind :
       {concurrency_kind::process, concurrency_kind::thread, concurrency_kind::coroutine}) {
    found = kind;
    if (to_string(kind) == name) return true;
  }
  return false;
}

}  // namespace detail

/// The policy of that name, or nothing.
constexpr std::optional<concurrency_kind> parse_concurrency(std::string_view name) noexcept {
  concurrency_kind found{};
  return detail::find_concurrency(name, found) ? std::optional(found) : std::nullopt;
}

namespace detail {

inline std::atomic<concurrency_kind> default_concurrency{concurrency_kind::process};

/// What a constructor's argument is kept and sent as.
template <class T>
using spawned_argument = std::conditional_t<std::is_convertible_v<T, std::string_view> &&
                                                !std::is_same_v<std::decay_t<T>, std::string_view>,
                                            std::string, std::decay_t<T>>;

template <class A>
concept lists_commands = requires { typename A::commands; };

/// All that is checked of an actor before it is made, each with one sentence; true if it can be.
template <class A, class... Args>
consteval bool check_actor() {
  constexpr bool derived = std::is_convertible_v<A*, actor<A>*>;
  static_assert(derived, "spawn: the class is no actor: derive it publicly from pulsar::actor<itself>");
  if constexpr (derived) {
    constexpr bool listed = lists_commands<A>;
    static_assert(listed,
                  "spawn: the actor has no public list of commands: behind its methods write public: "
                  "using commands = pulsar::commands<&a::method, ...>;");
    constexpr bool constructible = std::is_constructible_v<A, spawned_argument<Args>&&...>;
    static_assert(constructible, "spawn: the actor has no public constructor for these arguments");
    return listed && constructible;
  } else {
    return false;
  }
}

}  // namespace detail

/// The policy of `spawn` without one. Any thread.
inline concurrency_kind default_concurrency() noexcept {
  return detail::default_concurrency.load(std::memory_order_relaxed);
}
inline void set_default_concurrency(concurrency_kind kind) noexcept {
  detail::default_concurrency.store(kind, std::memory_order_relaxed);
}

/// A new `A` by `Policy`, made from `args`.
template <class A, concurrency_policy Policy, class... Args>
[[nodiscard]] future<actor_ref<A>> spawn(spawn_options options, Args&&... args) {
  if constexpr (detail::check_actor<A, Args...>()) {
    this_process().require_serving("spawn an actor");
    return Policy::template spawn<A>(
        options, std::tuple<detail::spawned_argument<Args>...>(std::forward<Args>(args)...));
  } else {
    return {};
  }
}
template <class A, concurrency_policy Policy, class... Args>
  requires(!(std::is_same_v<std::remove_cvref_t<Args>, spawn_options> || ...))
[[nodiscard]] future<actor_ref<A>> spawn(Args&&... args) {
  return spawn<A, Policy>(spawn_options{}, std::forward<Args>(args)...);
}

/// A new `A` by the program's default policy.
template <class A, class... Args>
[[nodiscard]] future<actor_ref<A>> spawn(spawn_options options, Args&&... args) {
  static_assert((encodable<detail::spawned_argument<Args>> && ...),
                "spawn: an argument cannot travel to another process: name a policy, "
                "concurrency::coroutine or concurrency::thread");
  if constexpr (detail::check_actor<A, Args...>()) {
    switch (default_concurrency()) {
      case concurrency_kind::coroutine:
        return spawn<A, concurrency::coroutine>(options, std::forward<Args>(args)...);
      case concurrency_kind::thread:
        return spawn<A, concurrency::thread>(options, std::forward<Args>(args)...);
      default: return spawn<A, concurrency::process>(options, std::forward<Args>(args)...);
    }
  } else {
    return {};
  }
}
template <class A, class... Args>
  requires(!(std::is_same_v<std::remove_cvref_t<Args>, spawn_options> || ...))
[[nodiscard]] future<actor_ref<A>> spawn(Args&&... args) {
  return spawn<A>(spawn_options{}, std::forward<Args>(args)...);
}

}  // namespace pulsar
