// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What tests of TLS share: certificates of one authority, two sides in memory that have shaken
/// hands, and a server that is OpenSSL alone.
///
///     auto [client, server] = co_await tls_test::secured(4096);

#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/tls/detail/stream.hpp>
#include <pulsar/tls/stream.hpp>

#include <doctest/doctest.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <support/certificates.hpp>
#include <support/futures.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace tls_test {

using future_test::code_of;
using pulsar::future;
using pulsar::stream;
namespace tls = pulsar::tls;

/// One authority and what it has issued, for all tests.
struct world {
  certificates::authority ca{"the test's authority"};
  certificates::identity good =
      ca.issue("example.org", "DNS:example.org,DNS:*.example.net,IP:127.0.0.1,IP:fe80::1");
  certificates::identity expired = ca.issue("example.org", "DNS:example.org", {-3, -1});
  certificates::identity early = ca.issue("example.org", "DNS:example.org", {1, 3});
  certificates::identity alone = certificates::self_signed("example.org", "DNS:example.org");
  certificates::authority stranger{"somebody else"};
  certificates::identity strange = stranger.issue("example.org", "DNS:example.org");

  tls::context client() const { return tls::context::client({.ca_file = ca.file()}); }
  tls::context server() const { return server(good); }
  static tls::context server(const certificates::identity& shown, std::string_view alpn = {}) {
    return tls::context::server(
        {.certificate_file = shown.certificate_file(), .key_file = shown.key_file(), .alpn = alpn});
  }
  /// One that asks for the client's certificate too.
  tls::context asking_server() const {
    return tls::context::server({.certificate_file = good.certificate_file(),
                                 .key_file = good.key_file(),
                                 .client_ca_file = ca.file()});
  }
};

inline const world& test() {
  static const world instance;
  return instance;
}

inline std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i % 23);
  return text;
}

/// `name` must live as long as that is used.
inline tls::connect_options to(std::string_view name, std::string_view alpn = {}) {
  tls::connect_options options;
  options.server_name = name;
  options.alpn = alpn;
  return options;
}

/// OpenSSL's part of a stream.
inline SSL* ssl_of(const stream& s) {
  return dynamic_cast<tls::detail::tls_stream&>(s.raw()).ssl();
}

struct both {
  stream client;
  stream server;
};

/// A handshake over a pair in memory that holds so many bytes.
inline future<both> secured(std::size_t capacity,
                            tls::context mine = test().server(),
                            std::string_view alpn = {}) {
  auto [near, far] = pulsar::memory_pair(capacity);
  auto accepting = tls::accept(std::move(far), mine);
  auto connecting = tls::upgrade(std::move(near), test().client(), to("example.org", alpn));
  both result;
  result.client = co_await std::move(connecting);
  result.server = co_await std::move(accepting);
  co_return result;
}

/// What came of a handshake on both sides: no code if it went well.
struct outcome {
  std::error_code client;
  std::string text;  ///< of the client's failure
  std::error_code server;
};

inline future<outcome> shake_hands(tls::context mine,
                                   tls::context trusting = test().client(),
                                   std::string name = "example.org") {
  auto [near, far] = pulsar::memory_pair();
  auto accepting = tls::accept(std::move(far), mine);
  auto connecting = tls::upgrade(std::move(near), trusting, to(name));
  const auto client = co_await pulsar::as_result(std::move(connecting));
  const auto server = co_await pulsar::as_result(std::move(accepting));
  outcome result;
  result.client = code_of(client);
  result.text = client.message();
  result.server = code_of(server);
  co_return result;
}

/// Runs `body` once, on a virtual clock.
inline void run(future<> (*body)()) {
  pulsar::event_loop loop(pulsar::clock_kind::virtual_time);
  // Of the side that nobody waits for once the other one has failed.
  loop.set_exception_handler([](const pulsar::failure_report&) {});
  loop.run_until_complete(body);
}

/// A server that is OpenSSL alone, and does what the test wants.
struct foreign {
  explicit foreign(stream s, int version = 0)
      : wire(std::move(s)), context(SSL_CTX_new(TLS_server_method())) {
    if (version != 0) SSL_CTX_set_max_proto_version(context.get(), version);
    SSL_CTX_use_certificate_chain_file(context.get(), test().good.certificate_file().c_str());
    SSL_CTX_use_PrivateKey_file(context.get(), test().good.key_file().c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_set_num_tickets(context.get(), 0);
    start();
    SSL_set_accept_state(ssl.get());
  }
  /// A client of that context.
  foreign(stream s, tls::detail::context_pointer c) : wire(std::move(s)), context(std::move(c)) {
    start();
    SSL_set_connect_state(ssl.get());
  }

  void start() {
    ssl.reset(SSL_new(context.get()));
    in = BIO_new(BIO_s_mem());
    out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl.get(), in, out);
  }

  /// What it has for the other side.
  std::string written() {
    char* data = nullptr;
    const long n = BIO_get_mem_data(out, &data);
    std::string result(data, static_cast<std::size_t>(n));
    BIO_reset(out);
    return result;
  }

  stream wire;
  tls::detail::context_pointer context;
  tls::detail::ssl_pointer ssl;
  BIO* in = nullptr;
  BIO* out = nullptr;
};

inline future<> shake(std::shared_ptr<foreign> f) {
  for (;;) {
    const int r = SSL_do_handshake(f->ssl.get());
    const std::string bytes = f->written();
    f->wire.write(bytes);
    co_await f->wire.drain();
    if (r == 1) break;
    const std::string some = co_await f->wire.read();
    REQUIRE(!some.empty());
    BIO_write(f->in, some.data(), static_cast<int>(some.size()));
  }
}

/// What `f` reads next; nothing behind a farewell.
inline future<std::string> receive(std::shared_ptr<foreign> f) {
  std::string text(100'000, '\0');
  for (;;) {
    const int n = SSL_read(f->ssl.get(), text.data(), static_cast<int>(text.size()));
    if (n > 0) {
      text.resize(static_cast<std::size_t>(n));
      break;
    }
    if (SSL_get_error(f->ssl.get(), n) == SSL_ERROR_ZERO_RETURN) co_return std::string();
    const std::string some = co_await f->wire.read();
    REQUIRE(!some.empty());
    BIO_write(f->in, some.data(), static_cast<int>(some.size()));
  }
  co_return text;
}

/// A client of this library, and the other side of it.
struct meeting {
  std::shared_ptr<foreign> other;
  stream client;
};

inline future<meeting> meet_foreign(std::size_t capacity = 64 * 1024,
                                    int version = 0,
                                    void (*prepare)(foreign&) = nullptr) {
  auto [near, far] = pulsar::memory_pair(capacity);
  meeting result;
  result.other = std::make_shared<foreign>(std::move(far), version);
  if (prepare != nullptr) prepare(*result.other);
  auto shaking = shake(result.other);
  result.client = co_await tls::upgrade(std::move(near), test().client(), to("example.org"));
  co_await std::move(shaking);
  co_return result;
}

/// Its tickets take several records.
inline void set_long_tickets(foreign& f) {
  SSL_set_max_send_fragment(f.ssl.get(), 512);
  SSL_CTX_set_session_ticket_cb(
      f.context.get(),
      [](SSL* ssl, void*) {
        static const char filler[2000] = {};
        return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), filler, sizeof filler);
      },
      [](SSL*, SSL_SESSION*, const unsigned char*, std::size_t, SSL_TICKET_STATUS,
         void*) -> SSL_TICKET_RETURN { return SSL_TICKET_RETURN_IGNORE; },
      nullptr);
}

/// One of those, as it goes over the wire.
inline std::string long_ticket(foreign& f) {
  REQUIRE(SSL_new_session_ticket(f.ssl.get()) == 1);
  SSL_do_handshake(f.ssl.get());
  std::string ticket = f.written();
  REQUIRE(ticket.size() > 2000);
  return ticket;
}

}  // namespace tls_test
