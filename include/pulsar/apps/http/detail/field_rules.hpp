// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What the headers of a request say of its body and its connection (RFC 9112 6 and 9), and which
// of them contradict each other.

#include <pulsar/apps/http/detail/message_head.hpp>
#include <pulsar/apps/http/detail/scan.hpp>
#include <pulsar/apps/http/detail/target.hpp>
#include <pulsar/apps/http/error.hpp>
#include <pulsar/apps/http/limits.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulsar::http::detail {

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

// Equal but for the case of letters, where `lower` has small ones.
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
  constexpr std::string_view forbidden =
      "age,authorization,cache-control,connection,content-encoding,content-length,content-range,"
      "content-type,cookie,date,expect,expires,forwarded,host,keep-alive,location,max-forwards,"
      "pragma,proxy-authenticate,proxy-authorization,proxy-connection,range,retry-after,"
      "set-cookie,te,trailer,transfer-encoding,upgrade,vary,via,warning,www-authenticate,";
  for (std::size_t at = 0; at < forbidden.size();) {
    const auto comma = forbidden.find(',', at);
    if (is_lower(name, forbidden.substr(at, comma - at))) return true;
    at = comma + 1;
  }
  return (name.size() > 3 && is_lower(name.substr(0, 3), "if-")) ||
         (name.size() > 12 && is_lower(name.substr(0, 12), "x-forwarded-"));
}

// By the first letter, one bit for each length of a name that `field_rules` looks at; other names
// may have it too.
inline constexpr auto noted_lengths = [] {
  std::array<std::uint32_t, 32> lengths{};
  for (const std::string_view name : {"host", "expect", "upgrade", "connection", "content-type",
                                      "content-length", "transfer-encoding"}) {
    lengths[name.front() & 31] |= 1U << name.size();
  }
  return lengths;
}();

class field_rules {
 public:
  // False only for a name that `note` passes over.
  static bool may_note(char first, std::uint32_t name_size) noexcept {
    const std::uint32_t lengths = noted_lengths[static_cast<unsigned char>(first) & 31U];
    return (lengths >> (name_size & 31U) & 1U) != 0;
  }

  // Takes the field at the end of the table.
  errc note(message_head& head, const limits& bounds) noexcept;

  // What only all headers together can tell.
  errc finish(message_head& head, const limits& bounds) noexcept;

 private:
  void note_connection(std::string_view value) noexcept;

  bool closes_ = false;
  bool keeps_alive_ = false;
  bool expects_continue_ = false;
  bool upgrades_ = false;
  errc codings_{};
};

inline errc field_rules::note(message_head& head, const limits& bounds) noexcept {
  const field_span& span = head.fields.back();
  const char* const name = head.base + span.name;
  const std::string_view value(head.base + span.value, span.value_size);
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
      return is_authority(value, port_rule::optional, head.base) ? errc{} : errc::bad_host;
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

inline void field_rules::note_connection(std::string_view value) noexcept {
  if (value == "keep-alive") {
    keeps_alive_ = true;
    return;
  }
  while (!value.empty()) {
    const auto comma = std::min(value.find(','), value.size());
    const auto option = trim(value.substr(0, comma));
    closes_ = closes_ || is_lower(option, "close");
    keeps_alive_ = keeps_alive_ || is_lower(option, "keep-alive");
    upgrades_ = upgrades_ || is_lower(option, "upgrade");
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
}

inline errc field_rules::finish(message_head& head, const limits& bounds) noexcept {
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
