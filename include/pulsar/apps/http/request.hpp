// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What a client asked for, as a handler sees it.
///
///     http::response greet(http::request& request) {
///       if (request.method() != http::method::get) return http::response(405);
///       return http::response("hello " + std::string(request.path()) + "\n");
///     }
///
/// A request owns nothing: its texts are views into the buffer of the connection, good until the
/// handler has finished. What is to live longer is copied: `std::string(request.path())`.

#include <pulsar/apps/http/detail/message_head.hpp>
#include <pulsar/apps/http/headers.hpp>
#include <pulsar/apps/http/method.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace pulsar::http {

/// The body of a request, whole and with its chunks decoded.
class request_body : public std::string_view {
 public:
  using std::string_view::string_view;
};

/// One request; the parser fills it, and fills it anew for the next one of the connection.
class request {
 public:
  request() noexcept {}
  request(request&&) noexcept = default;
  request& operator=(request&&) noexcept = default;
  /// Not copied: the copy would be views of bytes that somebody else lets go.
  request(const request&) = delete;
  request& operator=(const request&) = delete;

  http::method method() const noexcept { return head_.verb; }

  /// The method as the client wrote it.
  std::string_view method_name() const noexcept { return head_.text(head_.method_name); }

  /// The target as the client wrote it: "/search?q=1", "http://example.org/", "*".
  std::string_view target() const noexcept { return head_.text(head_.target); }

  /// The path of the target, not decoded, without its query: "/search". "*" where the whole server
  /// is meant (OPTIONS), empty for CONNECT.
  std::string_view path() const noexcept {
    if (head_.path.size == 0 && head_.authority.size != 0 && method() != method::connect) {
      return method() == method::options && head_.query.size == 0 ? "*" : "/";
    }
    return head_.text(head_.path);
  }

  /// What stands behind the first '?', not decoded; empty without one.
  std::string_view query() const noexcept { return head_.text(head_.query); }

  http::version version() const noexcept { return head_.version; }

  /// `host[:port]` the client means: of the target where it names one, else the header Host.
  std::string_view host() const noexcept {
    return head_.authority.size != 0 ? head_.text(head_.authority)
                                     : head_.value(detail::known::host);
  }

  /// Content-Type; empty without one.
  std::string_view content_type() const noexcept {
    return head_.value(detail::known::content_type);
  }

  /// The length the client announced; nothing if there is no body or its length is not known.
  std::optional<std::uint64_t> content_length() const noexcept {
    if (!head_.has(detail::known::content_length)) return std::nullopt;
    return head_.content_length;
  }

  /// All headers, in the order they came.
  header_list headers() const noexcept {
    return {head_.base, head_.fields.data(), head_.header_count};
  }

  /// The value of the first header of that name; empty if there is none.
  std::string_view header(std::string_view name) const noexcept {
    return headers().find(name).value_or(std::string_view());
  }

  /// The headers that came behind a chunked body. Those that could change the meaning of the
  /// message are refused by the parser.
  header_list trailers() const noexcept {
    return {head_.base, head_.fields.data() + head_.header_count,
            head_.fields.size() - head_.header_count};
  }

  request_body body() const noexcept {
    return request_body(head_.base + head_.body, head_.body_size);
  }

  /// True if the connection may be used for another request after this one (RFC 9112 9.3).
  bool keep_alive() const noexcept { return head_.keep_alive; }

  /// True if the client waits for "100 Continue" before it sends the body.
  bool expects_continue() const noexcept { return head_.expects_continue; }

  /// The protocols the client would go on with on this connection; empty if it does not ask.
  std::string_view upgrade() const noexcept {
    return head_.wants_upgrade ? head_.value(detail::known::upgrade) : std::string_view();
  }

 private:
  friend class parser;

  detail::message_head head_;
};

}  // namespace pulsar::http
