// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// MessagePack byte by byte: tags, numbers, headers, and the place they are written to.

#include <pulsar/core/buffer.hpp>
#include <pulsar/core/error.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

namespace pulsar::detail::codec {

inline constexpr unsigned max_depth = 64;

// -- tags --------------------------------------------------------------------

namespace tag {
inline constexpr unsigned fixmap = 0x80, fixarray = 0x90, fixstr = 0xa0;
inline constexpr unsigned nil = 0xc0, reserved = 0xc1, no = 0xc2, yes = 0xc3;
inline constexpr unsigned bin8 = 0xc4, bin16 = 0xc5, bin32 = 0xc6;
inline constexpr unsigned ext8 = 0xc7, ext16 = 0xc8, ext32 = 0xc9;
inline constexpr unsigned float32 = 0xca, float64 = 0xcb;
inline constexpr unsigned uint8 = 0xcc, int8 = 0xd0;
inline constexpr unsigned fixext1 = 0xd4, fixext16 = 0xd8;
inline constexpr unsigned str8 = 0xd9, str16 = 0xda, str32 = 0xdb;
inline constexpr unsigned array16 = 0xdc, array32 = 0xdd, map16 = 0xde, map32 = 0xdf;
inline constexpr unsigned negative = 0xe0;
}  // namespace tag

// -- numbers in network order ------------------------------------------------

template <std::unsigned_integral U>
[[gnu::always_inline]] inline U swap_to_network(U value) noexcept {
  if constexpr (std::endian::native == std::endian::big || sizeof(U) == 1) {
    return value;
  } else if constexpr (sizeof(U) == 2) {
    return __builtin_bswap16(value);
  } else if constexpr (sizeof(U) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

template <std::unsigned_integral U>
[[gnu::always_inline]] inline void store(std::byte* to, U value) noexcept {
  value = swap_to_network(value);
  std::memcpy(to, &value, sizeof value);
}

template <std::unsigned_integral U>
[[gnu::always_inline]] inline U load(const std::byte* from) noexcept {
  U value;
  std::memcpy(&value, from, sizeof value);
  return swap_to_network(value);
}

template <std::size_t Size>
using unsigned_of = std::conditional_t<
    Size == 1,
    std::uint8_t,
    std::conditional_t<Size == 2,
                       std::uint16_t,
                       std::conditional_t<Size == 4, std::uint32_t, std::uint64_t>>>;

// -- where bytes go ----------------------------------------------------------

// The free end of a buffer. The place to write at travels beside it as a plain pointer, so that it
// stays in a register; `ensure` is the only way to room that was not asked for before.
struct sink {
  explicit sink(buffer& target, std::size_t room) : out(target), before(target.size()) {
    const auto space = out.prepare(room);
    base = space.data();
    end = base + space.size();
  }

  std::byte* ensure(std::byte* p, std::size_t room) {
    if (static_cast<std::size_t>(end - p) < room) [[unlikely]] {
      p = grow(p, room);
    }
    return p;
  }

  [[gnu::noinline, gnu::cold]] std::byte* grow(std::byte* p, std::size_t room) {
    out.commit(static_cast<std::size_t>(p - base));
    const auto space = out.prepare(room);
    base = space.data();
    end = base + space.size();
    return base;
  }

  void finish(std::byte* p) noexcept { out.commit(static_cast<std::size_t>(p - base)); }
  void undo() noexcept { out.truncate(before); }

  buffer& out;
  std::size_t before;
  std::byte* base;
  std::byte* end;
};

[[gnu::always_inline]] inline std::byte* put_byte(std::byte* p, unsigned value) noexcept {
  *p = static_cast<std::byte>(value);
  return p + 1;
}

template <unsigned Tag, class U>
[[gnu::always_inline]] inline std::byte* put_tagged(std::byte* p, U value) noexcept {
  put_byte(p, Tag);
  store(p + 1, value);
  return p + 1 + sizeof value;
}

// The narrowest form. Branches beat arithmetic on the width: the numbers of one field mostly have
// the same one.
inline std::byte* put_unsigned(std::byte* p, std::uint64_t value) noexcept {
  if (value <= 0x7f) return put_byte(p, static_cast<std::uint8_t>(value));
  if (value <= 0xff) return put_tagged<tag::uint8>(p, static_cast<std::uint8_t>(value));
  if (value <= 0xffff) return put_tagged<tag::uint8 + 1>(p, static_cast<std::uint16_t>(value));
  if (value <= 0xffffffff) return put_tagged<tag::uint8 + 2>(p, static_cast<std::uint32_t>(value));
  return put_tagged<tag::uint8 + 3>(p, value);
}

inline std::byte* put_negative(std::byte* p, std::int64_t value) noexcept {
  if (value >= -32) return put_byte(p, static_cast<std::uint8_t>(value));
  if (value >= -0x80) return put_tagged<tag::int8>(p, static_cast<std::uint8_t>(value));
  if (value >= -0x8000) return put_tagged<tag::int8 + 1>(p, static_cast<std::uint16_t>(value));
  if (value >= -0x80000000LL) {
    return put_tagged<tag::int8 + 2>(p, static_cast<std::uint32_t>(value));
  }
  return put_tagged<tag::int8 + 3>(p, static_cast<std::uint64_t>(value));
}

template <std::integral T>
[[gnu::always_inline]] inline std::byte* put_integer(std::byte* p, T value) noexcept {
  if constexpr (std::is_signed_v<T>) {
    if (value < 0) return put_negative(p, value);
  }
  return put_unsigned(p, static_cast<std::uint64_t>(value));
}

template <std::floating_point T>
inline std::byte* put_float(std::byte* p, T value) noexcept {
  using U = unsigned_of<sizeof(T)>;
  *p = static_cast<std::byte>(sizeof(T) == 4 ? tag::float32 : tag::float64);
  store(p + 1, std::bit_cast<U>(value));
  return p + 1 + sizeof(T);
}

[[noreturn, gnu::noinline, gnu::cold]] inline void throw_too_long() {
  throw error(errc::too_large,
              "MessagePack carries at most 4294967295 bytes or elements in one value");
}
[[noreturn, gnu::noinline, gnu::cold]] inline void throw_too_deep() {
  throw error(errc::too_large,
              "the value is nested deeper than 64 levels, no receiver would take it");
}

// Headers: at most 5 bytes each. The long ones are out of line.
template <unsigned First>
[[gnu::noinline]] std::byte* put_long_header(std::byte* p, std::size_t n) {
  constexpr bool has_one_byte = First == tag::str8 || First == tag::bin8 || First == tag::ext8;
  constexpr unsigned wide = has_one_byte ? First + 1 : First;
  if (has_one_byte && n <= 0xff) {
    put_byte(p, First);
    return put_byte(p + 1, static_cast<unsigned>(n));
  }
  if (n <= 0xffff) {
    put_byte(p, wide);
    store(p + 1, static_cast<std::uint16_t>(n));
    return p + 3;
  }
  if (n > 0xffffffff) throw_too_long();
  put_byte(p, wide + 1);
  store(p + 1, static_cast<std::uint32_t>(n));
  return p + 5;
}

template <unsigned Fix, unsigned Few, unsigned First>
[[gnu::always_inline]] inline std::byte* put_header(std::byte* p, std::size_t n) {
  if (n < Few) [[likely]]
    return put_byte(p, Fix + static_cast<unsigned>(n));
  return put_long_header<First>(p, n);
}
[[gnu::always_inline]] inline std::byte* put_array_header(std::byte* p, std::size_t n) {
  return put_header<tag::fixarray, 16, tag::array16>(p, n);
}
[[gnu::always_inline]] inline std::byte* put_map_header(std::byte* p, std::size_t n) {
  return put_header<tag::fixmap, 16, tag::map16>(p, n);
}
[[gnu::always_inline]] inline std::byte* put_text_header(std::byte* p, std::size_t n) {
  return put_header<tag::fixstr, 32, tag::str8>(p, n);
}
[[gnu::always_inline]] inline std::byte* put_binary_header(std::byte* p, std::size_t n) {
  return put_header<0, 0, tag::bin8>(p, n);
}

}  // namespace pulsar::detail::codec
