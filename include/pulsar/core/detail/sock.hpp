// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The calls of <pulsar/core/sock.hpp>, and how one is made again until it need not wait.

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/descriptor_table.hpp>
#include <pulsar/core/future.hpp>

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace pulsar::detail {

/// A call says so if it has to be made again later; else it gives 0 or its error.
inline constexpr int must_wait = -1;

inline int failure_of_call() noexcept {
  return errno == EAGAIN || errno == EINTR ? must_wait : errno;
}

/// A call on a socket, made again and again until it need not wait.
template <class T, class Call>
struct socket_call final : shared_state<T>, descriptor_waiter {
  socket_call(event_loop& l, int f, Call&& c) : shared_state<T>(l), fd(f), call(std::move(c)) {}

  // False if it has to wait.
  bool make() noexcept {
    try {
      const int code = call(fd);
      if (code == must_wait) return false;
      if (code != 0) throw_system_error(code, std::string(Call::name) + describe_socket());
      if constexpr (std::is_void_v<T>) {
        this->succeed();
      } else {
        this->succeed(std::move(call.given));
      }
    } catch (...) {
      this->fail(std::current_exception());
    }
    return true;
  }

  void describe(wait_description& to) const override { to.text = Call::name + describe_socket(); }
  std::string describe_socket() const { return " on descriptor " + std::to_string(fd); }

  bool attempt() noexcept override {
    if (!make()) return false;
    leave();
    this->drop();
    return true;
  }

  void give_up(std::error_code why) noexcept override {
    this->fail(std::make_exception_ptr(error(why, Call::name)));
    this->drop();
  }

  void on_cancelled() noexcept override {
    leave();
    this->drop();
  }

  const int fd;
  Call call;
};

template <class T, class Call>
future<T> make_socket_call(event_loop& loop, int fd, direction what, Call call) {
  auto* const made = new socket_call<T, Call>(loop, fd, std::move(call));
  made->handed_out = true;
  auto answer = future_access::make<T>(made);
  try {
    auto& table = loop_access::local<descriptor_table>(loop);  // which takes descriptors itself
    if (!table.has_waiter(fd, what) && table.may_go_on() && made->make()) return answer;
    if constexpr (requires { made->call.keep(); }) made->call.keep();
    table.wait(fd, what, *made);
    ++made->count;
  } catch (...) {
    made->fail(std::current_exception());
  }
  return answer;
}

inline bool blocks(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) == 0;
}

[[noreturn]] inline void refuse_blocking(int fd, const char* what) {
  throw error(std::make_error_code(std::errc::invalid_argument),
              std::string(what) + " on descriptor " + std::to_string(fd) +
                  ", which blocks: call set_non_blocking first");
}

/// A text, of which a literal's zero is no part, or the bytes of a range.
template <class Bytes>
std::span<const std::byte> bytes_of(const Bytes& data) noexcept {
  if constexpr (std::is_convertible_v<const Bytes&, std::string_view>) {
    return std::as_bytes(std::span<const char>(std::string_view(data)));
  } else {
    return std::as_bytes(std::span(data));
  }
}

// -- the calls ------------------------------------------------------------------------------------

/// Up to `most` bytes, without memory for more than there are.
struct receive_call {
  static constexpr const char* name = "sock_recv";

  int operator()(int fd) {
    char chunk[16 * 1024];
    ssize_t n;
    if (most <= sizeof chunk) {
      n = ::recv(fd, chunk, most, MSG_DONTWAIT);
      if (n > 0) given.assign(chunk, static_cast<std::size_t>(n));
    } else {
      given.resize(most);
      n = ::recv(fd, given.data(), most, MSG_DONTWAIT);
      given.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
      if (given.size() < most / 2) given.shrink_to_fit();
    }
    return n < 0 ? failure_of_call() : 0;
  }

  std::size_t most;
  std::string given{};
};

struct receive_into_call {
  static constexpr const char* name = "sock_recv_into";

  int operator()(int fd) noexcept {
    const ssize_t n = ::recv(fd, into.data(), into.size(), MSG_DONTWAIT);
    if (n < 0) return failure_of_call();
    given = static_cast<std::size_t>(n);
    return 0;
  }

  std::span<std::byte> into;
  std::size_t given = 0;
};

/// The next datagram, of which at most `most` bytes are kept. With MSG_TRUNC, which a stream would
/// take amiss, `size` is how long it was.
inline int receive_datagram(int fd,
                            std::size_t most,
                            int flags,
                            std::string& data,
                            address::endpoint& from,
                            std::size_t& size) {
  // As long as UDP's can be; those of Unix sockets may be longer.
  char chunk[64 * 1024];
  const bool fits = most <= sizeof chunk;
  if (!fits) data.resize(most);
  auto length = static_cast<socklen_t>(from.capacity());
  const ssize_t n =
      ::recvfrom(fd, fits ? chunk : data.data(), most, MSG_DONTWAIT | flags, from.data(), &length);
  const int code = n < 0 ? failure_of_call() : 0;
  size = n > 0 ? static_cast<std::size_t>(n) : 0;
  const std::size_t kept = std::min(size, most);
  if (fits) {
    data.assign(chunk, kept);
  } else {
    data.resize(kept);
    data.shrink_to_fit();
  }
  if (n >= 0) from.resize(std::min<std::size_t>(length, from.capacity()));
  return code;
}

template <class Datagram>
struct receive_from_call {
  static constexpr const char* name = "sock_recvfrom";

  int operator()(int fd) {
    std::size_t size = 0;
    return receive_datagram(fd, most, 0, given.data, given.from, size);
  }

  std::size_t most;
  Datagram given{};
};

/// How many bytes the system took for `to`, or for the one it is connected to; -1 if none.
inline ssize_t send_datagram(int fd,
                             std::span<const std::byte> data,
                             const address::endpoint* to) noexcept {
  const auto* const where = to != nullptr ? to->data() : nullptr;
  const auto size = to != nullptr ? static_cast<socklen_t>(to->size()) : 0;
  ssize_t n;
  do {
    n = ::sendto(fd, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL, where, size);
  } while (n < 0 && errno == EINTR);
  return n;
}

/// All of them; what does not go at once is copied.
struct send_call {
  static constexpr const char* name = "sock_sendall";

  int operator()(int fd) {
    while (!rest.empty()) {
      const ssize_t n = ::send(fd, rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0) return failure_of_call();
      rest = rest.subspan(static_cast<std::size_t>(n));
    }
    return 0;
  }

  // It has to wait, be it for its turn.
  void keep() {
    kept.assign(reinterpret_cast<const char*>(rest.data()), rest.size());
    rest = std::as_bytes(std::span(kept));
  }

  std::span<const std::byte> rest;
  std::string kept{};
};

struct send_to_call {
  static constexpr const char* name = "sock_sendto";

  int operator()(int fd) {
    const ssize_t n = send_datagram(fd, std::as_bytes(std::span(data)), &to);
    if (n < 0) return failure_of_call();
    given = static_cast<std::size_t>(n);
    return 0;
  }

  std::string data;
  address::endpoint to;
  std::size_t given = 0;
};

struct connect_call {
  static constexpr const char* name = "sock_connect";

  int operator()(int fd) {
    if (!std::exchange(begun, true)) {
      if (blocks(fd)) refuse_blocking(fd, name);
      if (::connect(fd, to.data(), static_cast<socklen_t>(to.size())) == 0) return 0;
      // A Unix socket whose server has too many to accept says EAGAIN, and is not under way.
      return errno == EINPROGRESS || errno == EINTR ? must_wait : errno;
    }
    int code = 0;
    socklen_t size = sizeof code;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0) return errno;
    if (code != 0) return code;
    address::endpoint peer;
    auto length = static_cast<socklen_t>(peer.capacity());
    return ::getpeername(fd, peer.data(), &length) != 0 && errno == ENOTCONN ? must_wait : 0;
  }

  address::endpoint to;
  bool begun = false;
};

template <class Accepted>
struct accept_call {
  static constexpr const char* name = "sock_accept";

  int operator()(int fd) {
    if (blocks(fd)) refuse_blocking(fd, name);
    for (;;) {
      auto size = static_cast<socklen_t>(given.peer.capacity());
      given.socket.reset(::accept4(fd, given.peer.data(), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (given.socket) {
        given.socket = above_standard(std::move(given.socket));
        given.peer.resize(std::min<std::size_t>(size, given.peer.capacity()));
        return 0;
      }
      if (errno != ECONNABORTED && errno != EPROTO) return failure_of_call();
    }
  }

  Accepted given{};
};

/// In pieces, so that a peer as fast as the disk does not keep the loop.
struct send_file_call {
  static constexpr const char* name = "sock_sendfile";
  static constexpr std::uint64_t piece = 256 * 1024;

  int operator()(int fd) {
    if (given == 0 && blocks(fd)) refuse_blocking(fd, name);
    if (left == 0) return 0;
    const auto n = ::sendfile(fd, file, &offset, static_cast<std::size_t>(std::min(left, piece)));
    if (n < 0) return failure_of_call();
    if (n == 0) return 0;  // the file is shorter
    left -= static_cast<std::uint64_t>(n);
    given += static_cast<std::uint64_t>(n);
    return left == 0 ? 0 : must_wait;
  }

  int file;
  off_t offset;
  std::uint64_t left;
  std::uint64_t given = 0;
};

}  // namespace pulsar::detail
