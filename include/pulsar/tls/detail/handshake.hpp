// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How a stream becomes one of TLS.

#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/tls/detail/context.hpp>
#include <pulsar/tls/detail/stream.hpp>

#include <asio/ip/address.hpp>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace pulsar::tls::detail {

using context_reference = pulsar::detail::counted_pointer<context_state>;

/// An SSL for one connection; `name` is that of the server.
inline ssl_pointer new_ssl(const context_state& context,
                           bool is_server,
                           std::string name,
                           const std::string& alpn) {
  if (context.is_server() != is_server) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                is_server ? "tls::accept needs a tls::context::server"
                          : "tls::connect needs a tls::context::client");
  }
  ssl_pointer made(SSL_new(context.get()));
  if (made == nullptr) throw std::bad_alloc();
  SSL* const ssl = made.get();
  if (is_server) {
    SSL_set_accept_state(ssl);
    return made;
  }
  SSL_set_connect_state(ssl);
  // OpenSSL would end it at a NUL, and take ".org" for all that end so.
  if (name.find('\0') != name.npos || name.starts_with('.')) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "server_name is no name of a host: it has a NUL in it, or begins with a dot");
  }
  // "example.org." means no other host, but no certificate has it (nor may SNI, RFC 6066 3).
  if (name.ends_with('.')) name.pop_back();
  std::error_code no_number;
  asio::ip::make_address(name, no_number);
  if (context.verifies()) {
    if (name.empty()) {
      throw error(std::make_error_code(std::errc::invalid_argument),
                  "whose certificate is to be verified? give server_name");
    }
    const std::string number = name.substr(0, name.find('%'));  // without its zone
    // The subject's common name is no name of a host (RFC 9525 2).
    SSL_set_hostflags(ssl,
                      X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    const bool known =
        no_number ? SSL_set1_host(ssl, name.c_str()) == 1
                  : X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), number.c_str()) == 1;
    if (!known) throw std::bad_alloc();
  }
  if (no_number && !name.empty()) SSL_set_tlsext_host_name(ssl, name.c_str());
  if (!alpn.empty()) {
    SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(alpn.data()),
                        static_cast<unsigned int>(alpn.size()));
  }
  return made;
}

struct handshake_operation : raw_stream::operation {
  struct waiting {
    void describe(pulsar::detail::wait_description& to) const {
      to.text = "a TLS handshake with " + *with;
    }
    const std::string* with = nullptr;
  };

  handshake_operation() noexcept : operation(&on_end) {}
  static void on_end(raw_stream::operation* op) {
    auto& line = static_cast<handshake_operation*>(op)->done;
    if (!line.empty()) line.wake_first();
  }
  pulsar::detail::waiting_line<void, waiting> done{"a TLS handshake"};
};

[[noreturn]] inline void throw_handshake_failure(std::error_code code,
                                                 const std::string& who,
                                                 const std::string& reason) {
  throw error(code, "TLS handshake with " + who + (reason.empty() ? "" : " (" + reason + ")"));
}

template <class = void>
future<std::unique_ptr<raw_stream>> shake(event_loop& loop,
                                          std::unique_ptr<tls_stream> secured,
                                          context_reference,
                                          std::string who) {
  handshake_operation op;
  // Goes before the operation that it refers to.
  std::unique_ptr<tls_stream> held = std::move(secured);
  if (!held->shake_hands(op)) {
    const handshake_operation::waiting wait{&who};
    co_await op.done.wait(loop, wait);
  }
  if (op.failure) throw_handshake_failure(op.failure, who, held->reason());
  std::unique_ptr<raw_stream> result = std::move(held);
  co_return result;
}

template <class = void>
future<stream> shake_hands(event_loop& loop,
                           stream plain,
                           context_reference context,
                           bool is_server,
                           std::string name,
                           std::string alpn,
                           event_loop::duration limit,
                           stream_options options,
                           std::string who = {}) {
  if (who.empty()) who = plain.peer_name();
  ssl_pointer ssl = new_ssl(*context, is_server, name, alpn);
  auto released = plain.release();
  auto secured =
      std::make_unique<tls_stream>(std::move(released.first), std::move(ssl), released.second);
  future<std::unique_ptr<raw_stream>> shaking = shake(loop, std::move(secured), context, who);
  std::unique_ptr<raw_stream> raw;
  try {
    raw = co_await with_timeout(std::move(shaking), limit);
  } catch (const error& e) {
    if (e.code() != pulsar::errc::timed_out) throw;
    throw error(pulsar::errc::timed_out, "TLS handshake with " + who);
  }
  co_return stream(std::move(raw), options, loop);
}

template <class = void>
future<stream> connect_securely(event_loop& loop,
                                future<stream> connecting,
                                context_reference context,
                                std::string who,
                                std::string name,
                                std::string alpn,
                                event_loop::duration limit,
                                stream_options options) {
  stream plain = co_await std::move(connecting);
  future<stream> shaking =
      shake_hands(loop, std::move(plain), std::move(context), false, std::move(name),
                  std::move(alpn), limit, options, std::move(who));
  co_return co_await std::move(shaking);
}

/// A connection of a server.
template <class Handler>
future<> serve_securely(event_loop&, Handler handler, future<stream> accepting) {
  bool shaken = false;
  try {
    stream peer = co_await std::move(accepting);
    shaken = true;
    future<> running = handler(std::move(peer));
    co_await std::move(running);
  } catch (const std::system_error& e) {
    // What a stranger sends is no failure of the handler; that a certificate does not hold is, if
    // it comes that late: the handler has asked somebody else.
    const bool his = !shaken || e.code() == errc::malformed || e.code() == errc::refused;
    if (!his || e.code() == pulsar::errc::cancelled) throw;
    log::debug("{}", e.what());
  }
}

inline void describe_connection(const raw_stream& raw,
                                std::string& version,
                                std::string& cipher,
                                std::string& alpn,
                                std::string& peer) {
  const auto* const secured = dynamic_cast<const tls_stream*>(&raw);
  if (secured == nullptr) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "tls::about was given a stream without TLS");
  }
  SSL* const ssl = secured->ssl();
  version = SSL_get_version(ssl);
  cipher = SSL_get_cipher_name(ssl);
  const unsigned char* name = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(ssl, &name, &size);
  if (size != 0) alpn.assign(reinterpret_cast<const char*>(name), size);
  X509* const certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr) return;
  const std::unique_ptr<BIO, int (*)(BIO*)> text(BIO_new(BIO_s_mem()), &BIO_free);
  if (text == nullptr) throw std::bad_alloc();
  X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate), 0, XN_FLAG_ONELINE);
  char* data = nullptr;
  const long length = BIO_get_mem_data(text.get(), &data);
  peer.assign(data, static_cast<std::size_t>(length));
}

}  // namespace pulsar::tls::detail
