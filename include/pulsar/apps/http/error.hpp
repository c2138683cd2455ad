// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What can be wrong with a message: `http::errc`, its category, and the status that answers it.
///
///     if (parser.parse(data, size, request) == http::progress::failed) {
///       pulsar::log::info("refused: {}", parser.error().message());
///       answer(http::refusal(parser.error()));   // 400, 413, 414, 431, 501 or 505
///     }
///
/// The category is named "pulsar.http". After any of these the connection is closed, for where
/// the next message begins is not known.

#include <pulsar/apps/http/status.hpp>

#include <string>
#include <system_error>
#include <type_traits>

namespace pulsar::http {

/// Why a message was refused.
enum class errc {
  /// The method is no token, or no single blank follows it.
  bad_method = 1,
  /// A target that is empty, relative, or in a form its method does not allow.
  bad_target,
  /// Not `HTTP/` digit `.` digit.
  bad_version,
  /// A line that ends with LF alone, or a CR that no LF follows.
  bad_line_end,
  /// A header name that is empty or no token; a blank before the colon is one of these.
  bad_header_name,
  /// NUL or another control byte in a header value.
  bad_header_value,
  /// A header value that goes on in the next line.
  folded_header,
  /// A header that may stand once stands twice.
  repeated_header,
  /// An HTTP/1.1 request without Host.
  missing_host,
  /// Host, or the authority of the target, is empty or no `host[:port]`.
  bad_host,
  /// Content-Length is not one decimal number.
  bad_content_length,
  /// Transfer-Encoding that does not end in one `chunked`, or in HTTP/1.0.
  bad_transfer_encoding,
  /// Both Content-Length and Transfer-Encoding.
  ambiguous_length,
  /// A chunk whose size, extension or end is malformed.
  bad_chunk,
  /// A trailer that may only stand in the header section.
  forbidden_trailer,
  /// The connection ended before the message did.
  truncated,
  /// The body is over its limit.
  body_too_large,
  /// The extensions of the chunks are over their limit.
  chunk_extensions_too_large,
  /// The request line is over its limit.
  target_too_long,
  /// One header line, or all of them together, is over its limit.
  header_too_large,
  /// More headers than the limit.
  too_many_headers,
  /// A method that this server does not know.
  unknown_method,
  /// A transfer coding before `chunked`.
  unknown_transfer_coding,
  /// Not HTTP/1.
  unsupported_version,
};

namespace detail {

class error_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "pulsar.http"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::bad_method: return "the request line does not begin with a method and a blank";
      case errc::bad_target: return "the target is malformed or not allowed with this method";
      case errc::bad_version: return "the request line does not end with an HTTP version";
      case errc::bad_line_end: return "a line does not end with CR LF";
      case errc::bad_header_name: return "a header name is not a token followed by a colon";
      case errc::bad_header_value: return "a header value has a control character";
      case errc::folded_header: return "a header is folded over several lines";
      case errc::repeated_header: return "a header that may stand once is repeated";
      case errc::missing_host: return "the Host header is missing";
      case errc::bad_host: return "the host is empty or malformed";
      case errc::bad_content_length: return "Content-Length is not one decimal number";
      case errc::bad_transfer_encoding: return "Transfer-Encoding is not exactly one chunked";
      case errc::ambiguous_length: return "both Content-Length and Transfer-Encoding are given";
      case errc::bad_chunk: return "a chunk of the body is malformed";
      case errc::forbidden_trailer: return "a trailer is not allowed there";
      case errc::truncated: return "the connection ended within a message";
      case errc::body_too_large: return "the body is larger than the limit";
      case errc::chunk_extensions_too_large:
        return "the chunk extensions are larger than the limit";
      case errc::target_too_long: return "the request line is longer than the limit";
      case errc::header_too_large: return "the headers are larger than the limit";
      case errc::too_many_headers: return "there are more headers than the limit";
      case errc::unknown_method: return "the method is not known here";
      case errc::unknown_transfer_coding: return "a transfer coding is not known here";
      case errc::unsupported_version: return "only HTTP/1.1 and HTTP/1.0 are spoken here";
    }
    return "unknown HTTP error";
  }

  std::error_condition default_error_condition(int value) const noexcept override {
    switch (static_cast<errc>(value)) {
      case errc::body_too_large:
      case errc::chunk_extensions_too_large:
      case errc::target_too_long:
      case errc::header_too_large:
      case errc::too_many_headers: return std::errc::message_size;
      case errc::unknown_method:
      case errc::unknown_transfer_coding:
      case errc::unsupported_version: return std::errc::not_supported;
      default: return std::errc::bad_message;
    }
  }
};

}  // namespace detail

/// The category of `http::errc`, named "pulsar.http".
inline const std::error_category& error_category() noexcept {
  static const detail::error_category instance;
  return instance;
}

/// Found by argument-dependent look-up when an `http::errc` becomes a `std::error_code`.
inline std::error_code make_error_code(errc value) noexcept {
  return {static_cast<int>(value), error_category()};
}

}  // namespace pulsar::http

template <>
struct std::is_error_code_enum<pulsar::http::errc> : std::true_type {};

namespace pulsar::http {

/// The status that answers `value`: 413, 414, 431, 501, 505, or 400 for what is malformed.
constexpr status status_of(errc value) noexcept {
  switch (value) {
    case errc::body_too_large:
    case errc::chunk_extensions_too_large: return status::content_too_large;
    case errc::target_too_long: return status::uri_too_long;
    case errc::header_too_large:
    case errc::too_many_headers: return status::request_header_fields_too_large;
    case errc::unknown_method:
    case errc::unknown_transfer_coding: return status::not_implemented;
    case errc::unsupported_version: return status::http_version_not_supported;
    default: return status::bad_request;
  }
}

/// The same for an error code; 500 for one of another category.
inline status status_of(std::error_code code) noexcept {
  return code.category() == error_category() ? status_of(static_cast<errc>(code.value()))
                                             : status::internal_server_error;
}

}  // namespace pulsar::http
