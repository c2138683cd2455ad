// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The request line and the header lines, and the trailer lines behind a chunked body: a machine
// that stops at the end of the bytes and goes on there, without reading one twice.
//
// Whether a message is refused, and for what, depends on its bytes alone and never on how they
// were cut into reads: every bound is a place in the message.

#include <pulsar/apps/http/detail/field_rules.hpp>
#include <pulsar/apps/http/detail/message_head.hpp>
#include <pulsar/apps/http/detail/scan.hpp>
#include <pulsar/apps/http/detail/target.hpp>
#include <pulsar/apps/http/error.hpp>
#include <pulsar/apps/http/limits.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulsar::http::detail {

enum class step : std::uint8_t { more, done, failed };

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
    idle,       // before a message: empty lines
    empty_end,  // the LF of an empty line
    method,
    target,
    version,
    request_end,  // the LF of the request line
    line_start,
    name,
    blanks,  // between the colon and the value
    value,
    line_end,     // the LF of a header line
    section_end,  // the LF of the empty line behind the headers
  };

  static constexpr unsigned max_empty_lines = 2;

  step fail(errc why) noexcept {
    error_ = why;
    return step::failed;
  }

  errc take_lines(message_head& head,
                  const char*& p,
                  const char* end,
                  const limits& bounds) noexcept;
  errc end_request_line(message_head& head, const char* version) noexcept;

  // Judges the field at the end of the table, once its line is whole.
  errc end_line(message_head& head, const limits& bounds) noexcept {
    if (!trailers_) return rules_.note(head, bounds);
    const field_span& span = head.fields.back();
    const std::string_view name(head.base + span.name, span.name_size);
    return is_forbidden_trailer(name) ? errc::forbidden_trailer : errc{};
  }

  state state_ = state::idle;
  errc error_{};
  std::uint8_t empty_lines_ = 0;
  bool trailers_ = false;
  std::size_t position_ = 0;
  std::size_t line_ = 0;     // where the current line begins
  std::size_t token_ = 0;    // where the target, the version or the value begins
  std::size_t section_ = 0;  // where the headers or the trailers begin
  std::uint32_t name_size_ = 0;
  field_rules rules_;
  std::uint32_t mark_ = 0;  // the first '?' of the target
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
        p = p == line && stop - p > 3 && load4(p) == load4("GET ") ? p + 3
                                                                   : skip_token(p, stop, base);
        if (p == stop) {
          if (is_over()) return fail(errc::unknown_method);
          return suspend(state::method);
        }
        if (*p != ' ' || p == line) return fail(errc::bad_method);
        head.method_name = {at(line), at(p) - at(line)};
        head.verb = parse_method(head.text(head.method_name));  // a refusal depends on it, too
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
        if (const errc why = take_lines(head, p, end, bounds); why != errc{}) return fail(why);
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
        if (const errc why = end_line(head, bounds); why != errc{}) return fail(why);
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
          if (const errc why = rules_.finish(head, bounds); why != errc{}) return fail(why);
        }
        suspend(state::section_end);
        return step::done;
    }
  }
}

#ifdef PULSAR_DETAIL_SSE2

// Takes whole and plain lines from `p` on, as most lines are. Stops before the first one of which
// anything is uncommon, missing or wrong: the machine above decides what that one is.
inline errc head_parser::take_lines(message_head& head,
                                    const char*& p,
                                    const char* const end,
                                    const limits& bounds) noexcept {
  const char* const base = head.base;
  const auto at = [base](const char* q) { return static_cast<std::uint32_t>(q - base); };
  const auto size = static_cast<std::size_t>(end - base);
  if (size < 16 || trailers_) return errc{};
  const char* const stop = base + std::min(size, section_ + bounds.header_bytes);
  const char* const last_cr = std::min(stop, end - 1);
  std::uint32_t count = head.fields.size();
  const std::uint32_t room = std::min(head.fields.capacity(), bounds.headers);
  control_finder finder(p, stop, base);
  const char* line = p;
  for (; count < room; ++count) {
    const char* const cr = finder.next();
    if (cr >= last_cr || load2(cr) != load2("\r\n")) break;
    if (static_cast<std::size_t>(cr - line) > bounds.header_line) break;
    finder.drop_line_end();
    const unsigned mask = end - line >= 16 ? name_stops::mask(load16(line))
                                           : name_stops::mask(load16(end - 16)) >>
                                                 static_cast<unsigned>(16 - (end - line));
    const char* const colon =
        mask != 0 ? line + std::countr_zero(mask) : find_stop<name_stops>(line + 16, cr, base);
    if (*colon != ':' || colon == line) break;
    const char* value = colon + 1 + (colon[1] == ' ' ? 1 : 0);
    const char* last = cr;
    if (*value == ' ' || last[-1] == ' ') [[unlikely]] {
      while (value < last && *value == ' ') ++value;
      while (value < last && last[-1] == ' ') --last;
    }
    const std::uint32_t name_size = at(colon) - at(line);
    head.fields.put(count, {at(line), name_size, at(value), at(last) - at(value)});
    if (field_rules::may_note(*line, name_size)) {
      head.fields.resize(count + 1);
      if (const errc why = rules_.note(head, bounds); why != errc{}) return why;
    }
    line = cr + 2;
  }
  head.fields.resize(count);
  p = line;
  return errc{};
}

#else

inline errc head_parser::take_lines(message_head&,
                                    const char*&,
                                    const char*,
                                    const limits&) noexcept {
  return errc{};
}

#endif

inline errc head_parser::end_request_line(message_head& head, const char* version) noexcept {
  if (version[5] != '1') return errc::unsupported_version;
  head.version = version[7] == '0' ? version::http_1_0 : version::http_1_1;
  if (head.verb == method::unknown) return errc::unknown_method;
  return split_target(head, mark_);
}

}  // namespace pulsar::http::detail
