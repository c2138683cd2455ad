// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The yardstick of messages between processes: a Unix stream pair and nothing above it.
///
///     suite.compare({"raw stream pair", [] { return bench::raw_round_trips(64, 0, 1); }}, ...);

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace bench {

namespace detail {

/// Writes all of `data`; false when the peer is gone.
inline bool write_all(int fd, const char* data, std::size_t size) {
  while (size != 0) {
    const auto n = ::send(fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

/// Reads exactly `size` bytes; false at the end of the stream.
inline bool read_all(int fd, char* data, std::size_t size) {
  while (size != 0) {
    const auto n = ::recv(fd, data, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

/// Waits in epoll before each read, as an event loop must.
class readable {
 public:
  explicit readable(int fd) : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event interest{};
    interest.events = EPOLLIN;
    if (epoll_ < 0 || ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &interest) != 0) {
      throw std::system_error(errno, std::generic_category(), "epoll");
    }
  }
  readable(const readable&) = delete;
  readable& operator=(const readable&) = delete;
  ~readable() { ::close(epoll_); }

  void wait() const {
    epoll_event ready{};
    while (::epoll_wait(epoll_, &ready, 1, -1) < 0 && errno == EINTR) {
    }
  }

 private:
  int epoll_;
};

/// A child process that sends every message of `size` bytes back.
class echo_process {
 public:
  echo_process(std::size_t size, std::size_t cpu, bool polled) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
      throw std::system_error(errno, std::generic_category(), "socketpair");
    }
    child_ = ::fork();
    if (child_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (child_ == 0) {
      ::close(pair[0]);
      pin(cpu);
      serve(pair[1], size, polled);
    }
    ::close(pair[1]);
    fd = pair[0];
  }
  echo_process(const echo_process&) = delete;
  echo_process& operator=(const echo_process&) = delete;
  ~echo_process() {
    // Children started after this one hold copies of `fd`: closing alone would not end the stream.
    ::shutdown(fd, SHUT_RDWR);
    ::close(fd);
    ::waitpid(child_, nullptr, 0);
  }

  int fd = -1;

 private:
  [[noreturn]] static void serve(int fd, std::size_t size, bool polled) {
    std::vector<char> message(size);
    const readable poll(fd);
    for (;;) {
      if (polled) poll.wait();
      if (!read_all(fd, message.data(), size)) ::_exit(0);
      if (!write_all(fd, message.data(), size)) ::_exit(0);
    }
  }

  pid_t child_ = -1;
};

}  // namespace detail

/// Whether the two sides block in recv, or wait in epoll first, as an event loop must.
enum class waiting { in_recv, in_epoll };

/// Round trips of `size` bytes to another process: we run on the CPU `here`, it on `there`.
inline kernel raw_round_trips(std::size_t size,
                              std::size_t here,
                              std::size_t there,
                              waiting how = waiting::in_recv) {
  const bool polled = how == waiting::in_epoll;
  auto echo = std::make_shared<detail::echo_process>(size, there, polled);
  auto poll = std::make_shared<detail::readable>(echo->fd);
  return [echo, poll, size, here, polled](std::uint64_t trips) {
    const pinned stay(here);
    std::vector<char> message(size, 'x');
    return timed([&] {
      for (; trips != 0; --trips) {
        bool alive = detail::write_all(echo->fd, message.data(), size);
        if (polled) poll->wait();
        alive = alive && detail::read_all(echo->fd, message.data(), size);
        if (!alive) throw std::runtime_error("the echo process of the yardstick is gone");
      }
    });
  };
}

}  // namespace bench
