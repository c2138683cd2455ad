// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The machinery of reflect.hpp: what an aggregate holds, asked of the compiler.

#include <pulsar/core/detail/reflect_bindings.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar {

template <class T>
class named_field;

namespace detail {

template <class... Ts>
struct type_list {
  static constexpr std::size_t size = sizeof...(Ts);
};

// Stands for any field of T in braces; never called, a body keeps the compilers from asking for
// one.
template <class T>
struct any_field {
  template <class U>
  requires(!std::same_as<U, T>) operator U() const noexcept { std::abort(); }
};

// Stands for a base of T only; the bases come first in the braces of an aggregate.
template <class T>
struct any_base {
  template <class U>
  requires(std::is_base_of_v<U, T> && !std::same_as<U, T>) operator U() const noexcept {
    std::abort();
  }
};

// Becomes a reference to T and to nothing else, so that a hook of a base class, or of a class that
// T converts to, is not taken for the hook of T.
template <class T>
struct exactly {
  template <class U>
  requires std::same_as<std::remove_const_t<U>, std::remove_const_t<T>>
  operator U&() const noexcept { std::abort(); }
};

// How many braced initialisers T takes. Searched upward: once T{} itself is valid, nothing that
// refuses k initialisers accepts k + 1, so this finds what a search downward from 33 would, in as
// many steps as there are fields. One more than allowed means: too many.
template <class T, class... Fields>
consteval std::size_t count_initialisers() {
  if constexpr (sizeof...(Fields) > max_fields) {
    return sizeof...(Fields);
  } else if constexpr (requires { T{Fields{}..., any_field<T>{}}; }) {
    return count_initialisers<T, Fields..., any_field<T>>();
  } else {
    return sizeof...(Fields);
  }
}

template <class T, std::size_t>
using any_field_at = any_field<T>;

// A pair of braces fills one field whole. An array takes several initialisers without braces, so
// with braces for its first one too many are left; a member without a default constructor
// refuses the braces.
template <class T, std::size_t... Before, std::size_t... After>
consteval bool takes_braces(std::index_sequence<Before...>, std::index_sequence<After...>) {
  return requires { T{any_field_at<T, Before>{}..., {}, any_field_at<T, After>{}...}; };
}

// Tells the two apart: fewer initialisers after the braces suit an array alone.
template <class T, std::size_t Count, std::size_t At, std::size_t Less = 1>
consteval bool starts_array() {
  if constexpr (At + 1 + Less > Count) {
    return false;
  } else if constexpr (takes_braces<T>(std::make_index_sequence<At>(),
                                       std::make_index_sequence<Count - 1 - At - Less>())) {
    return true;
  } else {
    return starts_array<T, Count, At, Less + 1>();
  }
}

enum class aggregate_flaw {
  none,
  not_aggregate,
  is_union,
  base,
  not_default_constructible,
  not_assignable,
  c_array,
  field_without_default,
  too_many,
};

template <class T, std::size_t Count, std::size_t At = 0>
consteval aggregate_flaw find_array() {
  if constexpr (At == Count) {
    return aggregate_flaw::none;
  } else if constexpr (takes_braces<T>(std::make_index_sequence<At>(),
                                       std::make_index_sequence<Count - 1 - At>())) {
    return find_array<T, Count, At + 1>();
  } else if constexpr (starts_array<T, Count, At>()) {
    return aggregate_flaw::c_array;
  } else {
    return aggregate_flaw::field_without_default;
  }
}

// The bindings name each field once; an array of one element is seen only there.
struct field_lister {
  template <class... Fields>
  constexpr type_list<Fields...> operator()(Fields&...) const {
    return {};
  }
};

// By value of the type alone: the binding is never evaluated.
template <class T, std::size_t Count>
using bound_fields = decltype(visit_bindings<Count>(std::declval<T&>(), field_lister{}));

template <class... Fields>
consteval bool has_array(type_list<Fields...>) {
  return (std::is_array_v<Fields> || ...);
}

template <class T>
consteval aggregate_flaw find_flaw() {
  if constexpr (std::is_union_v<T>) {
    return aggregate_flaw::is_union;
  } else if constexpr (!std::is_aggregate_v<T> || std::is_array_v<T>) {
    return aggregate_flaw::not_aggregate;
  } else if constexpr (requires { T{any_base<T>{}}; }) {
    return aggregate_flaw::base;
  } else if constexpr (!std::is_default_constructible_v<T>) {
    return aggregate_flaw::not_default_constructible;
  } else if constexpr (!std::is_move_assignable_v<T>) {
    return aggregate_flaw::not_assignable;
  } else {
    constexpr std::size_t count = count_initialisers<T>();
    if constexpr (count > max_fields) {
      return aggregate_flaw::too_many;
    } else if constexpr (constexpr auto flaw = find_array<T, count>();
                         flaw != aggregate_flaw::none) {
      return flaw;
    } else if constexpr (has_array(bound_fields<T, count>{})) {
      return aggregate_flaw::c_array;
    } else {
      return aggregate_flaw::none;
    }
  }
}

template <class T>
inline constexpr aggregate_flaw flaw_of = find_flaw<T>();

// Whether T has a hook `pulsar_fields(T&)`.
template <class T>
concept has_fields_hook = (std::is_class_v<T> || std::is_union_v<T>)&&requires(exactly<T> probe) {
  pulsar_fields(probe);
};

template <class T>
concept plain_aggregate = (flaw_of<T> == aggregate_flaw::none);

// One place for the sentences; the compilers add the name of the type, which is T.
template <class T, aggregate_flaw Flaw>
struct refused_aggregate {
  static_assert(Flaw != aggregate_flaw::not_aggregate,
                "pulsar cannot see the fields of this type, it is no aggregate (constructors, "
                "private members or virtual functions): write a function pulsar_fields(T&) beside "
                "it, or a friend in it, that returns std::tie of its fields");
  static_assert(Flaw != aggregate_flaw::is_union,
                "pulsar cannot know which member of a union is set: use std::variant");
  static_assert(Flaw != aggregate_flaw::base,
                "pulsar cannot see the fields of this type, it has a base: make the base its first "
                "member, or write pulsar_fields(T&) that returns std::tie of all fields");
  static_assert(Flaw != aggregate_flaw::not_default_constructible &&
                    Flaw != aggregate_flaw::field_without_default,
                "pulsar cannot make this type empty first, a member is a reference or has no "
                "default constructor: hold a value that has one, or give the type a default "
                "constructor and write pulsar_fields(T&) that returns std::tie of its fields");
  static_assert(Flaw != aggregate_flaw::not_assignable,
                "pulsar cannot assign to this type, a member is const, a reference or does not "
                "move: hold values, "
                "or write pulsar_fields(T&) that returns std::tie of the fields that travel");
  static_assert(Flaw != aggregate_flaw::c_array,
                "pulsar cannot see the fields of this type, it holds a C array: use std::array, or "
                "write pulsar_fields(T&) that returns std::tie of its fields");
  static_assert(Flaw != aggregate_flaw::too_many,
                "pulsar sees at most 32 fields: group some into a member struct, or write "
                "pulsar_fields(T&) that returns std::tie of all fields");
};

// -- names -------------------------------------------------------------------

// Where the fields of a T would lie. Declared only: its members' addresses are template arguments
// whose spelling the compilers reveal, no such object exists.
template <class T>
union field_map {
  constexpr field_map() : nothing{} {}
  constexpr ~field_map() {}
  char nothing;
  T value;
};

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-internal"
#pragma clang diagnostic ignored "-Wundefined-var-template"
#endif
template <class T>
struct field_map_of {
  static field_map<T> object;
};

struct field_pointer {
  const void* address;
};

struct field_pointers {
  template <class... Fields>
  constexpr auto operator()(Fields&... fields) const {
    return std::array<field_pointer, sizeof...(Fields)>{field_pointer{&fields}...};
  }
};

template <class T>
consteval auto point_to_fields() {
  return visit_bindings<count_initialisers<T>()>(field_map_of<T>::object.value, field_pointers{});
}

#ifdef __clang__
#pragma clang diagnostic pop
#endif

constexpr bool in_identifier(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || static_cast<unsigned char>(c) >= 0x80;
}

// g++: "... [with field_pointer Pointer = field_pointer{((const void*)(& ...::value.order::id))}]"
// clang: "... [Pointer = field_pointer{&object.value.id}]"
template <field_pointer Pointer>
consteval auto spell_field() {
  constexpr std::string_view text = __PRETTY_FUNCTION__;
  constexpr std::size_t end = [&] {
    std::size_t at = text.rfind('}');
    while (text[at - 1] == ')') --at;
    return at;
  }();
  constexpr std::size_t begin = [&] {
    std::size_t at = end;
    while (in_identifier(text[at - 1])) --at;
    return at;
  }();
  static_assert(begin < end,
                "pulsar cannot read the names of the fields from this compiler: give "
                "them with pulsar::named_field in pulsar_fields(T&)");
  std::array<char, end - begin> name{};
  for (std::size_t i = 0; i < name.size(); ++i) name[i] = text[begin + i];
  return name;
}

template <field_pointer Pointer>
inline constexpr auto field_spelling = spell_field<Pointer>();

template <class T, std::size_t... I>
consteval auto list_names(std::index_sequence<I...>) {
  // Local to this function, so that no address of what does not exist reaches the linker.
  [[maybe_unused]] constexpr auto pointers = point_to_fields<T>();
  return std::array<std::string_view, sizeof...(I)>{
      std::string_view(field_spelling<pointers[I]>.data(), field_spelling<pointers[I]>.size())...};
}

template <class T>
inline constexpr auto names_of = list_names<T>(std::make_index_sequence<count_initialisers<T>()>());

// -- hooks -------------------------------------------------------------------

template <class Element>
struct hooked_field {
  using type = std::remove_reference_t<Element>;
  static constexpr bool named = false;
};
template <class T>
struct hooked_field<named_field<T>> {
  using type = T;
  static constexpr bool named = true;
};

template <class T>
constexpr T& unwrap_field(T& field) noexcept {
  return field;
}
template <class T>
constexpr T& unwrap_field(named_field<T>& field) noexcept {
  return field.value();
}

// What a hook returned: a tuple of references or of named fields.
template <class Fields>
struct hooked_fields {
  static constexpr bool valid = false;
  static constexpr bool named = false;
  using types = type_list<>;
};
template <class... Elements>
struct hooked_fields<std::tuple<Elements...>> {
  static constexpr bool named = (hooked_field<Elements>::named && ...);
  static constexpr bool valid = named || (std::is_lvalue_reference_v<Elements> && ...);
  using types = type_list<typename hooked_field<Elements>::type...>;
};

template <class T>
using hooked = hooked_fields<std::remove_cvref_t<decltype(pulsar_fields(std::declval<T&>()))>>;

}  // namespace detail
}  // namespace pulsar
