// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Single values of MessagePack: numbers, lengths, and passing over what nobody wants. No function
// here trusts a length: a claim is compared with the bytes that are left.

#include <pulsar/core/detail/codec_format.hpp>
#include <pulsar/core/detail/codec_source.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

namespace pulsar::detail::codec {

[[gnu::always_inline]] inline unsigned tag_at(const std::byte* p) noexcept {
  return std::to_integer<unsigned>(*p);
}

// -- numbers -----------------------------------------------------------------

// The number of 1, 2, 4 or 8 bytes (`width` 0 to 3) behind the tag at p.
[[gnu::always_inline]] inline const std::byte* get_number(
    source& s, const std::byte* p, unsigned width, std::uint64_t& value, const char* expected) {
  const std::byte* const at = p + 1;
  const unsigned size = 1u << width;
  const std::size_t left = s.left(at);
  if (left >= 8) [[likely]] {
    value = load<std::uint64_t>(at) >> (64 - 8 * size);
  } else if (left >= size) {
    value = load_bytes(at, width);
  } else {
    return s.fail(p, fault_kind::truncated, expected, size, left);
  }
  return at + size;
}

template <class T>
consteval const char* name_integer() {
  if constexpr (std::is_signed_v<T>) {
    return sizeof(T) == 1   ? "an integer from -128 to 127"
           : sizeof(T) == 2 ? "an integer from -32768 to 32767"
           : sizeof(T) == 4 ? "a signed integer of 32 bits"
                            : "a signed integer of 64 bits";
  } else {
    return sizeof(T) == 1   ? "an integer from 0 to 255"
           : sizeof(T) == 2 ? "an integer from 0 to 65535"
           : sizeof(T) == 4 ? "an unsigned integer of 32 bits"
                            : "an unsigned integer of 64 bits";
  }
}

template <class T>
inline const std::byte* get_integer(source& s, const std::byte* p, T& out) {
  using limits = std::numeric_limits<T>;
  if (p == s.end) [[unlikely]]
    return s.fail_type(p, name_integer<T>());
  const unsigned first = tag_at(p);
  if (first < tag::fixmap) {
    out = static_cast<T>(first);
    return p + 1;
  }
  if (first - tag::uint8 < 8) [[likely]] {
    const unsigned width = first & 3;
    std::uint64_t value = 0;
    const std::byte* const at = get_number(s, p, width, value, "an integer");
    if (at == nullptr) [[unlikely]]
      return nullptr;
    std::int64_t negative = 0;
    if (first >= tag::int8) {
      negative = extend_sign(value, width);
      value = static_cast<std::uint64_t>(negative);
    }
    if (negative < 0 ? negative >= static_cast<std::int64_t>(limits::min())
                     : value <= static_cast<std::uint64_t>(limits::max())) [[likely]] {
      out = static_cast<T>(value);
      return at;
    }
  }
  if constexpr (std::is_signed_v<T>) {
    if (first >= tag::negative) {
      out = static_cast<T>(static_cast<int>(first) - 0x100);
      return p + 1;
    }
  }
  return s.fail_type(p, name_integer<T>());
}

template <class T>
[[gnu::noinline]] const std::byte* get_float_from_other(source& s, const std::byte* p, T& out);

template <class T>
inline const std::byte* get_float(source& s, const std::byte* p, T& out) {
  constexpr unsigned own = sizeof(T) == 4 ? tag::float32 : tag::float64;
  if (s.left(p) > sizeof(T) && tag_at(p) == own) [[likely]] {
    out = std::bit_cast<T>(load<unsigned_of<sizeof(T)>>(p + 1));
    return p + 1 + sizeof(T);
  }
  return get_float_from_other(s, p, out);
}

// Foreign writers send 1.0 as the integer 1, and every number in the width they have.
template <class T>
const std::byte* get_float_from_other(source& s, const std::byte* p, T& out) {
  constexpr const char* expected = "a floating-point number";
  if (p == s.end) return s.fail_type(p, expected);
  const unsigned first = tag_at(p);
  if (first == tag::float32 || first == tag::float64) {
    const std::size_t size = first == tag::float32 ? 4 : 8;
    if (s.left(p) <= size) return s.fail(p, fault_kind::truncated, expected, size, s.left(p) - 1);
    if (first == tag::float32) {
      out = static_cast<T>(std::bit_cast<float>(load<std::uint32_t>(p + 1)));
    } else {
      const double value = std::bit_cast<double>(load<std::uint64_t>(p + 1));
      // Infinity is not out of range; <cmath> would cost every program a sixth of a second.
      constexpr double most = std::numeric_limits<T>::max();
      constexpr double greatest = std::numeric_limits<double>::max();
      if ((value > most && value <= greatest) || (value < -most && value >= -greatest)) {
        return s.fail_type(p, "a floating-point number of 32 bits");
      }
      out = static_cast<T>(value);
    }
    return p + 1 + size;
  }
  if (first == tag::uint8 + 3) {
    std::uint64_t value = 0;
    p = get_integer(s, p, value);
    if (p != nullptr) out = static_cast<T>(value);
    return p;
  }
  if (first < tag::fixmap || first >= tag::negative || first - tag::uint8 < 8) {
    std::int64_t value = 0;
    p = get_integer(s, p, value);
    if (p != nullptr) out = static_cast<T>(value);
    return p;
  }
  return s.fail_type(p, expected);
}

// -- lengths -----------------------------------------------------------------

// The bytes of a string or of binary data, where they lie.
template <unsigned First>
inline const std::byte* get_span(
    source& s, const std::byte* p, const std::byte*& data, std::size_t& n, const char* expected) {
  if (p == s.end) [[unlikely]]
    return s.fail_type(p, expected);
  const unsigned first = tag_at(p);
  const std::byte* at = p + 1;
  if (First == tag::str8 && (first & 0xe0u) == tag::fixstr) {
    n = first & 0x1fu;
  } else if (first - First < 3) [[likely]] {
    std::uint64_t length = 0;
    if ((at = get_number(s, p, first - First, length, "the length")) == nullptr) [[unlikely]]
      return nullptr;
    n = static_cast<std::size_t>(length);
  } else {
    return s.fail_type(p, expected);
  }
  if (s.left(at) < n) [[unlikely]] {
    return s.fail(p, fault_kind::truncated, expected, n, s.left(at));
  }
  data = at;
  return at + n;
}

inline const std::byte* get_binary_span(source& s,
                                        const std::byte* p,
                                        const std::byte*& data,
                                        std::size_t& n) {
  return get_span<tag::bin8>(s, p, data, n, "binary data");
}

inline const std::byte* get_text(source& s, const std::byte* p, std::string_view& out) {
  const std::byte* data = nullptr;
  std::size_t n = 0;
  p = get_span<tag::str8>(s, p, data, n, "a string");
  if (p != nullptr) out = {reinterpret_cast<const char*>(data), n};
  return p;
}

// How many elements follow, in whatever form: `Bytes` is the least that each of them takes.
template <unsigned Fix, unsigned First, unsigned Bytes>
[[gnu::noinline]] const std::byte* get_any_count(
    source& s, const std::byte* p, std::size_t& n, unsigned depth, const char* expected) {
  if (p == s.end) return s.fail_type(p, expected);
  const unsigned first = tag_at(p);
  const std::byte* at = p + 1;
  if ((first & 0xf0u) == Fix) {
    n = first & 0xfu;
  } else if (first - First < 2) {
    std::uint64_t length = 0;
    if ((at = get_number(s, p, first - First + 1, length, "the length")) == nullptr) return nullptr;
    n = static_cast<std::size_t>(length);
  } else {
    return s.fail_type(p, expected);
  }
  if (s.left(at) / Bytes < n) return s.fail(p, fault_kind::count, expected, n, s.left(at));
  if (depth >= max_depth) return s.fail(p, fault_kind::depth, "");
  return at;
}

// The same; most counts stand in the tag.
template <unsigned Fix, unsigned First, unsigned Bytes>
inline const std::byte* get_count(
    source& s, const std::byte* p, std::size_t& n, unsigned depth, const char* expected) {
  if (p != s.end && (tag_at(p) & 0xf0u) == Fix && depth < max_depth) [[likely]] {
    n = tag_at(p) & 0xfu;
    if (s.left(p) > n * Bytes) [[likely]]
      return p + 1;
  }
  return get_any_count<Fix, First, Bytes>(s, p, n, depth, expected);
}

[[gnu::always_inline]] inline const std::byte* get_array(source& s,
                                                         const std::byte* p,
                                                         std::size_t& n,
                                                         unsigned depth,
                                                         const char* expected = "an array") {
  return get_count<tag::fixarray, tag::array16, 1>(s, p, n, depth, expected);
}
[[gnu::always_inline]] inline const std::byte* get_map_count(source& s,
                                                             const std::byte* p,
                                                             std::size_t& n,
                                                             unsigned depth) {
  return get_count<tag::fixmap, tag::map16, 2>(s, p, n, depth, "a map");
}

// The head of an array of `count` elements.
inline const std::byte* get_exactly(source& s,
                                    const std::byte* p,
                                    std::size_t count,
                                    unsigned depth,
                                    const char* expected,
                                    const char* elements,
                                    fault_kind otherwise = fault_kind::exact) {
  std::size_t n = 0;
  const std::byte* const at = p;
  p = get_array(s, p, n, depth, expected);
  if (p != nullptr && n != count) [[unlikely]]
    return s.fail(at, otherwise, elements, count, n);
  return p;
}

inline bool is_map_tag(unsigned first) noexcept {
  return (first & 0xf0u) == tag::fixmap || first - tag::map16 < 2;
}

// Passes over one value, whatever it is, without recursion.
[[gnu::noinline]] inline const std::byte* skip(source& s, const std::byte* p, unsigned depth) {
  std::array<std::uint64_t, max_depth + 1> open{1};
  unsigned level = 0;
  for (;;) {
    while (open[level] == 0) {
      if (level == 0) return p;
      --level;
    }
    --open[level];
    if (p == s.end) return s.fail_type(p, "a value");
    const unsigned first = tag_at(p);
    const std::byte* const at = p++;
    bool opens = false;
    unsigned width = 0;         // bytes of the length
    std::uint64_t payload = 0;  // bytes behind the length, or elements
    if (first < tag::fixmap || first >= tag::negative) {
    } else if (first < tag::fixarray) {
      opens = true;
      payload = 2 * (first & 0xfu);
    } else if (first < tag::fixstr) {
      opens = true;
      payload = first & 0xfu;
    } else if (first < tag::nil) {
      payload = first & 0x1fu;
    } else if (first == tag::reserved) {
      return s.fail_type(at, "a value");
    } else if (first <= tag::yes) {
    } else if (first < tag::ext8) {
      width = 1u << (first - tag::bin8);
    } else if (first < tag::float32) {
      width = 1u << (first - tag::ext8);
    } else if (first < tag::uint8) {
      payload = first == tag::float32 ? 4 : 8;
    } else if (first < tag::fixext1) {
      payload = 1u << (first & 3);
    } else if (first < tag::str8) {
      payload = 1 + (1u << (first - tag::fixext1));
    } else if (first < tag::array16) {
      width = 1u << (first - tag::str8);
    } else {
      opens = true;
      width = first == tag::array16 || first == tag::map16 ? 2 : 4;
    }
    if (width != 0) {
      if (s.left(p) < width) {
        return s.fail(at, fault_kind::truncated, "the length", width, s.left(p));
      }
      for (unsigned i = 0; i < width; ++i) payload = payload << 8 | tag_at(p++);
      if (first >= tag::map16) payload *= 2;
      if (first - tag::ext8 < 3) payload += 1;
    }
    if (opens) {
      if (payload > s.left(p)) {
        return s.fail(at, fault_kind::count, "a container", payload, s.left(p));
      }
      if (depth + level >= max_depth) return s.fail(at, fault_kind::depth, "");
      open[++level] = payload;
    } else {
      if (payload > s.left(p)) {
        return s.fail(at, fault_kind::truncated, "a value", payload, s.left(p));
      }
      p += payload;
    }
  }
}

inline const std::byte* get_extension(
    source& s, const std::byte* p, std::int8_t& type, const std::byte*& data, std::size_t& n) {
  constexpr const char* expected = "an extension";
  if (p == s.end) return s.fail_type(p, expected);
  const unsigned first = tag_at(p);
  const std::byte* const at = p++;
  if (first - tag::fixext1 < 5) {
    n = std::size_t{1} << (first - tag::fixext1);
  } else if (first - tag::ext8 < 3) {
    std::uint64_t length = 0;
    if ((p = get_number(s, at, first - tag::ext8, length, "the length")) == nullptr) return nullptr;
    n = static_cast<std::size_t>(length);
  } else {
    return s.fail_type(at, expected);
  }
  if (s.left(p) <= n) return s.fail(at, fault_kind::truncated, expected, n + 1, s.left(p));
  type = static_cast<std::int8_t>(tag_at(p));
  data = p + 1;
  return data + n;
}

}  // namespace pulsar::detail::codec
