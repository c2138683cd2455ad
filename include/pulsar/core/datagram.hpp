// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Datagrams by coroutines: `open_datagram_socket`, `datagram_socket`. UDP over IPv4 and IPv6, and
/// Unix datagram sockets.
///
///     future<> echo() {
///       datagram_socket at = co_await open_datagram_socket({.local = "127.0.0.1:9999"});
///       for (;;) {
///         const datagram d = co_await at.receive_from();
///         co_await at.send_to(d.data, d.from);
///       }
///     }
///
///     datagram_socket s = co_await open_datagram_socket({.remote = "127.0.0.1:9999"});
///     co_await s.send("ping");
///     const datagram answer = co_await with_timeout(s.receive_from(), 1s);
///
/// By callbacks: datagram_transport.hpp.

#include <pulsar/core/address.hpp>
#include <pulsar/core/datagram_transport.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/datagram.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/future.hpp>

#include <sys/socket.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar {

/// What one datagram brought.
struct datagram {
  std::string data;
  /// Who sent it; nobody, for a Unix socket without a name.
  address::endpoint from;
  /// How long it was: more than `data` has if that was cut.
  std::size_t size = 0;

  bool truncated() const noexcept { return size > data.size(); }
};

/// Owns a socket for datagrams. Move-only; belongs to one loop and its thread.
///
/// Any number of coroutines may receive, and send, first come, first served. Nothing is kept here:
/// what nobody receives the system drops when its buffer is full, as it does with UDP. A datagram
/// that was not delivered is seldom told of: a connected socket may fail with
/// `std::errc::connection_refused` in a later call, and goes on after that.
class datagram_socket {
 public:
  /// None: nothing may be asked of it.
  datagram_socket() noexcept = default;
  /// Takes over a datagram socket, which becomes non-blocking. Throws `std::errc::invalid_argument`
  /// for another descriptor.
  explicit datagram_socket(unique_fd socket, event_loop& loop = event_loop::current())
      : datagram_socket(std::move(socket), datagram_endpoint_options(), loop) {}
  /// The same with the `write_limit` of `options`.
  datagram_socket(unique_fd socket, const datagram_endpoint_options& options, event_loop& loop)
      : core_(new detail::datagram_socket_core(loop,
                                               detail::check_datagram_socket(std::move(socket)),
                                               options.write_limit)) {}
  datagram_socket(datagram_socket&&) noexcept = default;
  datagram_socket& operator=(datagram_socket&& other) noexcept {
    if (this != &other) {
      close();
      core_ = std::move(other.core_);
    }
    return *this;
  }
  ~datagram_socket() { close(); }

  /// The next datagram, of which at most `most` bytes are kept: `truncated()` tells. None is lost
  /// when this is cancelled. Throws the system's error, `errc::closed`, `errc::loop_closed`.
  future<datagram> receive_from(std::size_t most = 64 * 1024) {
    return core().call<datagram>("receive_from", detail::direction::in,
                                 detail::receive_datagram_call<datagram>{most});
  }

  /// Done when the system has taken `data` as one datagram for `to`, an `address`, which must be no
  /// name, or an endpoint. If that has to wait, a copy does, unless the copies would be more than
  /// `datagram_endpoint_options::write_limit`: `std::errc::no_buffer_space`, nobody awaits. Throws
  /// the system's error, `std::errc::message_size` for what is too long for a datagram, and as
  /// `receive_from`.
  template <class Where>
  future<> send_to(std::span<const std::byte> data, const Where& to) {
    return core().send("send_to", data, detail::endpoint_of(to));
  }
  template <class Where>
  future<> send_to(std::string_view text, const Where& to) {
    return send_to(std::as_bytes(std::span(text)), to);
  }

  /// The same to `datagram_endpoint_options::remote`.
  future<> send(std::span<const std::byte> data) {
    return core().send("send", data, std::nullopt);
  }
  future<> send(std::string_view text) { return send(std::as_bytes(std::span(text))); }

  /// Where this side is, and the only other one; "unix:" for what has none.
  address local_address() const { return core().address_of(&::getsockname); }
  address peer_address() const { return core().address_of(&::getpeername); }
  int native_handle() const noexcept { return core().fd(); }

  /// Closes it; calls that wait fail with `errc::closed`.
  void close() noexcept {
    if (core_) core_->close();
  }

 private:
  detail::datagram_socket_core& core() const noexcept {
    PULSAR_ASSERT(core_, "this datagram_socket was moved from, or never made");
    return *core_;
  }

  detail::counted_pointer<detail::datagram_socket_core> core_;
};

namespace detail {

template <class = void>
future<datagram_socket> open_datagrams(event_loop& loop, datagram_settings settings) {
  const datagram_endpoint_options options{.write_limit = settings.write_limit};
  unique_fd fd = co_await open_datagram_socket(loop, std::move(settings));
  co_return datagram_socket(std::move(fd), options, loop);
}

}  // namespace detail

/// A socket for datagrams at `options.local`, and to `options.remote`: one of them at least. Names
/// are looked up in the default executor.
///
/// Throws `pulsar::error` with the system's code and the address; what `getaddrinfo` throws;
/// `std::invalid_argument` for text that is no address.
inline future<datagram_socket> open_datagram_socket(const datagram_endpoint_options& options,
                                                    event_loop& loop = event_loop::current()) {
  detail::datagram_settings settings{std::nullopt, std::nullopt, options.reuse_port,
                                     options.broadcast, options.ipv6_only, options.write_limit};
  if (!options.local.empty()) settings.local.emplace(options.local);
  if (!options.remote.empty()) settings.remote.emplace(options.remote);
  return detail::open_datagrams(loop, std::move(settings));
}

}  // namespace pulsar
