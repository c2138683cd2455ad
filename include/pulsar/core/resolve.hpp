// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Looking names up: `event_loop::getaddrinfo`, `getnameinfo` (PEP 3156).
///
///     auto found = co_await loop.getaddrinfo("www.python.org", "https");
///     for (auto& each : found) try_to_connect(each.endpoint);
///
///     auto peer = co_await loop.getnameinfo(found[0].endpoint);   // peer.host, peer.service
///
/// The system's resolver blocks and cannot be interrupted: it runs in the loop's default executor,
/// and a look-up that is cancelled or dropped is left to end there, its result forgotten.

#include <pulsar/core/address.hpp>
#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/executor.hpp>
#include <pulsar/core/make.hpp>

#include <netdb.h>
#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pulsar {

/// What `getaddrinfo` is asked for.
struct resolve_options {
  /// `AF_INET` or `AF_INET6` for one family alone.
  int family = AF_UNSPEC;
  /// `SOCK_DGRAM` for UDP; 0 gives an entry for each type of socket.
  int type = SOCK_STREAM;
  int protocol = 0;
  /// `AI_PASSIVE`, `AI_CANONNAME`, ... of getaddrinfo(3).
  int flags = 0;
};

/// One address that a name stands for.
struct resolved_address {
  /// For bind and connect, of whatever type.
  address::endpoint endpoint{};
  int family = AF_UNSPEC;
  int type = 0;
  int protocol = 0;
  /// Of the first one, if `AI_CANONNAME` was asked for.
  std::string canonical_name{};
};

/// The names of an endpoint; numbers where it has none.
struct resolved_name {
  std::string host;
  std::string service;
};

namespace detail {
std::vector<resolved_address> look_up(const std::string& host,
                                      const std::string& service,
                                      const resolve_options& options);
// What needs no look-up.
std::optional<resolved_address> read_numbers(const std::string& host,
                                             const std::string& service,
                                             const resolve_options& options);
void refuse_zero_in_name(const std::string& name);
resolved_name look_up_name(const address::endpoint& where, int flags);
}  // namespace detail

/// The addresses of `host` (empty: this machine, or every interface with `AI_PASSIVE`) with the
/// port of `service`, a number or a name such as "https", in the order in which they are to be
/// tried; one at least. Numbers are read at once, without a thread. `options`: a `resolve_options`.
///
/// Cancelling it abandons the look-up. Throws `pulsar::error` with the resolver's code, as
/// `asio::error::host_not_found`, and a sentence; `std::errc::invalid_argument` for a name with a
/// zero byte in it; `errc::loop_closed`; what `run_in_executor` throws.
template <class Options>
future<std::vector<resolved_address>> event_loop::getaddrinfo(std::string host,
                                                              std::string service,
                                                              Options options) {
  check_open("getaddrinfo");
  detail::refuse_zero_in_name(host);
  detail::refuse_zero_in_name(service);
  const resolve_options& wanted = options;
  if (auto number = detail::read_numbers(host, service, wanted)) {
    std::vector<resolved_address> found;
    found.push_back(std::move(*number));
    return detail::settled<std::vector<resolved_address>>(*this, std::move(found));
  }
  auto look_up = [host = std::move(host), service = std::move(service), wanted] {
    return detail::look_up(host, service, wanted);
  };
  return run_in_executor(moved(look_up));
}

/// The same for the number of a port.
template <class Options>
future<std::vector<resolved_address>> event_loop::getaddrinfo(std::string host,
                                                              std::uint16_t port,
                                                              Options options) {
  return getaddrinfo(std::move(host), std::to_string(port), options);
}

/// The names of the host and the service at `where`, an endpoint of any kind; `flags` are those of
/// getnameinfo(3), `NI_NUMERICHOST | NI_NUMERICSERV` to have numbers. Otherwise as `getaddrinfo`.
template <class Endpoint>
future<resolved_name> event_loop::getnameinfo(const Endpoint& where, int flags) {
  return run_in_executor(
      [copy = address::endpoint(where), flags] { return detail::look_up_name(copy, flags); });
}

}  // namespace pulsar

#include <pulsar/core/detail/resolve.hpp>
