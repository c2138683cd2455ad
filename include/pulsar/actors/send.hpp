// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `send` and `tell`: the one way to an actor, wherever it lives.
///
///     long cents = co_await send(bank, "deposit"_cmd, "ann", 250);
///     co_await send<&ledger::deposit>(bank, "ann", 250);     // the same, refactor-safe
///     co_await send(bank, pulsar::cmd::ping);                // commands that every actor has
///     co_await send<long>(named_actor("bank"), "deposit", "ann", 250);   // checked on arrival
///     tell(bank, "deposit"_cmd, "ann", 1);                   // no reply
///
/// `send` returns a future of the calling loop and throws `errc::no_loop` where there is none. It
/// fails with what the command threw, `errc::actor_gone`, `errc::mailbox_full` or, after ten
/// seconds or what `with_deadline` has left, `errc::timed_out`; a reply that comes later is dropped.
/// An empty reference is `errc::unknown_actor`; a parameter or result that cannot travel to the
/// actor's process is `errc::not_encodable`. Dropping the future does not cancel the command. `tell`
/// may be called from any thread; what fails where it runs is logged. A name is looked for in this
/// process and then, under `pulsar::run`, in the whole program.

#include <pulsar/actors/builtin.hpp>
#include <pulsar/actors/command.hpp>
#include <pulsar/actors/detail/dispatch.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/actors/registry.hpp>
#include <pulsar/core/make.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

template <class Arguments, class... Args, std::size_t... I>
consteval bool fit(std::index_sequence<I...>) {
  return (std::is_convertible_v<Args, std::tuple_element_t<I, Arguments>> && ...);
}

/// All that is checked of a call, each with one sentence; true if it can be made.
template <class Entry, class... Args>
consteval bool check_call() {
  using traits = typename Entry::traits;
  constexpr bool right_number = sizeof...(Args) == traits::arity;
  static_assert(right_number, "send: the command takes another number of arguments");
  if constexpr (right_number) {
    constexpr bool right_types =
        fit<typename traits::arguments, Args...>(std::index_sequence_for<Args...>());
    static_assert(right_types, "send: an argument cannot be converted to the command's parameter");
    return right_types && check_temporaries<Args...>() &&
           can_travel<typename traits::parameters>;
  } else {
    return false;
  }
}

template <class Entry, class A, class... Args>
auto checked_ask(const actor_ref<>& ref, Args&&... args) {
  using traits = typename Entry::traits;
  if constexpr (check_call<Entry, Args...>()) {
    return ask<Entry, A>(ref_access::cell(ref),
                         typename traits::arguments(std::forward<Args>(args)...), default_timeout);
  } else {
    return future<typename traits::result>();
  }
}

template <class Entry, class A, class... Args>
void checked_tell(const actor_ref<>& ref, Args&&... args) {
  using traits = typename Entry::traits;
  if constexpr (check_call<Entry, Args...>()) {
    tell<Entry, A>(ref_access::cell(ref), typename traits::arguments(std::forward<Args>(args)...));
  }
}

template <class A, auto Function, class... E>
consteval std::size_t index_of(command_list<E...>*) {
  std::size_t i = 0;
  static_cast<void>(
      ((std::is_same_v<typename E::traits, command_traits<Function>> ? true : (++i, false)) ||
       ...));
  return i;
}

template <class A>
inline constexpr bool unknown_type = std::is_void_v<A>;

/// In the place of a result that was refused, so that nothing is said of it as well.
struct any_result {
  template <class T>
  operator T() const;
};

/// The entry of a name in the list of `A`, or void with a sentence.
template <class A, fixed_string Name>
consteval auto find_entry() {
  static_assert(!unknown_type<A>,
                "send: the type of this actor is not known here: send<Result>(ref, \"name\", ...)");
  if constexpr (!unknown_type<A>) {
    using list = typename A::commands;
    constexpr std::size_t at = list::find(Name.view());
    constexpr bool known = at < list::size;
    static_assert(known, "send: the actor has no command of this name: is it in its commands<...>?");
    if constexpr (known) {
      return std::type_identity<typename list::template at<at>>();
    } else {
      return std::type_identity<void>();
    }
  } else {
    return std::type_identity<void>();
  }
}

template <class T>
struct unmade {
  using type = T;
};
template <class T>
struct unmade<made<T>> {
  using type = T;
};

/// What an argument of an untyped send is encoded as.
template <class T>
using travelling = std::conditional_t<std::is_convertible_v<T, std::string_view>, std::string,
                                      typename unmade<std::remove_cvref_t<T>>::type>;

/// Looks for a name in the other processes; set where there are some (detail/arbiter.hpp).
inline future<actor_ref<>> (*find_elsewhere)(event_loop& loop, std::string name) = nullptr;

[[noreturn]] inline void throw_unknown_actor(const std::string& name) {
  throw error(errc::unknown_actor, "no actor is named '" + name + "'");
}

template <class R>
future<R> ask_elsewhere(event_loop& loop, std::string name, std::string command,
                        buffer arguments) {
  const auto until = loop.time() + within_chain(loop, default_timeout);
  if (find_elsewhere == nullptr) throw_unknown_actor(name);
  const actor_ref<> found = co_await find_elsewhere(loop, name);
  if (!found) throw_unknown_actor(name);
  auto answer = ask_encoded<R>(*ref_access::cell(found), command, std::move(arguments),
                               until - loop.time());
  if constexpr (std::is_void_v<R>) {
    co_await std::move(answer);
  } else {
    co_return co_await std::move(answer);
  }
}

}  // namespace detail

/// Runs the command on the actor; done with its result.
template <class A, fixed_string Name, class... Args>
auto send(const actor_ref<A>& ref, command_name<Name>, Args&&... args) {
  using entry = typename decltype(detail::find_entry<A, Name>())::type;
  if constexpr (std::is_void_v<entry>) {
    return future<detail::any_result>();
  } else {
    return detail::checked_ask<entry, A>(ref, std::forward<Args>(args)...);
  }
}

/// The same, by the member function.
template <auto Function, class A, class... Args>
  requires std::is_member_function_pointer_v<decltype(Function)>
auto send(const actor_ref<A>& ref, Args&&... args) {
  using list = typename A::commands;
  constexpr std::size_t at = detail::index_of<A, Function>(static_cast<list*>(nullptr));
  constexpr bool listed = at < list::size;
  static_assert(listed, "send: this member function is not in the actor's commands<...>");
  if constexpr (listed) {
    return detail::checked_ask<typename list::template at<at>, A>(ref,
                                                                  std::forward<Args>(args)...);
  } else {
    return future<detail::any_result>();
  }
}

/// A command that every actor has.
template <class A, fixed_string Name, auto Function, class... Args>
auto send(const actor_ref<A>& ref, command<Name, Function>, Args&&... args) {
  using entry = detail::global_entry<Name, Function>;
  static_cast<void>(detail::global_registered<entry>);
  return detail::checked_ask<entry, actor_base>(ref, std::forward<Args>(args)...);
}

/// Gives `value` back, from where the actor lives.
template <class A, class T>
auto send(const actor_ref<A>& ref, cmd::echo_command, T&& value) {
  using plain = detail::travelling<T>;
  return detail::checked_ask<detail::global_entry<"echo", &detail::echo_of<plain>>, actor_base>(
      ref, std::forward<T>(value));
}

/// Calls a function of this program where the actor lives, in its loop.
template <class A, auto Function, class... Args>
auto send(const actor_ref<A>& ref, cmd::run_command, function<Function>, Args&&... args) {
  using entry = detail::run_entry<Function>;
  using traits = typename entry::traits;
  if constexpr (detail::check_call<entry, Args...>()) {
    buffer prefix;
    if constexpr (detail::wire_entry<entry>) {
      const auto key = image::key_of<&detail::decode_run<Function>>();
      const detail::run_key raw{key.object, key.offset};
      prefix.append(std::as_bytes(std::span(&raw, 1)));
    }
    return detail::ask<entry, actor_base>(
        detail::ref_access::cell(ref), typename traits::arguments(std::forward<Args>(args)...),
        detail::default_timeout, std::move(prefix));
  } else {
    return future<typename traits::result>();
  }
}

/// Refused: only what has a place in the program can be named to another process.
template <class A, class F, class... Args>
future<detail::any_result> send(const actor_ref<A>&, cmd::run_command, F&&, Args&&...) {
  static_assert(std::is_void_v<F>,
                "send: cmd::run takes a free function of this program, as pulsar::fn<&f>: no lambda, "
                "no function object");
  return {};
}

/// Runs a command by its name on an actor whose type is not known here; the arguments are checked
/// on arrival: fails with `errc::unknown_command`, `errc::malformed`, and `errc::unknown_actor` where
/// nobody has the name.
template <class R = void, class... Args>
future<R> send(const actor_ref<>& ref, std::string_view command, Args&&... args) {
  detail::refuse_temporaries<Args...>();
  auto* cell = detail::ref_access::cell(ref);
  if (cell == nullptr) return detail::refused_ask<R>(detail::empty_reference("send"));
  buffer arguments;
  encode(arguments, std::tuple<detail::travelling<Args>...>(std::forward<Args>(args)...));
  return detail::ask_encoded<R>(*cell, command, std::move(arguments), detail::default_timeout);
}
/// Refused: whoever forgets `_cmd` would lose the checks and the result without a word.
template <class A, class... Args>
  requires(!std::is_void_v<A>)
future<detail::any_result> send(const actor_ref<A>&, std::string_view, Args&&...) {
  static_assert(detail::unknown_type<A>,
                "send: the type of this actor is known here: write \"name\"_cmd, which is checked, "
                "or send<Result>(ref, \"name\", ...), which is not");
  return {};
}
template <class R = void, class... Args>
future<R> send(const named_actor& who, std::string_view command, Args&&... args) {
  if (const auto here = registry::instance().find(who.name())) {
    return send<R>(here, command, std::forward<Args>(args)...);
  }
  buffer arguments;
  encode(arguments, std::tuple<detail::travelling<Args>...>(std::forward<Args>(args)...));
  return detail::ask_elsewhere<R>(event_loop::current(), who.name(), std::string(command),
                                  std::move(arguments));
}

/// Runs the command without a reply; its failure is logged where it runs. Any thread. Throws
/// `errc::unknown_actor` for an empty reference, `errc::not_encodable` for what cannot travel to
/// where the actor lives.
template <class A, fixed_string Name, class... Args>
void tell(const actor_ref<A>& ref, command_name<Name>, Args&&... args) {
  using entry = typename decltype(detail::find_entry<A, Name>())::type;
  if constexpr (!std::is_void_v<entry>) {
    detail::checked_tell<entry, A>(ref, std::forward<Args>(args)...);
  }
}
template <class A, fixed_string Name, auto Function, class... Args>
void tell(const actor_ref<A>& ref, command<Name, Function>, Args&&... args) {
  using entry = detail::global_entry<Name, Function>;
  static_cast<void>(detail::global_registered<entry>);
  detail::checked_tell<entry, actor_base>(ref, std::forward<Args>(args)...);
}

}  // namespace pulsar
