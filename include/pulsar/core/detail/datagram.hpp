// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// A datagram socket for coroutines, and the calls on it.

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/loop_ref.hpp>
#include <pulsar/core/detail/sock.hpp>
#include <pulsar/core/future.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace pulsar::detail {

inline unique_fd check_datagram_socket(unique_fd fd) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_DGRAM) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "descriptor " + std::to_string(fd.get()) + " is no datagram socket");
  }
  set_non_blocking(fd.get());
  return fd;
}

inline address::endpoint endpoint_of(const address& where) { return where.resolve(); }
template <class Endpoint>
address::endpoint endpoint_of(const Endpoint& where) {
  return address::endpoint(where);
}

template <class Datagram>
struct receive_datagram_call {
  static constexpr const char* name = "receiving a datagram";

  int operator()(int fd) {
    return receive_datagram(fd, most, MSG_TRUNC, given.data, given.from, given.size);
  }

  std::size_t most;
  Datagram given{};
};

/// What waits to be sent at one socket.
struct datagram_backlog : counted {
  explicit datagram_backlog(std::size_t most) noexcept : limit(most) {}
  const std::size_t limit;
  std::size_t size = 0;
};

/// A copy of what has to wait stands in it, and in the backlog of its socket.
struct send_datagram_call {
  static constexpr const char* name = "sending a datagram";

  int operator()(int fd) {
    return send_datagram(fd, data, to ? &*to : nullptr) < 0 ? failure_of_call() : 0;
  }

  // It has to wait, be it for its turn.
  void keep() {
    const std::size_t mine = data.size() + sizeof(send_datagram_call);
    if (backlog->size + mine > backlog->limit) {
      throw error(std::make_error_code(std::errc::no_buffer_space),
                  std::to_string(backlog->size) +
                      " bytes of datagrams wait to be sent: await each send before the next, or "
                      "raise datagram_endpoint_options::write_limit");
    }
    kept.assign(reinterpret_cast<const char*>(data.data()), data.size());
    data = std::as_bytes(std::span(kept));
    backlog->size += cost = mine;
  }

  send_datagram_call(std::span<const std::byte> d,
                     std::optional<address::endpoint> t,
                     counted_pointer<datagram_backlog> b) noexcept
      : data(d), to(t), backlog(std::move(b)) {}
  send_datagram_call(send_datagram_call&&) = default;  // before it has waited
  ~send_datagram_call() {
    if (backlog) backlog->size -= cost;
  }

  std::span<const std::byte> data;
  std::optional<address::endpoint> to;
  counted_pointer<datagram_backlog> backlog;
  std::size_t cost = 0;
  std::string kept{};
};

class datagram_socket_core : public counted_here {
 public:
  datagram_socket_core(event_loop& loop, unique_fd fd, std::size_t write_limit)
      : loop_(loop), fd_(std::move(fd)), backlog_(new datagram_backlog(write_limit)) {}
  ~datagram_socket_core() override { close(); }

  template <class T, class Call>
  future<T> call(const char* what, direction where, Call made) {
    event_loop* const loop = loop_.get();
    if (loop == nullptr) throw error(errc::loop_closed, what);
    if (!fd_) throw error(errc::closed, what);
    return make_socket_call<T>(*loop, fd_.get(), where, std::move(made));
  }

  future<> send(const char* what,
                std::span<const std::byte> data,
                std::optional<address::endpoint> to) {
    return call<void>(what, direction::out, send_datagram_call(data, to, backlog_));
  }

  void close() noexcept {
    if (!fd_) return;
    if (event_loop* const loop = loop_.get()) {
      if (auto* const table = loop_access::find_local<descriptor_table>(*loop)) {
        table->forget(fd_.get(), errc::closed);
      }
    }
    fd_.reset();
  }

  int fd() const noexcept { return fd_.get(); }

  address address_of(int (*ask)(int, sockaddr*, socklen_t*)) const {
    return address_of_socket(fd_.get(), ask);
  }

 private:
  const loop_ref loop_;
  unique_fd fd_;
  const counted_pointer<datagram_backlog> backlog_;
};

}  // namespace pulsar::detail
