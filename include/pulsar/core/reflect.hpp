// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The fields of a plain struct, in order and by name, without a macro.
///
///     struct order {
///       std::uint64_t id = 0;
///       std::string symbol;
///     };
///
///     visit_fields(o, [](auto&... field) { (print(field), ...); });
///     static_assert(field_names<order>()[1] == "symbol");
///
/// It works for aggregates of at most 32 fields without bases, C arrays, references, const or bit
/// field members. Any other class names its fields in a hook, found by argument-dependent look-up:
///
///     class account {
///      public:
///       friend auto pulsar_fields(account& a) { return std::tie(a.owner_, a.cents_); }
///       ...
///
/// or, where the fields shall have names (`encode_named`),
///
///     friend auto pulsar_fields(account& a) {
///       return std::tuple(pulsar::named_field("owner", a.owner_),
///                         pulsar::named_field("cents", a.cents_));
///     }
///
/// A hook only refers to fields: it is also called for const objects, and changes nothing. A
/// derived class does not inherit it.

#include <pulsar/core/detail/reflect.hpp>

#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar {

/// A field and its name, for the hook `pulsar_fields`. `name` must be a literal.
template <class T>
class named_field {
 public:
  constexpr named_field(std::string_view name, T& value) noexcept : name_(name), value_(&value) {}

  constexpr std::string_view name() const noexcept { return name_; }
  constexpr T& value() const noexcept { return *value_; }

 private:
  std::string_view name_;
  T* value_;
};

/// Types whose fields can be visited: plain aggregates, and classes with a hook `pulsar_fields`.
template <class T>
concept reflectable =
    detail::has_fields_hook<std::remove_cv_t<T>> || detail::plain_aggregate<std::remove_cv_t<T>>;

/// Reflectable types whose fields have names: every plain aggregate, and a class whose hook returns
/// a `std::tuple` of `named_field`.
template <class T>
concept named_reflectable = reflectable<T> && [] {
  if constexpr (detail::has_fields_hook<std::remove_cv_t<T>>) {
    return detail::hooked<std::remove_cv_t<T>>::named;
  } else {
    return true;
  }
}();

namespace detail {

template <class T>
consteval auto find_field_types() {
  if constexpr (has_fields_hook<T>) {
    static_assert(hooked<T>::valid,
                  "pulsar_fields(T&) must return std::tie(...) of the fields, or a std::tuple of "
                  "pulsar::named_field");
    return typename hooked<T>::types{};
  } else if constexpr (plain_aggregate<T>) {
    return bound_fields<T, count_initialisers<T>()>{};
  } else {
    static_cast<void>(sizeof(refused_aggregate<T, flaw_of<T>>));
    return type_list<>{};
  }
}

// A type_list of the fields' types; a sentence of the compiler where they cannot be had.
template <class T>
using field_types = decltype(find_field_types<std::remove_cv_t<T>>());

}  // namespace detail

/// The number of fields of `T`.
template <class T>
inline constexpr std::size_t field_count = detail::field_types<T>::size;

/// The names of the fields of a plain aggregate, as they are written in the source.
template <class T>
requires(!detail::has_fields_hook<T>) consteval std::array<std::string_view,
                                                           field_count<T>> field_names() {
  return detail::names_of<T>;
}

/// Calls `visit(field...)` once, with all fields of `value` in their order; returns what it
/// returns.
template <class T, class Visitor>
[[gnu::always_inline]] constexpr decltype(auto) visit_fields(T& value, Visitor&& visit) {
  using plain = std::remove_const_t<T>;
  if constexpr (detail::has_fields_hook<plain>) {
    auto fields = pulsar_fields(const_cast<plain&>(value));
    return std::apply(
        [&](auto&... field) -> decltype(auto) {
          if constexpr (std::is_const_v<T>) {
            return visit(std::as_const(detail::unwrap_field(field))...);
          } else {
            return visit(detail::unwrap_field(field)...);
          }
        },
        fields);
  } else {
    return detail::visit_bindings<field_count<T>>(value, std::forward<Visitor>(visit));
  }
}

/// Calls `visit(named_field...)` once, with all fields of `value` in their order.
template <class T, class Visitor>
requires named_reflectable<T>
constexpr decltype(auto) visit_named_fields(T& value, Visitor&& visit) {
  using plain = std::remove_const_t<T>;
  if constexpr (detail::has_fields_hook<plain>) {
    return std::apply(
        [&](auto... field) -> decltype(auto) {
          if constexpr (std::is_const_v<T>) {
            return visit(named_field(field.name(), std::as_const(field.value()))...);
          } else {
            return visit(field...);
          }
        },
        pulsar_fields(const_cast<plain&>(value)));
  } else {
    return [&]<std::size_t... I>(std::index_sequence<I...>)->decltype(auto) {
      return detail::visit_bindings<field_count<T>>(value, [&](auto&... field) -> decltype(auto) {
        return visit(named_field(detail::names_of<plain>[I], field)...);
      });
    }
    (std::make_index_sequence<field_count<T>>());
  }
}

}  // namespace pulsar
