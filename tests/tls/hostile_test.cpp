// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/log.hpp>
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/tls/stream.hpp>

#include <doctest/doctest.h>
#include <openssl/bio.h>
#include <openssl/buffer.h>
#include <openssl/ssl.h>
#include <support/certificates.hpp>
#include <support/coro_test.hpp>
#include <support/futures.hpp>

#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::event_loop;
using pulsar::future;
using pulsar::memory_pair;
using pulsar::server;
using pulsar::stream;
namespace tls = pulsar::tls;

namespace {

struct world {
  certificates::authority ca{"the test's authority"};
  certificates::identity good =
      ca.issue("example.org", "DNS:example.org,DNS:www.example.org,IP:fe80::1");

  tls::context client() const { return tls::context::client({.ca_file = ca.file()}); }
  tls::context server() const {
    return tls::context::server(
        {.certificate_file = good.certificate_file(), .key_file = good.key_file()});
  }
};

const world& test() {
  static const world instance;
  return instance;
}

template <class T>
std::error_code code_of(const pulsar::result<T>& r) {
  return r ? std::error_code() : future_test::code_of(r.exception());
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i % 23);
  return text;
}

tls::connect_options to(std::string_view name) {
  tls::connect_options options;
  options.server_name = name;
  return options;
}

struct both {
  stream client;
  stream server;
};

future<both> secured(std::size_t capacity) {
  auto [near, far] = memory_pair(capacity);
  auto accepting = tls::accept(std::move(far), test().server());
  auto connecting = tls::upgrade(std::move(near), test().client(), to("example.org"));
  both result;
  result.client = co_await std::move(connecting);
  result.server = co_await std::move(accepting);
  co_return result;
}

// A server that is OpenSSL alone, and does what the test wants.
struct foreign {
  explicit foreign(stream s, int version = 0)
      : wire(std::move(s)), context(SSL_CTX_new(TLS_server_method())) {
    if (version != 0) SSL_CTX_set_max_proto_version(context.get(), version);
    SSL_CTX_use_certificate_chain_file(context.get(), test().good.certificate_file().c_str());
    SSL_CTX_use_PrivateKey_file(context.get(), test().good.key_file().c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_set_num_tickets(context.get(), 0);
    ssl.reset(SSL_new(context.get()));
    SSL_set_accept_state(ssl.get());
    in = BIO_new(BIO_s_mem());
    out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl.get(), in, out);
  }

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

future<> shake(std::shared_ptr<foreign> f) {
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

// Its tickets take several records.
void set_long_tickets(foreign& f) {
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

// What `f` reads next.
future<std::string> receive(std::shared_ptr<foreign> f) {
  std::string text(100'000, '\0');
  for (;;) {
    const int n = SSL_read(f->ssl.get(), text.data(), static_cast<int>(text.size()));
    if (n > 0) {
      text.resize(static_cast<std::size_t>(n));
      break;
    }
    const std::string some = co_await f->wire.read();
    REQUIRE(!some.empty());
    BIO_write(f->in, some.data(), static_cast<int>(some.size()));
  }
  co_return text;
}

void run(future<> (*body)()) {
  event_loop loop(pulsar::clock_kind::virtual_time);
  loop.set_exception_handler([](const pulsar::failure_report&) {});
  loop.run_until_complete(body);
}

constexpr std::string_view farewell("\x15\x03\x03\x00\x02\x01\x00", 7);

}  // namespace

TEST_SUITE("tls.stream") {
  TEST_CASE("a farewell in the middle of the handshake is no handshake") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      far.write(farewell);
      auto r =
          co_await as_result(tls::upgrade(std::move(near), test().client(), to("example.org")));
      CHECK(code_of(r) == pulsar::errc::truncated);
      auto [client, mine] = memory_pair();
      auto [theirs, wire] = memory_pair();
      auto connecting = tls::upgrade(std::move(theirs), test().client(), to("example.org"));
      const std::string hello = co_await wire.read();
      client.write(hello);
      client.write(farewell);
      const auto context = tls::context::server({.certificate_file = test().good.certificate_file(),
                                                 .key_file = test().good.key_file(),
                                                 .client_ca_file = test().ca.file()});
      r = co_await as_result(tls::accept(std::move(mine), context));
      CHECK(code_of(r) == pulsar::errc::truncated);
    });
  }

  TEST_CASE("names that OpenSSL would read as other ones are refused") {
    run([]() -> future<> {
      for (const std::string& name :
           {std::string("example.org\0.evil.example", 25), std::string(".example.org")}) {
        auto [near, far] = memory_pair();
        auto accepting = tls::accept(std::move(far), test().server());
        const auto r = co_await as_result(tls::upgrade(std::move(near), test().client(), to(name)));
        CHECK_MESSAGE(code_of(r) == std::errc::invalid_argument, name);
      }
    });
  }

  TEST_CASE("a number with a zone is verified without that") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      auto accepting = tls::accept(std::move(far), test().server());
      bool exhausted = false;
      try {
        stream s = co_await tls::upgrade(std::move(near), test().client(), to("fe80::1%lo"));
      } catch (const std::bad_alloc&) {
        exhausted = true;
      }
      CHECK_FALSE(exhausted);
    });
  }

  TEST_CASE("a stream that goes sends all that goes at once, not a record alone") {
    run([]() -> future<> {
      both s = co_await secured(512 * 1024);
      s.client.write(pattern(200'000));
      s.client = stream();
      const auto all = co_await as_result(s.server.read_to_end());
      CHECK_MESSAGE(all.has_value(), all.message());
      if (all) CHECK(*all == pattern(200'000));
    });
  }

  TEST_CASE("a refusal right behind much data is told as a refusal") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      const auto f = std::make_shared<foreign>(std::move(far));
      auto shaking = shake(f);
      stream client = co_await tls::upgrade(std::move(near), test().client(), to("example.org"));
      co_await std::move(shaking);
      const std::string text = pattern(2048);
      SSL_write(f->ssl.get(), text.data(), static_cast<int>(text.size()));
      BIO_write(f->in, "\x17\x03\x03\x00\x20________________________________", 37);
      char none[1];
      CHECK(SSL_read(f->ssl.get(), none, 1) == -1);  // says so: bad_record_mac
      ERR_clear_error();
      auto reading = client.read_exactly(2048);
      co_await pulsar::sleep(1s);
      f->wire.write(f->written());
      const std::string back = co_await std::move(reading);
      CHECK(back == text);
      for (int i = 0; i < 2; ++i) {
        const auto r = co_await as_result(client.read());
        CHECK_MESSAGE(code_of(r) == tls::errc::refused, r.message());
      }
    });
  }

  TEST_CASE("answers that nobody takes do not pile up") {
    run([]() -> future<> {
      for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        auto [near, far] = memory_pair(4096);
        const auto f = std::make_shared<foreign>(std::move(far), version);
        auto shaking = shake(f);
        stream client = co_await tls::upgrade(std::move(near), test().client(), to("example.org"));
        co_await std::move(shaking);
        auto reading = client.read();
        for (std::size_t sent = 0; sent < 2'000'000 && !reading.done();) {
          for (int i = 0; i < 100; ++i) {
            if (version == TLS1_2_VERSION) SSL_renegotiate(f->ssl.get());
            if (version == TLS1_3_VERSION) SSL_key_update(f->ssl.get(), SSL_KEY_UPDATE_REQUESTED);
            SSL_do_handshake(f->ssl.get());
          }
          const std::string bytes = f->written();
          REQUIRE(!bytes.empty());
          sent += bytes.size();
          f->wire.write(bytes);
          const auto stuck = co_await as_result(pulsar::with_timeout(f->wire.drain(), 1s));
          co_await pulsar::sleep(1s);
        }
        REQUIRE(reading.done());
        const auto r = co_await as_result(std::move(reading));
        CHECK(code_of(r) == tls::errc::malformed);
      }
    });
  }

  TEST_CASE("a message that has come in part does not break a write") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      const auto f = std::make_shared<foreign>(std::move(far));
      set_long_tickets(*f);
      auto shaking = shake(f);
      stream client = co_await tls::upgrade(std::move(near), test().client(), to("example.org"));
      co_await std::move(shaking);
      CHECK(SSL_new_session_ticket(f->ssl.get()) == 1);
      SSL_do_handshake(f->ssl.get());
      const std::string ticket = f->written();
      REQUIRE(ticket.size() > 2000);
      f->wire.write(ticket.substr(0, 1500));
      auto reading = client.read();
      co_await pulsar::sleep(1s);
      client.write("meanwhile");
      co_await client.drain();
      co_await pulsar::sleep(1s);
      f->wire.write(ticket.substr(1500));
      SSL_write(f->ssl.get(), "and back", 8);
      f->wire.write(f->written());
      const std::string back = co_await std::move(reading);
      CHECK(back == "and back");
      const std::string got = co_await pulsar::with_timeout(receive(f), 1s);
      CHECK(got == "meanwhile");
    });
  }

  TEST_CASE("a write that waits for the rest of a message ends with the other side, or a cancel") {
    for (const bool goes : {true, false}) {
      event_loop loop(pulsar::clock_kind::virtual_time);
      const auto body = [](bool other_goes) -> future<> {
        auto [near, far] = memory_pair();
        const auto f = std::make_shared<foreign>(std::move(far));
        set_long_tickets(*f);
        auto shaking = shake(f);
        stream client = co_await tls::upgrade(std::move(near), test().client(), to("example.org"));
        co_await std::move(shaking);
        SSL_new_session_ticket(f->ssl.get());
        SSL_do_handshake(f->ssl.get());
        f->wire.write(f->written().substr(0, 1500));
        const auto none = co_await as_result(pulsar::with_timeout(client.read(), 1s));
        client.write("meanwhile");
        co_await pulsar::sleep(1s);
        CHECK(client.unsent() == 9);
        if (other_goes) {
          co_await f->wire.close();
        } else {
          client.raw().cancel();
        }
        const auto r = co_await as_result(client.close());
        CHECK(code_of(r) == (other_goes ? make_error_code(pulsar::errc::truncated)
                                        : std::error_code(asio::error::operation_aborted)));
      };
      const auto main = [&] { return body(goes); };
      loop.run_until_complete(main);
    }
  }

  TEST_CASE("what was sent before a close arrives, though the tickets lie there unread") {
    struct seen {
      bool shaken = false;
      bool ended = false;
      std::size_t size = 0;
      std::error_code failure;
    };
    event_loop loop;
    const auto body = []() -> future<> {
      seen what;
      const auto handler = [&what](stream plain) {
        return [](stream wire, seen& to_tell) -> future<> {
          stream peer = co_await tls::accept(std::move(wire), test().server());
          to_tell.shaken = true;
          co_await pulsar::sleep(200ms);  // a slow one: the client closes before all has gone
          const auto all = co_await as_result(peer.read_to_end());
          if (all) to_tell.size = all->size();
          to_tell.failure = code_of(all);
          to_tell.ended = true;
        }(std::move(plain), what);
      };
      server at = co_await pulsar::start_server(handler, "127.0.0.1:0");
      stream client = co_await tls::connect(at.addresses()[0], test().client(), to("example.org"));
      while (!what.shaken) co_await pulsar::sleep(1ms);  // the tickets are with the system
      client.write(pattern(3'000'000));
      co_await client.close();
      while (!what.ended) co_await pulsar::sleep(1ms);
      CHECK(what.failure == std::error_code());
      CHECK(what.size == 3'000'000);
    };
    loop.run_until_complete(body);
  }

  TEST_CASE("a handler that fails for a certificate of somebody else is told of") {
    for (const auto code : {tls::errc::expired, tls::errc::malformed}) {
      event_loop loop;
      static int told;
      told = 0;
      const auto before = pulsar::log::set_sink([](pulsar::log_level level, std::string_view) {
        told += level > pulsar::log_level::debug;
      });
      const auto body = [](tls::errc thrown) -> future<> {
        const auto handler = [thrown](stream peer) {
          return [](stream, tls::errc what) -> future<> {
            co_await pulsar::sleep(0s);
            throw pulsar::error(what, "the backend");
          }(std::move(peer), thrown);
        };
        server at = co_await tls::start_server(test().server(), handler, "127.0.0.1:0");
        stream client =
            co_await tls::connect(at.addresses()[0], test().client(), to("example.org"));
        const std::string end = co_await client.read();
        CHECK(end.empty());
      };
      const auto main = [&] { return body(code); };
      loop.run_until_complete(main);
      pulsar::log::set_sink(before);
      CHECK(told == (code == tls::errc::expired ? 1 : 0));
    }
  }

  TEST_CASE("an idle stream gives its memory back") {
    run([]() -> future<> {
      both s = co_await secured(512 * 1024);
      s.client.write(pattern(300'000));
      co_await s.client.drain();
      const std::string all = co_await s.server.read_exactly(300'000);
      CHECK(all == pattern(300'000));
      for (stream* each : {&s.client, &s.server}) {
        SSL* const ssl = dynamic_cast<tls::detail::tls_stream&>(each->raw()).ssl();
        for (BIO* const bio : {SSL_get_rbio(ssl), SSL_get_wbio(ssl)}) {
          BUF_MEM* memory = nullptr;
          BIO_get_mem_ptr(bio, &memory);
          CHECK(memory->max <= 8192);
        }
      }
    });
  }

  TEST_CASE("a loop that closes amid handshakes frees all") {
    for (int turns = 0; turns < 40; ++turns) {
      event_loop loop;
      loop.set_exception_handler([](const pulsar::failure_report&) {});
      const auto body = [](int n) -> future<> {
        server at = co_await tls::start_server(
            test().server(),
            [](stream peer) -> future<> {
              peer.write(pattern(3'000'000));
              co_await peer.close();
            },
            "127.0.0.1:0");
        auto connecting = tls::connect(at.addresses()[0], test().client(), to("example.org"));
        for (int i = 0; i < n; ++i) co_await pulsar::sleep(n > 20 ? 1ms : 0ms);
        std::move(connecting).detach();
      };
      const auto main = [&] { return pulsar::with_timeout(body(turns), 100ms); };
      try {
        loop.run_until_complete(main);
      } catch (const pulsar::error&) {
      }
    }
  }
}
