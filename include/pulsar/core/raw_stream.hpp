// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `raw_stream`: bytes in both directions, one read and one write at a time, without a buffer.
///
/// It is what a `stream` and a `transport` are made of: a socket, a pipe, the end of a pair in
/// memory, TLS over another raw_stream. Programs use those two; who makes a new way for bytes
/// implements this. What has begun cannot be cancelled: it ends, or is forgotten by `close`.

#include <cstddef>
#include <span>
#include <system_error>

namespace pulsar {

/// Belongs to one loop and its thread.
class raw_stream {
 public:
  /// A read, or a write. It stays in place, and so do the bytes, until it has ended or the stream
  /// is closed.
  struct operation {
    using function = void (*)(operation* self);

    explicit operation(function f) noexcept : ended(f) {}
    operation(const operation&) = delete;
    operation& operator=(const operation&) = delete;

    /// Called from the loop, never inside a member of the stream. It may start the next operation,
    /// and it may destroy the stream. Not called if the stream is closed first, or its loop.
    function ended;
    /// How many bytes were read or written. A read of none without a failure is the end of what the
    /// other side sends.
    std::size_t count = 0;
    std::error_code failure{};

   protected:
    ~operation() = default;
  };

  raw_stream() = default;
  raw_stream(const raw_stream&) = delete;
  raw_stream& operator=(const raw_stream&) = delete;
  /// Closes it.
  virtual ~raw_stream() = default;

  /// Reads at least one byte into `into`, which is not empty. True if that has ended at once: then
  /// `op.ended` will not be called. One read at a time. Throws `std::bad_alloc` alone.
  virtual bool read(std::span<std::byte> into, operation& op) = 0;

  /// Writes at least one byte of `from`, which is not empty; otherwise as `read`.
  virtual bool write(std::span<const std::byte> from, operation& op) = 0;

  /// Reads what is there already, without waiting: none if there is nothing, if a read is under
  /// way, or if the medium cannot tell. The end is found by `read` alone.
  virtual std::size_t read_now(std::span<std::byte> into, std::error_code& failure) noexcept {
    static_cast<void>(into);
    failure.clear();
    return 0;
  }

  /// Writes what goes without waiting, and says how much that was; none if a write is under way, or
  /// if the medium cannot tell. The bytes may go when it returns.
  virtual std::size_t write_now(std::span<const std::byte> from,
                                std::error_code& failure) noexcept {
    static_cast<void>(from);
    failure.clear();
    return 0;
  }

  /// Ends this side's direction: the other side reads to the end of what was written. No write is
  /// under way, and none follows. False: it has to go on when `op.ended` is called; TLS writes its
  /// farewell.
  virtual bool shut_down(operation& op) = 0;

  /// Closes it at once. What is under way is forgotten: its `ended` is not called any more, and
  /// when this returns nothing refers to it or its bytes. The other side still reads what was
  /// written.
  virtual void close() noexcept = 0;

  /// The same when something is lost by it: the other side sees a failure, not an end, if the
  /// medium can tell it (TCP: RST).
  virtual void reset() noexcept { close(); }

  /// The descriptor under it, for options of sockets and for addresses; -1 if there is none.
  virtual int native_handle() const noexcept { return -1; }
};

}  // namespace pulsar
