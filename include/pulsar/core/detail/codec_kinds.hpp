// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How a C++ type travels: its kind, and how much room it takes.

#include <pulsar/core/reflect.hpp>

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace pulsar {
class encoder;
class decoder;

namespace detail::codec {

enum class kind {
  unsupported,
  pointer,
  c_array,
  too_wide,  // integers and floating-point numbers of more than 64 bits
  nil,
  boolean,
  integer,
  enumeration,
  floating,
  text,
  binary,
  optional,
  owner,  // unique_ptr
  tuple,  // pair and tuple
  variant,
  fixed_array,
  sequence,
  set,
  map,
  duration,
  time_point,
  error_code,
  custom,  // pulsar_encode, pulsar_decode
  fields,  // aggregates and pulsar_fields
};

template <class T>
concept byte_like =
    std::same_as<T, std::byte> || std::same_as<T, unsigned char> || std::same_as<T, char>;

// -- kinds by name -----------------------------------------------------------

template <class T>
struct known {
  static constexpr kind value = kind::unsupported;
};
template <class Traits, class Allocator>
struct known<std::basic_string<char, Traits, Allocator>> {
  static constexpr kind value = kind::text;
};
template <class Traits>
struct known<std::basic_string_view<char, Traits>> {
  static constexpr kind value = kind::text;
};
template <class T, class Allocator>
struct known<std::vector<T, Allocator>> {
  static constexpr kind value = byte_like<T> ? kind::binary : kind::sequence;
};
template <class T, std::size_t N>
struct known<std::span<T, N>> {
  static constexpr kind value = byte_like<std::remove_cv_t<T>> ? kind::binary : kind::sequence;
};
template <class T, std::size_t N>
struct known<std::array<T, N>> {
  static constexpr kind value = byte_like<T> ? kind::binary : kind::fixed_array;
};
template <class T>
struct known<std::optional<T>> {
  static constexpr kind value = kind::optional;
};
template <class T>
struct known<std::unique_ptr<T>> {
  static constexpr kind value = std::is_array_v<T> ? kind::unsupported : kind::owner;
};
template <class A, class B>
struct known<std::pair<A, B>> {
  static constexpr kind value = kind::tuple;
  using types = type_list<A, B>;
};
template <class... Ts>
struct known<std::tuple<Ts...>> {
  static constexpr kind value = kind::tuple;
  using types = type_list<Ts...>;
};
template <class... Ts>
struct known<std::variant<Ts...>> {
  static constexpr kind value = kind::variant;
  using types = type_list<Ts...>;
};
template <class Rep, class Period>
struct known<std::chrono::duration<Rep, Period>> {
  static constexpr bool number = (std::is_integral_v<Rep> && !std::is_same_v<Rep, bool>) ||
                                 std::is_same_v<Rep, float> || std::is_same_v<Rep, double>;
  static constexpr kind value = number && sizeof(Rep) <= 8 ? kind::duration : kind::unsupported;
};
template <class Clock, class Duration>
struct known<std::chrono::time_point<Clock, Duration>> {
  static constexpr kind value =
      known<Duration>::value == kind::duration ? kind::time_point : kind::unsupported;
};
template <>
struct known<std::error_code> {
  static constexpr kind value = kind::error_code;
};
template <>
struct known<std::monostate> {
  static constexpr kind value = kind::nil;
};

template <class T>
inline constexpr bool is_view = false;
template <class Traits>
inline constexpr bool is_view<std::basic_string_view<char, Traits>> = true;
template <class T, std::size_t N>
inline constexpr bool is_view<std::span<T, N>> = true;

// -- kinds by shape ----------------------------------------------------------

template <class C>
concept container = requires(const C& c) {
  typename C::value_type;
  requires !std::same_as<typename C::value_type, C>;
  { c.size() } -> std::convertible_to<std::size_t>;
  c.begin() != c.end();
};

template <class C>
concept map_container = container<C> && requires(C& c) {
  typename C::key_type;
  typename C::mapped_type;
  c.clear();
  c.emplace(std::declval<typename C::key_type>(), std::declval<typename C::mapped_type>());
};

template <class C>
concept set_container = container<C> && requires(C& c) {
  requires std::same_as<typename C::key_type, typename C::value_type>;
  c.clear();
  c.emplace(std::declval<typename C::value_type>());
};

template <class C>
concept sequence_container = container<C> && requires(C& c) {
  c.clear();
  c.emplace_back(std::declval<typename C::value_type>());
};

template <class T>
concept has_encode_hook = (std::is_class_v<T> ||
                           std::is_enum_v<T>)&&requires(encoder& out, exactly<const T> probe) {
  pulsar_encode(out, probe);
};
template <class T>
concept has_decode_hook = (std::is_class_v<T> || std::is_enum_v<T>)&&requires(decoder& in,
                                                                              exactly<T> probe) {
  { pulsar_decode(in, probe) } -> std::same_as<bool>;
};

template <class T>
consteval kind classify() {
  if constexpr (std::is_same_v<T, bool>) {
    return kind::boolean;
  } else if constexpr (std::is_integral_v<T>) {
    return sizeof(T) <= 8 ? kind::integer : kind::too_wide;
  } else if constexpr (std::is_floating_point_v<T>) {
    return std::is_same_v<T, float> || std::is_same_v<T, double> ? kind::floating : kind::too_wide;
  } else if constexpr (std::is_null_pointer_v<T>) {
    return kind::nil;
  } else if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T>) {
    return kind::pointer;
  } else if constexpr (std::is_array_v<T>) {
    return kind::c_array;
  } else if constexpr (known<T>::value != kind::unsupported) {
    return known<T>::value;
  } else if constexpr (has_encode_hook<T> || has_decode_hook<T>) {
    return kind::custom;
  } else if constexpr (std::is_enum_v<T>) {
    return kind::enumeration;
  } else if constexpr (!std::is_class_v<T> && !std::is_union_v<T>) {
    return kind::unsupported;
  } else if constexpr (has_fields_hook<T>) {
    return kind::fields;
  } else if constexpr (map_container<T>) {
    return kind::map;
  } else if constexpr (set_container<T>) {
    return kind::set;
  } else if constexpr (sequence_container<T>) {
    return kind::sequence;
  } else if constexpr (std::is_aggregate_v<T> || std::is_union_v<T>) {
    return kind::fields;
  } else {
    return kind::unsupported;
  }
}

template <class T>
inline constexpr kind kind_of = classify<std::remove_cv_t<T>>();

// Whether a T may travel as nil; an optional of it then needs a mark of its own.
template <class T>
inline constexpr bool may_be_nil = kind_of<T> == kind::nil || kind_of<T> == kind::optional ||
                                   kind_of<T> == kind::owner || kind_of<T> == kind::custom;

template <class T>
struct pointee;
template <class T>
struct pointee<std::optional<T>> {
  using type = T;
};
template <class T>
struct pointee<std::unique_ptr<T>> {
  using type = T;
};

// -- room --------------------------------------------------------------------

template <class T>
inline constexpr bool is_scalar =
    kind_of<T> == kind::nil || kind_of<T> == kind::boolean || kind_of<T> == kind::integer ||
    kind_of<T> == kind::floating || kind_of<T> == kind::enumeration ||
    kind_of<T> == kind::duration || kind_of<T> == kind::time_point;

// The most bytes a T takes, where that is known when compiled; 0 where it is not.
template <class T>
consteval std::size_t most_bytes();

template <class... Ts>
consteval std::size_t most_bytes_of_all(type_list<Ts...>) {
  std::size_t sum = sizeof...(Ts) < 16 ? 1 : 3;
  bool known_all = true;
  [[maybe_unused]] const auto add = [&](std::size_t n) {
    known_all = known_all && n != 0;
    sum += n;
  };
  (add(most_bytes<std::remove_cv_t<Ts>>()), ...);
  return known_all ? sum : 0;
}

template <class T>
consteval std::size_t most_bytes() {
  constexpr kind k = kind_of<T>;
  if constexpr (k == kind::nil || k == kind::boolean) {
    return 1;
  } else if constexpr (k == kind::integer || k == kind::floating) {
    return 1 + sizeof(T);
  } else if constexpr (k == kind::enumeration) {
    return 1 + sizeof(T);
  } else if constexpr (k == kind::duration) {
    return most_bytes<typename T::rep>();
  } else if constexpr (k == kind::time_point) {
    return most_bytes<typename T::rep>();
  } else if constexpr (k == kind::optional) {
    using inner = std::remove_cv_t<typename pointee<T>::type>;
    constexpr std::size_t most = most_bytes<inner>();
    return most == 0 ? 0 : most + (may_be_nil<inner> ? 1 : 0);
  } else if constexpr (k == kind::tuple) {
    return most_bytes_of_all(typename known<T>::types{});
  } else if constexpr (k == kind::fields) {
    return most_bytes_of_all(field_types<T>{});
  } else {
    return 0;
  }
}

// What whoever encodes a T has made room for beforehand: all of it if `most_bytes` knows, else the
// header and the fields of known size, so that a struct asks once for all of them.
template <class T>
consteval std::size_t room_before();

template <class... Ts>
consteval std::size_t room_before_all(type_list<Ts...>) {
  return ((sizeof...(Ts) < 16 ? 1 : 3) + ... + room_before<std::remove_cv_t<Ts>>());
}

template <class T>
consteval std::size_t room_before() {
  constexpr kind k = kind_of<T>;
  if constexpr (k == kind::tuple) {
    return room_before_all(typename known<T>::types{});
  } else if constexpr (k == kind::fields) {
    return room_before_all(field_types<T>{});
  } else {
    return most_bytes<T>();
  }
}

}  // namespace detail::codec
}  // namespace pulsar
