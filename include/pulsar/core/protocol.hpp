// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `protocol` and `datagram_protocol`: what is told of a connection by callbacks (PEP 3156).
///
///     class echo : public pulsar::protocol {
///       void connection_made(pulsar::transport& t) override { transport_ = t; }
///       void data_received(std::span<const std::byte> data) override { transport_.write(data); }
///       pulsar::transport transport_;
///     };
///
/// Programs are shorter with `stream` and coroutines. This form is for parsers that are fed as
/// bytes come, and for protocols that were written for asyncio.
///
/// Every function is called from the loop, never inside a call of the transport, but for
/// `pause_writing`. An exception that leaves one goes to the loop's exception handler; it ends a
/// connection, not a datagram socket, which goes on with the next datagram.

#include <pulsar/core/address.hpp>

#include <cstddef>
#include <span>
#include <system_error>

namespace pulsar {

class transport;
class datagram_transport;

/// One connection's side of a stream of bytes. The transport owns it from `connection_made` to
/// `connection_lost`, together with whoever kept the `std::shared_ptr`.
class protocol {
 public:
  protocol() = default;
  protocol(const protocol&) = delete;
  protocol& operator=(const protocol&) = delete;
  virtual ~protocol() = default;

  /// First. `by` may be copied: copies refer to the same connection.
  virtual void connection_made(transport& by) { static_cast<void>(by); }

  /// Bytes have come, as many as did, not as they were sent. They are gone when this returns.
  virtual void data_received(std::span<const std::byte> data) { static_cast<void>(data); }

  /// The other side sends no more. True: this side goes on sending; false: the transport closes
  /// itself, as that of a pipe does in any case.
  virtual bool eof_received() { return false; }

  /// Last, once. `why` is no error if this side closed it, or the other one in good order.
  virtual void connection_lost(std::error_code why) { static_cast<void>(why); }

  /// More is waiting to be sent than the high-water mark: stop writing until `resume_writing`. May
  /// be called inside `write`.
  virtual void pause_writing() {}
  /// No more is waiting than the low-water mark.
  virtual void resume_writing() {}
};

/// The side of a datagram socket; otherwise as `protocol`.
class datagram_protocol {
 public:
  datagram_protocol() = default;
  datagram_protocol(const datagram_protocol&) = delete;
  datagram_protocol& operator=(const datagram_protocol&) = delete;
  virtual ~datagram_protocol() = default;

  /// First.
  virtual void connection_made(datagram_transport& by) { static_cast<void>(by); }

  /// One datagram, whole, and where it came from. The bytes are gone when this returns.
  virtual void datagram_received(std::span<const std::byte> data, const address::endpoint& from) {
    static_cast<void>(data);
    static_cast<void>(from);
  }

  /// A datagram was not sent, or an earlier one found nobody (`std::errc::connection_refused`). The
  /// transport goes on.
  virtual void error_received(std::error_code why) { static_cast<void>(why); }

  /// Last, once.
  virtual void connection_lost(std::error_code why) { static_cast<void>(why); }

  virtual void pause_writing() {}
  virtual void resume_writing() {}
};

}  // namespace pulsar
