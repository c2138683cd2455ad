// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `connect`: a stream to a server (asyncio.open_connection).
///
///     stream server = co_await connect("example.org:80");
///     stream local = co_await connect("unix:/run/app.sock");
///     stream soon = co_await connect("10.0.0.7:6379", {.timeout = 2s});
///
/// A name is looked up in the default executor. Its addresses are tried in turn, IPv6 and IPv4
/// alternating; one that stalls is overtaken by the next (RFC 8305), and the first that answers
/// wins.

#include <pulsar/core/address.hpp>
#include <pulsar/core/detail/connect.hpp>
#include <pulsar/core/stream.hpp>

#include <chrono>
#include <optional>
#include <string_view>

namespace pulsar {

struct connect_options {
  /// For all of it, the look-up of the name too, default 30 s; zero for no limit: then the system
  /// gives up an address that does not answer after some minutes.
  std::chrono::milliseconds timeout{30'000};
  /// How long an address may take before the next is tried beside it.
  std::chrono::milliseconds stagger{250};
  /// Where this side of the connection is to be, as in "192.168.1.7:0"; empty: wherever.
  std::string_view local{};
  stream_options stream{};
};

/// A stream that is connected to `where`. Cancelling it closes what it has begun.
///
/// Throws `pulsar::error` with the system's code, whose text names the addresses and what to do,
/// and with `errc::timed_out`; what `getaddrinfo` throws for a name; `std::invalid_argument` for
/// text that is no address or names no port.
inline future<stream> connect(const address& where,
                              connect_options options = {},
                              event_loop& loop = event_loop::current()) {
  std::optional<address> local;
  if (!options.local.empty()) local.emplace(options.local);
  return detail::connect_in_time(loop, where, std::move(local), options.stagger, options.stream,
                                 options.timeout);
}
inline future<stream> connect(std::string_view where,
                              connect_options options = {},
                              event_loop& loop = event_loop::current()) {
  return connect(detail::address_to_connect(where), options, loop);
}

}  // namespace pulsar
