// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The control pair between the arbiter and a worker: small packets, and descriptors, that never
// wait behind the messages of users.

#include <pulsar/actors/detail/control_socket.hpp>
#include <pulsar/actors/image.hpp>
#include <pulsar/core/codec.hpp>
#include <pulsar/core/operation.hpp>

#include <asio/posix/basic_stream_descriptor.hpp>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pulsar::detail {

/// A descriptor whose readiness is waited for.
using watched_descriptor = asio::posix::basic_stream_descriptor<asio::io_context::executor_type>;

inline constexpr std::uint32_t wire_version = 1;

enum class control_kind : std::uint8_t {
  hello = 1,  // worker: `objects`, `number` the wire's version
  welcome,    // arbiter: the worker may serve
  refused,    // arbiter: `text` says why not
  introduce,  // worker: wants a line to process `number`, has had `count` of them
  line,       // arbiter: a descriptor, the line to process `number`
  down,       // arbiter: process `number` has ended, `text` says how
  stop,       // arbiter: end within `number` milliseconds
  leaving,    // worker: it ends, and the names of its actors are free
};

struct control_message {
  control_kind kind = control_kind::hello;
  std::uint64_t number = 0;
  std::string text;
  std::vector<image::object_version> objects;
  std::uint64_t count = 0;
};

/// Why a control line is no more.
enum class control_ending {
  closed,  // the other side has closed its end, or has died
  broken,  // what came is no packet, or the system reports an error
};

/// One end. Belongs to its loop.
class control_line : public std::enable_shared_from_this<control_line> {
 public:
  using receiver = std::function<void(control_message&&, std::vector<unique_fd>&&)>;

  control_line(event_loop& loop, unique_fd fd)
      : loop_(loop), socket_(std::move(fd)), ready_(loop.context(), socket_.handle()) {}
  control_line(const control_line&) = delete;
  control_line& operator=(const control_line&) = delete;
  ~control_line() { ready_.release(); }

  /// Calls `received` for each packet and, once, `ended` when there will be no more.
  void start(receiver received, std::function<void(control_ending)> ended) {
    received_ = std::move(received);
    ended_ = std::move(ended);
    read(loop_, shared_from_this()).detach();
  }

  void send(const control_message& message, unique_fd descriptor = {}) {
    if (!open_) return;
    packet p{encode(message), std::move(descriptor)};
    unsent_.push_back(std::move(p));
    flush();
  }

  /// Nothing is received any more, and `ended` is not called.
  void close() {
    received_ = nullptr;
    ended_ = nullptr;
    open_ = false;
    std::error_code ignored;
    ready_.cancel(ignored);
  }

  bool open() const noexcept { return open_; }

 private:
  struct packet {
    buffer bytes;
    unique_fd descriptor;
  };

  void flush() {
    while (!unsent_.empty() && !waiting_) {
      auto& p = unsent_.front();
      const int fd = p.descriptor.get();
      try {
        const auto sent = socket_.send(p.bytes.readable(), {&fd, fd >= 0 ? 1U : 0U});
        if (sent == transfer::would_block) {
          waiting_ = true;
          wait_writable(loop_, shared_from_this()).detach();
          return;
        }
      } catch (const std::exception& e) {
        log::error("a control packet was not sent: {}", e.what());
      }
      unsent_.pop_front();
    }
  }

  static future<> wait_writable(event_loop&, std::shared_ptr<control_line> self) {
    auto waited =
        co_await self->ready_.async_wait(asio::posix::descriptor_base::wait_write, use_result);
    self->waiting_ = false;
    if (!std::get<0>(waited)) self->flush();
  }

  static future<> read(event_loop&, std::shared_ptr<control_line> self) {
    for (;;) {
      auto waited =
          co_await self->ready_.async_wait(asio::posix::descriptor_base::wait_read, use_result);
      if (std::get<0>(waited) || !self->open_) break;
      if (!self->receive()) break;
    }
    self->open_ = false;
    self->unsent_.clear();
    if (auto ended = std::exchange(self->ended_, nullptr)) ended(self->how_);
  }

  // All packets that are there; false at the end.
  bool receive() {
    try {
      for (;;) {
        control_packet p;
        const auto got = socket_.receive(p);
        if (got == transfer::would_block) return true;
        if (got == transfer::closed) return false;
        auto message = decode<control_message>(p.bytes);
        if (!received_) return false;
        received_(std::move(message), std::move(p.descriptors));
        if (!open_) return false;
      }
    } catch (const std::exception& e) {
      log::error("a control line is closed, for what came is no packet: {}", e.what());
      how_ = control_ending::broken;
      return false;
    }
  }

  event_loop& loop_;
  control_socket socket_;
  watched_descriptor ready_;
  receiver received_;
  std::function<void(control_ending)> ended_;
  control_ending how_ = control_ending::closed;
  std::deque<packet> unsent_;
  bool open_ = true;
  bool waiting_ = false;
};

}  // namespace pulsar::detail
