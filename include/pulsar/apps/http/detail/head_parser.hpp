// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The request line and the header lines, and the trailer lines behind a chunked body: a machine
// that stops at the end of the bytes and goes on there, without reading one twice.
//
// Whether a message is refused, and for what, depends on its bytes alone and never on how they
// were cut into reads: every bound is a place in the message.

#include <pulsar/apps/http/detail/message_head.hpp>
#include <pulsar/apps/http/detail/scan.hpp>
#include <pulsar/apps/http/detail/target.hpp>
#include <pulsar/apps/http/error.hpp>
#include <pulsar/apps/http/limits.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulsar::http::detail {

enum class step : std::uint8_t { more, done, failed };

// A decimal number of a body's length; at least `bound` + 1 for anything larger.
inline bool parse_length(std::string_view text, std::uint64_t bound, std::uint64_t& out) noexcept {
  std::uint64_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return false;
    value = std::min(value * 10 + static_cast<std::uint64_t>(c - '0'), bound + 1);
  }
  out = value;
  return !text.empty();
}

inline bool is_lower(std::string_view text, std::string_view lower) noexcept {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return to_lower(a) == b; });
}

// RFC 9112 6.1 and 6.3: only where `chunked` stands once and last is the length known; what
// stands before it is then a coding that nobody here can undo.
inline errc judge_codings(std::string_view value) noexcept {
  if (is_lower(value, "chunked")) return errc{};
  const auto comma = value.rfind(',');
  if (comma == std::string_view::npos || !is_lower(trim(value.substr(comma + 1)), "chunked")) {
    return errc::bad_transfer_encoding;
  }
  std::string_view rest = value.substr(0, comma);
  for (;;) {
    const auto next = rest.find(',');
    const auto coding = trim(rest.substr(0, next));
    const auto name = trim(coding.substr(0, coding.find(';')));
    if (name.empty() || !all_of_class(name, is_token) || is_lower(name, "chunked")) {
      return errc::bad_transfer_encoding;
    }
    if (next == std::string_view::npos) return errc::unknown_transfer_coding;
    rest.remove_prefix(next + 1);
  }
}

// RFC 9110 6.5.1: what frames, routes, authorises or modifies a message, or describes its body,
// must be known before the body.
inline bool is_forbidden_trailer(std::string_view name) noexcept {
  constexpr std::string_view forbidden[] = {
      "age",           "authorization",     "cache-control",       "connection",
      "content-encoding", "content-length", "content-range",       "content-type",
      "cookie",        "date",              "expect",              "expires",
      "forwarded",     "host",              "keep-alive",          "location",
      "max-forwards",  "pragma",            "proxy-authenticate",  "proxy-authorization",
      "proxy-connection", "range",          "retry-after",         "set-cookie",
      "te",            "trailer",           "transfer-encoding",   "upgrade",
      "vary",          "via",               "warning",             "www-authenticate"};
  if (name.size() > 3 && is_lower(name.substr(0, 3), "if-")) return true;
  if (name.size() > 12 && is_lower(name.substr(0, 12), "x-forwarded-")) return true;
  return std::any_of(std::begin(forbidden), std::end(forbidden),
                     [name](std::string_view other) { return is_lower(name, other); });
}

class head_parser {
 public:
  errc error() const noexcept { return error_; }
  // The first byte that is not read yet.
  std::size_t position() const noexcept { return position_; }
  // True from the first byte that is not part of an empty line.
  bool started() const noexcept { return state_ != state::idle && state_ != state::empty_end; }

  void reset() noexcept { *this = head_parser(); }

  // From here on the lines are trailers, which begin at `position`.
  void begin_trailers(std::size_t position) noexcept {
    state_ = state::line_start;
    trailers_ = true;
    position_ = position;
    section_ = position;
  }

  step run(message_head& head, std::size_t size, const limits& bounds) noexcept;

 private:
  enum class state : std::uint8_t {
    idle,         // before a message: empty lines
    empty_end,    // the LF of an empty line
    method,
    target,
    version,
    request_end,  // the LF of the request line
    line_start,
    name,
    blanks,       // between the colon and the value
    value,
    line_end,     // the LF of a header line
    section_end,  // the LF of the empty line behind the headers
  };

  static constexpr unsigned max_empty_lines = 2;

  step fail(errc why) noexcept {
    error_ = why;
    return step::failed;
  }

  errc end_request_line(message_head& head, const char* version) noexcept;
  errc end_field(message_head& head, const limits& bounds) noexcept;
  void note_connection(std::string_view value) noexcept;
  errc end_head(message_head& head, const limits& bounds) noexcept;

  state state_ = state::idle;
  errc error_{};
  std::uint8_t empty_lines_ = 0;
  bool trailers_ = false;
  bool closes_ = false;
  bool keeps_alive_ = false;
  bool expects_continue_ = false;
  bool upgrades_ = false;
  errc codings_{};
  std::size_t position_ = 0;
  std::size_t line_ = 0;       // where the current line begins
  std::size_t token_ = 0;      // where the target, the version or the value begins
  std::size_t section_ = 0;    // where the headers or the trailers begin
  std::uint32_t name_size_ = 0;
  std::uint32_t mark_ = 0;     // the first '?' of the target
};

inline step head_parser::run(message_head& head, std::size_t size, const limits& bounds) noexcept {
  const char* const base = head.base;
  const char* const end = base + size;
  const char* p = base + position_;
  const char* line = base + line_;
  const char* token = base + token_;
  state now = state_;

  const auto at = [base](const char* q) { return static_cast<std::uint32_t>(q - base); };
  const auto suspend = [&](state where) {
    state_ = where;
    position_ = static_cast<std::size_t>(p - base);
    line_ = static_cast<std::size_t>(line - base);
    token_ = static_cast<std::size_t>(token - base);
    return step::more;
  };
  // How far the current line may reach, and whether the scan ended there and not for want of bytes.
  std::size_t bound = 0;
  const auto stop_of_line = [&](std::size_t limit) {
    bound = static_cast<std::size_t>(line - base) + limit + 1;
    return base + std::min(size, bound);
  };
  const auto stop_of_field = [&] {
    bound = std::min(static_cast<std::size_t>(line - base) + bounds.header_line + 1,
                     section_ + bounds.header_bytes);
    return base + std::min(size, bound);
  };
  const auto is_over = [&] { return static_cast<std::size_t>(p - base) >= bound; };

  for (;;) {
    switch (now) {
      case state::idle:
        if (p == end) return suspend(state::idle);
        if (*p == '\r') {
          if (++empty_lines_ > max_empty_lines) return fail(errc::bad_method);
          ++p;
          now = state::empty_end;
          continue;
        }
        if (*p == '\n') return fail(errc::bad_line_end);
        line = p;
        [[fallthrough]];

      case state::method: {
        const char* const stop = stop_of_line(bounds.request_line);
        p = skip_token(p, stop, base);
        if (p == stop) {
          if (is_over()) return fail(errc::unknown_method);
          return suspend(state::method);
        }
        if (*p != ' ' || p == line) return fail(errc::bad_method);
        head.method_name = {at(line), at(p) - at(line)};
        token = ++p;
        [[fallthrough]];
      }

      case state::target: {
        const char* const stop = stop_of_line(bounds.request_line);
        for (;;) {
          p = skip_target(p, stop, base);
          if (p == stop || *p != '?') break;
          if (mark_ == 0) mark_ = at(p);
          ++p;
        }
        if (p == stop) {
          if (is_over()) return fail(errc::target_too_long);
          return suspend(state::target);
        }
        if (*p == '\r' || *p == '\n') return fail(errc::bad_version);
        if (*p != ' ' || p == token) return fail(errc::bad_target);
        head.target = {at(token), at(p) - at(token)};
        token = ++p;
        [[fallthrough]];
      }

      case state::version: {
        constexpr std::string_view form = "HTTP/1.1";
        const char* const stop = stop_of_line(bounds.request_line);
        if (p == token && stop - p > 8 && load8(p) == load8(form.data())) p += 8;
        for (; p - token < 8; ++p) {
          if (p == stop) {
            if (is_over()) return fail(errc::target_too_long);
            return suspend(state::version);
          }
          const auto i = static_cast<std::size_t>(p - token);
          if (i == 5 || i == 7 ? !is_digit(*p) : *p != form[i]) return fail(errc::bad_version);
        }
        if (p == stop) {
          if (is_over()) return fail(errc::target_too_long);
          return suspend(state::version);
        }
        if (*p == '\n') return fail(errc::bad_line_end);
        if (*p != '\r') return fail(errc::bad_version);
        if (const errc why = end_request_line(head, token); why != errc{}) return fail(why);
        ++p;
        [[fallthrough]];
      }

      case state::request_end:
        if (p == end) return suspend(state::request_end);
        if (*p != '\n') return fail(errc::bad_line_end);
        ++p;
        section_ = static_cast<std::size_t>(p - base);
        [[fallthrough]];

      case state::line_start:
        if (p == end) return suspend(state::line_start);
        if (*p == '\r') {
          ++p;
          now = state::section_end;
          continue;
        }
        line = p;
        if (head.fields.size() >= bounds.headers) return fail(errc::too_many_headers);
        if (at(p) >= section_ + bounds.header_bytes) return fail(errc::header_too_large);
        [[fallthrough]];

      case state::name: {
        const char* const stop = stop_of_field();
        p = skip_token(p, stop, base);
        if (p == stop) {
          if (is_over()) return fail(errc::header_too_large);
          return suspend(state::name);
        }
        if (*p != ':' || p == line) [[unlikely]] {
          if (p == line && is_blank(*p)) return fail(errc::folded_header);
          return fail(*p == '\n' ? errc::bad_line_end : errc::bad_header_name);
        }
        name_size_ = at(p) - at(line);
        ++p;
        [[fallthrough]];
      }

      case state::blanks: {
        const char* const stop = stop_of_field();
        while (p != stop && is_blank(*p)) ++p;
        if (p == stop) {
          if (is_over()) return fail(errc::header_too_large);
          return suspend(state::blanks);
        }
        token = p;
        [[fallthrough]];
      }

      case state::value: {
        const char* const stop = stop_of_field();
        p = skip_value(p, stop, base);
        if (p == stop) {
          if (is_over()) return fail(errc::header_too_large);
          return suspend(state::value);
        }
        if (*p != '\r') [[unlikely]] {
          return fail(*p == '\n' ? errc::bad_line_end : errc::bad_header_value);
        }
        const char* last = p;
        while (last != token && is_blank(last[-1])) --last;
        if (!head.fields.push({at(line), name_size_, at(token), at(last) - at(token)})) {
          return fail(errc::too_many_headers);
        }
        ++p;
        [[fallthrough]];
      }

      case state::line_end:
        if (p == end) return suspend(state::line_end);
        if (*p != '\n') return fail(errc::bad_line_end);
        ++p;
        if (const errc why = end_field(head, bounds); why != errc{}) return fail(why);
        now = state::line_start;
        continue;

      case state::empty_end:
        if (p == end) return suspend(state::empty_end);
        if (*p != '\n') return fail(errc::bad_line_end);
        ++p;
        now = state::idle;
        continue;

      case state::section_end:
        if (p == end) return suspend(state::section_end);
        if (*p != '\n') return fail(errc::bad_line_end);
        ++p;
        if (!trailers_) {
          if (const errc why = end_head(head, bounds); why != errc{}) return fail(why);
        }
        suspend(state::section_end);
        return step::done;
    }
  }
}

inline errc head_parser::end_request_line(message_head& head, const char* version) noexcept {
  if (version[5] != '1') return errc::unsupported_version;
  head.version = version[7] == '0' ? version::http_1_0 : version::http_1_1;
  head.verb = parse_method(head.text(head.method_name));
  if (head.verb == method::unknown) return errc::unknown_method;
  return split_target(head, mark_);
}

// Called for the field at the end of the table, once its line is whole.
inline errc head_parser::end_field(message_head& head, const limits& bounds) noexcept {
  const field_span& span = head.fields.back();
  const char* const name = head.base + span.name;
  const std::string_view value(head.base + span.value, span.value_size);
  if (trailers_) [[unlikely]] {
    return is_forbidden_trailer({name, span.name_size}) ? errc::forbidden_trailer : errc{};
  }
  // RFC 9110 5.3: each of these may stand once.
  const auto once = [&](known which) {
    auto& place = head.known_at[static_cast<std::size_t>(which)];
    if (place != 0) return false;
    place = head.fields.size();
    return true;
  };
  switch (span.name_size) {
    case 4:
      if (!equals_lower(name, "host")) return errc{};
      if (!once(known::host)) return errc::repeated_header;
      return is_authority(value, port_rule::optional) ? errc{} : errc::bad_host;
    case 6:
      if (equals_lower(name, "expect") && is_lower(value, "100-continue")) expects_continue_ = true;
      return errc{};
    case 7:
      if (equals_lower(name, "upgrade")) once(known::upgrade);
      return errc{};
    case 10:
      if (equals_lower(name, "connection")) note_connection(value);
      return errc{};
    case 12:
      if (!equals_lower(name, "content-type")) return errc{};
      return once(known::content_type) ? errc{} : errc::repeated_header;
    case 14:
      if (!equals_lower(name, "content-length")) return errc{};
      if (!once(known::content_length)) return errc::repeated_header;
      return parse_length(value, bounds.body, head.content_length) ? errc{}
                                                                   : errc::bad_content_length;
    case 17:
      if (!equals_lower(name, "transfer-encoding")) return errc{};
      if (!once(known::transfer_encoding)) return errc::bad_transfer_encoding;
      codings_ = judge_codings(value);
      return errc{};
    default: return errc{};
  }
}

inline void head_parser::note_connection(std::string_view value) noexcept {
  while (!value.empty()) {
    const auto comma = std::min(value.find(','), value.size());
    const auto option = trim(value.substr(0, comma));
    closes_ = closes_ || is_lower(option, "close");
    keeps_alive_ = keeps_alive_ || is_lower(option, "keep-alive");
    upgrades_ = upgrades_ || is_lower(option, "upgrade");
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
}

// What only all headers together can tell.
inline errc head_parser::end_head(message_head& head, const limits& bounds) noexcept {
  const bool is_1_1 = head.version == version::http_1_1;
  head.header_count = head.fields.size();
  if (is_1_1 && !head.has(known::host)) return errc::missing_host;
  if (head.has(known::transfer_encoding)) {
    if (!is_1_1) return errc::bad_transfer_encoding;
    if (head.has(known::content_length)) return errc::ambiguous_length;
    if (codings_ != errc{}) return codings_;
    head.chunked = true;
  }
  if (head.content_length > bounds.body) return errc::body_too_large;
  head.keep_alive = !closes_ && (is_1_1 || keeps_alive_);
  head.expects_continue = is_1_1 && expects_continue_;
  head.wants_upgrade = is_1_1 && upgrades_ && head.has(known::upgrade);
  return errc{};
}

}  // namespace pulsar::http::detail
