// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Addresses in log lines: a formatter of fmt for `address`, and `<<`.
///
///     log::info("listening on {}", at.local());   // listening on [::1]:8060
///     fmt::print("{:>20}\n", where);              // width, fill and precision as of a text
///
/// The text is that of `to_string`, and of a socket in Linux's abstract namespace, which has no
/// path and begins with a zero byte, "unix:@name", as ss and netstat write it.

#include <pulsar/core/address.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <string_view>

namespace pulsar {

namespace detail {

inline std::string text_of_address(const address& where) {
  std::string text = where.to_string();
  std::replace(text.begin(), text.end(), '\0', '@');
  return text;
}

}  // namespace detail

inline std::ostream& operator<<(std::ostream& out, const address& where) {
  return out << detail::text_of_address(where);
}

}  // namespace pulsar

template <>
struct fmt::formatter<pulsar::address> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const pulsar::address& where, Context& context) const {
    return fmt::formatter<std::string_view>::format(pulsar::detail::text_of_address(where),
                                                    context);
  }
};
