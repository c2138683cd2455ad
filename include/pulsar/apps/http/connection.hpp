// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Connections of an HTTP server: requests in, responses out, in order, until either side is done.
///
///     auto group = std::make_shared<http::connection_group>(loop, handler, options);
///     http::serve_connection(group, std::move(accepted)).detach();
///
/// All whole requests that one read brings are answered with one write. While a response waits for
/// a slow client nothing more is read from it, and at most one response beyond 64 KiB is held.
/// HTTP/1.1 with keep-alive and pipelining, HTTP/1.0, HEAD, "100 Continue". What is malformed or
/// too large is answered with its 4xx or 5xx status, CONNECT with 501; the connection then stays
/// half open until the client has had time to read that.

#include <pulsar/apps/http/date.hpp>
#include <pulsar/apps/http/handler.hpp>
#include <pulsar/apps/http/limits.hpp>
#include <pulsar/core/buffer.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar::http {

/// How long a connection waits for its client. Zero means for ever in the first four.
struct timeouts {
  /// For the first byte of the next request, default 15 s, up to a quarter more. Then it is closed.
  std::chrono::milliseconds keep_alive{15'000};
  /// For the end of the headers, from their first byte on, default 30 s. Over it: 408. A new
  /// connection has as long for its first byte.
  std::chrono::milliseconds head{30'000};
  /// For more bytes of a body, default 30 s. Over it: 408.
  std::chrono::milliseconds body{30'000};
  /// For the client to take some bytes of a response, default 30 s. Then it is closed.
  std::chrono::milliseconds write{30'000};
  /// For the client to read a last response and close, when it may still be sending, default 5 s.
  std::chrono::milliseconds linger{5'000};
  /// For a request that may be under way when the server stops, default 250 ms.
  std::chrono::milliseconds drain{250};
};

/// What the connections of a server obey.
struct connection_options {
  http::limits limits{};
  http::timeouts timeouts{};
  /// The value of the header Server; empty: no such header.
  std::string server = "pulsar";
};

/// What the connections of a server have counted.
struct connection_counters {
  std::uint64_t connections = 0;  ///< accepted
  std::uint64_t requests = 0;     ///< given to the handler
  std::uint64_t refused = 0;      ///< messages answered with 4xx or 5xx by the server itself
  std::uint64_t failed = 0;       ///< requests whose handler threw or gave no final status: 500
};

namespace detail {

class connection;

/// Bytes to be written: those of small responses in a row, and the body of a large one where it
/// lies. What `serialize` writes to.
class output {
 public:
  /// From here on a text is not copied; `serialize` hands it over last.
  static constexpr std::size_t large = 16 * 1024;

  void append(std::string_view text) {
    if (!tail_.empty()) bytes_.append(std::exchange(tail_, {}));
    if (text.size() < large) {
      bytes_.append(text);
    } else {
      tail_ = text;
    }
  }

  bool empty() const noexcept { return bytes_.empty() && tail_.empty(); }
  std::size_t size() const noexcept { return bytes_.size() + tail_.size(); }
  std::string_view head() const noexcept { return bytes_.text(); }
  std::string_view tail() const noexcept { return tail_; }

  void consume(std::size_t n) noexcept {
    const std::size_t first = n < bytes_.size() ? n : bytes_.size();
    bytes_.consume(first);
    tail_.remove_prefix(n - first);
  }

  void clear() noexcept {
    bytes_.clear();
    tail_ = {};
  }

 private:
  buffer bytes_;
  std::string_view tail_;
};

// Lets through a number of log lines a second, and counts the others.
class failure_limit {
 public:
  static constexpr std::uint64_t most = 10;

  bool may_say(event_loop::time_point now) noexcept {
    if (said_ == 0 || now - since_ >= std::chrono::seconds(1)) {
      since_ = now;
      said_ = 0;
    }
    if (said_ == most) {
      ++kept_back_;
      return false;
    }
    ++said_;
    return true;
  }

  // What is said of the others at the end of the next line.
  std::string kept_back() {
    const auto n = std::exchange(kept_back_, 0);
    return n == 0 ? std::string() : " (and " + std::to_string(n) + " failures not logged before)";
  }

 private:
  event_loop::time_point since_{};
  std::uint64_t said_ = 0;
  std::uint64_t kept_back_ = 0;
};

}  // namespace detail

/// The connections of one server on one loop, and what they share. Belongs to the loop's thread.
///
/// Lives, by `std::shared_ptr`, as long as a connection does.
class connection_group {
 public:
  connection_group(event_loop& loop, http::handler handler, connection_options options = {})
      : loop_(loop), handler_(std::move(handler)), options_(std::move(options)) {}
  connection_group(const connection_group&) = delete;
  connection_group& operator=(const connection_group&) = delete;

  event_loop& loop() const noexcept { return loop_; }
  const connection_options& options() const noexcept { return options_; }
  const connection_counters& counters() const noexcept { return counters_; }

  /// How many connections are open.
  std::size_t size() const noexcept { return size_; }

  /// From now on each connection ends with the response to the request under way. One that is idle
  /// may still begin a request within `timeouts::drain`.
  void drain() noexcept;

  /// Closes every connection, in the middle of what it does; handlers are cancelled.
  void abort() noexcept;

  /// Done when no connection is open.
  future<> ended();

 private:
  friend class detail::connection;

  inline void enter(detail::connection& one) noexcept;
  inline void leave(detail::connection& one) noexcept;

  // Each at most ten times a second, together.
  inline void log_failure(const request& asked, std::string_view why) noexcept;
  inline void log_loss(const std::exception_ptr& why) noexcept;

  // The text of the header Date.
  std::string_view date() noexcept { return clock_.at(std::time(nullptr)); }

  event_loop& loop_;
  http::handler handler_;
  connection_options options_;
  connection_counters counters_;
  date_clock clock_;
  detail::failure_limit failures_;
  std::unique_ptr<detail::output> spare_;  // empty; for the next connection that writes
  detail::connection* first_ = nullptr;
  std::size_t size_ = 0;
  bool draining_ = false;
  std::vector<promise<>> waiting_;  // for `ended`
};

/// Serves a connected stream socket, non-blocking, until it is closed. The future never fails: what
/// goes wrong ends this connection alone and is logged. Throws `std::bad_alloc` if it cannot even
/// begin; the socket is closed then.
///
/// Cancelling it closes the connection.
future<> serve_connection(std::shared_ptr<connection_group> group, unique_fd socket);

}  // namespace pulsar::http

#include <pulsar/apps/http/detail/connection.hpp>
