// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The cheapest server there can be with epoll: read, look for the last four bytes, write.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <system_error>

namespace bench {

namespace detail {

inline void watch(int epoll, int fd, std::uint32_t events) {
  epoll_event interest{};
  interest.events = events;
  interest.data.fd = fd;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest) != 0) {
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  }
}

inline void accept_all(int epoll, int listener) {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(epoll, fd, EPOLLIN);
  }
}

inline void answer_once(int fd) {
  std::array<char, 4096> bytes;
  const auto n = ::recv(fd, bytes.data(), bytes.size(), 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    ::close(fd);
    return;
  }
  const std::string_view request(bytes.data(), static_cast<std::size_t>(n));
  if (!request.ends_with("\r\n\r\n")) return;
  const auto sent = ::send(fd, peer_answer.data(), peer_answer.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(peer_answer.size())) ::close(fd);
}

[[noreturn]] inline void raw_epoll_worker(int listener) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  watch(epoll, listener, EPOLLIN | EPOLLEXCLUSIVE);
  std::array<epoll_event, 128> ready;
  for (;;) {
    const int n = ::epoll_wait(epoll, ready.data(), static_cast<int>(ready.size()), -1);
    for (int i = 0; i < n; ++i) {
      const int fd = ready[static_cast<std::size_t>(i)].data.fd;
      if (fd == listener) {
        accept_all(epoll, listener);
      } else {
        answer_once(fd);
      }
    }
  }
}

}  // namespace detail

/// Serves until it is killed.
[[noreturn]] inline void raw_epoll(std::uint16_t port, int workers) {
  const int listener = peer_listener(port);
  peer_workers(workers, [listener] { detail::raw_epoll_worker(listener); });
}

}  // namespace bench
