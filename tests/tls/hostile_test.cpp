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
#include <support/coro_test.hpp>
#include <support/tls.hpp>

#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

using namespace std::chrono_literals;
using namespace tls_test;
using pulsar::as_result;
using pulsar::event_loop;
using pulsar::memory_pair;
using pulsar::server;

namespace {

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
      r = co_await as_result(tls::accept(std::move(mine), test().asking_server()));
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

  // RFC 9525: the common name is no name of a host.
  TEST_CASE("a certificate without names of hosts is for none, whatever its subject says") {
    run([]() -> future<> {
      for (const char* alternatives : {"email:me@example.org", "IP:127.0.0.1"}) {
        const auto shown = test().ca.issue("example.org", alternatives);
        const outcome r = co_await shake_hands(world::server(shown));
        CHECK_MESSAGE(r.client == tls::errc::wrong_host, alternatives);
      }
    });
  }

  TEST_CASE("a dot at the end of a name does not count, nor does the server hear of it") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      auto accepting = tls::accept(std::move(far), test().server());
      stream client = co_await tls::upgrade(std::move(near), test().client(), to("example.org."));
      stream peer = co_await std::move(accepting);
      CHECK(std::string(SSL_get_servername(ssl_of(peer), TLSEXT_NAMETYPE_host_name)) ==
            "example.org");
      const outcome r = co_await shake_hands(test().server(), test().client(), "example.com.");
      CHECK(r.client == tls::errc::wrong_host);
      const outcome dot = co_await shake_hands(test().server(), test().client(), ".");
      CHECK(dot.client == std::errc::invalid_argument);
    });
  }

  TEST_CASE("a server keeps no sessions: a client resumes one by its ticket, or not at all") {
    run([]() -> future<> {
      const auto mine = test().server();
      for (const bool tickets : {true, false}) {  // of 1.2: in 1.3 there is nothing else
        for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
          SSL_SESSION* session = nullptr;
          for (const bool again : {false, true}) {
            auto [near, far] = memory_pair();
            auto accepting = tls::accept(std::move(far), mine);
            tls::detail::context_pointer its(SSL_CTX_new(TLS_client_method()));
            SSL_CTX_set_max_proto_version(its.get(), version);
            if (!tickets) SSL_CTX_set_options(its.get(), SSL_OP_NO_TICKET);
            const auto f = std::make_shared<foreign>(std::move(near), std::move(its));
            if (again) SSL_set_session(f->ssl.get(), session);
            SSL_SESSION_free(session);
            co_await shake(f);
            stream peer = co_await std::move(accepting);
            const bool resumes = again && (tickets || version == TLS1_3_VERSION);
            CHECK((SSL_session_reused(f->ssl.get()) == 1) == resumes);
            peer.write("x");  // behind the tickets of 1.3
            const std::string got = co_await receive(f);
            SSL_set_shutdown(f->ssl.get(), SSL_SENT_SHUTDOWN);  // OpenSSL resumes no other one
            session = SSL_get1_session(f->ssl.get());
          }
          SSL_SESSION_free(session);
        }
      }
      CHECK(SSL_CTX_sess_number(tls::detail::context_access::state(mine)->get()) == 0);
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
      meeting m = co_await meet_foreign();
      const auto f = m.other;
      stream& client = m.client;
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
        meeting m = co_await meet_foreign(4096, version);
        const auto f = m.other;
        auto reading = m.client.read();
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
      meeting m = co_await meet_foreign(64 * 1024, 0, &set_long_tickets);
      const auto f = m.other;
      stream& client = m.client;
      const std::string ticket = long_ticket(*f);
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

  TEST_CASE("a write that waits for the rest of a message ends with the other side") {
    run([]() -> future<> {
      meeting m = co_await meet_foreign(64 * 1024, 0, &set_long_tickets);
      m.other->wire.write(long_ticket(*m.other).substr(0, 1500));
      const auto none = co_await as_result(pulsar::with_timeout(m.client.read(), 1s));
      m.client.write("meanwhile");
      co_await pulsar::sleep(1s);
      CHECK(m.client.unsent() == 9);
      co_await m.other->wire.close();
      const auto r = co_await as_result(m.client.close());
      CHECK(code_of(r) == pulsar::errc::truncated);
    });
  }

  // In whatever way the reads fall: with none before, with one that was given up, with one that
  // waits.
  TEST_CASE("a farewell goes behind the rest of a message that has come in part") {
    run([]() -> future<> {
      for (const int reads : {0, 1, 2}) {
        meeting m = co_await meet_foreign(64 * 1024, 0, &set_long_tickets);
        const std::string ticket = long_ticket(*m.other);
        m.other->wire.write(ticket.substr(0, 1500));
        future<std::string> reading;
        if (reads != 0) reading = m.client.read();
        co_await pulsar::sleep(1s);
        if (reads == 1) reading = future<std::string>();
        future<> closing;
        if (reads == 2) {
          m.client.write_eof();
        } else {
          closing = m.client.close();
        }
        co_await pulsar::sleep(1s);
        if (reads == 1) CHECK_FALSE(closing.done());
        m.other->wire.write(ticket.substr(1500));
        SSL_write(m.other->ssl.get(), "behind", 6);
        m.other->wire.write(m.other->written());
        const std::string got = co_await pulsar::with_timeout(receive(m.other), 1s);
        CHECK_MESSAGE(got.empty(), reads);
        if (reads == 2) {
          const std::string text = co_await std::move(reading);
          CHECK(text == "behind");
          closing = m.client.close();
        }
        co_await std::move(closing);
      }
    });
  }

  TEST_CASE("a farewell that cannot be said is told by close, and the bytes before it arrive") {
    run([]() -> future<> {
      for (const bool ends : {true, false}) {
        meeting m = co_await meet_foreign(64 * 1024, 0, &set_long_tickets);
        m.other->wire.write(long_ticket(*m.other).substr(0, 1500));
        m.client.write("all of it");
        co_await m.client.drain();
        const auto none = co_await as_result(pulsar::with_timeout(m.client.read(), 1s));
        if (ends) {
          m.other->wire.write_eof();
          const auto r = co_await as_result(m.client.close());
          CHECK(code_of(r) == pulsar::errc::truncated);
        } else {
          m.client = stream();
        }
        const std::string got = co_await receive(m.other);
        CHECK(got == "all of it");
        const auto end = co_await as_result(m.other->wire.read());
        CHECK_MESSAGE(end.has_value(), end.message());
        if (end) CHECK(end->empty());
      }
    });
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
