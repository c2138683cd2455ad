// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// MessagePack to values. Nothing here trusts a length: a claim is compared with the bytes that are
// left before anything is reserved for it.

#include <pulsar/core/detail/codec_format.hpp>
#include <pulsar/core/detail/codec_types.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/reflect.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace pulsar::detail {

// Reads one value at p into `out` and returns where the next one begins; null when s.problem says
// why not. `out` then holds whatever was read so far.
template <class T>
const std::byte* get(source& s, const std::byte* p, T& out, unsigned depth);

// Through pulsar_decode; defined beside `decoder`.
template <class T>
const std::byte* get_custom(source& s, const std::byte* p, T& out, unsigned depth);

[[gnu::always_inline]] inline unsigned tag_at(const std::byte* p) noexcept {
  return std::to_integer<unsigned>(*p);
}

// -- numbers -----------------------------------------------------------------

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
[[gnu::always_inline]] inline const std::byte* get_integer(source& s, const std::byte* p, T& out) {
  using limits = std::numeric_limits<T>;
  if (p == s.end) [[unlikely]] return s.fail_type(p, name_integer<T>());
  const unsigned first = tag_at(p);
  if (first < tag::fixmap) {
    out = static_cast<T>(first);
    return p + 1;
  }
  if (first - tag::uint8 < 8) [[likely]] {
    const unsigned width = first & 3;
    const unsigned size = 1u << width;
    if (s.left(p) <= size) [[unlikely]] {
      return s.fail(p, fault_kind::truncated, "an integer", size, s.left(p) - 1);
    }
    const std::uint64_t value = load_width(p + 1, s.left(p + 1), width);
    if (first < tag::int8) {
      if (value <= static_cast<std::uint64_t>(limits::max())) [[likely]] {
        out = static_cast<T>(value);
        return p + 1 + size;
      }
    } else {
      const std::int64_t negative = extend_sign(value, width);
      bool fits = false;
      if constexpr (std::is_signed_v<T>) {
        fits = negative >= static_cast<std::int64_t>(limits::min()) &&
               negative <= static_cast<std::int64_t>(limits::max());
      } else {
        fits = negative >= 0 &&
               static_cast<std::uint64_t>(negative) <= static_cast<std::uint64_t>(limits::max());
      }
      if (fits) [[likely]] {
        out = static_cast<T>(negative);
        return p + 1 + size;
      }
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
[[gnu::always_inline]] inline const std::byte* get_float(source& s, const std::byte* p, T& out) {
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
      if (std::isfinite(value) && std::abs(value) > static_cast<double>(std::numeric_limits<T>::max())) {
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
[[gnu::always_inline]] inline const std::byte* get_span(source& s, const std::byte* p,
                                                        const std::byte*& data, std::size_t& n,
                                                        const char* expected) {
  if (p == s.end) [[unlikely]] return s.fail_type(p, expected);
  const unsigned first = tag_at(p);
  const std::byte* at = p + 1;
  if (First == tag::str8 && (first & 0xe0u) == tag::fixstr) {
    n = first & 0x1fu;
  } else if (first - First < 3) [[likely]] {
    const unsigned width = first - First;
    const unsigned size = 1u << width;
    if (s.left(at) < size) [[unlikely]] {
      return s.fail(p, fault_kind::truncated, "the length", size, s.left(at));
    }
    n = static_cast<std::size_t>(load_width(at, s.left(at), width));
    at += size;
  } else {
    return s.fail_type(p, expected);
  }
  if (s.left(at) < n) [[unlikely]] {
    return s.fail(p, fault_kind::truncated, expected, n, s.left(at));
  }
  data = at;
  return at + n;
}

inline const std::byte* get_binary_span(source& s, const std::byte* p, const std::byte*& data,
                                        std::size_t& n) {
  return get_span<tag::bin8>(s, p, data, n, "binary data");
}

[[gnu::always_inline]] inline const std::byte* get_text(source& s, const std::byte* p,
                                                        std::string_view& out) {
  const std::byte* data = nullptr;
  std::size_t n = 0;
  p = get_span<tag::str8>(s, p, data, n, "a string");
  if (p != nullptr) out = {reinterpret_cast<const char*>(data), n};
  return p;
}

// How many elements follow: `Bytes` is the least that each of them takes.
template <unsigned Fix, unsigned First, unsigned Bytes>
[[gnu::always_inline]] inline const std::byte* get_count(source& s, const std::byte* p,
                                                         std::size_t& n, unsigned depth,
                                                         const char* expected) {
  if (p == s.end) [[unlikely]] return s.fail_type(p, expected);
  const unsigned first = tag_at(p);
  const std::byte* at = p + 1;
  if ((first & 0xf0u) == Fix) [[likely]] {
    n = first & 0xfu;
  } else if (first - First < 2) {
    const unsigned width = first - First + 1;
    const unsigned size = 1u << width;
    if (s.left(at) < size) [[unlikely]] {
      return s.fail(p, fault_kind::truncated, "the length", size, s.left(at));
    }
    n = static_cast<std::size_t>(load_width(at, s.left(at), width));
    at += size;
  } else {
    return s.fail_type(p, expected);
  }
  if (s.left(at) / Bytes < n) [[unlikely]] {
    return s.fail(p, fault_kind::count, expected, n, s.left(at));
  }
  if (depth >= max_codec_depth) [[unlikely]] return s.fail(p, fault_kind::depth, "");
  return at;
}

[[gnu::always_inline]] inline const std::byte* get_array(source& s, const std::byte* p,
                                                         std::size_t& n, unsigned depth,
                                                         const char* expected = "an array") {
  return get_count<tag::fixarray, tag::array16, 1>(s, p, n, depth, expected);
}
[[gnu::always_inline]] inline const std::byte* get_map_count(source& s, const std::byte* p,
                                                             std::size_t& n, unsigned depth) {
  return get_count<tag::fixmap, tag::map16, 2>(s, p, n, depth, "a map");
}

inline bool is_map_tag(unsigned first) noexcept {
  return (first & 0xf0u) == tag::fixmap || first - tag::map16 < 2;
}

// Passes over one value, whatever it is, without recursion.
[[gnu::noinline]] inline const std::byte* skip(source& s, const std::byte* p, unsigned depth) {
  std::array<std::uint64_t, max_codec_depth + 1> open{1};
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
    unsigned width = 0;             // bytes of the length
    std::uint64_t payload = 0;      // bytes behind the length, or elements
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
      if (depth + level >= max_codec_depth) return s.fail(at, fault_kind::depth, "");
      open[++level] = payload;
    } else {
      if (payload > s.left(p)) {
        return s.fail(at, fault_kind::truncated, "a value", payload, s.left(p));
      }
      p += payload;
    }
  }
}

// -- error codes -------------------------------------------------------------

struct category_node {
  const std::error_category* category;
  const category_node* next;
};

// The categories that a program added; kept until it ends.
inline std::atomic<const category_node*> added_categories{nullptr};

class foreign_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "foreign"; }
  std::string message(int value) const override {
    return "error " + std::to_string(value) + " of a category that this program does not know";
  }
};

inline const std::error_category& find_category(std::string_view name) noexcept {
  static const foreign_category foreign;
  if (name == pulsar::error_category().name()) return pulsar::error_category();
  if (name == std::generic_category().name()) return std::generic_category();
  if (name == std::system_category().name()) return std::system_category();
  for (const auto* node = added_categories.load(std::memory_order_acquire); node != nullptr;
       node = node->next) {
    if (name == node->category->name()) return *node->category;
  }
  return foreign;
}

inline void add_category(const std::error_category& category) {
  auto* const node = new category_node{&category, added_categories.load()};
  while (!added_categories.compare_exchange_weak(node->next, node)) {
  }
}

inline const std::byte* get_error_code(source& s, const std::byte* p, std::error_code& out,
                                       unsigned depth) {
  std::size_t n = 0;
  const std::byte* const at = p;
  if ((p = get_array(s, p, n, depth, "an error code")) == nullptr) return nullptr;
  if (n != 2) return s.fail(at, fault_kind::exact, "elements of an error code", 2, n);
  std::string_view name;
  if ((p = get_text(s, p, name)) == nullptr) return nullptr;
  int value = 0;
  if ((p = get_integer(s, p, value)) == nullptr) return nullptr;
  out.assign(value, find_category(name));
  return p;
}

// -- structs -----------------------------------------------------------------

// Out of line: the map form is the rare one, and shall not make the other larger.
template <class T>
[[gnu::noinline]] const std::byte* get_apart(source& s, const std::byte* p, T& out,
                                             unsigned depth) {
  return get(s, p, out, depth);
}

template <class T>
[[gnu::noinline]] const std::byte* get_named(source& s, const std::byte* p, T& out,
                                             unsigned depth) {
  std::size_t n = 0;
  if ((p = get_map_count(s, p, n, depth)) == nullptr) return nullptr;
  return visit_named_fields(out, [&](auto... fields) -> const std::byte* {
    std::array<bool, sizeof...(fields)> seen{};
    for (; n != 0; --n) {
      std::string_view key;
      const std::byte* const at = p;
      const bool named = p != s.end && ((tag_at(p) & 0xe0u) == tag::fixstr ||
                                        tag_at(p) - tag::str8 < 3);
      p = named ? get_text(s, p, key) : skip(s, p, depth + 1);
      if (p == nullptr) return nullptr;
      std::size_t i = 0;
      const auto matches = [&](auto& field) {
        const std::size_t self = i++;
        if (!named || field.name() != key) return false;
        if (std::exchange(seen[self], true)) {
          p = s.fail(at, fault_kind::repeated, "a field");
        } else {
          p = get_apart(s, p, field.value(), depth + 1);
        }
        return true;
      };
      if (!(matches(fields) || ...)) p = skip(s, p, depth + 1);
      if (p == nullptr) return nullptr;
    }
    return p;
  });
}

template <class T>
const std::byte* get_fields(source& s, const std::byte* p, T& out, unsigned depth) {
  constexpr const char* expected = "an array or a map of fields";
  if constexpr (named_reflectable<T>) {
    if (p != s.end && is_map_tag(tag_at(p))) [[unlikely]] return get_named(s, p, out, depth);
  }
  std::size_t n = 0;
  if ((p = get_array(s, p, n, depth, expected)) == nullptr) return nullptr;
  return visit_fields(out, [&](auto&... fields) -> const std::byte* {
    const bool read = ((n == 0 || (--n, (p = get(s, p, fields, depth + 1)) != nullptr)) && ...);
    if (!read) return nullptr;
    for (; n != 0; --n) {
      if ((p = skip(s, p, depth + 1)) == nullptr) return nullptr;
    }
    return p;
  });
}

template <class T>
const std::byte* get_tuple(source& s, const std::byte* p, T& out, unsigned depth) {
  constexpr std::size_t size = std::tuple_size_v<T>;
  constexpr bool arguments = !requires { typename T::first_type; };
  std::size_t n = 0;
  const std::byte* const at = p;
  if ((p = get_array(s, p, n, depth)) == nullptr) return nullptr;
  if (n != size) [[unlikely]] {
    return s.fail(at, arguments ? fault_kind::arity : fault_kind::exact, "elements", size, n);
  }
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    static_cast<void>(((p = get(s, p, std::get<I>(out), depth + 1)) && ...));
  }(std::make_index_sequence<size>());
  return p;
}

template <class T>
const std::byte* get_variant(source& s, const std::byte* p, T& out, unsigned depth) {
  constexpr std::size_t size = std::variant_size_v<T>;
  std::size_t n = 0;
  const std::byte* const at = p;
  if ((p = get_array(s, p, n, depth, "a variant")) == nullptr) return nullptr;
  if (n != 2) return s.fail(at, fault_kind::exact, "elements of a variant", 2, n);
  const std::byte* const at_index = p;
  std::uint32_t index = 0;
  if ((p = get_integer(s, p, index)) == nullptr) return nullptr;
  if (index >= size) {
    return s.fail(at_index, fault_kind::range, "the index of an alternative", size, index);
  }
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    static_cast<void>(
        ((index == I && (p = get(s, p, out.template emplace<I>(), depth + 1), true)) || ...));
  }(std::make_index_sequence<size>());
  return p;
}

template <class T>
const std::byte* get_optional(source& s, const std::byte* p, T& out, unsigned depth) {
  using inner = typename pointee<T>::type;
  if (p != s.end && tag_at(p) == tag::nil) {
    out.reset();
    return p + 1;
  }
  if constexpr (may_be_nil<inner>) {
    std::size_t n = 0;
    const std::byte* const at = p;
    if ((p = get_array(s, p, n, depth++, "nil or an array")) == nullptr) return nullptr;
    if (n != 1) return s.fail(at, fault_kind::exact, "element", 1, n);
  }
  if constexpr (kind_of<T> == kind::owner) {
    if (!s.charge(1, sizeof(inner))) return s.fail_memory(p);
    out = std::make_unique<inner>();
  } else {
    out.emplace();
  }
  return get(s, p, *out, depth);
}

inline const std::byte* get_extension(source& s, const std::byte* p, std::int8_t& type,
                                      const std::byte*& data, std::size_t& n) {
  constexpr const char* expected = "an extension";
  if (p == s.end) return s.fail_type(p, expected);
  const unsigned first = tag_at(p);
  const std::byte* const at = p++;
  if (first - tag::fixext1 < 5) {
    n = std::size_t{1} << (first - tag::fixext1);
  } else if (first - tag::ext8 < 3) {
    const unsigned width = first - tag::ext8;
    const unsigned size = 1u << width;
    if (s.left(p) < size) return s.fail(at, fault_kind::truncated, "the length", size, s.left(p));
    n = static_cast<std::size_t>(load_width(p, s.left(p), width));
    p += size;
  } else {
    return s.fail_type(at, expected);
  }
  if (s.left(p) <= n) return s.fail(at, fault_kind::truncated, expected, n + 1, s.left(p));
  type = static_cast<std::int8_t>(tag_at(p));
  data = p + 1;
  return data + n;
}

// -- containers --------------------------------------------------------------

// Room for what is claimed, but never for much more than has arrived.
template <class C>
void reserve_for(C& out, std::size_t n) {
  constexpr std::size_t block = 16 * 1024 / sizeof(typename C::value_type) + 4;
  if constexpr (requires { out.reserve(n); }) out.reserve(std::min(n, block));
}

template <class C>
const std::byte* get_sequence(source& s, const std::byte* p, C& out, unsigned depth) {
  using element = typename C::value_type;
  std::size_t n = 0;
  const std::byte* const at = p;
  if ((p = get_array(s, p, n, depth)) == nullptr) return nullptr;
  if (!s.charge(n, sizeof(element))) return s.fail_memory(at);
  if constexpr (std::is_arithmetic_v<element> && requires {
                         out.resize(n);
                         requires std::is_same_v<decltype(out.data()), element*>;
                       }) {
    out.resize(n);
    for (element* to = out.data(); n != 0; --n, ++to) {
      if ((p = get(s, p, *to, depth + 1)) == nullptr) return nullptr;
    }
    return p;
  } else {
    out.clear();
    reserve_for(out, n);
    for (; n != 0; --n) {
      if constexpr (requires {
                      requires std::is_same_v<decltype(out.emplace_back()), element&>;
                    }) {
        p = get(s, p, out.emplace_back(), depth + 1);
      } else {
        element value{};
        p = get(s, p, value, depth + 1);
        if (p != nullptr) out.emplace_back(std::move(value));
      }
      if (p == nullptr) return nullptr;
    }
    return p;
  }
}

template <class C>
const std::byte* get_set(source& s, const std::byte* p, C& out, unsigned depth) {
  using element = typename C::value_type;
  std::size_t n = 0;
  const std::byte* at = p;
  if ((p = get_array(s, p, n, depth)) == nullptr) return nullptr;
  if (!s.charge(n, sizeof(element) + 4 * sizeof(void*))) return s.fail_memory(at);
  out.clear();
  reserve_for(out, n);
  for (std::size_t size = 1; n != 0; --n, ++size) {
    element value{};
    at = p;
    if ((p = get(s, p, value, depth + 1)) == nullptr) return nullptr;
    out.emplace_hint(out.end(), std::move(value));
    if (out.size() != size) return s.fail(at, fault_kind::repeated, "an element of a set");
  }
  return p;
}

template <class C>
const std::byte* get_map(source& s, const std::byte* p, C& out, unsigned depth) {
  using key_type = typename C::key_type;
  using mapped_type = typename C::mapped_type;
  std::size_t n = 0;
  const std::byte* at = p;
  if ((p = get_map_count(s, p, n, depth)) == nullptr) return nullptr;
  if (!s.charge(n, sizeof(key_type) + sizeof(mapped_type) + 4 * sizeof(void*))) {
    return s.fail_memory(at);
  }
  out.clear();
  reserve_for(out, n);
  for (std::size_t size = 1; n != 0; --n, ++size) {
    key_type key{};
    mapped_type mapped{};
    at = p;
    if ((p = get(s, p, key, depth + 1)) == nullptr) return nullptr;
    if ((p = get(s, p, mapped, depth + 1)) == nullptr) return nullptr;
    out.emplace_hint(out.end(), std::move(key), std::move(mapped));
    if (out.size() != size) return s.fail(at, fault_kind::repeated, "a key of a map");
  }
  return p;
}

template <class C>
const std::byte* get_fixed_array(source& s, const std::byte* p, C& out, unsigned depth) {
  std::size_t n = 0;
  const std::byte* const at = p;
  if ((p = get_array(s, p, n, depth)) == nullptr) return nullptr;
  if (n != out.size()) return s.fail(at, fault_kind::exact, "elements", out.size(), n);
  for (auto& element : out) {
    if ((p = get(s, p, element, depth + 1)) == nullptr) return nullptr;
  }
  return p;
}

template <class C>
const std::byte* get_binary(source& s, const std::byte* p, C& out) {
  using element = typename C::value_type;
  const std::byte* data = nullptr;
  std::size_t n = 0;
  const std::byte* const at = p;
  if ((p = get_binary_span(s, p, data, n)) == nullptr) return nullptr;
  const auto* const first = reinterpret_cast<const element*>(data);
  if constexpr (requires { out.assign(first, first + n); }) {
    out.assign(first, first + n);
  } else {
    if (n != out.size()) return s.fail(at, fault_kind::exact, "bytes", out.size(), n);
    std::copy_n(first, n, out.data());
  }
  return p;
}

template <class T>
const std::byte* get(source& s, const std::byte* p, T& out, unsigned depth) {
  constexpr kind k = kind_of<T>;
  if constexpr (k == kind::nil) {
    if (p == s.end || tag_at(p) != tag::nil) return s.fail_type(p, "nil");
    return p + 1;
  } else if constexpr (k == kind::boolean) {
    if (p == s.end || tag_at(p) - tag::no > 1) [[unlikely]] return s.fail_type(p, "a boolean");
    out = tag_at(p) == tag::yes;
    return p + 1;
  } else if constexpr (k == kind::integer) {
    return get_integer(s, p, out);
  } else if constexpr (k == kind::enumeration) {
    std::underlying_type_t<T> value{};
    p = get(s, p, value, depth);
    if (p != nullptr) out = static_cast<T>(value);
    return p;
  } else if constexpr (k == kind::floating) {
    return get_float(s, p, out);
  } else if constexpr (k == kind::text) {
    std::string_view text;
    p = get_text(s, p, text);
    if (p != nullptr) [[likely]] out.assign(text.data(), text.size());
    return p;
  } else if constexpr (k == kind::binary) {
    return get_binary(s, p, out);
  } else if constexpr (k == kind::optional || k == kind::owner) {
    return get_optional(s, p, out, depth);
  } else if constexpr (k == kind::tuple) {
    return get_tuple(s, p, out, depth);
  } else if constexpr (k == kind::variant) {
    return get_variant(s, p, out, depth);
  } else if constexpr (k == kind::fixed_array) {
    return get_fixed_array(s, p, out, depth);
  } else if constexpr (k == kind::sequence) {
    return get_sequence(s, p, out, depth);
  } else if constexpr (k == kind::set) {
    return get_set(s, p, out, depth);
  } else if constexpr (k == kind::map) {
    return get_map(s, p, out, depth);
  } else if constexpr (k == kind::duration) {
    typename T::rep count{};
    p = get(s, p, count, depth);
    if (p != nullptr) out = T(count);
    return p;
  } else if constexpr (k == kind::time_point) {
    typename T::duration since{};
    p = get(s, p, since, depth);
    if (p != nullptr) out = T(since);
    return p;
  } else if constexpr (k == kind::error_code) {
    return get_error_code(s, p, out, depth);
  } else if constexpr (k == kind::custom) {
    return get_custom(s, p, out, depth);
  } else {
    static_assert(k == kind::fields);
    return get_fields(s, p, out, depth);
  }
}

}  // namespace pulsar::detail
