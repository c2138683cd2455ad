// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The bytes that a value is read from, and what can be wrong with them.

#include <pulsar/core/detail/codec_format.hpp>
#include <pulsar/core/error.hpp>

#include <fmt/core.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace pulsar::detail::codec {

// The number of 1, 2, 4 or 8 bytes (`width` 0 to 3) at p, byte by byte.
inline std::uint64_t load_bytes(const std::byte* p, unsigned width) noexcept {
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
  type,       // `expected` and what was found
  truncated,  // `want` more bytes for `expected`, `got` left
  count,      // `want` elements claimed, `got` bytes left
  exact,      // `want` of `expected`, `got` found
  arity,      // `want` arguments, `got` found
  range,      // `expected`, found the index `got`
  repeated,   // a key or an element that is there already
  crowded,    // too many keys of one hash
  trailing,   // `got` bytes behind the value
  depth,
  size,    // `got` bytes, `want` allowed
  memory,  // `want` allowed
};

struct fault {
  errc code{};
  fault_kind what = fault_kind::none;
  unsigned found = 0;  // the tag where it went wrong; 0x100 for the end of the data
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
    if (begin == nullptr) [[unlikely]]
      begin = end = &nowhere;
    return begin;
  }

  // Whether reading ended well, and with the last byte.
  bool finish(const std::byte* p) noexcept {
    if (p != nullptr && p != end) [[unlikely]]
      p = fail(p, fault_kind::trailing, "", 0, left(p));
    return p != nullptr;
  }

  std::size_t left(const std::byte* p) const noexcept { return static_cast<std::size_t>(end - p); }

  [[gnu::noinline, gnu::cold]] const std::byte* fail(const std::byte* at,
                                                     fault_kind what,
                                                     const char* expected,
                                                     std::uint64_t want = 0,
                                                     std::uint64_t got = 0) noexcept {
    if (problem.what != fault_kind::none) return nullptr;
    const bool limit =
        what == fault_kind::depth || what == fault_kind::size || what == fault_kind::memory;
    problem = {limit ? errc::too_large : errc::malformed,
               what,
               at < end ? std::to_integer<unsigned>(*at) : 0x100,
               expected,
               static_cast<std::size_t>(at - begin),
               want,
               got};
    if (what == fault_kind::type) problem.got = integer_at(at);
    return nullptr;
  }

  // As two's complement.
  std::uint64_t integer_at(const std::byte* at) const noexcept {
    const unsigned first = problem.found;
    if (first < tag::fixmap) return first;
    if (first >= tag::negative) return static_cast<std::uint64_t>(extend_sign(first & 0xff, 0));
    const unsigned width = first & 3;
    if (first - tag::uint8 >= 8 || left(at) <= std::size_t{1} << width) return 0;
    const std::uint64_t value = load_bytes(at + 1, width);
    return first < tag::int8 ? value : static_cast<std::uint64_t>(extend_sign(value, width));
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
  const unsigned first = f.found;
  const char* what = "nil";
  if (first > 0xff) {
    what = "the end of the data";
  } else if (first < tag::fixmap || first >= tag::negative || first - tag::uint8 < 8) {
    return "the integer " + (first < tag::int8 ? std::to_string(f.got)
                                               : std::to_string(static_cast<std::int64_t>(f.got)));
  } else if (first < tag::fixarray || first >= tag::map16) {
    what = "a map";
  } else if (first < tag::fixstr || first >= tag::array16) {
    what = "an array";
  } else if (first < tag::nil || first >= tag::str8) {
    what = "a string";
  } else if (first >= tag::fixext1 || first - tag::ext8 < 3) {
    what = "an extension";
  } else if (first >= tag::float32) {
    what = "a floating-point number";
  } else if (first >= tag::bin8) {
    what = "binary data";
  } else if (first >= tag::no) {
    what = "a boolean";
  } else if (first == tag::reserved) {
    what = "the reserved byte 0xc1";
  }
  return what;
}

inline std::string explain(const fault& f) {
  const char* sentence = "no error";
  switch (f.what) {
    case fault_kind::none: break;
    case fault_kind::type: sentence = "expected {0} but found {4} at offset {3}"; break;
    case fault_kind::truncated:
      sentence = "expected {1} bytes of {0} but only {2} are left at offset {3}";
      break;
    case fault_kind::count:
      sentence = "expected {1} elements of {0} but only {2} bytes are left at offset {3}";
      break;
    case fault_kind::exact:
      sentence = "expected exactly {1} {0} but found {2} at offset {3}";
      break;
    case fault_kind::arity:
      sentence = f.want == 1 ? "expected {1} argument but got {2} at offset {3}"
                             : "expected {1} arguments but got {2} at offset {3}";
      break;
    case fault_kind::range: sentence = "expected {0} below {1} but found {2} at offset {3}"; break;
    case fault_kind::repeated: sentence = "{0} occurs twice at offset {3}"; break;
    case fault_kind::crowded: sentence = "more than 256 keys have one hash at offset {3}"; break;
    case fault_kind::trailing:
      sentence = "expected the end of the data but found {2} more bytes at offset {3}";
      break;
    case fault_kind::depth: sentence = "nested deeper than 64 levels at offset {3}"; break;
    case fault_kind::size: sentence = "{2} bytes are more than the limit of {1}"; break;
    case fault_kind::memory:
      sentence = "decoding would take more than the limit of {1} bytes of memory at offset {3}";
      break;
  }
  const std::string found = describe(f);
  return fmt::vformat(sentence,
                      fmt::make_format_args(f.expected, f.want, f.got, f.offset, found));
}

}  // namespace pulsar::detail::codec
