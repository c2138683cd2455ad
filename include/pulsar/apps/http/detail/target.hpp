// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The four forms of a request target (RFC 9112 3.2) and what is a host (RFC 3986 3.2.2).

#include <pulsar/apps/http/detail/message_head.hpp>
#include <pulsar/apps/http/detail/scan.hpp>
#include <pulsar/apps/http/error.hpp>
#include <pulsar/apps/http/method.hpp>

#include <arpa/inet.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulsar::http::detail {

inline bool is_ipv6(std::string_view text) noexcept {
  char copy[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof copy) return false;
  copy[text.copy(copy, sizeof copy - 1)] = '\0';
  in6_addr parsed;
  return ::inet_pton(AF_INET6, copy, &parsed) == 1;
}

constexpr bool is_hex(char c) noexcept {
  return is_digit(c) || (to_lower(c) >= 'a' && to_lower(c) <= 'f');
}

enum class port_rule : std::uint8_t { optional, required };

// host [ ":" port ]; no user, no path, no list. An empty port is one that is left out. The bytes
// from `base` to `text` can be read.
inline bool is_authority(std::string_view text, port_rule rule, const char* base) noexcept {
  std::size_t at = 0;
  if (text.starts_with('[')) {
    at = text.find(']');
    if (at == std::string_view::npos || !is_ipv6(text.substr(1, at - 1))) return false;
    ++at;
  } else {
    for (;;) {
      at = static_cast<std::size_t>(skip_host(text.data() + at, text.data() + text.size(), base) -
                                    text.data());
      if (at == text.size() || text[at] != '%') break;
      if (text.size() - at < 3 || !is_hex(text[at + 1]) || !is_hex(text[at + 2])) return false;
      at += 3;
    }
    if (at == 0) return false;
  }
  if (at == text.size()) return rule == port_rule::optional;
  if (text[at] != ':') return false;
  const auto digits = text.substr(at + 1);
  unsigned port = 0;
  for (const char c : digits) {
    if (!is_digit(c)) return false;
    port = port * 10 + static_cast<unsigned>(c - '0');
    if (port > 65535) return false;
  }
  return rule == port_rule::optional || (!digits.empty() && port != 0);
}

// The length of "http://" or "https://" at the start of `text`, 0 if neither is there.
constexpr std::size_t scheme_size(std::string_view text) noexcept {
  constexpr std::string_view scheme = "https";
  std::size_t at = 0;
  while (at < scheme.size() && at < text.size() && to_lower(text[at]) == scheme[at]) ++at;
  return at >= 4 && text.substr(at, 3) == "://" ? at + 3 : 0;
}

// Splits the target of `head`; `mark` is the place of its first '?', 0 if it has none.
inline errc split_target(message_head& head, std::uint32_t mark) noexcept {
  const std::string_view target = head.text(head.target);
  const std::uint32_t end = head.target.at + head.target.size;
  std::uint32_t path = head.target.at;
  if (head.verb == method::connect) {
    head.authority = head.target;
    return is_authority(target, port_rule::required, head.base) ? errc{} : errc::bad_target;
  }
  if (target.front() != '/') {
    if (target == "*") {
      head.path = head.target;
      return head.verb == method::options ? errc{} : errc::bad_target;
    }
    const auto scheme = static_cast<std::uint32_t>(scheme_size(target));
    if (scheme == 0) return errc::bad_target;
    const auto host_size = static_cast<std::uint32_t>(
        std::min(target.find_first_of("/?", scheme), target.size()) - scheme);
    head.authority = {path + scheme, host_size};
    if (!is_authority(head.text(head.authority), port_rule::optional, head.base))
      return errc::bad_host;
    path += scheme + host_size;
  }
  head.path = {path, (mark == 0 ? end : mark) - path};
  if (mark != 0) head.query = {mark + 1, end - mark - 1};
  return errc{};
}

}  // namespace pulsar::http::detail
