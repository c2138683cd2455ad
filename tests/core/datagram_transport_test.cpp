// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/datagram_transport.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/ip/udp.hpp>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/coro_test.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using pulsar::address;
using pulsar::as_result;
using pulsar::datagram_transport;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;

namespace {

struct recorder : pulsar::datagram_protocol {
  void connection_made(datagram_transport& by) override {
    socket = by;
    notes += "made;";
  }
  void datagram_received(std::span<const std::byte> data, const address::endpoint& from) override {
    notes.append(reinterpret_cast<const char*>(data.data()), data.size()).append(";");
    sender = from;
    if (echoes) socket.sendto(data, from);
    changed();
  }
  void error_received(std::error_code why) override {
    notes += "error;";
    last_error = why;
    changed();
  }
  void connection_lost(std::error_code) override {
    notes += "lost;";
    changed();
  }
  void pause_writing() override { notes += "pause;"; }
  void resume_writing() override {
    notes += "resume;";
    changed();
  }

  void changed() {
    if (waiting) std::exchange(waiting, std::nullopt)->set_value();
  }
  /// Until something happens.
  future<> change() { return waiting.emplace().get_future(); }

  datagram_transport socket{};
  address::endpoint sender{};
  std::string notes{};
  std::error_code last_error{};
  std::optional<pulsar::promise<>> waiting{};
  bool echoes = false;
};

const auto new_recorder = [] { return std::make_shared<recorder>(); };
const auto new_echo = [] {
  auto made = std::make_unique<recorder>();
  made->echoes = true;
  return made;
};

address::endpoint at(const datagram_transport& socket) { return socket.local_address().resolve(); }

}  // namespace

TEST_SUITE("datagram_transport") {
  CORO_TEST_CASE_REAL("UDP echo: what is sent comes back, whole, from where it was sent to") {
    auto& loop = event_loop::current();
    auto server = co_await loop.create_datagram_endpoint(new_echo, {.local = "127.0.0.1:0"});
    auto client = co_await loop.create_datagram_endpoint(new_recorder, {.local = "127.0.0.1:0"});
    recorder& told = *client.second;
    CHECK(told.notes == "made;");
    CHECK(client.first.native_handle() >= 0);
    client.first.sendto("one", at(server.first));
    co_await told.change();
    client.first.sendto("", at(server.first));
    co_await told.change();
    CHECK(told.notes == "made;one;;");
    CHECK(told.sender == at(server.first));
    client.first.close();
    CHECK(client.first.is_closing());
    client.first.sendto("late", at(server.first));
    co_await told.change();
    CHECK(told.notes == "made;one;;lost;");
    CHECK(client.first.native_handle() == -1);
    CHECK(server.second->notes == "made;one;;");
  }

  CORO_TEST_CASE_REAL("IPv6, connected: the other side is the only one") {
    auto& loop = event_loop::current();
    auto server = co_await loop.create_datagram_endpoint(new_echo, {.local = "[::1]:0"});
    const std::string there = server.first.local_address().to_string();
    auto client = co_await loop.create_datagram_endpoint(new_recorder, {.remote = there});
    CHECK(client.first.peer_address().to_string() == there);
    client.first.send("connected");
    co_await client.second->change();
    CHECK(client.second->notes == "made;connected;");
  }

  CORO_TEST_CASE_REAL("nobody there is an error, and the transport goes on") {
    auto& loop = event_loop::current();
    std::string there;
    {
      auto gone = co_await loop.create_datagram_endpoint(new_recorder, {.local = "127.0.0.1:0"});
      there = gone.first.local_address().to_string();
      gone.first.abort();
      co_await gone.second->change();
    }
    auto client = co_await loop.create_datagram_endpoint(new_recorder, {.remote = there});
    client.first.send("anybody");
    co_await client.second->change();
    CHECK(client.second->last_error == std::errc::connection_refused);
    CHECK_FALSE(client.first.is_closing());
    client.first.send(std::string(100'000, 'x'));
    while (client.second->last_error != std::errc::message_size) co_await client.second->change();
  }

  CORO_TEST_CASE_REAL("what a full socket does not take waits, and pauses the writer") {
    auto& loop = event_loop::current();
    char directory[] = "/tmp/pulsar-datagram-XXXXXX";
    CHECK(::mkdtemp(directory) != nullptr);
    const std::string path = std::string(directory) + "/socket";
    const std::string where = "unix:" + path;
    auto reader = co_await loop.create_datagram_endpoint(new_recorder, {.local = where});
    auto writer = co_await loop.create_datagram_endpoint(new_recorder, {.remote = where});
    ::unlink(path.c_str());
    ::rmdir(directory);
    recorder& told = *writer.second;
    writer.first.set_write_buffer_limits(10'000, 1'000);
    int sent = 0;
    for (; writer.first.get_write_buffer_size() <= 10'000; ++sent) {
      writer.first.send(std::string(1000, static_cast<char>('a' + sent % 26)));
    }
    CHECK(told.notes == "made;pause;");
    writer.first.close();  // sends them first
    while (told.notes != "made;pause;resume;lost;") co_await told.change();
    std::string expected = "made;";
    for (int i = 0; i < sent; ++i)
      expected += std::string(1000, static_cast<char>('a' + i % 26)) + ';';
    while (reader.second->notes.size() < expected.size()) co_await reader.second->change();
    CHECK(reader.second->notes == expected);
  }

  CORO_TEST_CASE_REAL("one that floods does not keep the loop to itself") {
    auto& loop = event_loop::current();
    struct counter : recorder {
      void datagram_received(std::span<const std::byte>, const address::endpoint&) override {
        if (++count == 200) socket.close();
      }
      void connection_lost(std::error_code) override { changed(); }
      int count = 0;
    };
    auto reader = co_await loop.create_datagram_endpoint([] { return std::make_shared<counter>(); },
                                                         {.local = "127.0.0.1:0"});
    auto writer = co_await loop.create_datagram_endpoint(new_recorder, {.local = "127.0.0.1:0"});
    const auto to = at(reader.first);
    auto ended = reader.second->change();
    int turns = 0;
    for (; !ended.done(); ++turns) {
      for (int i = 0; i < 50; ++i) writer.first.sendto("flood", to);
      co_await pulsar::sleep(0ms);
    }
    CHECK(turns >= 4);
    CHECK(reader.second->count == 200);
  }

  CORO_TEST_CASE_REAL("two sockets share a port if both want it, and one does not take another's") {
    auto& loop = event_loop::current();
    auto first = co_await loop.create_datagram_endpoint(
        new_recorder, {.local = "127.0.0.1:0", .reuse_port = true});
    const std::string where = first.first.local_address().to_string();
    auto second =
        co_await loop.create_datagram_endpoint(new_recorder, {.local = where, .reuse_port = true});
    CHECK(second.first.local_address().to_string() == where);
    auto opening = loop.create_datagram_endpoint(new_recorder, {.local = where});
    const auto refused = co_await as_result(std::move(opening));
    CHECK(refused.code() == std::errc::address_in_use);
    CHECK(refused.message().starts_with("cannot receive datagrams at " + where));
    auto nowhere = loop.create_datagram_endpoint(new_recorder);
    const auto none = co_await as_result(std::move(nowhere));
    CHECK(none.code() == std::errc::invalid_argument);
  }

  TEST_CASE("a protocol that throws is reported, and loses its socket") {
    event_loop loop;
    std::string reported;
    loop.set_exception_handler([&](const pulsar::failure_report& report) {
      reported += pulsar::detail::describe(report.exception);
    });
    struct thrower : recorder {
      void datagram_received(std::span<const std::byte>, const address::endpoint&) override {
        throw std::out_of_range("no");
      }
    };
    const auto body = [](event_loop& l) -> future<std::string> {
      auto told = co_await l.create_datagram_endpoint([] { return std::make_shared<thrower>(); },
                                                      {.local = "127.0.0.1:0"});
      told.first.sendto("x", at(told.first));
      co_await told.second->change();
      co_return told.second->notes;
    };
    CHECK(loop.run_until_complete([&] { return body(loop); }) == "made;lost;");
    CHECK(reported == "no");
  }

  TEST_CASE("when its loop closes nothing is left") {
    const auto told = std::make_shared<recorder>();
    {
      event_loop loop;
      const auto factory = [told] { return told; };
      auto made = loop.run_until_complete(
          [&] { return loop.create_datagram_endpoint(factory, {.local = "127.0.0.1:0"}); });
      CHECK(made.first.native_handle() >= 0);
    }
    CHECK(told->socket.is_closing());
    CHECK(told->socket.native_handle() == -1);
    told->socket = datagram_transport();
    CHECK(told.use_count() == 1);
  }

  TEST_CASE("text that is no address is refused, and so is a closed loop") {
    event_loop loop;
    CHECK_THROWS_AS(loop.create_datagram_endpoint(new_recorder, {.local = "no address"}).detach(),
                    std::invalid_argument);
    loop.close();
    CHECK_THROWS_AS(loop.create_datagram_endpoint(new_recorder).detach(), pulsar::error);
  }
}
