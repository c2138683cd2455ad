// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The scanners of the parser: character classes and the loops that look for the first byte
// outside one. With SSE2 they look at 16 bytes a step, else at 8 or one; the answers are the
// same. No scanner reads outside [base, stop).

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

// Every x86-64 has SSE2. PULSAR_PORTABLE_SCAN, for a whole program, tests what others run.
#if defined(__SSE2__) && !defined(PULSAR_PORTABLE_SCAN)
#define PULSAR_DETAIL_SSE2 1
#include <emmintrin.h>
#endif

namespace pulsar::http::detail {

// One bit a class of characters.
enum : std::uint8_t {
  is_token = 1,   // RFC 9110 5.6.2
  is_target = 2,  // what may stand in a target: visible ASCII but '#'
  is_value = 4,   // what may stand in a header value: visible, blank, tab, over 127
  is_host = 8,    // what may stand in a host name: unreserved and sub-delims but ','
};

inline constexpr auto char_class = [] {
  std::array<std::uint8_t, 256> classes{};
  constexpr std::string_view token_marks = "!#$%&'*+-.^_`|~";
  constexpr std::string_view host_marks = "-._~!$&'()*+;=";
  for (std::size_t c = 0; c < 256; ++c) {
    const char ch = static_cast<char>(c);
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    unsigned bits = 0;
    if (alnum || (c != 0 && token_marks.find(ch) != std::string_view::npos)) bits |= is_token;
    if (c > 0x20 && c < 0x7f && c != '#') bits |= is_target;
    if ((c >= 0x20 && c != 0x7f) || c == '\t') bits |= is_value;
    if (alnum || (c != 0 && host_marks.find(ch) != std::string_view::npos)) bits |= is_host;
    classes[c] = static_cast<std::uint8_t>(bits);
  }
  return classes;
}();

constexpr bool has_class(char c, unsigned classes) noexcept {
  return (char_class[static_cast<unsigned char>(c)] & classes) != 0;
}

constexpr bool all_of_class(std::string_view text, unsigned classes) noexcept {
  for (const char c : text) {
    if (!has_class(c, classes)) return false;
  }
  return true;
}

constexpr bool is_blank(char c) noexcept { return c == ' ' || c == '\t'; }
constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

constexpr char to_lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

constexpr std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

inline std::uint64_t load8(const char* p) noexcept {
  std::uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

inline std::uint16_t load2(const char* p) noexcept {
  std::uint16_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

inline std::uint32_t load4(const char* p) noexcept {
  std::uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// Equal but for the case of letters, where `text` is known to be tokens and `lower` is a literal
// of small letters and '-': then setting bit 5 is the whole of lower-casing.
template <std::size_t N>
bool equals_lower(const char* text, const char (&lower)[N]) noexcept {
  constexpr std::size_t size = N - 1;
  static_assert(size >= 4, "shorter names need a loop of their own");
  if constexpr (size < 8) {
    constexpr std::uint32_t bit = 0x20202020U;
    return (load4(text) | bit) == load4(lower) &&
           (load4(text + size - 4) | bit) == load4(lower + size - 4);
  } else {
    constexpr std::uint64_t bit = 0x2020202020202020U;
    for (std::size_t i = 0; i + 8 < size; i += 8) {
      if ((load8(text + i) | bit) != load8(lower + i)) return false;
    }
    return (load8(text + size - 8) | bit) == load8(lower + size - 8);
  }
}

inline const char* skip_class(const char* p, const char* stop, unsigned classes) noexcept {
  while (p != stop && has_class(*p, classes)) ++p;
  return p;
}

#ifdef PULSAR_DETAIL_SSE2

inline __m128i load16(const char* p) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

inline __m128i filled(int byte) noexcept { return _mm_set1_epi8(static_cast<char>(byte)); }

// 0xff where first <= byte <= first + width.
inline __m128i in_range(__m128i v, int first, int width) noexcept {
  const __m128i from_first = _mm_sub_epi8(v, filled(first));
  return _mm_cmpeq_epi8(_mm_min_epu8(from_first, filled(width)), from_first);
}

inline unsigned mask_of(__m128i v) noexcept { return static_cast<unsigned>(_mm_movemask_epi8(v)); }

// One bit for each byte that ends a header value: a control byte but the tab, and DEL.
struct value_stops {
  static unsigned mask(__m128i v) noexcept {
    const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, filled(0x1f)), v);
    const __m128i tab = _mm_cmpeq_epi8(v, filled('\t'));
    const __m128i del = _mm_cmpeq_epi8(v, filled(0x7f));
    return mask_of(_mm_or_si128(_mm_andnot_si128(tab, control), del));
  }
};

// One bit for each byte that is no letter, digit or '-'; the rarer token marks are among them.
struct name_stops {
  static unsigned mask(__m128i v) noexcept {
    const __m128i letter = in_range(_mm_or_si128(v, filled(0x20)), 'a', 25);
    const __m128i digit = in_range(v, '0', 9);
    const __m128i dash = _mm_cmpeq_epi8(v, filled('-'));
    return mask_of(_mm_or_si128(_mm_or_si128(letter, digit), dash)) ^ 0xffffU;
  }
};

// One bit for each byte that ends a target, and for each '?'.
struct target_stops {
  static unsigned mask(__m128i v) noexcept {
    const __m128i visible = in_range(v, 0x21, 0x7e - 0x21);
    const __m128i mark =
        _mm_or_si128(_mm_cmpeq_epi8(v, filled('#')), _mm_cmpeq_epi8(v, filled('?')));
    return mask_of(_mm_andnot_si128(mark, visible)) ^ 0xffffU;
  }
};

// One bit for each byte that is no letter, digit, '-' or '.': what most hosts are made of.
struct host_stops {
  static unsigned mask(__m128i v) noexcept {
    const __m128i letter = in_range(_mm_or_si128(v, filled(0x20)), 'a', 25);
    const __m128i digit = in_range(v, '0', 9);
    const __m128i mark = in_range(v, '-', 1);  // '-' and '.'
    return mask_of(_mm_or_si128(_mm_or_si128(letter, digit), mark)) ^ 0xffffU;
  }
};

// The first byte of [p, stop) that Stops marks. The last step reads the 16 bytes before `stop`
// and drops those before `p`, so that a short rest costs no loop.
template <class Stops>
const char* find_stop(const char* p, const char* stop, const char* base) noexcept {
  while (stop - p >= 16) {
    if (const unsigned mask = Stops::mask(load16(p)); mask != 0) return p + std::countr_zero(mask);
    p += 16;
  }
  if (stop - base >= 16) [[likely]] {
    const auto seen = static_cast<unsigned>(16 - (stop - p));
    const unsigned mask = Stops::mask(load16(stop - 16)) >> seen;
    return mask != 0 ? p + std::countr_zero(mask) : stop;
  }
  for (; p != stop; ++p) {
    if ((Stops::mask(filled(*p)) & 1U) != 0) break;
  }
  return p;
}

// Walks over the control bytes of [from, stop), tabs and DEL among them, 64 bytes a step: where a
// line ends is then known without waiting for what the line before it was.
class control_finder {
 public:
  control_finder(const char* from, const char* stop, const char* base) noexcept
      : next_(from), stop_(stop), base_(base) {}

  // The next one, or `stop`.
  const char* next() noexcept {
    while (mask_ == 0) {
      if (next_ >= stop_) return stop_;
      refill();
    }
    return block_ + std::countr_zero(mask_);
  }

  // Steps over what `next` found, and over the LF behind it.
  void drop_line_end() noexcept {
    mask_ &= mask_ - 1;
    if (mask_ == 0) [[unlikely]]
      next();
    mask_ &= mask_ - 1;
  }

 private:
  static std::uint64_t mask16(const char* p) noexcept {
    const __m128i v = load16(p);
    const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, filled(0x1f)), v);
    return mask_of(_mm_or_si128(control, _mm_cmpeq_epi8(v, filled(0x7f))));
  }

  static std::uint64_t mask64(const char* p) noexcept {
    return mask16(p) | mask16(p + 16) << 16 | mask16(p + 32) << 32 | mask16(p + 48) << 48;
  }

  void refill() noexcept {
    block_ = next_;
    const std::ptrdiff_t rest = stop_ - next_;
    if (rest >= 64) [[likely]] {
      mask_ = mask64(next_);
      next_ += 64;
    } else if (stop_ - base_ >= 64) {
      mask_ = mask64(stop_ - 64) >> (64 - rest);
      next_ = stop_;
    } else if (rest >= 16) {
      mask_ = mask16(next_);
      next_ += 16;
    } else if (stop_ - base_ >= 16) {
      mask_ = mask16(stop_ - 16) >> (16 - rest);
      next_ = stop_;
    } else {
      // Fewer than 16 bytes make no message: they are left to the scanners above.
      next_ = stop_;
    }
  }

  const char* block_ = nullptr;
  const char* next_;
  const char* const stop_;
  const char* const base_;
  std::uint64_t mask_ = 0;
};

inline const char* skip_value(const char* p, const char* stop, const char* base) noexcept {
  return find_stop<value_stops>(p, stop, base);
}

inline const char* skip_token(const char* p, const char* stop, const char* base) noexcept {
  for (;;) {
    p = find_stop<name_stops>(p, stop, base);
    if (p == stop || !has_class(*p, is_token)) [[likely]]
      return p;
    ++p;
  }
}

// Stops at '?' too.
inline const char* skip_target(const char* p, const char* stop, const char* base) noexcept {
  return find_stop<target_stops>(p, stop, base);
}

// `base` is where readable bytes begin.
inline const char* skip_host(const char* p, const char* stop, const char* base) noexcept {
  for (;;) {
    p = find_stop<host_stops>(p, stop, base);
    if (p == stop || !has_class(*p, is_host)) return p;
    ++p;
  }
}

#else

inline const char* skip_value(const char* p, const char* stop, const char*) noexcept {
  constexpr std::uint64_t ones = 0x0101010101010101U;
  constexpr std::uint64_t tops = ones << 7;
  for (;;) {
    while (stop - p >= 8) {
      const std::uint64_t word = load8(p);
      const std::uint64_t del = word ^ (ones * 0x7f);
      // May mark a byte too much, behind one that it marks rightly: only "none" is trusted.
      const std::uint64_t below = (word - ones * 0x20) & ~word;
      if (((below | ((del - ones) & ~del)) & tops) != 0) break;
      p += 8;
    }
    const char* const next = stop - p > 8 ? p + 8 : stop;
    p = skip_class(p, next, is_value);
    if (p != next || next == stop) return p;
  }
}

inline const char* skip_token(const char* p, const char* stop, const char*) noexcept {
  return skip_class(p, stop, is_token);
}

inline const char* skip_host(const char* p, const char* stop, const char*) noexcept {
  return skip_class(p, stop, is_host);
}

inline const char* skip_target(const char* p, const char* stop, const char*) noexcept {
  while (p != stop && *p != '?' && has_class(*p, is_target)) ++p;
  return p;
}

#endif

}  // namespace pulsar::http::detail
