// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/datagram_transport.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/ip/udp.hpp>
#include <sys/socket.h>

#include "support/coro_test.hpp"
#include "support/recorders.hpp"
#include "support/scratch_directory.hpp"

#include <algorithm>
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

using recorder = datagram_recorder;

const auto new_recorder = [] { return std::make_shared<recorder>(); };
const auto new_echo = [] {
  auto made = std::make_unique<recorder>();
  made->echoes = true;
  return made;
};

// As small as the system lets it be.
void shrink_send_buffer(int fd) {
  const int size = 1;
  CHECK(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
}

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
    const scratch_directory directory;
    const std::string where = directory.unix_socket();
    auto reader = co_await loop.create_datagram_endpoint(new_recorder, {.local = where});
    auto writer = co_await loop.create_datagram_endpoint(new_recorder, {.remote = where});
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

  CORO_TEST_CASE_REAL(
      "what is beyond the limit is dropped, which is told once, and later ones go") {
    auto& loop = event_loop::current();
    const scratch_directory directory;
    const std::string where = directory.unix_socket();
    auto reader = co_await loop.create_datagram_endpoint(new_recorder, {.local = where});
    auto writer = co_await loop.create_datagram_endpoint(new_recorder,
                                                         {.remote = where, .write_limit = 20'000});
    recorder& told = *writer.second;
    shrink_send_buffer(writer.first.native_handle());
    std::size_t kept = 0;
    for (int i = 0; i < 1000; ++i) {
      writer.first.send(std::string(1000, 'x'));
      writer.first.send("");  // costs its place too
      kept = std::max(kept, writer.first.get_write_buffer_size());
    }
    CHECK(kept > 10'000);
    CHECK(kept <= 20'000);
    CHECK(told.notes == "made;");  // never inside `send`
    co_await told.change();
    CHECK(told.notes == "made;error;");
    CHECK(told.last_error == std::errc::no_buffer_space);
    CHECK_FALSE(writer.first.is_closing());
    while (writer.first.get_write_buffer_size() > 0) co_await reader.second->change();
    reader.second->notes.clear();
    writer.first.send("later");
    while (reader.second->notes.find("later;") == std::string::npos) {
      co_await reader.second->change();
    }
    CHECK(told.notes == "made;error;");
  }

  TEST_CASE("one who does not read does not have the loop ask again and again") {
    event_loop loop;
    const scratch_directory directory;
    const pulsar::unique_fd deaf(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const auto to = address(directory.unix_socket()).resolve();
    REQUIRE(::bind(deaf.get(), to.data(), static_cast<socklen_t>(to.size())) == 0);
    const std::string mine = "unix:" + directory.path("mine");
    auto writer = loop.run_until_complete(
        [&] { return loop.create_datagram_endpoint(new_recorder, {.local = mine}); });
    // It is connected to nobody, and so the system calls it writable all the time.
    int sent = 0;
    for (; writer.first.get_write_buffer_size() == 0 && sent < 100'000; ++sent) {
      writer.first.sendto("x", to);
    }
    bool over = false;
    loop.call_later(100ms, [&] { over = true; });
    int handlers = 0;
    loop.context().restart();
    while (!over) {
      loop.context().run_one();
      ++handlers;
    }
    CHECK(handlers < 100);
    CHECK(writer.first.get_write_buffer_size() > 0);
    char byte;
    for (; sent > 0; --sent) {
      while (::recv(deaf.get(), &byte, 1, MSG_DONTWAIT) != 1) loop.context().run_one();
    }
    CHECK(writer.first.get_write_buffer_size() == 0);
  }

  CORO_TEST_CASE_REAL(
      "a peer that goes while datagrams wait for it is an error for each, and no end") {
    auto& loop = event_loop::current();
    const scratch_directory directory;
    const std::string where = directory.unix_socket();
    auto reader = co_await loop.create_datagram_endpoint(new_recorder, {.local = where});
    auto writer = co_await loop.create_datagram_endpoint(new_recorder, {.remote = where});
    while (writer.first.get_write_buffer_size() == 0) writer.first.send("x");
    reader.first.abort();
    while (writer.second->notes.find("error;") == std::string::npos) {
      co_await writer.second->change();
    }
    CHECK_FALSE(writer.first.is_closing());
    CHECK(writer.first.get_write_buffer_size() == 0);
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
    const auto null = [] { return std::shared_ptr<recorder>(); };
    auto untold = loop.create_datagram_endpoint(null, {.local = "127.0.0.1:0"});
    const auto refused_null = co_await as_result(std::move(untold));
    CHECK(refused_null.code() == std::errc::invalid_argument);
  }

  TEST_CASE("a protocol that throws at a datagram is reported, and told of the next one") {
    event_loop loop;
    std::string reported;
    loop.set_exception_handler([&](const pulsar::failure_report& report) {
      reported += pulsar::detail::describe(report.exception);
    });
    struct thrower : recorder {
      void datagram_received(std::span<const std::byte> data,
                             const address::endpoint& from) override {
        if (text_of(data) == "bad") throw std::out_of_range("no");
        recorder::datagram_received(data, from);
      }
    };
    const auto body = [](event_loop& l) -> future<std::string> {
      auto told = co_await l.create_datagram_endpoint([] { return std::make_shared<thrower>(); },
                                                      {.local = "127.0.0.1:0"});
      told.first.sendto("bad", at(told.first));
      told.first.sendto("good", at(told.first));
      co_await told.second->change();
      CHECK_FALSE(told.first.is_closing());
      co_return told.second->notes;
    };
    CHECK(loop.run_until_complete([&] { return body(loop); }) == "made;good;");
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
