// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The chunked transfer coding (RFC 9112 7.1), decoded in place: what is decoded never lies behind
// what is still to be read, so both may share one buffer.

#include <pulsar/apps/http/detail/scan.hpp>
#include <pulsar/apps/http/error.hpp>
#include <pulsar/apps/http/limits.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pulsar::http::detail {

// The value of a hexadecimal digit, 16 for any other byte.
constexpr unsigned hex_value(char c) noexcept {
  if (is_digit(c)) return static_cast<unsigned>(c - '0');
  const char lower = to_lower(c);
  return lower >= 'a' && lower <= 'f' ? static_cast<unsigned>(lower - 'a') + 10 : 16;
}

class chunk_decoder {
 public:
  // True behind the line of the last chunk, where the trailers begin.
  bool done() const noexcept { return state_ == state::done; }

  // What is still to come of the chunk that is being read.
  std::uint64_t remaining() const noexcept { return state_ == state::data ? size_ : 0; }

  // Reads [in, end), writes what is decoded to `out` (at or before `in`), advances both; stops
  // where the bytes end, and behind the last chunk.
  errc run(const char*& in, const char* end, char*& out, const limits& bounds) noexcept;

 private:
  enum class state : std::uint8_t {
    size,
    size_end,     // the LF of the size line
    before_mark,  // blanks that a ';' must follow
    before_name,  // blanks between ';' and the name of an extension
    name,
    before_equals,  // blanks that a '=' or a ';' must follow
    before_value,   // blanks behind '='
    value,
    quoted,
    quoted_pair,
    quoted_end,
    data,
    data_cr,
    data_lf,
    done,
  };

  // Where one byte of a size line leads; false if it may not stand there.
  bool step_size_line(char c) noexcept;

  state state_ = state::size;
  std::uint8_t digits_ = 0;
  std::uint64_t size_ = 0;
  std::uint64_t total_ = 0;
  std::uint64_t extensions_ = 0;
};

inline errc chunk_decoder::run(const char*& in,
                               const char* end,
                               char*& out,
                               const limits& bounds) noexcept {
  while (in != end && state_ != state::done) {
    switch (state_) {
      case state::data: {
        const auto n = static_cast<std::size_t>(
            std::min<std::uint64_t>(size_, static_cast<std::uint64_t>(end - in)));
        if (out != in) std::memmove(out, in, n);
        in += n;
        out += n;
        size_ -= n;
        if (size_ == 0) state_ = state::data_cr;
        break;
      }
      case state::data_cr:
        if (*in++ != '\r') return errc::bad_chunk;
        state_ = state::data_lf;
        break;
      case state::data_lf:
        if (*in++ != '\n') return errc::bad_chunk;
        state_ = state::size;
        digits_ = 0;
        break;
      case state::size:
        if (const unsigned digit = hex_value(*in); digit < 16) {
          if (++digits_ > 16) return errc::bad_chunk;
          size_ = size_ * 16 + digit;
          if (size_ > bounds.body - total_) return errc::body_too_large;
          ++in;
          break;
        }
        if (digits_ == 0) return errc::bad_chunk;
        if (!step_size_line(*in++)) return errc::bad_chunk;
        break;
      case state::size_end:
        if (*in++ != '\n') return errc::bad_chunk;
        total_ += size_;
        state_ = size_ == 0 ? state::done : state::data;
        break;
      default:
        if (!step_size_line(*in++)) return errc::bad_chunk;
        if (++extensions_ > total_ + bounds.chunk_extensions) {
          return errc::chunk_extensions_too_large;
        }
        break;
    }
  }
  return errc{};
}

inline bool chunk_decoder::step_size_line(char c) noexcept {
  const auto go = [this](state next) {
    state_ = next;
    return true;
  };
  switch (state_) {
    case state::size:
    case state::value:
    case state::quoted_end:
      if (state_ == state::value && has_class(c, is_token)) return true;
      if (c == '\r') return go(state::size_end);
      if (c == ';') return go(state::before_name);
      return is_blank(c) && go(state::before_mark);
    case state::before_mark:
      if (c == ';') return go(state::before_name);
      return is_blank(c);
    case state::before_name:
      if (has_class(c, is_token)) return go(state::name);
      return is_blank(c);
    case state::name:
      if (has_class(c, is_token)) return true;
      if (c == '=') return go(state::before_value);
      if (c == ';') return go(state::before_name);
      if (c == '\r') return go(state::size_end);
      return is_blank(c) && go(state::before_equals);
    case state::before_equals:
      if (c == '=') return go(state::before_value);
      if (c == ';') return go(state::before_name);
      return is_blank(c);
    case state::before_value:
      if (c == '"') return go(state::quoted);
      if (has_class(c, is_token)) return go(state::value);
      return is_blank(c);
    case state::quoted:
      if (c == '"') return go(state::quoted_end);
      if (c == '\\') return go(state::quoted_pair);
      return has_class(c, is_value);
    case state::quoted_pair: return has_class(c, is_value) && go(state::quoted);
    default: return false;
  }
}

}  // namespace pulsar::http::detail
