// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `listener`: a descriptor that connections arrive at.
///
///     pulsar::listener at(pulsar::address("127.0.0.1:0"));
///     fmt::print("listening on {}\n", at.local().to_string());   // 127.0.0.1:41327
///
///     auto same = pulsar::listener::adopt(std::move(inherited));   // in a worker process
///
/// Several processes may accept from one descriptor: whoever asks first gets the connection.

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/error.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

// Keeps other servers from the sockets of a directory. A Unix socket refuses connections until its
// server listens, as one does whose server has died: who looks between bind and listen would take
// its place. So each does both under this lock, which ends with the process and leaves no file.
class directory_lock {
 public:
  // Who keeps it for longer than a start takes is no server: then it goes without.
  static constexpr auto patience = std::chrono::seconds(5);

  explicit directory_lock(const std::string& file)
      : directory_(::open(parent_of(file).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (!directory_) return;  // one that may be written to and not read
    const auto give_up = std::chrono::steady_clock::now() + patience;
    while (::flock(directory_.get(), LOCK_EX | LOCK_NB) != 0 &&
           (errno == EWOULDBLOCK || errno == EINTR) && std::chrono::steady_clock::now() < give_up) {
      ::poll(nullptr, 0, 1);
    }
  }
  directory_lock(const directory_lock&) = delete;
  directory_lock& operator=(const directory_lock&) = delete;

 private:
  static std::string parent_of(const std::string& file) {
    const auto slash = file.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : file.substr(0, slash);
  }

  unique_fd directory_;
};

}  // namespace detail

struct listen_options {
  /// Connections that wait to be accepted; the system cuts it to net.core.somaxconn.
  int backlog = 2048;
  /// Other sockets may listen on the same address, of this user's processes (SO_REUSEPORT): the
  /// system spreads the connections over them.
  bool reuse_port = false;
  /// False: "[::]" takes IPv4 connections too.
  bool ipv6_only = true;
};

/// Owns a listening socket, non-blocking and close-on-exec.
class listener {
 public:
  /// Binds to `where` and listens. The file of a Unix socket is made here, in the place of one that
  /// nobody listens on any more, and removed by `close` in this process.
  ///
  /// Throws `pulsar::error` with the system's code: its text names the address and what to do.
  explicit listener(const address& where, listen_options options = {});

  /// Takes over a socket that listens already: inherited, or received from another process.
  ///
  /// Throws `pulsar::error`, `std::errc::invalid_argument` for a descriptor of another kind.
  static listener adopt(unique_fd fd) { return listener(std::move(fd)); }

  listener(listener&& other) noexcept
      : fd_(std::move(other.fd_)),
        local_(std::move(other.local_)),
        adopted_(other.adopted_),
        file_(std::exchange(other.file_, socket_file())) {}
  listener& operator=(listener&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::move(other.fd_);
      local_ = std::move(other.local_);
      adopted_ = other.adopted_;
      file_ = std::exchange(other.file_, socket_file());
    }
    return *this;
  }
  ~listener() { close(); }

  /// -1 once it is closed.
  int fd() const noexcept { return fd_.get(); }

  /// True if others may accept from the same socket.
  bool adopted() const noexcept { return adopted_; }

  /// Where it listens; the port is the one the system chose if 0 was asked for.
  const address& local() const noexcept { return local_; }

  /// The next connection that waits, non-blocking and close-on-exec; none with `failure` set,
  /// `std::errc::operation_would_block` if nobody waits.
  unique_fd accept(std::error_code& failure) const noexcept;

  /// Ends it. Connections that wait are lost unless another process listens on the same socket.
  void close() noexcept {
    file_.remove(local_);
    file_ = socket_file();
    fd_.reset();
  }

 private:
  // The file behind a Unix socket that this process made.
  struct socket_file {
    dev_t device = 0;
    ino_t inode = 0;
    pid_t maker = -1;

    static socket_file made_at(const address& where) {
      struct stat found {};
      if (::lstat(where.path().c_str(), &found) != 0) return {};
      return {found.st_dev, found.st_ino, ::getpid()};
    }

    void remove(const address& where) const noexcept {
      if (maker != ::getpid()) return;
      struct stat found {};
      if (::lstat(where.path().c_str(), &found) != 0 || !S_ISSOCK(found.st_mode)) return;
      if (found.st_dev == device && found.st_ino == inode) ::unlink(where.path().c_str());
    }
  };

  explicit listener(unique_fd fd);

  void read_local_address();
  static void clear_socket_file(const address& where, const address::endpoint& at);
  [[noreturn]] static void fail(int code, const address& where);

  unique_fd fd_;
  address local_;
  bool adopted_ = false;
  socket_file file_;
};

inline listener::listener(const address& where, listen_options options) {
  const auto at = where.resolve();
  const int family = at.data()->sa_family;
  fd_ = detail::above_standard(
      unique_fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
  if (!fd_) fail(errno, where);
  const int on = 1;
  std::optional<detail::directory_lock> lock;
  if (where.is_unix()) {
    lock.emplace(where.path());
    clear_socket_file(where, at);
  } else {
    // Connections of a server that has just ended do not keep its port.
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (options.reuse_port &&
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) {
      fail(errno, where);
    }
    // Whatever the system's default is.
    const int ipv6_only = options.ipv6_only ? 1 : 0;
    if (family == AF_INET6) {
      ::setsockopt(fd_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &ipv6_only, sizeof ipv6_only);
    }
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  if (::bind(fd_.get(), at.data(), static_cast<socklen_t>(at.size())) != 0) fail(errno, where);
  local_ = where;
  if (where.is_unix()) file_ = socket_file::made_at(where);
  if (::listen(fd_.get(), options.backlog) != 0) {
    const int code = errno;
    close();
    fail(code, where);
  }
  if (!where.is_unix()) read_local_address();
}

inline listener::listener(unique_fd fd) : fd_(std::move(fd)), adopted_(true) {
  const auto is = [this](int option, int wanted) {
    int value = 0;
    socklen_t size = sizeof value;
    return ::getsockopt(fd_.get(), SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
  };
  if (!is(SO_TYPE, SOCK_STREAM) || !is(SO_ACCEPTCONN, 1)) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "descriptor " + std::to_string(fd_.get()) +
                    " is no listening stream socket: hand over one that listens");
  }
  set_close_on_exec(fd_.get());
  set_non_blocking(fd_.get());
  read_local_address();
  const int on = 1;
  if (!local_.is_unix()) ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

inline unique_fd listener::accept(std::error_code& failure) const noexcept {
  // TCP_NODELAY is inherited from the listening socket.
  unique_fd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  failure = fd ? std::error_code() : std::error_code(errno, std::system_category());
  try {
    return detail::above_standard(std::move(fd));
  } catch (const std::system_error& e) {
    failure = e.code();
    return {};
  }
}

inline void listener::read_local_address() {
  address::endpoint at;
  auto size = static_cast<socklen_t>(at.capacity());
  if (::getsockname(fd_.get(), at.data(), &size) != 0) {
    detail::throw_system_error(errno, "cannot read the address of a listening socket");
  }
  at.resize(size);
  local_ = address::of(at);
}

// Removes the socket that a server left behind which did not end in good order.
inline void listener::clear_socket_file(const address& where, const address::endpoint& at) {
  struct stat found {};
  if (::lstat(where.path().c_str(), &found) != 0) return;
  if (!S_ISSOCK(found.st_mode)) {
    throw error(
        std::make_error_code(std::errc::file_exists),
        where.to_string() + " is a file of another kind: remove it or choose another address");
  }
  const unique_fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!probe) fail(errno, where);
  if (::connect(probe.get(), at.data(), static_cast<socklen_t>(at.size())) == 0 ||
      errno != ECONNREFUSED) {
    fail(EADDRINUSE, where);
  }
  if (::unlink(where.path().c_str()) != 0 && errno != ENOENT) fail(errno, where);
}

inline void listener::fail(int code, const address& where) {
  const std::string name = where.to_string();
  switch (code) {
    case EADDRINUSE:
      detail::throw_system_error(
          code, name + " is in use: stop the other program or choose another address");
    case EADDRNOTAVAIL:
      detail::throw_system_error(code,
                                 name + " is no address of this machine: choose another address");
    case EACCES:
    case EPERM:
      detail::throw_system_error(
          code, where.is_unix() ? name + " may not be made by this user: choose another address"
                                : name +
                                      " needs a privilege (ports below 1024 do): choose another"
                                      " address");
    case ENOENT:
    case ENOTDIR:
      detail::throw_system_error(
          code,
          name + " lies in a directory that does not exist: make it or choose another address");
    case EAFNOSUPPORT:
      detail::throw_system_error(
          code, name + " is of a kind this system does not have: choose another address");
    default: detail::throw_system_error(code, "cannot listen on " + name);
  }
}

}  // namespace pulsar
