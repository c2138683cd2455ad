// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `stream`: bytes to and from another side, buffered both ways (asyncio's StreamReader and
/// StreamWriter in one).
///
///     future<> serve(stream peer) {
///       for (;;) {
///         const std::string line = co_await peer.read_line();
///         if (line.empty()) break;                    // the other side has ended
///         peer.write("you said ");
///         peer.write(line);
///         co_await peer.drain();                      // not faster than the other side reads
///       }
///       co_await peer.close();
///     }
///
/// A parser of one's own reads where the bytes lie:
///
///     for (bool more = true; more; more = co_await peer.fill()) {
///       peer.consume(parse(peer.buffered()));
///     }
///
/// `connect`, `start_server` and `memory_pair` make streams.

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/raw_stream.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar {

namespace detail {
class stream_core;
struct stream_access;
}

/// How much a stream holds, and how its socket behaves.
struct stream_options {
  /// `drain` waits while more bytes than this are unsent, default 64 KiB,
  std::size_t high_water = 64 * 1024;
  /// until no more than this are, default 16 KiB.
  std::size_t low_water = 16 * 1024;
  /// The longest line, the most that `read_until` looks at and that `fill` leaves unconsumed,
  /// default 64 KiB. The read that goes beyond may bring as many bytes more.
  std::size_t read_limit = 64 * 1024;
  /// `write` refuses more once so many bytes are unsent, default 64 MiB: nobody has drained.
  std::size_t write_limit = 64 * 1024 * 1024;
  /// Small packets go at once (TCP_NODELAY).
  bool no_delay = true;
  /// The system asks now and then whether an idle other side is still there (SO_KEEPALIVE).
  bool keep_alive = false;
};

/// Move-only; belongs to one loop and its thread. It may outlive the loop, but not a user's
/// `io_context` that the loop was on.
///
/// One read at a time: a second one fails with `errc::already_called`. A read that is cancelled, by
/// `with_timeout` say, loses no byte: they are there for the next one. So does one that fails; what
/// came before a failure is read before it is told. After its stream has gone a read fails with
/// `errc::closed`. Each member that returns a future throws `errc::loop_closed`.
///
/// A write that fails is told to the `write` and `drain` behind it; reads go on as long as the
/// other side has sent something. An idle stream keeps a few KiB.
class stream {
 public:
  /// Takes over `raw`.
  explicit stream(std::unique_ptr<raw_stream> raw,
                  stream_options options = {},
                  event_loop& loop = event_loop::current());

  /// Takes over a connected stream socket: accepted, inherited, one of a `socket_pair`. It becomes
  /// non-blocking. Throws `std::errc::invalid_argument` for another descriptor, and the system's
  /// error if it cannot be waited for.
  explicit stream(unique_fd socket,
                  stream_options options = {},
                  event_loop& loop = event_loop::current());

  /// No stream; all but assigning to it is an error.
  stream() noexcept;
  stream(stream&&) noexcept;
  stream& operator=(stream&&) noexcept;

  /// Sends what goes without waiting, and closes. If bytes are left the other side sees a failure
  /// (a reset), not an end: `co_await close()` sends all.
  ~stream();

  // -- reading ---------------------------------------------------------------

  /// Reads at least one byte into `into`, which must stay until the future has ended; how many. 0
  /// at the end.
  future<std::size_t> read_some(std::span<std::byte> into);
  future<std::size_t> read_some(std::span<char> into) {
    return read_some(std::as_writable_bytes(into));
  }

  /// From 1 to `most` bytes; none at the end.
  future<std::string> read(std::size_t most = 64 * 1024);

  /// `n` bytes, however many; the memory grows with what comes. If the stream ends before them it
  /// fails with `errc::truncated`, whose text says how many there were: they stay in `buffered()`.
  future<std::string> read_exactly(std::size_t n);

  /// The bytes up to and with the first `delimiter`. Fails with `errc::truncated` as `read_exactly`
  /// does, and with `errc::too_large` if they are more than `read_limit`; they stay in
  /// `buffered()`. Throws `std::errc::invalid_argument` for no delimiter.
  future<std::string> read_until(std::string_view delimiter);

  /// A line with its '\n', or what is left without one, or nothing at the end. Fails with
  /// `errc::too_large` as `read_until` does.
  future<std::string> read_line();

  /// All that comes up to the end. Fails with `errc::too_large` if that is more than `limit`, and
  /// keeps it.
  future<std::string> read_to_end(std::size_t limit = 16 * 1024 * 1024);

  /// True when `buffered()` has more than the last `fill` has told of; false at the end. Fails with
  /// `errc::too_large` if `read_limit` bytes lie there unconsumed.
  future<bool> fill();

  /// The bytes that were read and not consumed, until the next read or `consume`.
  std::span<const std::byte> buffered() const noexcept;
  /// The same as text.
  std::string_view buffered_text() const noexcept;
  /// Drops the first `n` of them. Not while a read waits.
  void consume(std::size_t n) noexcept;

  /// True when all was read and the other side has ended.
  bool at_end() const noexcept;

  // -- writing ---------------------------------------------------------------

  /// Takes a copy of `from`, which goes at the end of the loop's turn, or by `drain`: what is
  /// written in one turn goes together. Large ones go at once if nothing stands before them. It
  /// never waits. Throws why an earlier write has failed, `errc::closed` after `write_eof` or
  /// `close`, and `errc::too_large` at the `write_limit`.
  void write(std::span<const std::byte> from);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Sends now. Done at once, unless more than `high_water` bytes are unsent: then when no more
  /// than `low_water` are. Fails with what a write has failed with. Giving it up leaves the bytes
  /// to go.
  future<> drain();

  /// Says that nothing more will be written, behind all that was: the other side reads to the end.
  /// Reading goes on.
  void write_eof();

  /// How many bytes are not with the system yet.
  std::size_t unsent() const noexcept;

  // -- the end ---------------------------------------------------------------

  /// Ends reading, sends what is unsent, and closes. Fails with what kept bytes from going.
  /// Cancelling or dropping it is `abort()`; `detach()` lets it go on without the stream, as long
  /// as the other side takes. What the other side has sent and nobody has read makes TCP reset the
  /// connection, which can take from it what it was sent last: see `close_lingering`.
  future<> close();

  /// Closes now. What is unsent is lost, and over TCP the other side sees a failure (a reset). Over
  /// a Unix socket or a pipe it sees an end.
  void abort() noexcept;

  /// True from `close` or `abort` on.
  bool is_closing() const noexcept;

  // -- about it --------------------------------------------------------------

  /// Where this side is, and the other one: an unnamed Unix address, "unix:", for what has none,
  /// and once it is lost.
  address local_address() const;
  address peer_address() const;
  /// "127.0.0.1:8060", "a pipe (descriptor 7)" or, of what has no address, "the other side": for
  /// messages.
  std::string peer_name() const;

  /// The socket's descriptor, for options of it; -1 if there is none.
  int native_handle() const noexcept;

  /// What is under it.
  raw_stream& raw() const noexcept;
  /// Gives that up, and what was read ahead of it, to whoever puts a layer between (STARTTLS); this
  /// is no stream any more. Throws `errc::already_called` while it reads or writes.
  std::pair<std::unique_ptr<raw_stream>, std::string> release();

  /// How many bytes came in, and went out to the system, so far.
  std::uint64_t bytes_read() const noexcept;
  std::uint64_t bytes_written() const noexcept;

  const stream_options& options() const noexcept;

 private:
  friend struct detail::stream_access;

  detail::stream_core& core() const noexcept;

  template <class Reader, class... Args>
  auto start(const char* what, Args&&... args);
  template <class = void>
  static future<> finish(event_loop& loop, detail::counted_pointer<detail::stream_core> core);

  detail::counted_pointer<detail::stream_core> core_;
};

}  // namespace pulsar

#include <pulsar/core/detail/stream.hpp>
