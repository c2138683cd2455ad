// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Whether a C++ type can travel, and the sentence for one that cannot.

#include <pulsar/core/detail/codec_kinds.hpp>
#include <pulsar/core/reflect.hpp>

#include <type_traits>

namespace pulsar::detail::codec {

enum class purpose { encode, encode_named, decode };

enum class refusal {
  none,
  unsupported,
  pointer,
  c_array,
  too_wide,
  unfixed_enum,
  view,
  constant,
  no_default,
  no_encode_hook,
  no_decode_hook,
  no_names,
  bad_hook,
  aggregate,
};

template <refusal Why, class Culprit>
struct verdict {
  static constexpr refusal why = Why;
  using culprit = Culprit;
};
using fine = verdict<refusal::none, void>;

// The first refusal stands.
template <refusal A, class T, refusal B, class U>
consteval auto operator+(verdict<A, T> first, verdict<B, U> second) {
  if constexpr (A == refusal::none) {
    return second;
  } else {
    return first;
  }
}

template <class T, purpose P, class... Path>
consteval auto judge();

template <class T, purpose P, class... Path>
consteval auto judge_part() {
  if constexpr (P == purpose::decode && std::is_const_v<T>) {
    return verdict<refusal::constant, T>{};
  } else {
    return judge<std::remove_cv_t<T>, P, Path...>();
  }
}

// Only such an enum can be initialised by a number in braces.
template <class T>
concept fixed_enum = std::is_enum_v<T> && requires { T{std::underlying_type_t<T>{}}; };

template <purpose P, class... Path, class... Ts>
consteval auto judge_all(type_list<Ts...>) {
  return (fine{} + ... + judge_part<Ts, P, Path...>());
}

// Path holds the structs around T: a struct that contains itself, through a vector or a pointer,
// is judged once.
template <class T, purpose P, class... Path>
consteval auto judge() {
  constexpr kind k = kind_of<T>;
  if constexpr (k == kind::unsupported) {
    return verdict<refusal::unsupported, T>{};
  } else if constexpr (k == kind::pointer) {
    return verdict<refusal::pointer, T>{};
  } else if constexpr (k == kind::c_array) {
    return verdict<refusal::c_array, T>{};
  } else if constexpr (k == kind::too_wide) {
    return verdict<refusal::too_wide, T>{};
  } else if constexpr (P == purpose::decode && k == kind::enumeration && !fixed_enum<T>) {
    return verdict<refusal::unfixed_enum, T>{};
  } else if constexpr (P == purpose::decode && is_view<T>) {
    return verdict<refusal::view, T>{};
  } else if constexpr (k == kind::custom) {
    if constexpr (P != purpose::decode && !has_encode_hook<T>) {
      return verdict<refusal::no_encode_hook, T>{};
    } else if constexpr (P == purpose::decode && !has_decode_hook<T>) {
      return verdict<refusal::no_decode_hook, T>{};
    } else if constexpr (P == purpose::decode && !std::is_default_constructible_v<T>) {
      return verdict<refusal::no_default, T>{};
    } else {
      return fine{};
    }
  } else if constexpr (k == kind::fields) {
    if constexpr ((std::is_same_v<T, Path> || ...)) {
      return fine{};
    } else if constexpr (!reflectable<T>) {
      return verdict<refusal::aggregate, T>{};
    } else if constexpr (has_fields_hook<T>) {
      if constexpr (!hooked<T>::valid) {
        return verdict<refusal::bad_hook, T>{};
      } else if constexpr (P == purpose::encode_named && !named_reflectable<T>) {
        return verdict<refusal::no_names, T>{};
      } else if constexpr (P == purpose::decode && !std::is_default_constructible_v<T>) {
        return verdict<refusal::no_default, T>{};
      } else {
        return judge_all<P, Path..., T>(field_types<T>{});
      }
    } else {
      return judge_all<P, Path..., T>(field_types<T>{});
    }
  } else if constexpr (k == kind::optional || k == kind::owner) {
    return judge_part<typename pointee<T>::type, P, Path...>();
  } else if constexpr (k == kind::tuple || k == kind::variant) {
    return judge_all<P, Path...>(typename known<T>::types{});
  } else if constexpr (k == kind::fixed_array || k == kind::sequence || k == kind::set) {
    return judge_part<typename T::value_type, P, Path...>();
  } else if constexpr (k == kind::map) {
    return judge_all<P, Path...>(type_list<typename T::key_type, typename T::mapped_type>{});
  } else {
    return fine{};
  }
}

template <class T, purpose P>
using verdict_on = decltype(judge<std::remove_cv_t<T>, P>());

// The sentences; the compilers add what T is, and which value holds it.
template <refusal Why, class T>
struct refused_value {
  static_assert(Why != refusal::unsupported,
                "pulsar does not know how this type travels: write pulsar_fields(T&) that returns "
                "std::tie of its fields, or pulsar_encode(pulsar::encoder&, const T&) and "
                "bool pulsar_decode(pulsar::decoder&, T&) beside it or as friends in it");
  static_assert(Why != refusal::pointer,
                "a raw pointer does not travel, what it points to lives in one process: send the "
                "value, a std::optional or a std::unique_ptr");
  static_assert(Why != refusal::c_array,
                "a C array does not travel: use std::array, or std::string "
                "or std::string_view for text");
  static_assert(
      Why != refusal::too_wide,
      "MessagePack has no numbers of more than 64 bits: send two halves or a std::string");
  static_assert(Why != refusal::unfixed_enum,
                "any number may arrive, but not every one fits into an enum without an underlying "
                "type: write enum name : int, or enum class");
  static_assert(Why != refusal::view,
                "a view cannot be decoded, it would point into a message that is gone: decode a "
                "std::string or a std::vector");
  static_assert(Why != refusal::constant,
                "a const value cannot be decoded into: make it non-const");
  static_assert(Why != refusal::no_default,
                "a value is decoded into an empty one: give this type a default constructor");
  static_assert(Why != refusal::no_encode_hook,
                "this type has pulsar_decode but no pulsar_encode(pulsar::encoder&, const T&)");
  static_assert(Why != refusal::no_decode_hook,
                "this type has pulsar_encode but no bool pulsar_decode(pulsar::decoder&, T&)");
  static_assert(Why != refusal::no_names,
                "the named form needs the names of the fields: let pulsar_fields(T&) return a "
                "std::tuple of pulsar::named_field");
  static_assert(Why != refusal::bad_hook,
                "pulsar_fields(T&) must return std::tie(...) of the fields, or a std::tuple of "
                "pulsar::named_field");
};
template <refusal Why, class T>
struct complaint_about {
  using type = refused_value<Why, T>;
};
template <class T>
struct complaint_about<refusal::aggregate, T> {
  using type = refused_aggregate<T, flaw_of<T>>;
};

template <class T, purpose P>
inline constexpr bool travels = verdict_on<T, P>::why == refusal::none;

// Compiles only if T travels.
template <class T, purpose P>
constexpr void assert_travels() {
  using found = verdict_on<T, P>;
  static_cast<void>(sizeof(typename complaint_about<found::why, typename found::culprit>::type));
}

}  // namespace pulsar::detail::codec
