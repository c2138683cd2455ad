// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What the peers of hello_world share: the answer, the listener, the workers.
///
/// They answer every read that ends a request with fixed bytes, as many as nginx sends, and know
/// no HTTP: what a server without a parser, headers and dates of its own costs.

#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <string_view>
#include <system_error>

namespace bench {

/// The headers of nginx 1.22 on Debian 12, in its order, and the body of `nginx.conf`.
inline constexpr std::string_view peer_answer =
    "HTTP/1.1 200 OK\r\n"
    "Server: nginx/1.22.1\r\n"
    "Date: Sat, 21 Nov 2026 08:00:00 GMT\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 13\r\n"
    "Connection: keep-alive\r\n"
    "\r\n"
    "Hello, World!";

/// A listener that does not block.
inline int peer_listener(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd, 1024) != 0) {
    throw std::system_error(errno, std::generic_category(), "the listener of a peer");
  }
  return fd;
}

/// Calls `serve` in `workers` child processes, which end with this one; never returns.
[[noreturn]] inline void peer_workers(int workers, const std::function<void()>& serve) {
  const pid_t parent = ::getpid();
  for (int i = 0; i < workers; ++i) {
    const pid_t child = ::fork();
    if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (child != 0) continue;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() == parent) serve();
    ::_exit(1);
  }
  for (;;) ::pause();
}

}  // namespace bench
