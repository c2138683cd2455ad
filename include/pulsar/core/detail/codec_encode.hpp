// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Values to MessagePack.

#include <pulsar/core/detail/codec_format.hpp>
#include <pulsar/core/detail/codec_kinds.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/reflect.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

namespace pulsar::detail::codec {

// Structs as arrays, or as maps with the names of their fields.
enum class form { positional, named };

// The room that is there before a value is put; names are not counted in it.
template <form F, class T>
inline constexpr std::size_t room_for = F == form::positional
                                            ? room_before<std::remove_cv_t<T>>()
                                            : (is_scalar<T> ? most_bytes<std::remove_cv_t<T>>()
                                                            : 0);

// Every `encode_value` is entered with room for `room_for<F, T> + room` bytes at p, and leaves room
// for `room` behind what it wrote: so one question serves all the fixed fields of a struct.
template <form F, class T>
[[gnu::always_inline]] inline std::byte* encode_value(
    sink& s, std::byte* p, const T& value, std::size_t room, unsigned depth);

// Through pulsar_encode; defined beside `encoder`.
template <form F, class T>
std::byte* put_custom(sink& s, std::byte* p, const T& value, std::size_t room, unsigned depth);

[[gnu::always_inline]] inline void enter_level(unsigned depth) {
  if (depth >= max_depth) throw_too_deep();
}

// Most strings are short: two loads that overlap cost less than a call.
inline std::byte* put_bytes(std::byte* p, const void* from, std::size_t n) {
  const auto* const first = static_cast<const std::byte*>(from);
  const auto copy_ends = [&]<class Block>(Block head) {
    Block tail;
    std::memcpy(&head, first, sizeof head);
    std::memcpy(&tail, first + n - sizeof tail, sizeof tail);
    std::memcpy(p, &head, sizeof head);
    std::memcpy(p + n - sizeof tail, &tail, sizeof tail);
  };
  if (n > 16) {
    std::memcpy(p, first, n);
  } else if (n >= 8) {
    copy_ends(std::uint64_t{});
  } else if (n >= 4) {
    copy_ends(std::uint32_t{});
  } else if (n != 0) {
    p[0] = first[0];
    p[n / 2] = first[n / 2];
    p[n - 1] = first[n - 1];
  }
  return p + n;
}

inline std::byte* put_text(sink& s, std::byte* p, std::string_view text, std::size_t room) {
  p = s.ensure(p, 5 + text.size() + room);
  return put_bytes(put_text_header(p, text.size()), text.data(), text.size());
}

inline std::byte* put_binary(
    sink& s, std::byte* p, const void* from, std::size_t n, std::size_t room) {
  p = s.ensure(p, 5 + n + room);
  return put_bytes(put_binary_header(p, n), from, n);
}

// Values that stand side by side, as an array: the room of all but the one at hand is handed on. A
// visitor of fields; no lambda, so that it can be told to be inlined.
struct field_putter {
  template <class... Fields>
  [[gnu::always_inline]] std::byte* operator()(const Fields&... fields) const {
    [[maybe_unused]] std::size_t rest = (room + ... + room_for<form::positional, Fields>);
    std::byte* at = put_array_header(p, sizeof...(fields));
    ((rest -= room_for<form::positional, Fields>,
      at = codec::encode_value<form::positional>(s, at, fields, rest, depth + 1)),
     ...);
    return at;
  }
  sink& s;
  std::byte* p;
  std::size_t room;
  unsigned depth;
};

template <form F, class T>
std::byte* put_fields(sink& s, std::byte* p, const T& value, std::size_t room, unsigned depth) {
  enter_level(depth);
  if constexpr (F == form::positional) {
    return pulsar::visit_fields(value, field_putter{s, p, room, depth});
  } else {
    return pulsar::visit_named_fields(value, [&](const auto&... fields) {
      p = s.ensure(p, 5 + room);
      p = put_map_header(p, sizeof...(fields));
      const auto put_one = [&]<class Field>(std::string_view name, const Field& field) {
        p = put_text(s, p, name, room_for<F, Field> + room);
        p = codec::encode_value<F>(s, p, field, room, depth + 1);
      };
      (put_one(fields.name(), fields.value()), ...);
      return p;
    });
  }
}

template <form F, class T, std::size_t... I>
std::byte* put_tuple(sink& s,
                     std::byte* p,
                     [[maybe_unused]] const T& value,
                     std::size_t room,
                     unsigned depth,
                     std::index_sequence<I...>) {
  enter_level(depth);
  if constexpr (F == form::positional) {
    return field_putter{s, p, room, depth}(std::get<I>(value)...);
  } else {
    p = put_array_header(s.ensure(p, 5 + room), sizeof...(I));
    ((p = s.ensure(p, room_for<F, std::tuple_element_t<I, T>> + room),
      p = codec::encode_value<F>(s, p, std::get<I>(value), room, depth + 1)),
     ...);
    return p;
  }
}

// Elements of known size go in blocks: one question a block. Few of them are one block.
template <form F, class C>
inline constexpr std::size_t most_for_element =
    F == form::positional || is_scalar<typename C::value_type>
        ? most_bytes<std::remove_cv_t<typename C::value_type>>()
        : 0;

template <form F, class C>
[[gnu::noinline]] std::byte* put_blocks(
    sink& s, std::byte* p, const C& values, std::size_t room, unsigned depth) {
  using element = std::remove_cv_t<typename C::value_type>;
  constexpr std::size_t most = most_for_element<F, C>;
  constexpr std::size_t block = 4096 / most + 1;
  p = put_array_header(s.ensure(p, 5 + room), values.size());
  auto next = values.begin();
  for (std::size_t left = values.size(); left != 0;) {
    const std::size_t n = std::min(left, block);
    p = s.ensure(p, n * most + room);
    for (std::size_t i = 0; i != n; ++i, ++next)
      p = codec::encode_value<F, element>(s, p, *next, 0, depth);
    left -= n;
  }
  return p;
}

template <form F, class C>
[[gnu::always_inline]] inline std::byte* put_few(
    sink& s, std::byte* p, const C& values, std::size_t room, unsigned depth) {
  using element = std::remove_cv_t<typename C::value_type>;
  const std::size_t n = values.size();
  if (n > 64) [[unlikely]]
    return put_blocks<F>(s, p, values, room, depth);
  p = s.ensure(p, 3 + n * most_for_element<F, C> + room);
  p = put_array_header(p, n);
  for (const auto& value : values) p = codec::encode_value<F, element>(s, p, value, 0, depth);
  return p;
}

template <form F, class C>
std::byte* put_elements(sink& s, std::byte* p, const C& values, std::size_t room, unsigned depth) {
  enter_level(depth);
  using element = std::remove_cv_t<typename C::value_type>;
  if constexpr (most_for_element<F, C> != 0) {
    return put_few<F>(s, p, values, room, depth + 1);
  } else {
    p = s.ensure(p, 5 + room);
    p = put_array_header(p, values.size());
    for (const auto& value : values) {
      p = s.ensure(p, room_for<F, element> + room);
      p = codec::encode_value<F, element>(s, p, value, room, depth + 1);
    }
    return p;
  }
}

template <form F, class C>
std::byte* put_map(sink& s, std::byte* p, const C& values, std::size_t room, unsigned depth) {
  enter_level(depth);
  using key_type = std::remove_cv_t<typename C::key_type>;
  using mapped_type = std::remove_cv_t<typename C::mapped_type>;
  p = s.ensure(p, 5 + room);
  p = put_map_header(p, values.size());
  for (const auto& [key, mapped] : values) {
    p = s.ensure(p, room_for<F, key_type> + room_for<F, mapped_type> + room);
    p = codec::encode_value<F>(s, p, key, room_for<F, mapped_type> + room, depth + 1);
    p = codec::encode_value<F>(s, p, mapped, room, depth + 1);
  }
  return p;
}

template <form F, class T>
std::byte* put_variant(sink& s, std::byte* p, const T& value, std::size_t room, unsigned depth) {
  enter_level(depth);
  if (value.valueless_by_exception()) {
    throw error(errc::not_encodable, "a std::variant lost its value to an exception");
  }
  p = s.ensure(p, 6 + room);
  p = put_array_header(p, 2);
  p = put_integer(p, static_cast<std::uint32_t>(value.index()));
  return std::visit(
      [&]<class Alternative>(const Alternative& alternative) {
        std::byte* const at = s.ensure(p, room_for<F, Alternative> + room);
        return codec::encode_value<F>(s, at, alternative, room, depth + 1);
      },
      value);
}

// An absent value is nil. A present one that may be nil itself is wrapped in an array of one.
template <form F, class T>
std::byte* put_optional(sink& s, std::byte* p, const T& value, std::size_t room, unsigned depth) {
  using inner = std::remove_cv_t<typename pointee<T>::type>;
  constexpr std::size_t wrapper = may_be_nil<inner> ? 1 : 0;
  if constexpr (room_for<F, T> == 0) p = s.ensure(p, 1 + room_for<F, inner> + room);
  if (!value) return put_byte(p, tag::nil);
  if constexpr (wrapper != 0) {
    enter_level(depth);
    p = put_array_header(p, 1);
    p = s.ensure(p, room_for<F, inner> + room);
  }
  return codec::encode_value<F>(s, p, *value, room, depth + wrapper);
}

inline std::byte* put_error_code(
    sink& s, std::byte* p, const std::error_code& code, std::size_t room, unsigned depth) {
  enter_level(depth);
  const std::string_view name = code.category().name();
  p = s.ensure(p, 1 + room);
  p = put_array_header(p, 2);
  p = put_text(s, p, name, 5 + room);
  return put_integer(p, code.value());
}

template <form F, class T>
[[gnu::always_inline]] inline std::byte* encode_value(
    sink& s, std::byte* p, const T& value, std::size_t room, unsigned depth) {
  constexpr kind k = kind_of<T>;
  if constexpr (k == kind::nil) {
    return put_byte(p, tag::nil);
  } else if constexpr (k == kind::boolean) {
    return put_byte(p, value ? tag::yes : tag::no);
  } else if constexpr (k == kind::integer) {
    return put_integer(p, value);
  } else if constexpr (k == kind::enumeration) {
    return codec::encode_value<F>(s, p, static_cast<std::underlying_type_t<T>>(value), room, depth);
  } else if constexpr (k == kind::floating) {
    return put_float(p, value);
  } else if constexpr (k == kind::text) {
    return put_text(s, p, std::string_view(value), room);
  } else if constexpr (k == kind::binary) {
    return put_binary(s, p, value.data(), value.size(), room);
  } else if constexpr (k == kind::optional || k == kind::owner) {
    return put_optional<F>(s, p, value, room, depth);
  } else if constexpr (k == kind::tuple) {
    return put_tuple<F>(s, p, value, room, depth,
                        std::make_index_sequence<std::tuple_size_v<T>>());
  } else if constexpr (k == kind::variant) {
    return put_variant<F>(s, p, value, room, depth);
  } else if constexpr (k == kind::fixed_array || k == kind::sequence || k == kind::set) {
    if constexpr (is_scalar<std::remove_cv_t<typename T::value_type>>) {
      enter_level(depth);
      return put_few<F>(s, p, value, room, depth + 1);
    } else {
      return put_elements<F>(s, p, value, room, depth);
    }
  } else if constexpr (k == kind::map) {
    return put_map<F>(s, p, value, room, depth);
  } else if constexpr (k == kind::duration) {
    return codec::encode_value<F>(s, p, value.count(), room, depth);
  } else if constexpr (k == kind::time_point) {
    return codec::encode_value<F>(s, p, value.time_since_epoch().count(), room, depth);
  } else if constexpr (k == kind::error_code) {
    return put_error_code(s, p, value, room, depth);
  } else if constexpr (k == kind::custom) {
    return put_custom<F>(s, p, value, room, depth);
  } else {
    static_assert(k == kind::fields);
    return put_fields<F>(s, p, value, room, depth);
  }
}

inline std::byte* put_extension(sink& s,
                                std::byte* p,
                                std::int8_t type,
                                const std::byte* data,
                                std::size_t n,
                                std::size_t room) {
  p = s.ensure(p, 6 + n + room);
  if (std::has_single_bit(n) && n <= 16) {
    p = put_byte(p, tag::fixext1 + static_cast<unsigned>(std::countr_zero(n)));
  } else {
    p = put_header<0, 0, tag::ext8>(p, n);
  }
  p = put_byte(p, static_cast<std::uint8_t>(type));
  return put_bytes(p, data, n);
}

template <form F, class T>
[[gnu::always_inline]] inline void encode_as(buffer& out, const T& value) {
  sink s(out, room_for<F, T>);
  try {
    s.finish(codec::encode_value<F>(s, s.base, value, 0, 0));
  } catch (...) {
    s.undo();
    throw;
  }
}

}  // namespace pulsar::detail::codec
