// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `close_lingering`: closing first, while the other side may still be sending.
///
///     peer.write("413 that is too much\n");      // before all of it was read
///     co_await close_lingering(std::move(peer));
///
/// A TCP connection that is closed with bytes of the other side unread, or that gets some behind
/// that, is reset: the other side can lose the last of what it was sent before it has read it
/// (RFC 1122 4.2.2.13, RFC 9112 9.6).

#include <pulsar/core/error.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/core/timeout.hpp>

#include <chrono>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

template <class = void>
future<> read_away(stream& from) {
  for (bool more = true; more; more = co_await from.fill()) {
    from.consume(from.buffered().size());
  }
}

}  // namespace detail

/// Sends what is unsent and says that nothing more follows, as `stream::write_eof` does; reads on,
/// and drops what it reads, until the other side has ended too or has failed, but for no longer
/// than `limit` from the call on, default 5 s; then closes.
///
/// Fails with what kept bytes from going. If the other side takes none it waits as
/// `stream::close` does. Cancelling or dropping it is `abort()`.
template <class = void>
future<> close_lingering(stream peer,
                         std::chrono::milliseconds limit = std::chrono::milliseconds(5'000)) {
  peer.write_eof();
  try {
    future<> reading = detail::read_away(peer);
    co_await with_timeout(std::move(reading), limit);
  } catch (const std::system_error& e) {
    if (e.code() == errc::cancelled) {
      peer.abort();
      throw;
    }
  }
  co_await peer.close();
}

}  // namespace pulsar
