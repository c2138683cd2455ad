// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Calls on plain sockets that wait instead of blocking: `event_loop::sock_recv`, `sock_sendall`,
/// `sock_connect`, `sock_accept` (PEP 3156).
///
///     pulsar::unique_fd peer(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
///     co_await loop.sock_connect(peer.get(), address("127.0.0.1:7").resolve());
///     co_await loop.sock_sendall(peer.get(), "hello");
///     std::string answer = co_await loop.sock_recv(peer.get(), 1024);   // empty at the end
///
/// They are for sockets that somebody else made; new programs use `connect` and `stream`. The
/// socket stays the caller's and must be open until the call has ended; cancelling or dropping its
/// future ends it at once, and then it has taken nothing: no byte, no connection. Several may wait
/// on one socket, first come, first served. `sock_connect` and `sock_accept` need a non-blocking
/// one.

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/broken_pipes.hpp>
#include <pulsar/core/detail/sock.hpp>
#include <pulsar/core/future.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace pulsar {

/// What `sock_accept` gives.
struct accepted_socket {
  /// Non-blocking, close-on-exec.
  unique_fd socket;
  /// Who connected.
  address::endpoint peer;
};

/// What `sock_recvfrom` gives.
struct received_datagram {
  std::string data;
  address::endpoint from;
};

/// The next bytes, at most `most`; none at the end of what the other side sends. Throws the
/// system's error, `errc::cancelled`.
inline future<std::string> event_loop::sock_recv(int fd, std::size_t most) {
  check_open("sock_recv");
  return detail::make_socket_call<std::string>(*this, fd, detail::direction::in,
                                               detail::receive_call{most});
}

/// The same into `into`, bytes that stay in place until the call has ended; how many.
template <class Bytes>
future<std::size_t> event_loop::sock_recv_into(int fd, Bytes&& into) {
  check_open("sock_recv_into");
  return detail::make_socket_call<std::size_t>(
      *this, fd, detail::direction::in,
      detail::receive_into_call{std::as_writable_bytes(std::span(into))});
}

/// A datagram and where it came from; what is longer than `most` is cut.
inline future<received_datagram> event_loop::sock_recvfrom(int fd, std::size_t most) {
  check_open("sock_recvfrom");
  return detail::make_socket_call<received_datagram>(
      *this, fd, detail::direction::in, detail::receive_from_call<received_datagram>{most});
}

/// Done when all of `data`, text or a range of bytes, was handed to the system, which does not say
/// that it has arrived. What does not go at once is copied. If it fails or is cancelled, some of it
/// may have gone. Throws the system's error, `std::errc::broken_pipe` if the other side is gone,
/// never a signal.
template <class Bytes>
future<> event_loop::sock_sendall(int fd, const Bytes& data) {
  check_open("sock_sendall");
  return detail::make_socket_call<void>(*this, fd, detail::direction::out,
                                        detail::send_call{detail::bytes_of(data)});
}

/// Sends one datagram to an endpoint of any kind; how many bytes, which is all of them.
template <class Bytes, class Endpoint>
future<std::size_t> event_loop::sock_sendto(int fd, const Bytes& data, const Endpoint& to) {
  check_open("sock_sendto");
  const auto from = detail::bytes_of(data);
  return detail::make_socket_call<std::size_t>(
      *this, fd, detail::direction::out,
      detail::send_to_call{std::string(reinterpret_cast<const char*>(from.data()), from.size()),
                           address::endpoint(to)});
}

/// Sends up to `count` bytes of `file`, a descriptor of a file, from `offset` on, without copying
/// them through the program; how many, fewer only if the file is shorter. `file` must be open until
/// the call has ended; its own position is left alone. From now on the program ignores SIGPIPE,
/// unless it does something with it. Otherwise as `sock_sendall`.
inline future<std::uint64_t> event_loop::sock_sendfile(int fd,
                                                       int file,
                                                       std::uint64_t offset,
                                                       std::uint64_t count) {
  check_open("sock_sendfile");
  detail::ignore_broken_pipes();
  return detail::make_socket_call<std::uint64_t>(
      *this, fd, detail::direction::out,
      detail::send_file_call{file, static_cast<off_t>(offset), count});
}

/// Connects to an endpoint of any kind: nothing is looked up here. Throws the system's error,
/// `std::errc::connection_refused` above all, and `std::errc::invalid_argument` for a socket that
/// blocks. A socket whose call was cancelled goes on connecting: close it.
template <class Endpoint>
future<> event_loop::sock_connect(int fd, const Endpoint& to) {
  check_open("sock_connect");
  return detail::make_socket_call<void>(*this, fd, detail::direction::out,
                                        detail::connect_call{address::endpoint(to)});
}

/// The next connection of a listening socket. One that has failed by now is passed over. Throws as
/// `sock_connect`, and `std::errc::too_many_files_open`.
inline future<accepted_socket> event_loop::sock_accept(int fd) {
  check_open("sock_accept");
  return detail::make_socket_call<accepted_socket>(*this, fd, detail::direction::in,
                                                   detail::accept_call<accepted_socket>());
}

}  // namespace pulsar
