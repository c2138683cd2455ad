// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How a connection is made: the addresses of a name, an attempt at each of them, the race between
// those that are under way.

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/readiness.hpp>
#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/resolve.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/core/timeout.hpp>

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar::detail {

using endpoints = std::vector<address::endpoint>;

/// Families alternate, the first one's first; otherwise the order stays.
inline endpoints interleave(const std::vector<resolved_address>& found) {
  endpoints first;
  endpoints second;
  for (const auto& each : found) {
    (each.family == found.front().family ? first : second).push_back(each.endpoint);
  }
  endpoints result;
  for (std::size_t i = 0; i < first.size() || i < second.size(); ++i) {
    if (i < first.size()) result.push_back(first[i]);
    if (i < second.size()) result.push_back(second[i]);
  }
  return result;
}

/// Of text: there is a port that a server may do without, but none that a client would mean.
inline address address_to_connect(std::string_view text) {
  address result(text);
  const bool has_port = text.find(':', text.starts_with('[') ? text.find(']') : 0) != text.npos;
  if (!has_port) {
    throw std::invalid_argument(std::string(text) + ": connect needs a port, " +
                                (text.starts_with('[') ? "[IPv6]:PORT" : "HOST:PORT"));
  }
  return result;
}

template <class = void>
future<endpoints> endpoints_of(event_loop& loop, address where) {
  endpoints result;
  if (where.is_unix()) {
    result.push_back(where.resolve());
  } else {
    const auto found = co_await loop.getaddrinfo(where.host(), where.port());
    result = interleave(found);
  }
  co_return result;
}

/// What the attempts at one connection have in common.
struct connect_race : counted_here {
  struct failure {
    address::endpoint at;
    int code;
  };

  void end(const address::endpoint& at, unique_fd fd, int code) {
    --running;
    if (fd && !winner) {
      winner = std::move(fd);
    } else if (!fd) {
      failures.push_back({at, code});
    }
    while (!changed.empty()) changed.wake_first();
  }

  unique_fd winner;
  std::size_t running = 0;
  std::vector<failure> failures;
  waiting_line<> changed{"an attempt to connect"};
};

// Two ports of this machine that nobody listens on may connect to each other, or one to itself.
inline bool is_connected_to_itself(int fd) noexcept {
  address::endpoint here;
  address::endpoint there;
  auto here_size = static_cast<socklen_t>(here.capacity());
  auto there_size = static_cast<socklen_t>(there.capacity());
  return ::getsockname(fd, here.data(), &here_size) == 0 &&
         ::getpeername(fd, there.data(), &there_size) == 0 && here_size == there_size &&
         here.data()->sa_family != AF_UNIX &&
         std::memcmp(here.data(), there.data(), here_size) == 0;
}

inline int pending_error(int fd) noexcept {
  int code = 0;
  socklen_t size = sizeof code;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0) code = errno;
  return code;
}

/// A socket for `to`, bound to `local` if there is one; with `code` set if that fails.
inline unique_fd open_socket(const address::endpoint& to,
                             const std::optional<address::endpoint>& local,
                             int& code) noexcept {
  const int family = to.data()->sa_family;
  unique_fd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  code = fd ? 0 : errno;
  if (fd && local && ::bind(fd.get(), local->data(), static_cast<socklen_t>(local->size())) != 0) {
    code = errno;
  }
  return fd;
}

/// Tries one address and tells the race.
template <class = void>
future<> attempt(event_loop& loop,
                 counted_pointer<connect_race> race,
                 address::endpoint to,
                 std::optional<address::endpoint> local) {
  ++race->running;
  int code = 0;
  unique_fd fd;
  try {
    fd = above_standard(open_socket(to, local, code));
    // A server on a Unix socket whose backlog is full says so, and cannot be waited for.
    auto pause = std::chrono::milliseconds(1);
    while (code == 0) {
      const bool there = ::connect(fd.get(), to.data(), static_cast<socklen_t>(to.size())) == 0;
      code = there ? 0 : errno;
      if (code != EAGAIN || pause > std::chrono::seconds(2)) break;
      co_await sleep(pause, loop);
      pause *= 2;
      code = 0;
    }
    if (code == EINPROGRESS || code == EINTR) {
      watched_descriptor descriptor(loop.context(), fd.get());
      static_cast<void>(fd.release());
      const bool ready = co_await descriptor.writable();
      fd.reset(descriptor.release());
      code = ready ? pending_error(fd.get()) : ECANCELED;
    }
  } catch (const std::system_error& e) {  // no descriptor, or none that can be waited for
    code = e.code().value();
  }
  if (code == 0 && is_connected_to_itself(fd.get())) code = ECONNREFUSED;
  if (code != 0) fd.reset();
  race->end(to, std::move(fd), code);
}

inline const char* remedy_of_connect(int code) noexcept {
  switch (code) {
    case ECONNREFUSED: return ": nobody listens there; start the server, or check the port";
    case ENOENT: return ": there is no such socket; start the server, or check the path";
    case ETIMEDOUT: return ": it does not answer; is a firewall between?";
    case ENETUNREACH:
    case EHOSTUNREACH: return ": no way leads there; check the network";
    case EACCES:
    case EPERM: return ": this user may not";
    case EADDRNOTAVAIL: return ": the local address is none of this machine, or no port is free";
    case EADDRINUSE: return ": the local address is in use";
    case EAFNOSUPPORT: return ": the local address is of another family";
    case EAGAIN: return ": the server does not accept; its backlog is full";
    default: return "";
  }
}

[[noreturn]] inline void throw_connect_failure(const address& where, const connect_race& race) {
  const int code = race.failures.front().code;
  std::string what = "cannot connect to " + where.to_string();
  bool same = true;
  for (const auto& each : race.failures) same = same && each.code == code;
  if (!same) {
    what += " (";
    for (const auto& each : race.failures) {
      if (&each != race.failures.data()) what += "; ";
      what += address::of(each.at).to_string() + ": " + std::system_category().message(each.code);
    }
    what += ")";
  }
  throw_system_error(code, what + remedy_of_connect(code));
}

/// Those of one connection. What is left of them in the end is cancelled; none has a result.
struct connect_attempts {
  connect_attempts() = default;
  connect_attempts(const connect_attempts&) = delete;
  connect_attempts& operator=(const connect_attempts&) = delete;
  ~connect_attempts() {
    for (auto& each : all) {
      if (!each.cancel() && each.done()) static_cast<void>(each.exception());
    }
  }

  std::vector<future<>> all;
};

/// A socket that is connected to one of `to`.
template <class = void>
future<unique_fd> connect_any(event_loop& loop,
                              address where,
                              endpoints to,
                              std::optional<address::endpoint> local,
                              event_loop::duration stagger) {
  const counted_pointer<connect_race> race(new connect_race);
  connect_attempts attempts;
  for (const auto& each : to) {
    if (local && local->data()->sa_family != each.data()->sa_family) {
      race->failures.push_back({each, EAFNOSUPPORT});
      continue;
    }
    const std::size_t failed = race->failures.size();
    attempts.all.push_back(attempt(loop, race, each, local));
    // The next one has its turn when one has failed, or when the time is up.
    if (race->winner || race->failures.size() > failed || &each == &to.back()) continue;
    try {
      co_await with_timeout(race->changed.wait(loop), stagger);
    } catch (const error& e) {
      if (e.code() != errc::timed_out) throw;
    }
    if (race->winner) break;
  }
  while (!race->winner && race->running > 0) co_await race->changed.wait(loop);
  if (!race->winner) throw_connect_failure(where, *race);
  co_return std::move(race->winner);
}

template <class = void>
future<stream> connect_stream(event_loop& loop,
                              address where,
                              std::optional<address> local,
                              event_loop::duration stagger,
                              stream_options options) {
  std::optional<address::endpoint> from;
  if (local) {
    const endpoints found = co_await endpoints_of(loop, *local);
    from = found.front();
  }
  endpoints to = co_await endpoints_of(loop, where);
  unique_fd fd = co_await connect_any(loop, where, std::move(to), from, stagger);
  co_return stream(std::move(fd), options, loop);
}

template <class = void>
future<stream> connect_in_time(event_loop& loop,
                               address where,
                               std::optional<address> local,
                               event_loop::duration stagger,
                               stream_options options,
                               event_loop::duration limit) {
  future<stream> connecting = connect_stream(loop, where, std::move(local), stagger, options);
  if (limit == event_loop::duration::zero()) co_return co_await std::move(connecting);
  try {
    co_return co_await with_timeout(std::move(connecting), limit);
  } catch (const error& e) {
    if (e.code() != errc::timed_out) throw;
  }
  throw error(errc::timed_out,
              "cannot connect to " + where.to_string() + remedy_of_connect(ETIMEDOUT));
}

}  // namespace pulsar::detail
