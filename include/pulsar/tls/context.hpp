// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `tls::context`: whom a side trusts, and the certificate it shows.
///
///     auto mine = tls::context::server({.certificate_file = "/etc/app/chain.pem",
///                                       .key_file = "/etc/app/key.pem"});
///     mine.reload();        // the files have changed: for the connections from now on
///
///     auto here = tls::context::client({.ca_file = "/etc/app/ca.pem"});
///
/// TLS 1.2 and 1.3, with the ciphers that OpenSSL's configuration allows. No renegotiation, no
/// compression. Sessions are resumed by tickets alone: a server keeps nothing of who has gone.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/tls/detail/context.hpp>

#include <string>
#include <string_view>
#include <utility>

namespace pulsar::tls {

struct client_options {
  /// Certificates of the authorities that are trusted, instead of the system's.
  std::string_view ca_file{};
  /// False: whoever answers is believed. Only for tests.
  bool verify = true;
  /// What the client shows if it is asked: a chain and its key, in PEM.
  std::string_view certificate_file{};
  std::string_view key_file{};
  /// Of the key, if it is protected. Nobody is asked for it.
  std::string_view pass_phrase{};
};

struct server_options {
  /// The certificate and those of its issuers, in PEM, its own first.
  std::string_view certificate_file{};
  /// Its private key, in PEM.
  std::string_view key_file{};
  /// Of the key, if it is protected. Nobody is asked for it.
  std::string_view pass_phrase{};
  /// Clients must show a certificate of one of these authorities.
  std::string_view client_ca_file{};
  /// Protocols that are spoken here, the best first: "h2,http/1.1" (ALPN). A client that offers
  /// protocols and none of these is refused.
  std::string_view alpn{};
};

/// Copies refer to the same. Several threads may use it at once, but not while one calls `reload`.
class context {
 public:
  /// For `tls::connect`: verifies the server against the authorities of the system, and its name.
  ///
  /// Throws `pulsar::error` for a file that cannot be used, and says why: the system's code for one
  /// that cannot be read, `std::errc::invalid_argument` for what is in it.
  static context client(const client_options& options = {}) {
    return context({.is_server = false,
                    .verify = options.verify,
                    .ca_file = std::string(options.ca_file),
                    .certificate_file = std::string(options.certificate_file),
                    .key_file = std::string(options.key_file),
                    .pass_phrase = std::string(options.pass_phrase),
                    .alpn = {}});
  }

  /// For `tls::accept` and `tls::start_server`. Throws as `client`, and
  /// `std::errc::invalid_argument` without certificate and key.
  static context server(const server_options& options) {
    return context({.is_server = true,
                    .verify = !options.client_ca_file.empty(),
                    .ca_file = std::string(options.client_ca_file),
                    .certificate_file = std::string(options.certificate_file),
                    .key_file = std::string(options.key_file),
                    .pass_phrase = std::string(options.pass_phrase),
                    .alpn = detail::alpn_list(options.alpn)});
  }

  /// Reads the files again; connections that are there keep what they have. Throws as the functions
  /// that make it, and leaves everything as it was.
  void reload() { state_->reload(); }

 private:
  friend struct detail::context_access;

  explicit context(detail::context_settings settings)
      : state_(new detail::context_state(std::move(settings))) {}

  pulsar::detail::counted_pointer<detail::context_state> state_;
};

namespace detail {

/// Trusts whom the system trusts. One for the program: to read those takes long.
inline const context& default_client() {
  // Never destroyed: threads that are joined behind main still use it.
  static const auto* const instance = new context(context::client());
  return *instance;
}

}  // namespace detail

}  // namespace pulsar::tls
