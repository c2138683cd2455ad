// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The socket between an arbiter and one of its workers: small packets that arrive whole or not at
// all, and descriptors that travel with them.
//
//     auto [ours, theirs] = socket_pair(SOCK_SEQPACKET);
//     control_socket arbiter(std::move(ours));
//     if (arbiter.send(packet, {&listener, 1}) == transfer::would_block) wait_until_writable();
//
// No call ever blocks, whatever the mode of the descriptor; the owner waits for readiness of
// `handle()` with whatever loop it has. Sending and receiving may happen in two threads.

#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/error.hpp>

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar::detail {

// How a transfer ended; what is wrong with a packet is thrown instead.
enum class transfer {
  // A whole packet went out, or came in.
  done,
  // Nothing happened: the other side is slow, or silent. Wait for readiness.
  would_block,
  // The other side has closed its end, or its process has died. All it had sent was received.
  closed,
};

// What arrives in one piece.
struct control_packet {
  std::vector<std::byte> bytes;
  std::vector<unique_fd> descriptors;  // all close-on-exec
  // This process had no number left for them: all of them are closed, and the bytes came alone.
  bool descriptors_lost = false;
};

// Who made the other end of a connected Unix socket. The kernel notes that when a pair is made or a
// connection established: both ends of a pair name the process that made it.
//
// Throws the system's error if `fd` is no connected Unix socket.
inline ucred peer_credentials(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    const int code = errno;
    throw_system_error(code, "cannot ask whom descriptor " + std::to_string(fd) + " leads to");
  }
  // The answer of a Unix socket without a peer; other sockets answer like that too.
  if (peer.pid == 0) {
    throw_system_error(ENOTCONN, "descriptor " + std::to_string(fd) +
                                     " does not lead to a process of this machine or container");
  }
  return peer;
}

class control_socket {
 public:
  static constexpr std::size_t max_bytes = 64 * 1024;
  static constexpr std::size_t max_descriptors = 16;

  control_socket() noexcept = default;
  explicit control_socket(unique_fd fd) noexcept : fd_(std::move(fd)) {}

  // Readable when something or the end has come, writable when a packet has room; -1 if closed.
  int handle() const noexcept { return fd_.get(); }

  // The other side receives `transfer::closed` once it has read all that was sent.
  void close() noexcept { fd_.reset(); }

  // Sends `bytes`, 1 to `max_bytes`, with duplicates of `descriptors`, at most `max_descriptors`;
  // they stay open here. A packet that is not `done` has not left at all.
  //
  // Throws `errc::too_large`, `std::errc::invalid_argument` for an empty packet (it could not be
  // told from the end), or the system's error, as for a descriptor that is not open.
  transfer send(std::span<const std::byte> bytes, std::span<const int> descriptors = {}) {
    if (bytes.empty()) throw_system_error(EINVAL, "a control packet must not be empty");
    if (bytes.size() > max_bytes) throw_too_many(bytes.size(), "bytes", max_bytes);
    if (descriptors.size() > max_descriptors) {
      throw_too_many(descriptors.size(), "descriptors", max_descriptors);
    }
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    control_area area;
    if (!descriptors.empty()) {
      message.msg_control = area.bytes.data();
      message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
    }
    for (;;) {
      if (::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return transfer::done;
      switch (errno) {
        case EINTR: continue;
        case EAGAIN: return transfer::would_block;
        case EPIPE:
        case ECONNRESET: return transfer::closed;
        default: throw_system_error(errno, "cannot send a control packet");
      }
    }
  }

  // Receives one packet into `packet`, whose former content is dropped in any case.
  //
  // Throws `errc::too_large` for a packet above the limits of `send`; its descriptors are closed then
  // and the next packet is not affected. Throws the system's error otherwise.
  transfer receive(control_packet& packet) {
    packet.bytes.clear();
    packet.descriptors.clear();
    packet.descriptors_lost = false;
    std::array<std::byte, max_bytes> buffer;
    for (;;) {
      iovec part{buffer.data(), buffer.size()};
      control_area area;
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = area.bytes.data();
      message.msg_controllen = area.bytes.size();
      const auto size = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | MSG_TRUNC);
      if (size < 0) {
        switch (errno) {
          case EINTR: continue;
          // Reported once when the other side has died without reading all of ours; what it sent
          // before is still to come.
          case ECONNRESET: continue;
          case EAGAIN: return transfer::would_block;
          default: throw_system_error(errno, "cannot receive a control packet");
        }
      }
      auto descriptors = descriptors_of(message);  // owned first: nothing may leak below
      if (size == 0) return transfer::closed;
      if ((message.msg_flags & MSG_TRUNC) != 0) {
        throw_too_many(static_cast<std::size_t>(size), "bytes", max_bytes);
      }
      if ((message.msg_flags & MSG_CTRUNC) != 0) {
        if (descriptors.size() == max_descriptors) {
          throw_too_many(max_descriptors + 1, "descriptors", max_descriptors);
        }
        descriptors.clear();
        packet.descriptors_lost = true;
      }
      packet.bytes.assign(buffer.data(), buffer.data() + size);
      packet.descriptors = std::move(descriptors);
      return transfer::done;
    }
  }

 private:
  // Room for exactly `max_descriptors`: the kernel counts one more as truncated.
  struct control_area {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * max_descriptors)> bytes{};
  };
  static_assert(sizeof(int) * max_descriptors % sizeof(std::size_t) == 0);

  [[noreturn]] static void throw_too_many(std::size_t count, const char* what, std::size_t most) {
    throw error(errc::too_large, "a control packet of " + std::to_string(count) + " " + what +
                                     ", at most " + std::to_string(most) + " are allowed");
  }

  static std::vector<unique_fd> descriptors_of(msghdr& message) {
    std::vector<unique_fd> result;
    result.reserve(max_descriptors);
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
        result.emplace_back(fd);
      }
    }
    return result;
  }

  unique_fd fd_;
};

}  // namespace pulsar::detail
