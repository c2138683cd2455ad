// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What a server answers, and how it is written on the wire.
///
///     return http::response("Hello, World!\n");                  // 200, text/plain
///     return http::response(404, "no such book\n");
///     return http::response(201).header("Location", "/books/7");
///     return http::response(json).content_type("application/json");
///
/// Content-Length, Transfer-Encoding and Date belong to the server: they follow from the body and
/// the clock. A header that would break out of its line is refused with an exception.

#include <pulsar/apps/http/detail/head_writer.hpp>
#include <pulsar/apps/http/error.hpp>
#include <pulsar/apps/http/headers.hpp>
#include <pulsar/apps/http/method.hpp>
#include <pulsar/apps/http/request.hpp>
#include <pulsar/apps/http/status.hpp>
#include <pulsar/core/error.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace pulsar::http {

/// A status, headers and a body.
class response {
 public:
  /// 200 with an empty body.
  response() = default;

  /// 200 with that text.
  response(std::string body) noexcept : body_(std::move(body)) {}
  response(std::string_view body) : body_(body) {}
  response(const char* body) : body_(body) {}

  /// `code` is any number from 100 to 599. Throws `pulsar::error` with
  /// `std::errc::invalid_argument` for another one.
  explicit response(int code, std::string body = {}) : code_(code), body_(std::move(body)) {
    if (code < 100 || code > 599) [[unlikely]] {
      std::string what = "there is no HTTP status ";
      what.append(std::to_string(code)).append(": use 100 to 599");
      throw pulsar::error(std::make_error_code(std::errc::invalid_argument), what);
    }
  }
  explicit response(http::status code, std::string body = {}) noexcept
      : code_(static_cast<int>(code)), body_(std::move(body)) {}

  int code() const noexcept { return code_; }
  const std::string& body() const noexcept { return body_; }
  const header_block& headers() const noexcept { return headers_; }

  /// Content-Type as it will be sent: the one that was set, or "text/plain; charset=utf-8".
  std::string_view content_type() const noexcept {
    return has_type_ ? *headers_.find("content-type") : default_type;
  }

  /// True unless the connection shall be closed behind this response.
  bool keep_alive() const noexcept { return !closes_; }

  /// Adds a header; what may stand once, as Content-Type, replaces the one before.
  ///
  /// Throws `pulsar::error`: `errc::bad_header_name` for a name that is no token and for
  /// Content-Length and Transfer-Encoding, `errc::bad_header_value` for a value with a line break
  /// or another control byte.
  response& header(std::string_view name, std::string_view value) & {
    add(name, value);
    return *this;
  }
  response&& header(std::string_view name, std::string_view value) && {
    add(name, value);
    return std::move(*this);
  }

  /// Says what the body is; throws as `header`.
  response& content_type(std::string_view value) & {
    add("Content-Type", value);
    return *this;
  }
  response&& content_type(std::string_view value) && {
    add("Content-Type", value);
    return std::move(*this);
  }

  /// Puts `text` in the place of the body.
  response& body(std::string text) & noexcept {
    body_ = std::move(text);
    return *this;
  }
  response&& body(std::string text) && noexcept {
    body_ = std::move(text);
    return std::move(*this);
  }

  /// Closes the connection behind this response.
  response& close() & noexcept {
    closes_ = true;
    return *this;
  }
  response&& close() && noexcept {
    closes_ = true;
    return std::move(*this);
  }

 private:
  template <class Out>
  friend void serialize(const response&, const struct delivery&, Out&);

  static constexpr std::string_view default_type = "text/plain; charset=utf-8";

  void add(std::string_view name, std::string_view value) {
    switch (name.size()) {
      case 4:
        if (iequals(name, "date")) return set_once(name, value, has_date_);
        break;
      case 6:
        if (iequals(name, "server")) return set_once(name, value, has_server_);
        break;
      case 10:
        // Whether the connection is kept is written by `serialize`, from all who have a say.
        if (!iequals(name, "connection")) break;
        if (iequals(detail::trim(value), "keep-alive")) return;
        if (has_token(value, "close")) {
          closes_ = true;
          return;
        }
        break;
      case 12:
        if (iequals(name, "content-type")) return set_once(name, value, has_type_);
        break;
      case 14:
      case 17:
        if (iequals(name, "content-length") || iequals(name, "transfer-encoding")) {
          std::string what = "the header '";
          what.append(name).append("' is written by the server: give the body instead");
          throw pulsar::error(errc::bad_header_name, what);
        }
        break;
      default: break;
    }
    headers_.add(name, value);
  }

  void set_once(std::string_view name, std::string_view value, bool& is_set) {
    headers_.set(name, value);
    is_set = true;
  }

  int code_ = 200;
  bool has_type_ = false;
  bool has_date_ = false;
  bool has_server_ = false;
  bool closes_ = false;
  header_block headers_;
  std::string body_;
};

/// What a response depends on beside itself: the request it answers, and the server.
struct delivery {
  /// The method of the request: HEAD gets no body, CONNECT no length.
  http::method method = http::method::get;
  /// The version of the request: 1.0 is told when the connection is kept.
  http::version version = http::version::http_1_1;
  /// Whether the connection is kept, as far as the request and the server are concerned.
  bool keep_alive = true;
  /// The text of the header Date, as `date_clock` gives it; empty: no such header.
  std::string_view date{};
  /// The text of the header Server; empty: no such header.
  std::string_view server{};
};

/// What the answer to `request` depends on.
inline delivery delivery_for(const request& request,
                             std::string_view date = {},
                             std::string_view server = {}) noexcept {
  return {request.method(), request.version(), request.keep_alive(), date, server};
}

/// Writes the response as it goes on the wire, at the end of `out`.
///
/// `out` has `append(std::string_view)`: a `pulsar::buffer` or a `std::string`. A response of up
/// to 1 KiB is one call. A body is left out where none may be (HEAD, 1xx, 204, 304, 2xx to
/// CONNECT), and so is Content-Length where it may not be. The connection is kept behind it if both
/// `how.keep_alive` and `response.keep_alive()` are true.
template <class Out>
void serialize(const response& response, const delivery& how, Out& out) {
  detail::head_writer<Out> head(out);
  const int code = response.code_;
  const bool tunnel = how.method == method::connect && code >= 200 && code < 300;
  const bool bodiless = is_bodiless(code) || tunnel;
  const std::string_view body = code == 205 ? std::string_view() : response.body_;
  head.put_status(code);
  if (!how.server.empty() && !response.has_server_) {
    head.put("Server: ");
    head.put(how.server);
    head.put("\r\n");
  }
  if (!how.date.empty() && !response.has_date_) {
    head.put("Date: ");
    head.put(how.date);
    head.put("\r\n");
  }
  if (!bodiless) {
    if (!response.has_type_ && !body.empty()) {
      head.put("Content-Type: text/plain; charset=utf-8\r\n");
    }
    head.put("Content-Length: ");
    head.put_number(body.size());
    head.put("\r\n");
  }
  if (code >= 200 && !tunnel) {
    if (response.closes_ || !how.keep_alive) {
      head.put("Connection: close\r\n");
    } else if (how.version == version::http_1_0) [[unlikely]] {
      head.put("Connection: keep-alive\r\n");
    }
  }
  head.put(response.headers_.text());
  head.put("\r\n");
  head.finish(bodiless || how.method == method::head ? std::string_view() : body);
}

/// The interim answer to `request.expects_continue()`, as it goes on the wire.
inline constexpr std::string_view continue_line = "HTTP/1.1 100 Continue\r\n\r\n";

/// The answer to a message that the parser has refused: its status, the reason as text, and the
/// connection is closed.
inline response refusal(std::error_code why) {
  const auto code = status_of(why);
  std::string text = std::to_string(static_cast<int>(code)).append(" ").append(reason(code));
  if (why.category() == error_category()) text.append(": ").append(why.message());
  return response(code, text.append("\n")).close();
}

}  // namespace pulsar::http
