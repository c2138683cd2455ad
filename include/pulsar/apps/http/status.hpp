// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Status codes and their reason phrases, as IANA registers them.
///
///     return http::response(http::status::not_found, "no such book");
///
/// A code that is not registered is a plain number: `http::response(299)`.

#include <cstdint>
#include <string_view>

namespace pulsar::http {

/// The registered status codes.
enum class status : std::uint16_t {
  continue_ = 100,
  switching_protocols = 101,
  processing = 102,
  early_hints = 103,
  ok = 200,
  created = 201,
  accepted = 202,
  non_authoritative_information = 203,
  no_content = 204,
  reset_content = 205,
  partial_content = 206,
  multi_status = 207,
  already_reported = 208,
  im_used = 226,
  multiple_choices = 300,
  moved_permanently = 301,
  found = 302,
  see_other = 303,
  not_modified = 304,
  use_proxy = 305,
  temporary_redirect = 307,
  permanent_redirect = 308,
  bad_request = 400,
  unauthorized = 401,
  payment_required = 402,
  forbidden = 403,
  not_found = 404,
  method_not_allowed = 405,
  not_acceptable = 406,
  proxy_authentication_required = 407,
  request_timeout = 408,
  conflict = 409,
  gone = 410,
  length_required = 411,
  precondition_failed = 412,
  content_too_large = 413,
  uri_too_long = 414,
  unsupported_media_type = 415,
  range_not_satisfiable = 416,
  expectation_failed = 417,
  im_a_teapot = 418,
  misdirected_request = 421,
  unprocessable_content = 422,
  locked = 423,
  failed_dependency = 424,
  too_early = 425,
  upgrade_required = 426,
  precondition_required = 428,
  too_many_requests = 429,
  request_header_fields_too_large = 431,
  unavailable_for_legal_reasons = 451,
  internal_server_error = 500,
  not_implemented = 501,
  bad_gateway = 502,
  service_unavailable = 503,
  gateway_timeout = 504,
  http_version_not_supported = 505,
  variant_also_negotiates = 506,
  insufficient_storage = 507,
  loop_detected = 508,
  not_extended = 510,
  network_authentication_required = 511,
};

/// The phrase that stands behind the code in a status line; empty for a code without one.
constexpr std::string_view reason(int code) noexcept {
  switch (static_cast<status>(code)) {
    case status::continue_: return "Continue";
    case status::switching_protocols: return "Switching Protocols";
    case status::processing: return "Processing";
    case status::early_hints: return "Early Hints";
    case status::ok: return "OK";
    case status::created: return "Created";
    case status::accepted: return "Accepted";
    case status::non_authoritative_information: return "Non-Authoritative Information";
    case status::no_content: return "No Content";
    case status::reset_content: return "Reset Content";
    case status::partial_content: return "Partial Content";
    case status::multi_status: return "Multi-Status";
    case status::already_reported: return "Already Reported";
    case status::im_used: return "IM Used";
    case status::multiple_choices: return "Multiple Choices";
    case status::moved_permanently: return "Moved Permanently";
    case status::found: return "Found";
    case status::see_other: return "See Other";
    case status::not_modified: return "Not Modified";
    case status::use_proxy: return "Use Proxy";
    case status::temporary_redirect: return "Temporary Redirect";
    case status::permanent_redirect: return "Permanent Redirect";
    case status::bad_request: return "Bad Request";
    case status::unauthorized: return "Unauthorized";
    case status::payment_required: return "Payment Required";
    case status::forbidden: return "Forbidden";
    case status::not_found: return "Not Found";
    case status::method_not_allowed: return "Method Not Allowed";
    case status::not_acceptable: return "Not Acceptable";
    case status::proxy_authentication_required: return "Proxy Authentication Required";
    case status::request_timeout: return "Request Timeout";
    case status::conflict: return "Conflict";
    case status::gone: return "Gone";
    case status::length_required: return "Length Required";
    case status::precondition_failed: return "Precondition Failed";
    case status::content_too_large: return "Content Too Large";
    case status::uri_too_long: return "URI Too Long";
    case status::unsupported_media_type: return "Unsupported Media Type";
    case status::range_not_satisfiable: return "Range Not Satisfiable";
    case status::expectation_failed: return "Expectation Failed";
    case status::im_a_teapot: return "I'm a teapot";
    case status::misdirected_request: return "Misdirected Request";
    case status::unprocessable_content: return "Unprocessable Content";
    case status::locked: return "Locked";
    case status::failed_dependency: return "Failed Dependency";
    case status::too_early: return "Too Early";
    case status::upgrade_required: return "Upgrade Required";
    case status::precondition_required: return "Precondition Required";
    case status::too_many_requests: return "Too Many Requests";
    case status::request_header_fields_too_large: return "Request Header Fields Too Large";
    case status::unavailable_for_legal_reasons: return "Unavailable For Legal Reasons";
    case status::internal_server_error: return "Internal Server Error";
    case status::not_implemented: return "Not Implemented";
    case status::bad_gateway: return "Bad Gateway";
    case status::service_unavailable: return "Service Unavailable";
    case status::gateway_timeout: return "Gateway Timeout";
    case status::http_version_not_supported: return "HTTP Version Not Supported";
    case status::variant_also_negotiates: return "Variant Also Negotiates";
    case status::insufficient_storage: return "Insufficient Storage";
    case status::loop_detected: return "Loop Detected";
    case status::not_extended: return "Not Extended";
    case status::network_authentication_required: return "Network Authentication Required";
  }
  return {};
}

/// The phrase of a registered code.
constexpr std::string_view reason(status code) noexcept { return reason(static_cast<int>(code)); }

/// True for the codes whose response never has a body: 1xx, 204 and 304.
constexpr bool is_bodiless(int code) noexcept { return code < 200 || code == 204 || code == 304; }

}  // namespace pulsar::http
