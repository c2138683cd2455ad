// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Streams over TLS: `tls::connect`, `tls::start_server`, `tls::accept`.
///
///     stream s = co_await tls::connect("www.python.org:443");
///     s.write("HEAD / HTTP/1.0\r\nHost: www.python.org\r\n\r\n");
///
///     auto mine = tls::context::server({.certificate_file = "chain.pem", .key_file = "key.pem"});
///     server at = co_await tls::start_server(mine, &handler, "0.0.0.0:8443");
///
/// They are streams like all others. Closing says farewell (close_notify), which has to wait while
/// a message of TLS is there in part, and fails if the rest never comes; an end without that of the
/// other side is a failure, `errc::truncated`.

#include <pulsar/core/connect.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/server.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/tls/context.hpp>
#include <pulsar/tls/detail/handshake.hpp>

#include <chrono>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace pulsar::tls {

struct connect_options {
  /// Whose certificate the server must show; empty: the host of the address. In ASCII ("xn--...");
  /// a dot at its end does not count.
  std::string_view server_name{};
  /// Protocols to offer, the best first: "h2,http/1.1" (ALPN); see `about`.
  std::string_view alpn{};
  /// For the handshake, from the connection on, default 10 s; `tcp.timeout` is for that.
  std::chrono::milliseconds handshake_timeout{10'000};
  /// Of the connection below.
  pulsar::connect_options tcp{};
};

/// A stream to the TLS server at `where`, whose certificate holds and is for that host.
///
/// Throws what `pulsar::connect` throws; `pulsar::error` with a `tls::errc` that says what to do,
/// with `errc::truncated` if the server closes in the middle, and with `errc::timed_out`;
/// `std::errc::invalid_argument` for a context of a server, and for a name with a NUL in it or a
/// dot before it.
inline future<stream> connect(const address& where,
                              const context& trusting,
                              connect_options options = {},
                              event_loop& loop = event_loop::current()) {
  const std::string_view name = options.server_name.empty() ? where.host() : options.server_name;
  return detail::connect_securely(loop, pulsar::connect(where, options.tcp, loop),
                                  detail::context_access::state(trusting), where.to_string(),
                                  std::string(name), detail::alpn_list(options.alpn),
                                  options.handshake_timeout, options.tcp.stream);
}
inline future<stream> connect(std::string_view where,
                              const context& trusting,
                              connect_options options = {},
                              event_loop& loop = event_loop::current()) {
  return connect(pulsar::detail::address_to_connect(where), trusting, options, loop);
}
/// Trusting whom the system trusts, as it was when this was called first.
inline future<stream> connect(const address& where,
                              connect_options options = {},
                              event_loop& loop = event_loop::current()) {
  return connect(where, detail::default_client(), options, loop);
}
inline future<stream> connect(std::string_view where,
                              connect_options options = {},
                              event_loop& loop = event_loop::current()) {
  return connect(pulsar::detail::address_to_connect(where), options, loop);
}

/// Begins TLS as a client on a connection that is there, with a server that has agreed to that
/// (STARTTLS). `server_name` must be given unless the context does not verify. What was read ahead
/// is taken for TLS. Otherwise as `connect`.
inline future<stream> upgrade(stream plain,
                              const context& trusting,
                              const connect_options& options,
                              event_loop& loop = event_loop::current()) {
  return detail::shake_hands(loop, std::move(plain), detail::context_access::state(trusting), false,
                             std::string(options.server_name), detail::alpn_list(options.alpn),
                             options.handshake_timeout, options.tcp.stream);
}

/// The same as a server: `plain` is a connection that was accepted.
inline future<stream> accept(
    stream plain,
    const context& mine,
    std::chrono::milliseconds handshake_timeout = std::chrono::milliseconds(10'000),
    event_loop& loop = event_loop::current()) {
  const stream_options options = plain.options();
  return detail::shake_hands(loop, std::move(plain), detail::context_access::state(mine), true, {},
                             {}, handshake_timeout, options);
}

struct listen_options {
  pulsar::server_options tcp{};
  /// A client that takes longer is closed.
  std::chrono::milliseconds handshake_timeout{10'000};
};

/// `pulsar::start_server` with TLS; `where` is whatever that takes. A client whose handshake fails,
/// or that sends what is no TLS later on, is logged at the level `debug`.
template <class Handler, class Where>
future<server> start_server(const context& mine,
                            Handler&& handler,
                            Where where,
                            listen_options options = {},
                            event_loop& loop = event_loop::current()) {
  using kept = std::decay_t<Handler>;
  pulsar::detail::refuse_temporaries<Handler>();
  static_assert(std::is_invocable_r_v<future<>, kept&, stream>,
                "the handler of start_server is called with a pulsar::stream and must return a "
                "pulsar::future<>");
  const auto serve = [mine, handler = kept(std::forward<Handler>(handler)), limit = options.handshake_timeout, &loop](stream plain) {
    return detail::serve_securely(loop, handler, accept(std::move(plain), mine, limit, loop));
  };
  return pulsar::start_server(serve, std::move(where), options.tcp, loop);
}

/// What two sides have agreed on.
struct connection_info {
  std::string version;  ///< "TLSv1.3"
  std::string cipher;   ///< "TLS_AES_256_GCM_SHA384"
  std::string alpn;     ///< "h2"; empty if there is none
  std::string peer;     ///< the subject of the other side's certificate, "CN = example.org"
};

/// About a stream that this header has made. Throws `std::errc::invalid_argument` for another one.
inline connection_info about(const stream& s) {
  connection_info result;
  detail::describe_connection(s.raw(), result.version, result.cipher, result.alpn, result.peer);
  return result;
}

}  // namespace pulsar::tls
