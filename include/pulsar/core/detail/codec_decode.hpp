// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// MessagePack to values. Nothing is reserved for a claimed length beyond what the bytes that are
// left can hold.

#include <pulsar/core/detail/codec_format.hpp>
#include <pulsar/core/detail/codec_kinds.hpp>
#include <pulsar/core/detail/codec_read.hpp>
#include <pulsar/core/detail/codec_source.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/reflect.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace pulsar::detail::codec {

// Reads one value at p into `out` and returns where the next one begins; null when s.problem says
// why not. `out` then holds whatever was read so far.
template <class T>
[[gnu::always_inline]] inline const std::byte* decode_value(source& s,
                                                            const std::byte* p,
                                                            T& out,
                                                            unsigned depth);

// Through pulsar_decode; defined beside `decoder`.
template <class T>
const std::byte* get_custom(source& s, const std::byte* p, T& out, unsigned depth);

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

inline const std::byte* get_error_code(source& s,
                                       const std::byte* p,
                                       std::error_code& out,
                                       unsigned depth) {
  p = get_exactly(s, p, 2, depth, "an error code", "elements of an error code");
  if (p == nullptr) return nullptr;
  std::string_view name;
  if ((p = get_text(s, p, name)) == nullptr) return nullptr;
  int value = 0;
  if ((p = get_integer(s, p, value)) == nullptr) return nullptr;
  out.assign(value, find_category(name));
  return p;
}

// -- structs -----------------------------------------------------------------

// A visitor of fields; no lambda, so that it can be told to be inlined.
struct field_getter {
  template <class... Fields>
  [[gnu::always_inline]] const std::byte* operator()(Fields&... fields) const {
    const std::byte* at = p;
    static_cast<void>((((at = codec::decode_value(s, at, fields, depth + 1)) != nullptr) && ...));
    return at;
  }
  source& s;
  const std::byte* p;
  unsigned depth;
};

struct one_field_getter {
  template <class... Fields>
  [[gnu::always_inline]] const std::byte* operator()(Fields&... fields) const {
    const std::byte* at = p;
    std::size_t left = number;
    static_cast<void>(
        ((left-- == 0 && (at = codec::decode_value(s, at, fields, depth), true)) || ...));
    return at;
  }
  source& s;
  const std::byte* p;
  std::size_t number;
  unsigned depth;
};

// Out of line: the forms of older and of foreign writers are rare, and shall not make the other
// larger.
template <class T>
[[gnu::noinline]] const std::byte* get_field(
    source& s, const std::byte* p, T& out, std::size_t number, unsigned depth) {
  return pulsar::visit_fields(out, one_field_getter{s, p, number, depth});
}

// An older writer knows fewer fields.
template <class T>
[[gnu::noinline]] const std::byte* get_first_fields(
    source& s, const std::byte* p, T& out, std::size_t n, unsigned depth) {
  for (std::size_t i = 0; i != n && p != nullptr; ++i) p = get_field(s, p, out, i, depth + 1);
  return p;
}

// The key of a map: which of the names it is, or `count`.
inline const std::byte* get_name(source& s,
                                 const std::byte* p,
                                 const std::string_view* names,
                                 std::size_t count,
                                 std::size_t& number,
                                 unsigned depth) {
  number = count;
  if (p == s.end || ((tag_at(p) & 0xe0u) != tag::fixstr && tag_at(p) - tag::str8 >= 3)) {
    return skip(s, p, depth);
  }
  std::string_view name;
  p = get_text(s, p, name);
  if (p != nullptr) {
    for (number = 0; number != count && names[number] != name;) ++number;
  }
  return p;
}

template <class T>
std::array<std::string_view, field_count<T>> names_in([[maybe_unused]] T& value) {
  if constexpr (has_fields_hook<T>) {
    return pulsar::visit_named_fields(value, [](auto... fields) {
      return std::array<std::string_view, field_count<T>>{fields.name()...};
    });
  } else {
    return names_of<T>;
  }
}

template <class T>
[[gnu::noinline]] const std::byte* get_named(source& s,
                                             const std::byte* p,
                                             T& out,
                                             unsigned depth) {
  constexpr std::size_t count = field_count<T>;
  const auto names = names_in(out);
  std::array<bool, count> seen{};
  std::size_t n = 0;
  for (p = get_map_count(s, p, n, depth); n != 0 && p != nullptr; --n) {
    std::size_t number = 0;
    const std::byte* const at = p;
    p = get_name(s, p, names.data(), count, number, depth + 1);
    if (p == nullptr) return nullptr;
    if (number == count) {
      p = skip(s, p, depth + 1);
    } else if (std::exchange(seen[number], true)) {
      p = s.fail(at, fault_kind::repeated, "a field");
    } else {
      p = get_field(s, p, out, number, depth + 1);
    }
  }
  return p;
}

// A newer writer knows more.
[[gnu::noinline]] inline const std::byte* skip_values(source& s,
                                                      const std::byte* p,
                                                      std::size_t n,
                                                      unsigned depth) {
  while (n-- != 0 && p != nullptr) p = skip(s, p, depth);
  return p;
}

// Structs that only one program exchanges with itself: as arrays of exactly their fields. The other
// forms would cost each program half of its decoders.
template <class T>
inline constexpr bool own_record = false;

template <class T>
const std::byte* get_fields(source& s, const std::byte* p, T& out, unsigned depth) {
  constexpr std::size_t count = field_count<T>;
  if constexpr (own_record<T>) {
    p = get_exactly(s, p, count, depth, "an array", "fields");
    return p == nullptr ? nullptr : pulsar::visit_fields(out, field_getter{s, p, depth});
  } else {
    std::size_t n = 0;
    if constexpr (named_reflectable<T>) {
      if (p != s.end && is_map_tag(tag_at(p))) [[unlikely]]
        return get_named(s, p, out, depth);
    }
    if ((p = get_array(s, p, n, depth, "an array or a map of fields")) == nullptr) return nullptr;
    if (n < count) [[unlikely]]
      return get_first_fields(s, p, out, n, depth);
    p = pulsar::visit_fields(out, field_getter{s, p, depth});
    if (n > count && p != nullptr) [[unlikely]]
      return skip_values(s, p, n - count, depth + 1);
    return p;
  }
}

template <class T, std::size_t... I>
const std::byte* get_tuple(
    source& s, const std::byte* p, T& out, unsigned depth, std::index_sequence<I...>) {
  constexpr bool arguments = !requires { typename T::first_type; };
  p = get_exactly(s, p, sizeof...(I), depth, "an array", "elements",
                  arguments ? fault_kind::arity : fault_kind::exact);
  return p == nullptr ? nullptr : field_getter{s, p, depth}(std::get<I>(out)...);
}

template <class T>
const std::byte* get_variant(source& s, const std::byte* p, T& out, unsigned depth) {
  constexpr std::size_t size = std::variant_size_v<T>;
  p = get_exactly(s, p, 2, depth, "a variant", "elements of a variant");
  if (p == nullptr) return nullptr;
  const std::byte* const at_index = p;
  std::uint32_t index = 0;
  if ((p = get_integer(s, p, index)) == nullptr) return nullptr;
  if (index >= size) {
    return s.fail(at_index, fault_kind::range, "the index of an alternative", size, index);
  }
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    static_cast<void>(
        ((index == I &&
          (p = codec::decode_value(s, p, out.template emplace<I>(), depth + 1), true)) ||
         ...));
  }
  (std::make_index_sequence<size>());
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
    p = get_exactly(s, p, 1, depth++, "nil or an array", "element");
    if (p == nullptr) return nullptr;
  }
  if constexpr (kind_of<T> == kind::owner) {
    if (!s.charge(1, sizeof(inner))) return s.fail_memory(p);
    out = std::make_unique<inner>();
  } else {
    out.emplace();
  }
  return codec::decode_value(s, p, *out, depth);
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
      if ((p = codec::decode_value(s, p, *to, depth + 1)) == nullptr) return nullptr;
    }
    return p;
  } else {
    out.clear();
    reserve_for(out, n);
    for (; n != 0; --n) {
      if constexpr (requires { requires std::is_same_v<decltype(out.emplace_back()), element&>; }) {
        p = codec::decode_value(s, p, out.emplace_back(), depth + 1);
      } else {
        element value{};
        p = codec::decode_value(s, p, value, depth + 1);
        if (p != nullptr) out.emplace_back(std::move(value));
      }
      if (p == nullptr) return nullptr;
    }
    return p;
  }
}

// Keys that all fall into one bucket would each be compared with all before: 80,000 integers chosen
// by a stranger hold the loop for seconds. By chance a bucket has no more than a dozen, but in a
// container that may hold a key more than once.
template <class C, class Key>
bool crowds([[maybe_unused]] const C& c, [[maybe_unused]] const Key& last) {
  if constexpr (requires {
                  c.bucket_size(c.bucket(last));
                  typename C::insert_return_type;
                }) {
    constexpr std::size_t longest_bucket = 256;
    return c.size() > longest_bucket && c.bucket_size(c.bucket(last)) > longest_bucket;
  } else {
    return false;
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
    if ((p = codec::decode_value(s, p, value, depth + 1)) == nullptr) return nullptr;
    const auto put = out.emplace_hint(out.end(), std::move(value));
    if (out.size() != size) return s.fail(at, fault_kind::repeated, "an element of a set");
    if (codec::crowds(out, *put)) return s.fail(at, fault_kind::crowded, "");
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
    if ((p = codec::decode_value(s, p, key, depth + 1)) == nullptr) return nullptr;
    if ((p = codec::decode_value(s, p, mapped, depth + 1)) == nullptr) return nullptr;
    const auto put = out.emplace_hint(out.end(), std::move(key), std::move(mapped));
    if (out.size() != size) return s.fail(at, fault_kind::repeated, "a key of a map");
    if (codec::crowds(out, put->first)) return s.fail(at, fault_kind::crowded, "");
  }
  return p;
}

template <class C>
const std::byte* get_fixed_array(source& s, const std::byte* p, C& out, unsigned depth) {
  p = get_exactly(s, p, out.size(), depth, "an array", "elements");
  if (p == nullptr) return nullptr;
  for (auto& element : out) {
    if ((p = codec::decode_value(s, p, element, depth + 1)) == nullptr) return nullptr;
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
[[gnu::always_inline]] inline const std::byte* decode_value(source& s,
                                                            const std::byte* p,
                                                            T& out,
                                                            unsigned depth) {
  constexpr kind k = kind_of<T>;
  if constexpr (k == kind::nil) {
    if (p == s.end || tag_at(p) != tag::nil) return s.fail_type(p, "nil");
    return p + 1;
  } else if constexpr (k == kind::boolean) {
    if (p == s.end || tag_at(p) - tag::no > 1) [[unlikely]]
      return s.fail_type(p, "a boolean");
    out = tag_at(p) == tag::yes;
    return p + 1;
  } else if constexpr (k == kind::integer) {
    return get_integer(s, p, out);
  } else if constexpr (k == kind::enumeration) {
    std::underlying_type_t<T> value{};
    p = codec::decode_value(s, p, value, depth);
    if (p != nullptr) out = static_cast<T>(value);
    return p;
  } else if constexpr (k == kind::floating) {
    return get_float(s, p, out);
  } else if constexpr (k == kind::text) {
    std::string_view text;
    p = get_text(s, p, text);
    if (p != nullptr) [[likely]] {
      out.clear();  // what is appended cannot lie in it, which `assign` would look at
      out.append(text.data(), text.size());
    }
    return p;
  } else if constexpr (k == kind::binary) {
    return get_binary(s, p, out);
  } else if constexpr (k == kind::optional || k == kind::owner) {
    return get_optional(s, p, out, depth);
  } else if constexpr (k == kind::tuple) {
    return get_tuple(s, p, out, depth, std::make_index_sequence<std::tuple_size_v<T>>());
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
    p = codec::decode_value(s, p, count, depth);
    if (p != nullptr) out = T(count);
    return p;
  } else if constexpr (k == kind::time_point) {
    typename T::duration since{};
    p = codec::decode_value(s, p, since, depth);
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

// One value and nothing behind it.
template <class T>
[[gnu::always_inline]] inline bool decode_whole(source& s, T& out, std::size_t limit) {
  const std::byte* p = s.start(limit);
  if (p != nullptr) [[likely]]
    p = codec::decode_value(s, p, out, 0);
  return s.finish(p);
}

[[noreturn, gnu::noinline, gnu::cold]] inline void throw_fault(const fault& f) {
  throw error(f.code, explain(f));
}

}  // namespace pulsar::detail::codec
