// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `start_server`: a coroutine for each connection (asyncio.start_server).
///
///     future<> greet(stream peer) {
///       peer.write("hello\n");
///       co_await peer.close();
///     }
///
///     future<> until_asked(server& s) {
///       log::info("listening on {}", s.addresses()[0].to_string());
///       co_await asked_to_end();
///       co_await s.stop(5s);     // five seconds for those who are there, then they are cancelled
///     }
///
///     co_await with_server(start_server(&greet, "127.0.0.1:0"), &until_asked);
///
/// What a handler throws ends its connection and no other one.
///
/// A handler that is cancelled goes on until it has ended, in later turns of the loop. What it
/// refers to must live until then: share it with the handler, or have `with_server` wait, which
/// does so when something throws too. A `server s = co_await start_server(...)` by itself does not
/// wait when it goes, but in `stop` alone.
///
///     chat_room room;
///     const auto handler = [&room](stream peer) { return talk(std::move(peer), room); };
///     co_await with_server(start_server(handler, ":8060"), &until_asked);   // then room may go

#include <pulsar/core/address.hpp>
#include <pulsar/core/detail/server.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/stream.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace pulsar {

struct server_options {
  /// Backlog, and who else may listen.
  listen_options listen{};
  /// The next connection is accepted when one of so many has ended; until then it waits in the
  /// backlog.
  std::size_t most_connections = std::numeric_limits<std::size_t>::max();
  /// Of the streams that the handler is given.
  stream_options stream{};
};

/// Listens on some addresses. Move-only; belongs to one loop and its thread. Its end closes it and
/// cancels its handlers, and does not wait for them: see `stop`.
class server {
 public:
  /// No server: nothing may be asked of it.
  server() noexcept = default;
  server(server&&) noexcept = default;
  server& operator=(server&& other) noexcept {
    if (this != &other) {
      end();
      core_ = std::move(other.core_);
    }
    return *this;
  }
  ~server() { end(); }

  /// Where it listens, with the ports that the system chose for 0; where it has listened, once it
  /// is closed.
  const std::vector<address>& addresses() const noexcept { return core().addresses; }

  /// How many connections are open: their handlers have not ended.
  std::size_t size() const noexcept { return core().size; }
  /// How many there were so far.
  std::uint64_t accepted() const noexcept { return core().accepted; }

  /// Stops listening, here and now: the address is free, those who connect are refused. Handlers go
  /// on.
  void close() noexcept { core().close(); }
  bool is_closed() const noexcept { return core().closed; }

  /// Cancels the handlers of all connections, which end in later turns of the loop.
  void cancel_connections() noexcept { core().cancel_connections(); }

  /// Done when it is closed and no handler is left. Throws what has kept it from accepting,
  /// `errc::loop_closed`.
  future<> wait_closed() { return detail::wait_for_server(core().open_loop(), core_); }

  /// Closes it, lets the handlers go on for `grace`, cancels those that are left, and is done when
  /// the last has ended. Those that swallow that are cancelled again every second, and every five
  /// seconds a warning names one: whoever catches `std::exception`, or looks at results, must let
  /// `errc::cancelled` pass, and clean up within a second or in a task that it shields. Cancelling
  /// this ends the grace and no more: it fails with `errc::cancelled`, but not before the last
  /// handler has ended. Not for a handler, which would wait for itself. Throws as `wait_closed`.
  future<> stop(event_loop::duration grace = event_loop::duration::zero()) {
    return detail::stop_server(core().open_loop(), core_, grace);
  }

 private:
  friend struct detail::server_access;

  explicit server(detail::counted_pointer<detail::server_core> core) noexcept
      : core_(std::move(core)) {}

  detail::server_core& core() const noexcept {
    PULSAR_ASSERT(core_, "this server was moved from, or never started");
    return *core_;
  }

  void end() noexcept {
    if (!core_) return;
    core_->close();
    core_->cancel_connections();
    core_->forget_accepting();
  }

  detail::counted_pointer<detail::server_core> core_;
};

/// Calls `handler(stream)`, which returns a `future<>`, for each connection to one of `where`. A
/// name is looked up in the default executor, and all its addresses are listened on. A closure is
/// kept until the last of its coroutines has ended; with g++ 12 name one that captures more than
/// references and numbers: see make.hpp.
///
/// A handler that fails is logged; one whose peer has gone, at the level `debug`. If descriptors
/// run out, that is logged, and those who connect wait.
///
/// Throws what `listener` and `getaddrinfo` throw; `std::errc::invalid_argument` for no address.
template <class Handler>
future<server> start_server(Handler&& handler,
                            std::vector<address> where,
                            server_options options = {},
                            event_loop& loop = event_loop::current()) {
  return detail::open_server<server>(loop, detail::checked_handler(std::forward<Handler>(handler)),
                                     std::move(where), options.listen, options.most_connections,
                                     options.stream);
}
template <class Handler>
future<server> start_server(Handler&& handler,
                            const address& where,
                            server_options options = {},
                            event_loop& loop = event_loop::current()) {
  return detail::open_server<server>(loop, detail::checked_handler(std::forward<Handler>(handler)),
                                     std::vector<address>(1, where), options.listen,
                                     options.most_connections, options.stream);
}
template <class Handler>
future<server> start_server(Handler&& handler,
                            std::string_view where,
                            server_options options = {},
                            event_loop& loop = event_loop::current()) {
  return detail::open_server<server>(loop, detail::checked_handler(std::forward<Handler>(handler)),
                                     std::vector<address>(1, address(where)), options.listen,
                                     options.most_connections, options.stream);
}

/// The same on sockets that listen already: inherited, or bound before privileges were dropped.
/// `options.listen` has no effect.
template <class Handler>
future<server> start_server(Handler&& handler,
                            std::vector<listener> at,
                            server_options options = {},
                            event_loop& loop = event_loop::current()) {
  return detail::open_server_at<server>(loop,
                                        detail::checked_handler(std::forward<Handler>(handler)),
                                        std::move(at), options.most_connections, options.stream);
}
template <class Handler>
future<server> start_server(Handler&& handler,
                            listener at,
                            server_options options = {},
                            event_loop& loop = event_loop::current()) {
  std::vector<listener> one;
  one.push_back(std::move(at));
  return start_server(std::forward<Handler>(handler), std::move(one), options, loop);
}

/// Waits for a server that starts, calls `body(server)`, which returns a `future<>`, and stops the
/// server when that is done, has failed or was cancelled: no handler is left when this is done.
/// Throws what `body` throws, or what starting or `server::stop` does. With g++ 12 name a `body`
/// that captures more than references and numbers: see make.hpp.
template <class F>
future<> with_server(future<server> starting, F&& body) {
  static_assert(std::is_invocable_r_v<future<>, std::decay_t<F>&, server&>,
                "with_server calls its body with a server&, and waits for the future<> that it "
                "returns");
  detail::refuse_temporaries<F>();
  return detail::server_with_body<server, std::decay_t<F>>(std::move(starting),
                                                           std::forward<F>(body));
}

}  // namespace pulsar
