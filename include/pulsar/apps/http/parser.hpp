// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The parser of requests: incremental, strict, without copies, exceptions or input of its own.
///
///     pulsar::buffer in;
///     http::parser parser;
///     http::request request;
///     for (;;) {
///       switch (parser.parse(in, request)) {
///         case http::progress::incomplete: read_more(in); break;
///         case http::progress::complete:
///           answer(request);
///           in.consume(parser.consumed());   // what is left may be the next request
///           break;
///         case http::progress::failed: refuse(parser.error()); return;
///       }
///     }
///
/// It follows RFC 9110 and 9112 to the letter where leniency has let requests be smuggled: line
/// ends, blanks, lengths, codings, hosts. The outcome depends on the bytes, never on how they
/// were cut into reads, and each byte is looked at once.

#include <pulsar/apps/http/detail/chunk_decoder.hpp>
#include <pulsar/apps/http/detail/head_parser.hpp>
#include <pulsar/apps/http/error.hpp>
#include <pulsar/apps/http/limits.hpp>
#include <pulsar/apps/http/request.hpp>
#include <pulsar/core/buffer.hpp>
#include <pulsar/core/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <system_error>

namespace pulsar::http {

/// What `parser::parse` came to.
enum class progress : std::uint8_t {
  /// The bytes end before the message does.
  incomplete,
  /// The request is whole, its body and trailers too.
  complete,
  /// The message is refused: `parser::error()`.
  failed,
};

/// Takes requests, one after another, from the buffer of one connection.
///
/// The buffer begins with the first byte of the message and holds all its bytes until it is
/// complete. It may be moved between calls: each call to `parse` rebases the request's views.
class parser {
 public:
  explicit parser(const limits& bounds = {}) noexcept : bounds_(clamped(bounds)) {}

  /// Goes on where the last call stopped; `data` has that call's bytes and those that came since.
  ///
  /// A chunked body is decoded in place, so the bytes behind the head change. The call after
  /// `complete` begins a new message at its `data`. `failed` stays until `reset`.
  progress parse(char* data, std::size_t size, request& into) noexcept;

  /// The same over all bytes of `in`.
  progress parse(buffer& in, request& into) noexcept {
    return parse(reinterpret_cast<char*>(in.data()), in.size(), into);
  }

  /// Why the message is refused; no error unless `parse` returned `failed`.
  std::error_code error() const noexcept {
    return error_ == errc{} ? std::error_code() : make_error_code(error_);
  }

  /// How many bytes of the buffer the message took, when `parse` returned `complete`.
  std::size_t consumed() const noexcept { return position_; }

  /// True if a message has begun and is not complete: the connection is not idle.
  bool started() const noexcept { return phase_ != phase::complete && head_.started(); }

  /// True if the head is whole and the body is not: the request's headers can be looked at, and
  /// "100 Continue" may be due.
  bool awaits_body() const noexcept {
    return phase_ == phase::sized || phase_ == phase::chunks || phase_ == phase::trailers;
  }

  /// How many bytes are known to be still missing: room to make before the next read.
  std::uint64_t missing() const noexcept {
    if (phase_ == phase::sized) return wanted_ - size_;
    return phase_ == phase::chunks ? chunks_.remaining() : 0;
  }

  /// Gives up the bytes that chunked coding added: `in.truncate(parser.trim())`, then append the
  /// next read. After `incomplete` only; without it the buffer grows by the raw bytes.
  std::size_t trim() noexcept {
    if (phase_ == phase::chunks) position_ = size_ = decoded_;
    return size_;
  }

  /// To be called at end of input: `errc::truncated` if it came within a message.
  std::error_code finish() const noexcept {
    if (phase_ == phase::failed) return error();
    return started() ? make_error_code(errc::truncated) : std::error_code();
  }

  /// Forgets the message; the next call to `parse` begins a new one.
  void reset() noexcept {
    head_.reset();
    chunks_ = detail::chunk_decoder();
    phase_ = phase::head;
    error_ = errc{};
    position_ = size_ = decoded_ = wanted_ = 0;
  }

 private:
  enum class phase : std::uint8_t { head, sized, chunks, trailers, complete, failed };

  // Offsets have 32 bits, and lengths room for one more digit.
  static limits clamped(limits bounds) noexcept {
    constexpr std::uint32_t most = 1U << 30;
    bounds.request_line = std::min(bounds.request_line, most);
    bounds.header_line = std::min(bounds.header_line, most);
    bounds.header_bytes = std::min(bounds.header_bytes, most);
    bounds.body = std::min(bounds.body, std::uint64_t{1} << 58);
    return bounds;
  }

  progress fail(errc why) noexcept {
    phase_ = phase::failed;
    error_ = why;
    return progress::failed;
  }

  progress complete(std::size_t position) noexcept {
    phase_ = phase::complete;
    position_ = position;
    return progress::complete;
  }

  progress parse_chunks(char* data, request& into) noexcept;

  limits bounds_;
  phase phase_ = phase::head;
  errc error_{};
  std::size_t position_ = 0;  // raw bytes read
  std::size_t size_ = 0;      // bytes there were at the last call
  std::size_t decoded_ = 0;   // where decoded bytes go
  std::size_t wanted_ = 0;    // size of a message whose length is known
  detail::head_parser head_;
  detail::chunk_decoder chunks_;
};

inline progress parser::parse(char* data, std::size_t size, request& into) noexcept {
  if (phase_ == phase::complete) reset();
  PULSAR_ASSERT(size >= position_, "parse() is given the message from its first byte");
  detail::message_head& head = into.head_;
  head.base = data;
  size_ = size;
  switch (phase_) {
    case phase::head:
      if (!head_.started()) head.clear();
      switch (head_.run(head, size, bounds_)) {
        case detail::step::more: position_ = head_.position(); return progress::incomplete;
        case detail::step::failed: return fail(head_.error());
        case detail::step::done: break;
      }
      head.body = decoded_ = position_ = head_.position();
      if (head.chunked) {
        phase_ = phase::chunks;
        return parse_chunks(data, into);
      }
      if (head.content_length > SIZE_MAX - head.body) return fail(errc::body_too_large);
      wanted_ = head.body + static_cast<std::size_t>(head.content_length);
      phase_ = phase::sized;
      [[fallthrough]];
    case phase::sized:
      if (size < wanted_) return progress::incomplete;
      head.body_size = wanted_ - head.body;
      return complete(wanted_);
    case phase::chunks:
    case phase::trailers: return parse_chunks(data, into);
    case phase::complete:
    case phase::failed: break;
  }
  return progress::failed;
}

inline progress parser::parse_chunks(char* data, request& into) noexcept {
  detail::message_head& head = into.head_;
  if (phase_ == phase::chunks) {
    const char* in = data + position_;
    char* out = data + decoded_;
    const errc why = chunks_.run(in, data + size_, out, bounds_);
    position_ = static_cast<std::size_t>(in - data);
    decoded_ = static_cast<std::size_t>(out - data);
    if (why != errc{}) return fail(why);
    if (!chunks_.done()) return progress::incomplete;
    // Where a trailer lies is kept in 32 bits.
    if (position_ > UINT32_MAX - bounds_.header_bytes) return fail(errc::body_too_large);
    phase_ = phase::trailers;
    head_.begin_trailers(position_);
  }
  switch (head_.run(head, size_, bounds_)) {
    case detail::step::more: return progress::incomplete;
    case detail::step::failed: return fail(head_.error());
    case detail::step::done: break;
  }
  head.body_size = decoded_ - head.body;
  return complete(head_.position());
}

}  // namespace pulsar::http
