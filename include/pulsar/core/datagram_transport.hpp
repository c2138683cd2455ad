// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Datagrams by callbacks: `event_loop::create_datagram_endpoint` (PEP 3156), `datagram_transport`.
///
///     class echo : public pulsar::datagram_protocol {
///       void connection_made(pulsar::datagram_transport& t) override { transport_ = t; }
///       void datagram_received(std::span<const std::byte> data,
///                              const pulsar::address::endpoint& from) override {
///         transport_.sendto(data, from);
///       }
///       pulsar::datagram_transport transport_;
///     };
///
///     auto [transport, told] = co_await loop.create_datagram_endpoint(
///         [] { return std::make_shared<echo>(); }, {.local = "127.0.0.1:9999"});
///
/// UDP over IPv4 and IPv6, and Unix datagram sockets ("unix:/run/app.sock", whose file the program
/// removes).

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/datagram_transport.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/protocol.hpp>
#include <pulsar/core/timeout.hpp>

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {
class datagram_core_of_protocol;
}

/// Where datagrams come and go. One address at least.
struct datagram_endpoint_options {
  /// Where this side is, as in "0.0.0.0:9999"; empty: wherever, for who sends first.
  std::string_view local{};
  /// The only one to send to and receive from; empty: anyone.
  std::string_view remote{};
  /// Other sockets of this user may have the same local address: the system spreads what comes.
  bool reuse_port = false;
  /// It may send to broadcast addresses.
  bool broadcast = false;
  /// False: "[::]" takes IPv4 too.
  bool ipv6_only = true;
  /// How many bytes may wait to be sent, default 16 MiB, each datagram with what it takes to keep
  /// it. What is sent beyond is not kept: `std::errc::no_buffer_space`.
  std::size_t write_limit = 16 * 1024 * 1024;
};

/// Refers to one datagram socket, as every copy of it does; otherwise as `transport`.
class datagram_transport {
 public:
  datagram_transport() noexcept = default;
  explicit operator bool() const noexcept { return static_cast<bool>(core_); }

  /// Sends `data` as one datagram, now or as soon as the system takes it, to an endpoint of any
  /// kind. What fails is told to `error_received`; so is, once until there is room again, what is
  /// beyond `datagram_endpoint_options::write_limit` and dropped: heed `pause_writing`. Nothing
  /// once it is closing.
  template <class Endpoint>
  void sendto(std::span<const std::byte> data, const Endpoint& to) {
    const address::endpoint where(to);
    if (core_) core_->send(data, &where);
  }
  template <class Endpoint>
  void sendto(std::string_view text, const Endpoint& to) {
    sendto(std::as_bytes(std::span(text)), to);
  }
  /// The same to `datagram_endpoint_options::remote`.
  void send(std::span<const std::byte> data) {
    if (core_) core_->send(data, nullptr);
  }
  void send(std::string_view text) { send(std::as_bytes(std::span(text))); }

  /// Marks in bytes that wait to be sent, each datagram with what it takes to keep it, default 64
  /// KiB and a quarter of it. Above `high` the protocol is told to pause, down at `low` to go on.
  void set_write_buffer_limits(std::size_t high, std::size_t low) noexcept {
    if (core_) core_->limit_writing(high, low < high ? low : high);
  }
  std::size_t get_write_buffer_size() const noexcept { return core_ ? core_->unsent() : 0; }

  /// Receives no more, and ends when all that waits was sent.
  void close() noexcept {
    if (core_) core_->close();
  }
  /// Ends soon; what waits is lost.
  void abort() noexcept {
    if (core_) core_->abort();
  }
  bool is_closing() const noexcept { return !core_ || core_->is_closing(); }

  /// Where this side is, and the other one if it has one; "unix:" for what has none.
  address local_address() const { return core_ ? core_->address_of(&::getsockname) : address(); }
  address peer_address() const { return core_ ? core_->address_of(&::getpeername) : address(); }
  int native_handle() const noexcept { return core_ ? core_->fd() : -1; }

 private:
  friend class detail::datagram_core_of_protocol;

  explicit datagram_transport(detail::counted_pointer<detail::datagram_core> core) noexcept
      : core_(std::move(core)) {}

  detail::counted_pointer<detail::datagram_core> core_;
};

namespace detail {

class datagram_core_of_protocol final : public datagram_core {
 public:
  using datagram_core::datagram_core;

  static datagram_transport refer_to(datagram_core& core) noexcept {
    return datagram_transport(share(core));
  }

 private:
  void made(datagram_protocol& told) override {
    datagram_transport self = refer_to(*this);
    told.connection_made(self);
  }
};

template <class P>
future<std::pair<datagram_transport, std::shared_ptr<P>>> open_datagram_endpoint(
    event_loop& loop, std::shared_ptr<P> told, datagram_settings settings) {
  if (told == nullptr) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "the factory of a datagram protocol gave none");
  }
  const std::size_t limit = settings.write_limit;
  unique_fd fd = co_await open_datagram_socket(loop, std::move(settings));
  const counted_pointer<datagram_core> core(
      new datagram_core_of_protocol(loop, std::move(fd), told, limit));
  co_await sleep(std::chrono::seconds(0), loop);  // connection_made is called from the loop
  core->start();
  co_return std::pair<datagram_transport, std::shared_ptr<P>>(
      datagram_core_of_protocol::refer_to(*core), std::move(told));
}

template <class Factory>
using datagram_protocol_of = std::remove_reference_t<decltype(*std::declval<Factory&>()())>;

}  // namespace detail

/// Opens a socket for datagrams and has the protocol that `factory()` gives told of them; the
/// transport and the protocol as a pair, when `connection_made` has returned. `options`: a
/// `datagram_endpoint_options`; names are looked up in the default executor.
///
/// When the loop closes the protocol goes without a word. Throws `pulsar::error` with the system's
/// code and the address; what `getaddrinfo` and `factory` throw; `std::invalid_argument` for text
/// that is no address; `std::errc::invalid_argument` for a factory that gives null. With g++ 12
/// name a factory that captures more than references: see make.hpp.
template <class Factory, class Options>
auto event_loop::create_datagram_endpoint(Factory&& factory, Options options) {
  detail::refuse_temporaries<Factory>();
  using made = detail::datagram_protocol_of<Factory>;
  static_assert(
      std::is_base_of_v<datagram_protocol, made>,
      "the factory must give a std::shared_ptr or std::unique_ptr to a class that derives "
      "from pulsar::datagram_protocol");
  check_open("create_datagram_endpoint");
  const datagram_endpoint_options& given = options;
  detail::datagram_settings settings{std::nullopt, std::nullopt, given.reuse_port, given.broadcast,
                                     given.ipv6_only, given.write_limit};
  if (!given.local.empty()) settings.local.emplace(given.local);
  if (!given.remote.empty()) settings.remote.emplace(given.remote);
  return detail::open_datagram_endpoint(*this, std::shared_ptr<made>(factory()),
                                        std::move(settings));
}

}  // namespace pulsar
