// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Connections that tell a protocol by callbacks: `event_loop::create_connection`, `create_server`
/// and their kin (PEP 3156).
///
///     auto [transport, told] = co_await loop.create_connection(
///         [] { return std::make_shared<client>(); }, "example.org:80");
///
///     const auto factory = [] { return std::make_shared<echo>(); };   // one for each connection
///     server s = co_await loop.create_server(factory, ":8060");
///     log::info("listening on {}", s.addresses()[0].to_string());
///
/// They are `connect` and `start_server` with a protocol in the place of a coroutine. With g++ 12
/// name a factory that captures more than references and numbers: see make.hpp.

#include <pulsar/core/address.hpp>
#include <pulsar/core/connect.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/pipe.hpp>
#include <pulsar/core/protocol.hpp>
#include <pulsar/core/server.hpp>
#include <pulsar/core/transport.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace pulsar {

namespace detail {

template <class Where>
address address_from(const Where& where) {
  if constexpr (std::is_convertible_v<const Where&, std::string_view>) {
    return address(std::string_view(where));
  } else {
    return where;
  }
}

template <class Where>
std::vector<address> addresses_from(const Where& where) {
  if constexpr (std::is_same_v<Where, std::vector<address>>) {
    return where;
  } else {
    return std::vector<address>(1, address_from(where));
  }
}

inline address unix_address(std::string_view path) { return address("unix:" + std::string(path)); }

template <class Factory>
future<attached<protocol_of<Factory>>> attach_when_made(event_loop& loop,
                                                        future<stream> making,
                                                        Factory factory,
                                                        transport_kind kind) {
  stream under = co_await std::move(making);
  auto attaching = attach(loop, std::move(under), std::move(factory), kind);
  co_return co_await std::move(attaching);
}

template <class Factory>
auto handler_of(event_loop& loop, Factory factory) {
  constexpr bool is_protocol = std::is_base_of_v<protocol, protocol_of<Factory>>;
  static_assert(is_protocol,
                "the factory must give a std::shared_ptr or std::unique_ptr to a class that "
                "derives from pulsar::protocol");
  return [&loop, factory = std::move(factory)](stream under) mutable {
    std::shared_ptr<protocol> told;
    if constexpr (is_protocol) told = make_protocol(factory);
    return run_protocol(loop, std::move(under), std::move(told));
  };
}

}  // namespace detail

/// Connects to `where`, an address or its text, and has the protocol that `factory()` gives, as a
/// `std::shared_ptr` or `std::unique_ptr`, told of it. Gives the transport and the protocol as a
/// pair, when `connection_made` has returned. `options`: a `connect_options`.
///
/// Cancelling it closes what it has begun. Throws what `connect` throws, and what `factory` does.
template <class Factory, class Where, class Options>
auto event_loop::create_connection(Factory&& factory, const Where& where, Options options) {
  detail::refuse_temporaries<Factory>();
  check_open("create_connection");
  const connect_options& given = options;
  return detail::attach_when_made(*this, connect(where, given, *this),
                                  detail::copy_of(std::forward<Factory>(factory)),
                                  detail::transport_kind::both_ways);
}

/// The same for the path of a Unix socket.
template <class Factory, class Options>
auto event_loop::create_unix_connection(Factory&& factory, std::string_view path, Options options) {
  return create_connection(std::forward<Factory>(factory), detail::unix_address(path), options);
}

/// Listens on `where`: an address, its text, or a vector of addresses. `factory()` is called for
/// each connection, whose protocol the loop keeps until it is lost. `options`: a `server_options`,
/// with backlog, reuse_port and how many connections at most.
///
/// Gives the `server`: dropping it ends its connections, with `errc::cancelled`. Throws what
/// `start_server` throws.
template <class Factory, class Where, class Options>
future<server> event_loop::create_server(Factory&& factory, const Where& where, Options options) {
  detail::refuse_temporaries<Factory>();
  check_open("create_server");
  const server_options& given = options;
  auto handler = detail::handler_of<std::decay_t<Factory>>(*this, std::forward<Factory>(factory));
  return start_server(moved(handler), detail::addresses_from(where), given, *this);
}

/// The same for the path of a Unix socket.
template <class Factory, class Options>
future<server> event_loop::create_unix_server(Factory&& factory,
                                              std::string_view path,
                                              Options options) {
  return create_server(std::forward<Factory>(factory), detail::unix_address(path), options);
}

/// Has a protocol told of what comes out of a pipe, a descriptor by its number or a `unique_fd`;
/// otherwise as the form that gives a stream (pipe.hpp). Its end is the end of the connection,
/// whatever `eof_received` returns.
template <class Factory, class Descriptor>
requires std::is_invocable_v<Factory&>
auto event_loop::connect_read_pipe(Factory&& factory, Descriptor fd) {
  detail::refuse_temporaries<Factory>();
  return detail::attach_when_made(*this, connect_read_pipe(std::move(fd)),
                                  detail::copy_of(std::forward<Factory>(factory)),
                                  detail::transport_kind::only_reads);
}

/// Has a protocol write into a pipe; it receives nothing. When nobody reads any more it is told of
/// the loss at once: `std::errc::broken_pipe` if bytes are unsent, else no error.
template <class Factory, class Descriptor>
requires std::is_invocable_v<Factory&>
auto event_loop::connect_write_pipe(Factory&& factory, Descriptor fd) {
  detail::refuse_temporaries<Factory>();
  return detail::attach_when_made(*this, connect_write_pipe(std::move(fd)),
                                  detail::copy_of(std::forward<Factory>(factory)),
                                  detail::transport_kind::only_writes);
}

}  // namespace pulsar
