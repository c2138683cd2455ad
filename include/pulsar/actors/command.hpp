// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Commands: the member functions of an actor that others may call.
///
///     class ledger : public pulsar::actor<ledger> {
///      public:
///       long deposit(std::string account, long cents);
///       pulsar::future<long> audit(std::string account);
///       using commands = pulsar::commands<&ledger::deposit, pulsar::named<"check", &ledger::audit>>;
///     };
///
/// A command has the name of its function unless `named` gives it another, which overloads and
/// templates need (with a cast). `commands_of<Base>` takes over the list of a base. A parameter is
/// a value, `const T&` or `T&&`: arguments travel by value.
///
/// A command that every actor has is declared once, at namespace scope:
///
///     inline long uptime_of(pulsar::actor_base& a) { return a.uptime(); }
///     inline constexpr pulsar::command<"uptime", &uptime_of> uptime;
///     co_await send(anyone, uptime);

#include <pulsar/core/fixed_string.hpp>
#include <pulsar/core/future.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar {

class actor_base;

/// The name of a command as a type: `"deposit"_cmd`.
template <fixed_string Name>
struct command_name {
  static constexpr std::string_view name = Name.view();
};

inline namespace literals {
/// `send(bank, "deposit"_cmd, ...)`.
template <fixed_string Name>
constexpr command_name<Name> operator""_cmd() noexcept {
  return {};
}
}  // namespace literals

namespace detail {

// -- what a function takes and returns ----------------------------------------

template <class F>
struct signature;
template <class R, class C, class... P>
struct signature<R (C::*)(P...)> {
  using owner = C;
  using returned = R;
  using parameters = std::tuple<P...>;
};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const> : signature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) noexcept> : signature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const noexcept> : signature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...)&> : signature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const&> : signature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) & noexcept> : signature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const & noexcept> : signature<R (C::*)(P...)> {};
template <class R, class... P>
struct signature<R (*)(actor_base&, P...)> : signature<R (actor_base::*)(P...)> {};
template <class R, class... P>
struct signature<R (*)(actor_base&, P...) noexcept> : signature<R (actor_base::*)(P...)> {};

template <class T>
inline constexpr bool is_borrowed = false;
template <class C>
inline constexpr bool is_borrowed<std::basic_string_view<C>> = true;
template <class T, std::size_t N>
inline constexpr bool is_borrowed<std::span<T, N>> = true;

template <class P>
consteval bool require_parameter() {
  using plain = std::remove_cvref_t<P>;
  static_assert(!is_borrowed<plain>,
                "a command's parameter refers to memory of the sender (string_view, span): take "
                "std::string or std::vector by value");
  static_assert(!std::is_pointer_v<plain>,
                "a command's parameter is a pointer: actors share nothing, take the value");
  static_assert(!std::is_lvalue_reference_v<P> || std::is_const_v<std::remove_reference_t<P>>,
                "a command's parameter is T&: actors share nothing, take T or const T&");
  return true;
}

template <class Parameters>
struct arguments;
template <class... P>
struct arguments<std::tuple<P...>> {
  using type = std::tuple<std::remove_cvref_t<P>...>;
};

/// Refuses, with a sentence, parameters that cannot travel.
template <class Parameters>
inline constexpr bool can_travel = false;
template <class... P>
inline constexpr bool can_travel<std::tuple<P...>> = (require_parameter<P>() && ...);

/// What all spellings of one command come down to.
template <auto Function>
struct command_traits {
  using signature = detail::signature<decltype(Function)>;
  using owner = typename signature::owner;
  using returned = typename signature::returned;
  using result = unwrapped<returned>;
  using parameters = typename signature::parameters;
  using arguments = typename detail::arguments<parameters>::type;
  static constexpr std::size_t arity = std::tuple_size_v<arguments>;
  static constexpr bool asynchronous = is_future<returned>;

  // By hand, for std::apply costs each command six functions.
  template <class A, std::size_t... I>
  static returned call(A& actor, [[maybe_unused]] arguments& args, std::index_sequence<I...>) {
    if constexpr (std::is_member_pointer_v<decltype(Function)>) {
      return (static_cast<owner&>(actor).*Function)(
          static_cast<std::tuple_element_t<I, parameters>&&>(std::get<I>(args))...);
    } else {
      return Function(static_cast<actor_base&>(actor),
                      static_cast<std::tuple_element_t<I, parameters>&&>(std::get<I>(args))...);
    }
  }
};

template <auto Function>
consteval std::string_view function_name() {
  constexpr std::string_view text = __PRETTY_FUNCTION__;
  // gcc: "... [with auto Function = &ns::ledger::deposit; std::string_view = ...]"; clang: "...
  // [Function = &ns::ledger::deposit]". What stands between may hold brackets.
  constexpr auto from = text.find("Function = ") + 11;
  constexpr auto more = text.find("; std::string_view = ", from);
  constexpr auto to = more == std::string_view::npos ? text.size() - 1 : more;
  constexpr auto whole = text.substr(from, to - from);
  constexpr auto scope = whole.rfind("::");
  static_assert(scope != std::string_view::npos, "a command must be a member function");
  return whole.substr(scope + 2);
}

}  // namespace detail

/// A member function under another name; see `named`.
template <fixed_string Name, auto Function>
struct named_command {};

/// Gives a command its name in the list: `named<"check", &ledger::audit>`.
template <fixed_string Name, auto Function>
inline constexpr named_command<Name, Function> named{};

/// A command that every actor has: `Function` takes an `actor_base&` and the arguments.
template <fixed_string Name, auto Function>
struct command {
  static constexpr std::string_view name = Name.view();
  static_assert(detail::can_travel<typename detail::command_traits<Function>::parameters>);
};

namespace detail {

template <auto Entry>
struct entry_of {
  static constexpr std::string_view name = function_name<Entry>();
  using traits = command_traits<Entry>;
};
template <fixed_string Name, auto Function, const named_command<Name, Function> Entry>
struct entry_of<Entry> {
  static constexpr std::string_view name = Name.view();
  using traits = command_traits<Function>;
};

template <fixed_string Name, auto Function>
struct global_entry {
  static constexpr std::string_view name = Name.view();
  static constexpr bool control = name == "stop";
  using traits = command_traits<Function>;
};

}  // namespace detail

/// The commands of `Base`, to be continued: `commands<commands_of<base>, &derived::more>`.
template <class List>
struct inherited_commands {};
template <class Base>
inline constexpr inherited_commands<typename Base::commands> commands_of{};

/// A list of entries, as `actor<T>` reads it.
template <class... Entries>
struct command_list {
  static constexpr std::size_t size = sizeof...(Entries);

  /// The place of `name`, or `size`.
  static constexpr std::size_t find([[maybe_unused]] std::string_view name) {
    std::size_t i = 0;
    static_cast<void>(((Entries::name == name ? true : (++i, false)) || ...));
    return i;
  }

  static constexpr bool distinct() {
    constexpr std::array<std::string_view, size + 1> names{Entries::name...};
    for (std::size_t i = 0; i < size; ++i) {
      for (std::size_t j = i + 1; j < size; ++j) {
        if (names[i] == names[j]) return false;
      }
    }
    return true;
  }

  template <std::size_t I>
  using at = std::tuple_element_t<I, std::tuple<Entries...>>;
};

namespace detail {

template <class... Lists>
struct join_lists;
template <class... E>
struct join_lists<command_list<E...>> {
  using type = command_list<E...>;
};
template <class... E, class... F, class... Rest>
struct join_lists<command_list<E...>, command_list<F...>, Rest...>
    : join_lists<command_list<E..., F...>, Rest...> {};

template <class Function, class Entry>
struct list_of_one {
  static constexpr bool is_member = std::is_member_function_pointer_v<Function>;
  static_assert(is_member,
                "commands<...> takes member functions, named<\"name\", &A::f> and "
                "commands_of<Base>: static members and free functions are no commands");
  using type = std::conditional_t<is_member, command_list<Entry>, command_list<>>;
};
template <auto Entry>
struct list_of : list_of_one<decltype(Entry), entry_of<Entry>> {};
template <fixed_string Name, auto Function, const named_command<Name, Function> Entry>
struct list_of<Entry> : list_of_one<decltype(Function), entry_of<Entry>> {};
template <class... E, const inherited_commands<command_list<E...>> Entry>
struct list_of<Entry> {
  using type = command_list<E...>;
};

/// Checks a list where it is written.
template <class... E>
consteval bool check_commands(command_list<E...>*) {
  constexpr bool distinct = command_list<E...>::distinct();
  static_assert(distinct,
                "two commands have the same name: give one another with named<\"name\", &A::f>");
  return (can_travel<typename E::traits::parameters> && ...);
}

template <auto... Entries>
struct make_commands {
  using type = typename join_lists<command_list<>, typename list_of<Entries>::type...>::type;
  static_assert(check_commands(static_cast<type*>(nullptr)));
};

}  // namespace detail

/// The commands of an actor, listed after the functions: `using commands = pulsar::commands<...>`.
template <auto... Entries>
using commands = typename detail::make_commands<Entries...>::type;

/// True if `A` lists a command of that name.
template <class A, fixed_string Name>
concept has_command = (A::commands::find(Name.view()) < A::commands::size);

}  // namespace pulsar
