// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/executor.hpp>
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/tasks.hpp>
#include <pulsar/core/when_all.hpp>
#include <pulsar/tls/stream.hpp>

#include <doctest/doctest.h>
#include <support/coro_test.hpp>
#include <support/full_listener.hpp>
#include <support/tls.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace tls_test;
using pulsar::as_result;
using pulsar::event_loop;
using pulsar::memory_pair;
using pulsar::server;

namespace {

// The one that the system trusts, as far as this program is concerned.
const certificates::authority& systems_authority() {
  static const certificates::authority instance = [] {
    certificates::authority made("the system's authority");
    ::setenv("SSL_CERT_FILE", made.file().c_str(), 1);
    return made;
  }();
  return instance;
}

// Somebody on the wire.
struct wire {
  std::pair<stream, stream> near = memory_pair();
  std::pair<stream, stream> far = memory_pair();
  bool forging = false;
};
future<> carry(std::shared_ptr<wire> over, bool there) {
  stream& from = there ? over->near.second : over->far.first;
  stream& to = there ? over->far.first : over->near.second;
  for (;;) {
    std::string some = co_await from.read();
    if (some.empty()) break;
    if (over->forging) some.back() = static_cast<char>(some.back() ^ 1);
    to.write(some);
  }
}

// What a command says, and how it ends.
future<std::string> shell(std::string command) {
  const auto run_command = [command] {
    std::string text;
    std::FILE* const pipe = ::popen(command.c_str(), "r");
    char chunk[1024];
    while (const auto n = std::fread(chunk, 1, sizeof chunk, pipe)) text.append(chunk, n);
    return text + "\nstatus " + std::to_string(::pclose(pipe));
  };
  future<std::string> said = event_loop::current().run_in_executor(run_command);
  co_return co_await std::move(said);
}

future<> echo(stream peer) {
  for (;;) {
    const bool more = co_await peer.fill();
    if (!more) break;
    peer.write(peer.buffered());
    peer.consume(peer.buffered().size());
    co_await peer.drain();
  }
  co_await peer.close();
}

}  // namespace

TEST_SUITE("tls.stream") {
  CORO_TEST_CASE("both sides read what the other has written, and the end") {
    both s = co_await secured(4096);
    s.client.write("hello\n");
    std::string line = co_await s.server.read_line();
    CHECK(line == "hello\n");
    s.server.write("and back\n");
    line = co_await s.client.read_line();
    CHECK(line == "and back\n");
    auto closing = s.client.close();
    line = co_await s.server.read();
    CHECK(line.empty());
    co_await std::move(closing);
    co_await s.server.close();
  }

  TEST_CASE("much comes whole through a pair that holds little, both ways at once") {
    run([]() -> future<> {
      both s = co_await secured(1000);
      auto serving = echo(std::move(s.server));
      const std::string text = pattern(300'000);
      s.client.write(text);
      s.client.write_eof();
      const std::string back = co_await s.client.read_to_end();
      CHECK(back == text);
      co_await std::move(serving);
    });
  }

  TEST_CASE("text without a port is refused with a sentence, as by connect") {
    event_loop loop;
    const char* const why = "localhost: connect needs a port, HOST:PORT";
    CHECK_THROWS_WITH_AS(tls::connect("localhost", {}, loop).detach(), why, std::invalid_argument);
    CHECK_THROWS_WITH_AS(tls::connect("localhost", test().client(), {}, loop).detach(), why,
                         std::invalid_argument);
  }

  TEST_CASE("what was agreed on can be asked for") {
    run([]() -> future<> {
      both s = co_await secured(4096, world::server(test().good, "h2,http/1.1"), "http/1.1");
      const auto info = tls::about(s.client);
      CHECK(info.version == "TLSv1.3");
      CHECK(info.cipher.find("TLS_") == 0);
      CHECK(info.alpn == "http/1.1");
      CHECK(info.peer == "CN = example.org");
      CHECK(tls::about(s.server).alpn == "http/1.1");
      CHECK(tls::about(s.server).peer.empty());
      auto [a, b] = memory_pair();
      CHECK_THROWS_AS(tls::about(a), pulsar::error);
    });
  }

  TEST_CASE("a client that offers other protocols is refused") {
    run([]() -> future<> {
      const auto r = co_await as_result(secured(4096, world::server(test().good, "h2"), "smtp"));
      CHECK(code_of(r) == tls::errc::refused);
      CHECK_MESSAGE(r.message().find("no application protocol") != std::string::npos, r.message());
    });
  }

  TEST_CASE("a certificate that has expired, or is not valid yet, is refused with what to do") {
    run([]() -> future<> {
      outcome r = co_await shake_hands(world::server(test().expired));
      CHECK(r.client == tls::errc::expired);
      CHECK_MESSAGE(r.text.find("it must be renewed") != std::string::npos, r.text);
      CHECK(r.server == tls::errc::refused);
      r = co_await shake_hands(world::server(test().early));
      CHECK(r.client == tls::errc::not_yet_valid);
    });
  }

  TEST_CASE("a certificate for another host is refused, names and numbers alike") {
    run([]() -> future<> {
      for (const char* name : {"example.com", "www.example.org", "a.b.example.net", "127.0.0.2"}) {
        const outcome r = co_await shake_hands(test().server(), test().client(), name);
        CHECK_MESSAGE(r.client == tls::errc::wrong_host, name);
        CHECK_MESSAGE(r.text.find("server_name") != std::string::npos, r.text);
      }
      for (const char* name : {"example.org", "www.example.net", "127.0.0.1"}) {
        const outcome r = co_await shake_hands(test().server(), test().client(), name);
        CHECK_MESSAGE(r.client == std::error_code(), r.text);
      }
    });
  }

  TEST_CASE("one of an unknown authority, or of none, is refused, unless its file is named") {
    run([]() -> future<> {
      outcome r = co_await shake_hands(world::server(test().strange));
      CHECK(r.client == tls::errc::unknown_issuer);
      CHECK_MESSAGE(r.text.find("ca_file") != std::string::npos, r.text);
      r = co_await shake_hands(world::server(test().alone));
      CHECK(r.client == tls::errc::self_signed);
      r = co_await shake_hands(test().server(), tls::context::client());
      CHECK(r.client == tls::errc::unknown_issuer);
      auto trusting = tls::context::client({.ca_file = test().alone.certificate_file()});
      r = co_await shake_hands(world::server(test().alone), trusting);
      CHECK_MESSAGE(r.client == std::error_code(), r.text);
    });
  }

  TEST_CASE("who does not verify believes everybody, and needs no name") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      auto accepting = tls::accept(std::move(far), world::server(test().expired));
      const auto r = co_await as_result(
          tls::upgrade(std::move(near), tls::context::client({.verify = false}), {}));
      CHECK_MESSAGE(r.has_value(), r.message());
    });
  }

  TEST_CASE("without a name nothing can be verified: that is said") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      const auto r = co_await as_result(tls::upgrade(std::move(near), test().client(), {}));
      CHECK(code_of(r) == std::errc::invalid_argument);
      CHECK(r.message().find("give server_name") != std::string::npos);
      auto [a, b] = memory_pair();
      const auto wrong = co_await as_result(tls::accept(std::move(a), test().client()));
      CHECK(wrong.message().find("tls::accept needs a tls::context::server") == 0);
    });
  }

  TEST_CASE("a server may ask for the client's certificate") {
    run([]() -> future<> {
      const auto mine = test().asking_server();
      for (const bool shows : {true, false}) {
        auto trusting = test().client();
        if (shows) {
          trusting = tls::context::client({.ca_file = test().ca.file(),
                                           .certificate_file = test().good.certificate_file(),
                                           .key_file = test().good.key_file()});
        }
        auto [near, far] = memory_pair();
        auto connecting = tls::upgrade(std::move(near), trusting, to("example.org"));
        auto r = co_await as_result(tls::accept(std::move(far), mine));
        if (shows) {
          CHECK_MESSAGE(r.has_value(), r.message());
          if (r) CHECK(tls::about(*r).peer == "CN = example.org");
        } else {
          CHECK(code_of(r) == tls::errc::no_certificate);
        }
        auto client = co_await as_result(std::move(connecting));
        if (client) {  // 1.3: it learns of it with its first read
          const auto read = co_await as_result(pulsar::with_timeout(client->read(), 1s));
          CHECK(code_of(read) == (shows ? make_error_code(pulsar::errc::timed_out)
                                        : make_error_code(tls::errc::refused)));
        }
      }
    });
  }

  TEST_CASE("an end without the farewell of TLS is a failure, behind what came before") {
    run([]() -> future<> {
      both s = co_await secured(4096);
      s.server.write("the first half");
      co_await s.server.drain();
      s.server.raw().close();  // the connection under it ends in good order
      const std::string text = co_await s.client.read();
      CHECK(text == "the first half");
      const auto r = co_await as_result(s.client.read());
      CHECK(code_of(r) == pulsar::errc::truncated);
      CHECK_FALSE(s.client.at_end());
    });
  }

  TEST_CASE("garbage instead of a hello is refused by both sides") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      auto accepting = tls::accept(std::move(far), test().server());
      near.write("GET / HTTP/1.1\r\n\r\n");
      auto r = co_await as_result(std::move(accepting));
      CHECK(code_of(r) == tls::errc::malformed);
      CHECK_MESSAGE(r.message().find("http request") != std::string::npos, r.message());
      auto [client, server] = memory_pair();
      auto connecting = tls::upgrade(std::move(client), test().client(), to("example.org"));
      server.write("220 smtp.example.org ready\r\n");
      r = co_await as_result(std::move(connecting));
      CHECK(code_of(r) == tls::errc::malformed);
    });
  }

  TEST_CASE("bytes that were changed on their way are a failure that stays") {
    run([]() -> future<> {
      const auto between = std::make_shared<wire>();
      auto there = carry(between, true);
      auto back = carry(between, false);
      auto accepting = tls::accept(std::move(between->far.second), test().server());
      stream client =
          co_await tls::upgrade(std::move(between->near.first), test().client(), to("example.org"));
      stream peer = co_await std::move(accepting);
      client.write("good");
      std::string text = co_await peer.read();
      CHECK(text == "good");
      between->forging = true;
      client.write("bad");
      for (int i = 0; i < 2; ++i) {
        const auto r = co_await as_result(peer.read());
        CHECK(code_of(r) == tls::errc::malformed);
      }
      peer.write("too late");
      const auto r = co_await as_result(peer.drain());
      CHECK(code_of(r) == tls::errc::malformed);
    });
  }

  TEST_CASE("a handshake that stalls is given up in time, on both sides") {
    run([]() -> future<> {
      auto& loop = event_loop::current();
      const auto start = loop.time();
      auto [near, far] = memory_pair();
      const auto server = co_await as_result(tls::accept(std::move(far), test().server(), 3s));
      CHECK(code_of(server) == pulsar::errc::timed_out);
      CHECK(server.message().find("TLS handshake with ") == 0);
      CHECK(loop.time() - start == 3s);
      auto [silent, client] = memory_pair();
      const auto r =
          co_await as_result(tls::upgrade(std::move(client), test().client(), to("example.org")));
      CHECK(code_of(r) == pulsar::errc::timed_out);
      CHECK(loop.time() - start == 13s);
    });
  }

  TEST_CASE("a handshake under way says with whom, and nothing of how it is done") {
    run([]() -> future<> {
      auto& loop = event_loop::current();
      auto [near, far] = memory_pair();
      auto server = tls::accept(std::move(far), test().server(), 3s);
      co_await pulsar::sleep(1s);
      const std::string tree = pulsar::format_tasks(loop);
      CAPTURE(tree);
      CHECK(tree.find("tls::handshake, 1 s\n  with_timeout, 1 s, 2 s left\n"
                      "    tls::shake_hands, 1 s: a TLS handshake with the other side\n") !=
            std::string::npos);
      CHECK(tree.find("detail") == std::string::npos);
      server.cancel();
      const auto r = co_await as_result(std::move(server));
      CHECK(code_of(r) == pulsar::errc::cancelled);
    });
  }

  TEST_CASE("a side that goes in the middle of the handshake is told of as an end") {
    run([]() -> future<> {
      auto [near, far] = memory_pair();
      auto connecting = tls::upgrade(std::move(near), test().client(), to("example.org"));
      const std::string hello = co_await far.read();
      CHECK(!hello.empty());
      far.write("\x16\x03\x03");
      co_await far.close();
      const auto r = co_await as_result(std::move(connecting));
      CHECK(code_of(r) == pulsar::errc::truncated);
    });
  }

  TEST_CASE("a read that is cancelled leaves the stream as it was") {
    run([]() -> future<> {
      both s = co_await secured(4096);
      const auto r = co_await as_result(pulsar::with_timeout(s.client.read_line(), 1s));
      CHECK(code_of(r) == pulsar::errc::timed_out);
      s.server.write("late\n");
      const std::string line = co_await s.client.read_line();
      CHECK(line == "late\n");
    });
  }

  TEST_CASE("a stream that goes says farewell if that goes at once") {
    run([]() -> future<> {
      both s = co_await secured(4096);
      s.client.write("bye");
      s.client = stream();
      const std::string all = co_await s.server.read_to_end();
      CHECK(all == "bye");
    });
  }

  TEST_CASE("one that goes with bytes unsent is no end in good order") {
    run([]() -> future<> {
      both s = co_await secured(100);
      s.client.write(pattern(10'000));
      s.client = stream();
      const auto r = co_await as_result(s.server.read_to_end());
      CHECK(code_of(r) == std::errc::connection_reset);
    });
  }

  TEST_CASE("new files are shown to the connections from the reload on") {
    run([]() -> future<> {
      auto shown = test().ca.issue("example.org", "DNS:example.org");
      auto mine = world::server(shown);
      both before = co_await secured(4096, mine);
      const auto key = certificates::make_key();
      const auto other = certificates::self_signed("example.org", "DNS:example.org");
      {
        std::FILE* const from = std::fopen(other.certificate_file().c_str(), "r");
        X509* const certificate = PEM_read_X509(from, nullptr, nullptr, nullptr);
        std::fclose(from);
        std::FILE* const key_from = std::fopen(other.key_file().c_str(), "r");
        EVP_PKEY* const its_key = PEM_read_PrivateKey(key_from, nullptr, nullptr, nullptr);
        std::fclose(key_from);
        shown.write(certificate, its_key);
        X509_free(certificate);
        EVP_PKEY_free(its_key);
      }
      mine.reload();
      const auto after = co_await as_result(secured(4096, mine));
      CHECK(code_of(after) == tls::errc::self_signed);
      before.server.write("still here\n");
      const std::string line = co_await before.client.read_line();
      CHECK(line == "still here\n");
    });
  }

  TEST_CASE("a write takes four records at once") {
    run([]() -> future<> {
      both s = co_await secured(512 * 1024);
      struct operation final : pulsar::raw_stream::operation {
        operation() : pulsar::raw_stream::operation([](pulsar::raw_stream::operation*) {}) {}
      } op;
      const std::string text = pattern(100'000);
      CHECK(s.client.raw().write(std::as_bytes(std::span(text)), op));
      CHECK(op.count == 64 * 1024);
      const std::string got = co_await s.server.read_exactly(op.count);
      CHECK(got == text.substr(0, op.count));
    });
  }

  CORO_TEST_CASE_REAL(
      "without a context the system is trusted, and its authorities are read once") {
    const auto shown = systems_authority().issue("nobody", "IP:127.0.0.1");
    server at = co_await tls::start_server(world::server(shown), &echo, "127.0.0.1:0");
    stream first = co_await tls::connect(at.addresses()[0]);
    stream second = co_await tls::connect(at.addresses()[0].to_string());
    CHECK(tls::about(first).peer == "CN = nobody");
    CHECK(SSL_get_SSL_CTX(ssl_of(first)) == SSL_get_SSL_CTX(ssl_of(second)));
  }

  TEST_CASE("several threads connect at once without a context") {
    static const auto shown = systems_authority().issue("nobody", "IP:127.0.0.1");
    std::atomic<int> good = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&good] {
        event_loop loop;
        good += loop.run_until_complete([]() -> future<int> {
          server at = co_await tls::start_server(world::server(shown), &echo, "127.0.0.1:0");
          int answers = 0;
          for (int n = 0; n < 3; ++n) {
            stream client = co_await tls::connect(at.addresses()[0]);
            client.write("ping\n");
            const std::string line = co_await client.read_line();
            if (line == "ping\n") ++answers;
          }
          co_return answers;
        });
      });
    }
    for (auto& each : threads) each.join();
    CHECK(good == 9);
  }

  CORO_TEST_CASE_REAL("servers and clients meet on TCP") {
    systems_authority();
    server at = co_await tls::start_server(test().server(), &echo, "127.0.0.1:0");
    stream client = co_await tls::connect(at.addresses()[0], test().client());
    client.write("ping\n");
    const std::string line = co_await client.read_line();
    CHECK(line == "ping\n");
    CHECK(client.peer_address() == at.addresses()[0]);
    stream stranger = co_await pulsar::connect(at.addresses()[0]);
    stranger.write("no hello at all\n");
    const auto end = co_await as_result(stranger.read_to_end());
    const auto refused = co_await as_result(tls::connect(at.addresses()[0].to_string()));
    CHECK(code_of(refused) == tls::errc::unknown_issuer);
  }

  CORO_TEST_CASE_REAL(
      "a server that does not answer is given up, its connection and its handshake") {
    const full_listener silent;
    tls::connect_options options;
    options.tcp.timeout = 10ms;
    auto r = co_await as_result(tls::connect(silent.at.local(), test().client(), options));
    CHECK(code_of(r) == pulsar::errc::timed_out);
    CHECK(r.message().find("cannot connect to ") == 0);
    const pulsar::listener mute(pulsar::address("127.0.0.1:0"));
    options.tcp.timeout = 10s;
    options.handshake_timeout = 10ms;
    r = co_await as_result(tls::connect(mute.local(), test().client(), options));
    CHECK(code_of(r) == pulsar::errc::timed_out);
    CHECK(r.message().find("TLS handshake with ") == 0);
  }

  TEST_CASE("an echo answers openssl s_client, and refuses to renegotiate") {
    event_loop loop;
    const auto body = []() -> future<> {
      server at = co_await tls::start_server(test().server(), &echo, "127.0.0.1:0");
      const std::string connect = " timeout 20 openssl s_client -connect " +
                                  at.addresses()[0].to_string() + " -CAfile " + test().ca.file() +
                                  " -verify_return_error -verify_hostname example.org";
      for (const char* version : {" -tls1_2", " -tls1_3"}) {
        const std::string said = co_await shell("(echo hello; sleep 0.3) |" + connect + version +
                                                " -quiet -no_ign_eof 2>&1");
        CHECK_MESSAGE(said.find("hello\nDONE\n\nstatus 0") != std::string::npos, said);
      }
      std::string said =
          co_await shell("(echo R; sleep 0.3; echo hello) |" + connect + " -tls1_2 2>&1");
      CHECK_MESSAGE(said.find("no renegotiation") != std::string::npos, said);
      said = co_await shell("echo x |" + connect + " -tls1_1 -cipher ALL:@SECLEVEL=0 2>&1");
      CHECK_MESSAGE(said.find("alert protocol version") != std::string::npos, said);
    };
    loop.run_until_complete(body);
  }
}
