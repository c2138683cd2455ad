// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Clients on real sockets in the thread of the server's loop, which runs while they wait.
///
///     http_test::site site([](http::request&) { return http::response("hi"); });
///     auto client = site.connect();
///     client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
///     CHECK(client.answer().body == "hi");
///
/// Whoever waits gives up after 10 s.

#include <pulsar/apps/http/connection.hpp>
#include <pulsar/apps/http/handler.hpp>
#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/log.hpp>

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace http_test {

namespace http = pulsar::http;
using pulsar::event_loop;
using namespace std::chrono_literals;

/// Runs `loop` until `done()`; false if that takes over 10 s.
template <class F>
bool run_until(event_loop& loop, F done) {
  const auto give_up = event_loop::clock::now() + 10s;
  while (!done()) {
    if (event_loop::clock::now() > give_up) return false;
    loop.context().restart();
    loop.context().run_one_for(1ms);
  }
  return true;
}

/// Runs `loop` for that long, whatever happens.
inline void run_for(event_loop& loop, std::chrono::milliseconds time) {
  const auto end = event_loop::clock::now() + time;
  run_until(loop, [&] { return event_loop::clock::now() >= end; });
}

/// One response, as far as a client needs to take it apart.
struct answer {
  int code = 0;
  std::string head;  ///< with the empty line
  std::string body;

  bool has(std::string_view line) const {
    return head.find("\r\n" + std::string(line) + "\r\n") != std::string::npos;
  }
};

enum class with_body { yes, no };

/// One end of a connection; the other one is served by a loop of this thread.
class client {
 public:
  client(event_loop& loop, pulsar::unique_fd fd) : loop_(&loop), fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }

  /// Sends all of `text`.
  void send(std::string_view text) {
    REQUIRE(run_until(*loop_, [&] {
      text.remove_prefix(send_some(text));
      return text.empty();
    }));
  }

  /// Sends what the socket takes now, and returns how much that was.
  std::size_t send_some(std::string_view text) {
    const auto n = ::send(fd_.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) return static_cast<std::size_t>(n);
    REQUIRE((errno == EAGAIN || broken_pipe_is_fine_));
    return errno == EAGAIN ? 0 : text.size();
  }

  /// From now on what the server does not want any more may be sent.
  void tolerate_a_closed_server() { broken_pipe_is_fine_ = true; }

  /// Reads what has come; false at the end of the connection.
  bool read_some() {
    std::array<char, 64 * 1024> bytes;
    for (;;) {
      if (ended_) return false;
      const auto n = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return true;
      if (n < 0) was_reset_ = true;
      if (n <= 0) {
        ended_ = true;
        return false;
      }
      received_.append(bytes.data(), static_cast<std::size_t>(n));
    }
  }

  /// Waits for the next response.
  answer next(with_body kind = with_body::yes) {
    std::string_view text;
    std::size_t head_size = 0;
    std::size_t body_size = 0;
    const bool whole = run_until(*loop_, [&] {
      read_some();
      text = received();
      const auto end = text.find("\r\n\r\n");
      if (end == std::string_view::npos) return ended_;
      head_size = end + 4;
      const auto length = text.substr(0, end).find("\r\nContent-Length: ");
      body_size = kind == with_body::no || length == std::string_view::npos
                      ? 0
                      : std::strtoul(text.data() + length + 18, nullptr, 10);
      return text.size() >= head_size + body_size || ended_;
    });
    REQUIRE_MESSAGE(whole, "no response within 10 s, but ", std::string(text.substr(0, 200)));
    REQUIRE_MESSAGE(
        (head_size > 0 && text.size() >= head_size + body_size),
        "the connection ended before the response did: ", std::string(text.substr(0, 200)));
    answer result;
    result.head = text.substr(0, head_size);
    result.body = text.substr(head_size, body_size);
    result.code = std::stoi(result.head.substr(9, 3));
    taken_ += head_size + body_size;
    if (taken_ == received_.size()) {
      received_.clear();
      taken_ = 0;
    }
    return result;
  }

  /// Waits for the end of the connection; true if it was in good order and nothing came before.
  bool ends() {
    REQUIRE(run_until(*loop_, [&] { return !read_some(); }));
    return received().empty() && !was_reset_;
  }

  bool ended() {
    read_some();
    return ended_;
  }

  /// What has come and was not taken.
  std::string_view received() {
    read_some();
    return std::string_view(received_).substr(taken_);
  }

  void shut_down() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }

  /// Ends the connection with RST.
  void reset() {
    const linger at_once{1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    fd_.reset();
  }

  /// How many segments with data have come: on the loopback device as many as there were writes of
  /// up to 64 KiB.
  unsigned segments() const {
    // What the kernel has added to the structure that the C library knows.
    struct {
      tcp_info known;
      std::uint64_t rates_and_bytes[4];
      std::uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
    } info{};
    static_assert(sizeof info.known == 104);
    socklen_t size = sizeof info;
    REQUIRE(::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    REQUIRE(size == sizeof info);
    return info.data_segs_in;
  }

 private:
  event_loop* loop_;
  pulsar::unique_fd fd_;
  std::string received_;
  std::size_t taken_ = 0;
  bool ended_ = false;
  bool was_reset_ = false;
  bool broken_pipe_is_fine_ = false;
};

/// A blocking connect to a listener on this machine.
inline pulsar::unique_fd connect_to(const pulsar::address& where, int receive_buffer = 0) {
  const auto at = where.resolve();
  pulsar::unique_fd fd(::socket(at.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  if (receive_buffer > 0) {
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  REQUIRE(::connect(fd.get(), at.data(), static_cast<socklen_t>(at.size())) == 0);
  return fd;
}

/// A loop, a group of connections, and clients for them.
class site {
 public:
  explicit site(http::handler handler, http::connection_options options = {})
      : group(std::make_shared<http::connection_group>(
            loop, std::move(handler), std::move(options))) {}
  ~site() { group->abort(); }

  client connect(int receive_buffer = 0) {
    auto mine = connect_to(at_.local(), receive_buffer);
    std::error_code failure;
    auto theirs = at_.accept(failure);
    REQUIRE(theirs);
    serve(std::move(theirs));
    return client(loop, std::move(mine));
  }

  void serve(pulsar::unique_fd connected) {
    http::serve_connection(group, std::move(connected)).detach();
  }

  /// True once all connections are closed.
  bool all_closed() {
    return run_until(loop, [this] { return group->size() == 0; });
  }

  event_loop loop;
  std::shared_ptr<http::connection_group> group;

 private:
  pulsar::listener at_{pulsar::address("127.0.0.1:0")};
};

/// Keeps what is logged while it lives.
class log_keeper {
 public:
  log_keeper() {
    text().clear();
    before_ = pulsar::log::set_sink(
        [](pulsar::log_level, std::string_view line) { text().append(line); });
  }
  log_keeper(const log_keeper&) = delete;
  log_keeper& operator=(const log_keeper&) = delete;
  ~log_keeper() { pulsar::log::set_sink(before_); }

  bool has(std::string_view part) const { return text().find(part) != std::string::npos; }
  long lines() const { return std::count(text().begin(), text().end(), '\n'); }

  static std::string& text() {
    static std::string kept;
    return kept;
  }

 private:
  pulsar::log_sink before_;
};

/// "GET <target> HTTP/1.1" with a Host and `more` headers.
inline std::string get(std::string_view target, std::string_view more = {}) {
  return "GET " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n" + std::string(more) + "\r\n";
}

}  // namespace http_test
