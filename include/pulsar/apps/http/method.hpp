// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The words of a request line: methods (those of RFC 9110, and PATCH) and protocol versions.
///
///     if (request.method() == http::method::post) store(request.body());
///
/// A server answers 501 to any other method and 505 to any other major version. Method names are
/// case-sensitive.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulsar::http {

/// What a request asks to be done; `unknown` is every name that is not in this list.
enum class method : std::uint8_t {
  unknown,
  get,
  head,
  post,
  put,
  delete_,
  connect,
  options,
  trace,
  patch,
};

/// The versions that are spoken; a higher minor number counts as 1.1.
enum class version : std::uint8_t { http_1_0, http_1_1 };

/// How many methods there are, `unknown` counted.
inline constexpr std::size_t method_count = 10;

/// The name on the wire: "GET", "DELETE"; "UNKNOWN" for `unknown`.
constexpr std::string_view to_string(method value) noexcept {
  constexpr std::string_view names[method_count] = {
      "UNKNOWN", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  return names[static_cast<std::size_t>(value)];
}

/// "HTTP/1.0" or "HTTP/1.1".
constexpr std::string_view to_string(version value) noexcept {
  return value == version::http_1_0 ? "HTTP/1.0" : "HTTP/1.1";
}

/// The method of that name, `unknown` if there is none.
constexpr method parse_method(std::string_view name) noexcept {
  switch (name.size()) {
    case 3:
      if (name == "GET") return method::get;
      if (name == "PUT") return method::put;
      break;
    case 4:
      if (name == "POST") return method::post;
      if (name == "HEAD") return method::head;
      break;
    case 5:
      if (name == "PATCH") return method::patch;
      if (name == "TRACE") return method::trace;
      break;
    case 6:
      if (name == "DELETE") return method::delete_;
      break;
    case 7:
      if (name == "OPTIONS") return method::options;
      if (name == "CONNECT") return method::connect;
      break;
    default: break;
  }
  return method::unknown;
}

/// True for methods that only read: a client may repeat them, a cache may answer them.
constexpr bool is_safe(method value) noexcept {
  return value == method::get || value == method::head || value == method::options ||
         value == method::trace;
}

/// True for methods that may be sent twice with the effect of once, as after a lost connection.
constexpr bool is_idempotent(method value) noexcept {
  return is_safe(value) || value == method::put || value == method::delete_;
}

}  // namespace pulsar::http
