// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// MessagePack byte by byte: tags, headers, numbers, and the two ends a value passes between.

#include <pulsar/core/buffer.hpp>
#include <pulsar/core/error.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

namespace pulsar::detail {

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
    Size == 1, std::uint8_t,
    std::conditional_t<Size == 2, std::uint16_t,
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

// The narrowest form. All bytes of the widest one are stored in any case: one store of known size
// and no branch on how many are needed.
template <std::integral T>
[[gnu::always_inline]] inline std::byte* put_integer(std::byte* p, T value) noexcept {
  using U = unsigned_of<sizeof(T)>;
  constexpr unsigned bits = 8 * sizeof(T);
  if constexpr (std::is_signed_v<T>) {
    if (value >= -32 && value <= 127) return put_byte(p, static_cast<std::uint8_t>(value));
  } else {
    if (value <= 127) return put_byte(p, static_cast<std::uint8_t>(value));
  }
  unsigned first = tag::uint8;
  std::uint64_t size = static_cast<U>(value);
  if constexpr (std::is_signed_v<T>) {
    if (value < 0) {
      first = tag::int8;
      size = std::uint64_t{static_cast<U>(~static_cast<U>(value))} * 2;   // one bit for the sign
    }
  }
  // One byte, two, four or eight: `more` has as many bits set as the width is doubled.
  const unsigned doubled = bits > 8 && size > 0xff;
  const unsigned twice = bits > 16 && size > 0xffff;
  const unsigned thrice = bits > 32 && size > 0xffffffff;
  const unsigned more = doubled + 2 * twice + 4 * thrice;
  put_byte(p, first + doubled + twice + thrice);
  store(p + 1, static_cast<U>(static_cast<U>(value) << (8 * (sizeof(T) - 1) ^ 8 * more)));
  return p + 2 + more;
}

template <std::floating_point T>
[[gnu::always_inline]] inline std::byte* put_float(std::byte* p, T value) noexcept {
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

// Headers: at most 5 bytes each.
template <unsigned Fix, unsigned Few, unsigned First>
[[gnu::always_inline]] inline std::byte* put_header(std::byte* p, std::size_t n) {
  if (n < Few) return put_byte(p, Fix + static_cast<unsigned>(n));
  constexpr bool bytes = First == tag::str8 || First == tag::bin8 || First == tag::ext8;
  if constexpr (bytes) {
    if (n <= 0xff) {
      put_byte(p, First);
      return put_byte(p + 1, static_cast<unsigned>(n));
    }
  }
  constexpr unsigned wide = bytes ? First + 1 : First;
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

// -- where bytes come from ---------------------------------------------------

// The number of 1, 2, 4 or 8 bytes (`width` 0 to 3) at p, where `left` bytes are left.
[[gnu::always_inline]] inline std::uint64_t load_width(const std::byte* p, std::size_t left,
                                                       unsigned width) noexcept {
  if (left >= 8) [[likely]] {
    return load<std::uint64_t>(p) >> (64 - (8u << width));
  }
  std::uint64_t value = 0;
  for (unsigned i = 0; i < 1u << width; ++i) {
    value = value << 8 | std::to_integer<std::uint64_t>(p[i]);
  }
  return value;
}

[[gnu::always_inline]] inline std::int64_t extend_sign(std::uint64_t value,
                                                       unsigned width) noexcept {
  const unsigned shift = 64 - (8u << width);
  return static_cast<std::int64_t>(value << shift) >> shift;
}

// What went wrong, without a byte of memory: the sentence is made when somebody reads it.
enum class fault_kind : std::uint8_t {
  none,
  type,        // `expected` and what was found
  truncated,   // `want` more bytes for `expected`, `got` left
  count,       // `want` elements claimed, `got` bytes left
  exact,       // `want` of `expected`, `got` found
  arity,       // `want` arguments, `got` found
  range,       // `expected`, found the index `got`
  repeated,    // a key or an element that is there already
  trailing,    // `got` bytes behind the value
  depth,
  size,        // `got` bytes, `want` allowed
  memory,      // `want` allowed
};

struct fault {
  errc code{};
  fault_kind what = fault_kind::none;
  unsigned found = 0;               // the tag where it went wrong; 0x100 for the end of the data
  const char* expected = "";
  std::size_t offset = 0;
  std::uint64_t want = 0;
  std::uint64_t got = 0;
};

// The bytes of one value. As with `sink`, the place to read at travels beside it; a null pointer
// in its place means that `problem` says why.
struct source {
  static constexpr std::byte nowhere{};

  source(const std::byte* first, std::size_t size, std::size_t memory_limit) noexcept
      : begin(first), end(first + size), memory(memory_limit), memory_allowed(memory_limit) {}

  // Where reading begins, unless there is more than `limit`.
  const std::byte* start(std::size_t limit) noexcept {
    if (left(begin) > limit) [[unlikely]] {
      return fail(begin, fault_kind::size, "", limit, left(begin));
    }
    // A null pointer means failure: the empty message lies somewhere else.
    if (begin == nullptr) [[unlikely]] begin = end = &nowhere;
    return begin;
  }
  // Nothing may stand behind the value that ends at p.
  void finish(const std::byte* p) noexcept {
    if (p != end) [[unlikely]] fail(p, fault_kind::trailing, "", 0, left(p));
  }

  std::size_t left(const std::byte* p) const noexcept { return static_cast<std::size_t>(end - p); }

  [[gnu::noinline, gnu::cold]] const std::byte* fail(const std::byte* at, fault_kind what,
                                                     const char* expected,
                                                     std::uint64_t want = 0,
                                                     std::uint64_t got = 0) noexcept {
    if (problem.what != fault_kind::none) return nullptr;
    const bool limit = what == fault_kind::depth || what == fault_kind::size ||
                       what == fault_kind::memory;
    problem = {limit ? errc::too_large : errc::malformed,
               what,
               at < end ? std::to_integer<unsigned>(*at) : 0x100,
               expected,
               static_cast<std::size_t>(at - begin),
               want,
               got};
    const unsigned width = problem.found & 3;
    if (what == fault_kind::type && problem.found - tag::uint8 < 8 &&
        left(at) > std::size_t{1} << width) {
      problem.got = load_width(at + 1, left(at + 1), width);
      if (problem.found >= tag::int8) {
        problem.got = static_cast<std::uint64_t>(extend_sign(problem.got, width));
      }
    }
    return nullptr;
  }

  [[gnu::noinline, gnu::cold]] const std::byte* fail_type(const std::byte* at,
                                                          const char* expected) noexcept {
    return fail(at, fault_kind::type, expected);
  }

  // Counts memory for `n` elements, each of which takes at least one byte of the message.
  bool charge(std::size_t n, std::size_t size) noexcept {
    if (n * size > memory) return false;
    memory -= n * size;
    return true;
  }
  const std::byte* fail_memory(const std::byte* at) noexcept {
    return fail(at, fault_kind::memory, "", memory_allowed);
  }

  const std::byte* begin;
  const std::byte* end;
  std::size_t memory;
  std::size_t memory_allowed;
  fault problem;
};

// What stands at a tag, for people.
inline std::string describe(const fault& f) {
  if (f.found > 0xff) return "the end of the data";
  if (f.found < tag::fixmap) return "the integer " + std::to_string(f.found);
  if (f.found < tag::fixarray) return "a map";
  if (f.found < tag::fixstr) return "an array";
  if (f.found < tag::nil) return "a string";
  if (f.found >= tag::negative) {
    return "the integer " + std::to_string(static_cast<int>(f.found) - 0x100);
  }
  if (f.found >= tag::map16) return "a map";
  if (f.found >= tag::array16) return "an array";
  if (f.found >= tag::str8) return "a string";
  if (f.found >= tag::fixext1) return "an extension";
  if (f.found >= tag::int8) {
    return "the integer " + std::to_string(static_cast<std::int64_t>(f.got));
  }
  if (f.found >= tag::uint8) return "the integer " + std::to_string(f.got);
  if (f.found >= tag::float32) return "a floating-point number";
  if (f.found >= tag::ext8) return "an extension";
  if (f.found >= tag::bin8) return "binary data";
  if (f.found >= tag::no) return "a boolean";
  return f.found == tag::nil ? "nil" : "the reserved byte 0xc1";
}

inline std::string explain(const fault& f) {
  const auto number = [](std::uint64_t n) { return std::to_string(n); };
  std::string text;
  switch (f.what) {
    case fault_kind::none: return "no error";
    case fault_kind::type: text = std::string("expected ") + f.expected + " but found " + describe(f); break;
    case fault_kind::truncated:
      text = "expected " + number(f.want) + " bytes of " + f.expected + " but only " +
             number(f.got) + " are left";
      break;
    case fault_kind::count:
      text = "expected " + number(f.want) + " elements of " + f.expected + " but only " +
             number(f.got) + " bytes are left";
      break;
    case fault_kind::exact:
      text = "expected exactly " + number(f.want) + " " + f.expected + " but found " +
             number(f.got);
      break;
    case fault_kind::arity:
      text = "expected " + number(f.want) + (f.want == 1 ? " argument" : " arguments") +
             " but got " + number(f.got);
      break;
    case fault_kind::range:
      text = std::string("expected ") + f.expected + " below " + number(f.want) + " but found " +
             number(f.got);
      break;
    case fault_kind::repeated: text = std::string(f.expected) + " occurs twice"; break;
    case fault_kind::trailing:
      text = "expected the end of the data but found " + number(f.got) + " more bytes";
      break;
    case fault_kind::depth: text = "nested deeper than 64 levels"; break;
    case fault_kind::size:
      return number(f.got) + " bytes are more than the limit of " + number(f.want);
    case fault_kind::memory:
      text = "decoding would take more than the limit of " + number(f.want) + " bytes of memory";
      break;
  }
  return text + " at offset " + number(f.offset);
}

}  // namespace pulsar::detail
