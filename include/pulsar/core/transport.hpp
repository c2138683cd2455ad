// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `transport`: what a protocol writes to, and how it governs its connection (PEP 3156).
///
///     auto [transport, told] = co_await attach_protocol(std::move(s), [] {
///       return std::make_shared<echo>();
///     });
///
/// `create_connection` and `create_server` (connections.hpp) make the stream too.

#include <pulsar/core/address.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/transport.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/protocol.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/core/timeout.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {
class transport_of_protocol;
}

/// Refers to one connection, as every copy of it does. Belongs to the thread of its loop. It may be
/// kept as long as one likes: when the connection is lost, what is done with it is of no effect.
class transport {
 public:
  /// Of no connection: as of one that is lost.
  transport() noexcept = default;

  /// True unless it was made without a connection.
  explicit operator bool() const noexcept { return static_cast<bool>(core_); }

  // -- writing ---------------------------------------------------------------

  /// Takes a copy of `data`, which goes by the end of the loop's turn. Nothing once it is closing.
  /// Throws `errc::closed` after `write_eof`, and `errc::too_large` at
  /// `stream_options::write_limit`.
  void write(std::span<const std::byte> data) {
    if (core_) core_->write(data);
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// All of them, in their order.
  template <class Range>
  void writelines(const Range& lines) {
    for (const auto& each : lines) write(each);
  }

  /// The other side reads to the end of what was written; data is received as before.
  void write_eof() {
    if (core_) core_->write_eof();
  }
  /// True: every connection can be ended in one direction; a pipe is closed by it.
  bool can_write_eof() const noexcept { return true; }

  /// `protocol::pause_writing` is called when more than `high` bytes wait to be sent, default 64
  /// KiB, and `resume_writing` when no more than `low` do, default a quarter of it.
  void set_write_buffer_limits(std::size_t high, std::size_t low) {
    if (core_) core_->limit_writing(high, low < high ? low : high);
  }
  void set_write_buffer_limits(std::size_t high) { set_write_buffer_limits(high, high / 4); }
  /// How many bytes wait to be sent.
  std::size_t get_write_buffer_size() const noexcept {
    return is_open() ? core_->under().unsent() : 0;
  }

  // -- reading ---------------------------------------------------------------

  /// No more data is received until `resume_reading`; the other side is made to wait, in the end.
  void pause_reading() noexcept {
    if (core_) core_->pause_reading();
  }
  void resume_reading() noexcept {
    if (core_) core_->resume_reading();
  }
  bool is_reading() const noexcept { return core_ && core_->is_reading(); }

  // -- the end ---------------------------------------------------------------

  /// Receives no more, sends what waits, and then the connection is lost. A peer that takes nothing
  /// keeps it: see `abort`.
  void close() noexcept {
    if (core_) core_->close();
  }
  /// The connection is lost soon, with what waits; the other side sees a failure (TCP: a reset).
  void abort() noexcept {
    if (core_) core_->abort();
  }
  /// From `close`, or the loss, on.
  bool is_closing() const noexcept { return !core_ || core_->is_closing(); }

  // -- about it --------------------------------------------------------------

  /// Where this side is, and the other one, while it is connected; as those of `stream`.
  address local_address() const { return core_ ? core_->under().local_address() : address(); }
  address peer_address() const { return core_ ? core_->under().peer_address() : address(); }
  /// The socket's descriptor, for options of it; -1 if there is none.
  int native_handle() const noexcept { return core_ ? core_->under().native_handle() : -1; }

  /// Tells another protocol from now on, as after an upgrade; it is not told of `connection_made`.
  void set_protocol(std::shared_ptr<protocol> told) noexcept {
    if (core_) core_->set_protocol(std::move(told));
  }
  /// Null once the connection is lost.
  std::shared_ptr<protocol> get_protocol() const noexcept {
    return core_ ? core_->told() : nullptr;
  }

  bool operator==(const transport& other) const noexcept {
    return core_.get() == other.core_.get();
  }

 private:
  friend class detail::transport_of_protocol;

  explicit transport(detail::counted_pointer<detail::transport_core> core) noexcept
      : core_(std::move(core)) {}

  bool is_open() const noexcept { return core_ && core_->told() != nullptr; }

  detail::counted_pointer<detail::transport_core> core_;
};

namespace detail {

class transport_of_protocol final : public transport_core {
 public:
  using transport_core::transport_core;

  static transport refer_to(transport_core& core) noexcept { return transport(share(core)); }

 private:
  void made(protocol& told) override {
    transport self = refer_to(*this);
    told.connection_made(self);
  }
};

template <class Factory>
using protocol_of = typename std::remove_reference_t<decltype(*std::declval<Factory&>()())>;

/// Of what a factory gives, a std::shared_ptr or std::unique_ptr.
template <class Factory>
std::shared_ptr<protocol_of<Factory>> make_protocol(Factory& factory) {
  static_assert(
      std::is_base_of_v<protocol, protocol_of<Factory>>,
      "the factory must give a std::shared_ptr or std::unique_ptr to a class that derives "
      "from pulsar::protocol");
  std::shared_ptr<protocol_of<Factory>> made = factory();
  if (made == nullptr) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "the factory of a protocol gave none");
  }
  return made;
}

template <class P>
using attached = std::pair<transport, std::shared_ptr<P>>;

/// A connection from its beginning to its end.
template <class = void>
future<> run_protocol(event_loop& loop, stream under, std::shared_ptr<protocol> told) {
  const counted_pointer<transport_core> core(new transport_of_protocol(
      loop, std::move(under), std::move(told), transport_kind::both_ways));
  return transport_core::run(loop, core);
}

/// Done when `connection_made` has returned.
template <class Factory>
future<attached<protocol_of<Factory>>> attach(event_loop& loop,
                                              stream under,
                                              Factory factory,
                                              transport_kind kind) {
  const auto told = make_protocol(factory);
  const counted_pointer<transport_core> core(
      new transport_of_protocol(loop, std::move(under), told, kind));
  co_await sleep(std::chrono::seconds(0), loop);  // connection_made is called from the loop
  transport_core::run(loop, core).detach();
  co_return attached<protocol_of<Factory>>(transport_of_protocol::refer_to(*core), told);
}

}  // namespace detail

/// Has the protocol that `factory()` gives, as a `std::shared_ptr` or `std::unique_ptr`, told of
/// what comes on `under`: a memory pair, TLS, an accepted socket. Gives the transport and the
/// protocol as a pair, when `connection_made` has returned.
///
/// When the loop closes, or a server cancels its connections, `connection_lost` is told
/// `errc::cancelled`. Throws what the factory throws.
template <class Factory>
future<std::pair<transport, std::shared_ptr<detail::protocol_of<Factory>>>> attach_protocol(
    stream under, Factory factory, event_loop& loop = event_loop::current()) {
  return detail::attach(loop, std::move(under), std::move(factory),
                        detail::transport_kind::both_ways);
}

}  // namespace pulsar
