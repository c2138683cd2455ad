// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What a server consists of: its accept loops, and a coroutine around the handler of each
// connection.

#include <pulsar/core/accept.hpp>
#include <pulsar/core/address.hpp>
#include <pulsar/core/async_event.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/loop_ref.hpp>
#include <pulsar/core/detail/socket_peer.hpp>
#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/resolve.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/ip/address.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace pulsar::detail {

using connection_handler = std::function<future<>(stream)>;

template <class Given>
connection_handler checked_handler(Given&& handler) {
  using kept = std::decay_t<Given>;
  refuse_temporaries<Given>();
  constexpr bool fits = std::is_invocable_r_v<future<>, kept&, stream>;
  constexpr bool copies = std::is_copy_constructible_v<kept>;
  static_assert(fits,
                "the handler of start_server is called with a pulsar::stream and must return a "
                "pulsar::future<>");
  static_assert(copies, "the handler of start_server must be copyable: capture a std::shared_ptr");
  if constexpr (fits && copies) {
    return connection_handler(std::forward<Given>(handler));
  } else {
    return nullptr;
  }
}

class server_core : public counted_here {
 public:
  server_core(event_loop& l,
              connection_handler h,
              std::size_t most,
              const stream_options& options) noexcept
      : loop(l), handler(std::move(h)), most_connections(most), stream_settings(options) {
    room.set();
  }
  ~server_core() override { forget_accepting(); }

  event_loop& open_loop() const {
    event_loop* const open = loop.get();
    if (open == nullptr) throw error(errc::loop_closed, "waiting for a server");
    return *open;
  }

  void close() noexcept {
    if (std::exchange(closed, true)) return;
    for (auto& each : accepting) each.cancel();
    for (const auto& each : sockets) each->close();
    tell();
  }

  /// It accepts no more, and all handlers have ended.
  bool has_ended() const noexcept { return listening == 0 && size == 0; }

  /// Lets go of accept loops that were cancelled; what they threw was told.
  void forget_accepting() noexcept {
    for (auto& each : accepting) {
      if (each.done()) static_cast<void>(each.exception());
    }
    accepting.clear();
  }

  void cancel_connections() noexcept {
    for (connection* each = first; each != nullptr; each = each->next) {
      if (each->running != nullptr) each->running->cancel();
    }
  }

  /// One that is served.
  struct connection {
    connection(server_core& s, int fd) noexcept : core(s), peer(fd) { core.enter(*this); }
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;
    ~connection() { core.leave(*this); }

    server_core& core;
    const socket_peer peer;
    future<>* running = nullptr;  // the handler's
    connection* previous = nullptr;
    connection* next = nullptr;
  };

  void enter(connection& one) noexcept {
    one.next = first;
    if (first != nullptr) first->previous = &one;
    first = &one;
    ++accepted;
    if (++size >= most_connections) room.clear();
  }

  void leave(connection& one) noexcept {
    if (one.next != nullptr) one.next->previous = one.previous;
    (one.previous != nullptr ? one.previous->next : first) = one.next;
    if (--size < most_connections && !room.is_set()) room.set();
    tell();
  }

  /// Those who wait for the end look.
  void tell() noexcept {
    while (!changed.empty()) changed.wake_first();
  }

  void report(const std::exception_ptr& failure, const socket_peer& peer) noexcept;

  /// Handlers that were cancelled have not ended: they are cancelled again, and that is told.
  void insist(event_loop::time_point now) noexcept;

  const loop_ref loop;
  const connection_handler handler;
  const std::size_t most_connections;
  const stream_options stream_settings;
  std::vector<address> addresses;
  std::vector<counted_pointer<accepting_socket>> sockets;
  std::vector<future<>> accepting;
  std::size_t listening = 0;  // accept loops that go on
  connection* first = nullptr;
  std::size_t size = 0;
  std::uint64_t accepted = 0;
  bool closed = false;
  std::exception_ptr failure;  // of an accept loop
  async_event room;            // for one connection more
  waiting_line<> changed{"the end of a server's connections"};

 private:
  static constexpr unsigned most_lines = 10;  // a second
  event_loop::time_point second_{};
  unsigned lines_ = 0;
  event_loop::time_point told_ = event_loop::time_point::min();  // of handlers that do not end
};

inline void server_core::insist(event_loop::time_point now) noexcept {
  using std::chrono::seconds;
  if (first != nullptr && (told_ == event_loop::time_point::min() || now - told_ >= seconds(5))) {
    told_ = now;
    try {
      log::warning(
          "{}: {} cancelled {} not end, the handler of {} for one: a handler that catches "
          "std::exception or looks at results must let errc::cancelled pass",
          addresses.front().to_string(), size, size == 1 ? "handler does" : "handlers do",
          first->peer.name());
    } catch (...) {  // they are cancelled all the same
    }
  }
  cancel_connections();
}

inline void server_core::report(const std::exception_ptr& why, const socket_peer& peer) noexcept {
  if (is_cancelled(why)) return;
  try {
    if (is_loss_of_peer(why)) {
      log::debug("{}: lost {}: {}", addresses.front().to_string(), peer.name(), describe(why));
      return;
    }
    const auto now = event_loop::clock::now();
    if (now - second_ >= std::chrono::seconds(1)) {
      second_ = now;
      lines_ = 0;
    }
    if (++lines_ > most_lines) return;
    log::error("{}: the handler of {} failed: {}{}", addresses.front().to_string(), peer.name(),
               describe(why), lines_ == most_lines ? " (no more of them in this second)" : "");
  } catch (...) {  // the connection is closed all the same
  }
}

template <class = void>
future<> serve_stream(event_loop&, counted_pointer<server_core> core, stream peer) {
  server_core::connection here(*core, peer.native_handle());
  try {
    future<> running = core->handler(std::move(peer));
    struct scope {
      scope(server_core::connection& c, future<>& f) noexcept : connection(c) {
        connection.running = &f;
      }
      ~scope() { connection.running = nullptr; }
      server_core::connection& connection;
    };
    const scope listed(here, running);
    co_await running;
  } catch (...) {
    core->report(std::current_exception(), here.peer);
  }
}

inline void take_connection(server_core& core, unique_fd fd) {
  event_loop* const loop = core.loop.get();
  if (loop == nullptr || core.closed) return;
  try {
    stream peer(new_descriptor_stream(*loop, std::move(fd), descriptor_kind::socket),
                core.stream_settings, *loop);
    // The listening socket has told it of TCP_NODELAY already.
    if (!core.stream_settings.no_delay || core.stream_settings.keep_alive) {
      set_socket_options(peer.native_handle(), core.stream_settings);
    }
    serve_stream(*loop, share(core), std::move(peer)).detach();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (...) {
    core.report(std::current_exception(), socket_peer(-1));
  }
}

template <class = void>
future<> accept_streams(event_loop& loop,
                        counted_pointer<server_core> core,
                        counted_pointer<accepting_socket> at) {
  ++core->listening;
  try {
    const auto take = [keep = core](unique_fd fd) { take_connection(*keep, std::move(fd)); };
    future<> accepting = accept_connections(loop, at, take, &core->room);
    co_await std::move(accepting);
  } catch (...) {
    const auto why = std::current_exception();
    if (!is_cancelled(why)) {
      core->failure = why;
      log::critical("{}", describe(why));
    }
  }
  --core->listening;
  core->tell();
}

template <class = void>
future<> wait_for_handlers(event_loop& loop, counted_pointer<server_core> core) {
  while (!core->has_ended()) co_await core->changed.wait(loop);
}

template <class = void>
future<> wait_for_server(event_loop& loop, counted_pointer<server_core> core) {
  co_await wait_for_handlers(loop, core);
  if (core->failure != nullptr) std::rethrow_exception(core->failure);
}

template <class = void>
future<> stop_server(event_loop& loop,
                     counted_pointer<server_core> core,
                     event_loop::duration grace) {
  core->close();
  std::exception_ptr cancelled;
  const auto note = [&cancelled] {
    if (!is_cancelled(std::current_exception())) throw;
    cancelled = std::current_exception();
  };
  if (grace > event_loop::duration::zero() && !core->has_ended()) {
    try {
      auto waiting = with_timeout(wait_for_handlers(loop, core), grace);
      co_await std::move(waiting);
    } catch (const std::system_error& e) {
      if (e.code() != errc::timed_out) note();
    }
  }
  core->cancel_connections();
  auto again = loop.time() + std::chrono::seconds(1);
  // Whoever is cancelled here waits all the same: the handlers use what goes when this is done.
  while (!core->has_ended()) {
    try {
      auto waiting = wait_until(wait_for_handlers(loop, core), again);
      co_await std::move(waiting);
    } catch (const std::system_error& e) {
      if (e.code() != errc::timed_out) {
        note();
        continue;
      }
      core->insist(loop.time());
      again = loop.time() + std::chrono::seconds(1);
    }
  }
  if (cancelled != nullptr) std::rethrow_exception(std::move(cancelled));
  if (core->failure != nullptr) std::rethrow_exception(core->failure);
}

template <class Server, class F>
future<> server_with_body(future<Server> starting, F body) {
  Server server = co_await std::move(starting);
  std::exception_ptr failure;
  try {
    future<> running = body(server);
    co_await std::move(running);
  } catch (...) {
    failure = std::current_exception();
  }
  future<> stopping = server.stop();
  while (!stopping.done()) {
    try {
      co_await stopping;
    } catch (...) {
      if (failure == nullptr) failure = std::current_exception();
    }
  }
  if (failure == nullptr) failure = stopping.exception();
  if (failure != nullptr) std::rethrow_exception(std::move(failure));
}

/// The numbers of an address that may be a name.
template <class = void>
future<std::vector<address>> numbers_of(event_loop& loop, address where) {
  std::vector<address> result;
  std::error_code no_number;
  if (!where.is_unix()) asio::ip::make_address(where.host(), no_number);
  if (!no_number) {
    result.push_back(std::move(where));
    co_return result;
  }
  const auto found = co_await loop.getaddrinfo(where.host(), where.port());
  for (const auto& each : found) result.push_back(address::of(each.endpoint));
  co_return result;
}

/// Listens on what of `where`, the addresses of one name, is this machine's: on one at least.
inline void listen_on(const std::vector<address>& where,
                      const listen_options& options,
                      std::vector<listener>& to) {
  const std::size_t before = to.size();
  for (const auto& each : where) {
    try {
      to.emplace_back(each, options);
    } catch (const error& e) {
      const bool last = &each == &where.back() && to.size() == before;
      if (last || e.code() != std::errc::address_not_available) throw;
    }
  }
}

struct server_access {
  template <class Server>
  static Server make(counted_pointer<server_core> core) noexcept {
    return Server(std::move(core));
  }
};

template <class Server>
future<Server> open_server_at(event_loop& loop,
                              connection_handler handler,
                              std::vector<listener> at,
                              std::size_t most,
                              stream_options options) {
  if (at.empty() || most == 0) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "a server needs an address and room for a connection");
  }
  const counted_pointer<server_core> core(new server_core(loop, std::move(handler), most, options));
  Server made = server_access::make<Server>(core);
  for (const auto& each : at) core->addresses.push_back(each.local());
  for (auto& each : at) {
    core->sockets.emplace_back(new accepting_socket(std::move(each)));
    core->accepting.push_back(accept_streams(loop, core, core->sockets.back()));
  }
  co_return made;
}

template <class Server>
future<Server> open_server(event_loop& loop,
                           connection_handler handler,
                           std::vector<address> where,
                           listen_options listening,
                           std::size_t most,
                           stream_options options) {
  std::vector<listener> at;
  for (const auto& each : where) {
    const std::vector<address> numbers = co_await numbers_of(loop, each);
    listen_on(numbers, listening, at);
  }
  co_return co_await open_server_at<Server>(loop, std::move(handler), std::move(at), most, options);
}

}  // namespace pulsar::detail
