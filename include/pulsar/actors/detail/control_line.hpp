// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The control pair between the arbiter and a worker: small packets, and descriptors, that never
// wait behind the messages of users.

#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/detail/control_socket.hpp>
#include <pulsar/actors/detail/line.hpp>
#include <pulsar/core/codec.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar::detail {

inline constexpr std::uint32_t wire_version = 1;

enum class control_kind : std::uint8_t {
  hello = 1,  // worker: `text` describes its image, `number` is the wire's version
  welcome,    // arbiter: the worker may serve
  refused,    // arbiter: `text` says why not
  introduce,  // worker: wants a line to process `number`, has had `count` of them
  line,       // arbiter: a descriptor, the line to process `number`
  down,       // arbiter: process `number` has ended, `text` says how
  stop,       // arbiter: end within `number` milliseconds
  leaving,    // worker: it ends, and the names of its actors are free
  no_line,    // arbiter: none to process `number` now, `text` says why, `count` is the system's error
};

struct control_message {
  control_kind kind = control_kind::hello;
  std::uint64_t number = 0;
  std::string text;
  std::uint64_t count = 0;
};

template <>
inline constexpr bool codec::own_record<control_message> = true;

/// Why a control line is no more.
enum class control_ending {
  closed,  // the other side has closed its end, or has died
  broken,  // what came is no packet, or too much waits for the other side to read it
};

/// One end. Belongs to its loop.
class control_line final : public line {
 public:
  /// What may wait for a slow reader. One that is slower is not led any more.
  static constexpr std::size_t most_unsent = 1000;

  /// Whoever is led by what arrives.
  class owner {
   public:
    /// A packet that came with descriptors has none if this process had no number left for them.
    virtual void on_packet(control_message&& message, std::vector<unique_fd>&& descriptors) = 0;
    /// Called once, when there will be no more packets.
    virtual void on_control_end(control_ending how) = 0;

   protected:
    ~owner() = default;
  };

  control_line(event_loop& loop, unique_fd fd)
      : line(loop, fd.get()), socket_(std::move(fd)) {}
  ~control_line() override {
    descriptor_.release();
    while (!unsent_.empty()) delete static_cast<packet*>(unsent_.pop());
  }

  /// Tells `o`, which must live until `close`.
  void start(owner& o) {
    owner_ = &o;
    begin_to_read();
  }

  void send(const control_message& message, unique_fd descriptor = {}) {
    if (!open_) return;
    if (unsent_count_ == most_unsent) {
      log::error("a control line is closed: {} packets wait for its other side", unsent_count_);
      return break_off();
    }
    unsent_.push(new packet(message, std::move(descriptor)));
    ++unsent_count_;
    flush();
  }

  /// Nothing is received any more, and the owner is told nothing.
  void close() {
    owner_ = nullptr;
    open_ = false;
    descriptor_.cancel();
  }

 private:
  struct packet : task_node {
    packet(const control_message& m, unique_fd d)
        : task_node(nullptr), bytes(encode(m)), descriptor(std::move(d)) {}
    buffer bytes;
    unique_fd descriptor;
  };

  // Ends the line, and tells its owner so.
  void break_off() {
    open_ = false;
    how_ = control_ending::broken;
    descriptor_.cancel();
  }

  void drop_first() {
    delete static_cast<packet*>(unsent_.pop());
    --unsent_count_;
  }

  void flush() override {
    while (!unsent_.empty() && !waiting_) {
      auto& p = static_cast<packet&>(*unsent_.front());
      const int fd = p.descriptor.get();
      try {
        const auto sent = socket_.send(p.bytes.readable(), {&fd, fd >= 0 ? 1U : 0U});
        if (sent == transfer::would_block) return wait_writable();
      } catch (const std::exception& e) {
        log::error("a control packet was not sent: {}", e.what());
        // Too many descriptors are under way: the other side has to know what it does not get.
        if (p.descriptor) {
          p.descriptor.reset();
          continue;
        }
      }
      drop_first();
    }
  }

  void on_end() override {
    while (!unsent_.empty()) drop_first();
    if (owner_ != nullptr) std::exchange(owner_, nullptr)->on_control_end(how_);
  }

  // All packets that are there; false at the end.
  bool receive() override {
    for (;;) {
      control_packet p;
      control_message message;
      try {
        const auto got = socket_.receive(p);
        if (got == transfer::would_block) return true;
        if (got == transfer::closed) return false;
        message = decode<control_message>(p.bytes);
      } catch (const std::exception& e) {
        log::error("a control line is closed, for what came is no packet: {}", e.what());
        how_ = control_ending::broken;
        return false;
      }
      if (p.descriptors_lost) {
        log::error("the descriptors of a control packet are lost: this process has no number left "
                   "for them");
      }
      if (owner_ == nullptr) return false;
      // The other side is not to blame for what fails on this one.
      try {
        owner_->on_packet(std::move(message), std::move(p.descriptors));
      } catch (const std::exception& e) {
        log::error("what a control packet asked for failed: {}", e.what());
      }
      if (!open_) return false;
    }
  }

  control_socket socket_;
  owner* owner_ = nullptr;
  control_ending how_ = control_ending::closed;
  task_queue unsent_;
  std::size_t unsent_count_ = 0;
};

}  // namespace pulsar::detail
