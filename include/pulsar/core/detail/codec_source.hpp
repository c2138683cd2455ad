// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The bytes that a value is read from, and what can be wrong with them.

#include <pulsar/core/detail/codec_format.hpp>
#include <pulsar/core/error.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

namespace pulsar::detail::codec {

// The number of 1, 2, 4 or 8 bytes (`width` 0 to 3) at p, where `left` bytes are left.
[[gnu::always_inline]] inline std::uint64_t load_width(const std::byte* p,
                                                       std::size_t left,
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
    case fault_kind::type:
      text = std::string("expected ") + f.expected + " but found " + describe(f);
      break;
    case fault_kind::truncated:
      text = "expected " + number(f.want) + " bytes of " + f.expected + " but only " +
             number(f.got) + " are left";
      break;
    case fault_kind::count:
      text = "expected " + number(f.want) + " elements of " + f.expected + " but only " +
             number(f.got) + " bytes are left";
      break;
    case fault_kind::exact:
      text =
          "expected exactly " + number(f.want) + " " + f.expected + " but found " + number(f.got);
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
    case fault_kind::crowded: text = "more than 256 keys have one hash"; break;
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

}  // namespace pulsar::detail::codec
