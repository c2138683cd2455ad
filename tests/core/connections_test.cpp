// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/connections.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/coro_test.hpp"
#include "support/recorders.hpp"
#include "support/scratch_directory.hpp"

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
#include <vector>

using namespace std::chrono_literals;
using pulsar::address;
using pulsar::as_result;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::server;
using pulsar::stream;
using pulsar::transport;
using pulsar::unique_fd;

namespace {

/// Sends back what it is told; "QUIT" ends the connection.
struct echo : pulsar::protocol {
  void connection_made(transport& by) override { line = by; }
  void data_received(std::span<const std::byte> data) override {
    if (text_of(data).find("QUIT") != std::string_view::npos) return line.close();
    line.write(data);
  }
  void connection_lost(std::error_code) override { line = transport(); }
  transport line{};
};

const auto new_echo = [] { return std::make_shared<echo>(); };
const auto new_collector = [] { return std::make_unique<collector>(); };

future<> wait_for_text(std::shared_ptr<collector> told, std::string text) {
  while (told->got != text) co_await told->change();
}

/// A client that runs a loop only while it waits for an answer, and connects anew if it has to: the
/// reference's `force_sync`.
class sync_client {
 public:
  sync_client(event_loop& loop, address where) : loop_(loop), where_(std::move(where)) {}

  std::string request(std::string text) {
    return loop_.run_until_complete([&] { return ask(*this, text); });
  }
  int connections = 0;

 private:
  static future<std::string> ask(sync_client& self, std::string text) {
    if (!self.told_ || self.told_->line.is_closing()) {
      auto made = co_await self.loop_.create_connection(new_collector, self.where_);
      self.told_ = made.second;
      ++self.connections;
    }
    self.told_->got.clear();
    self.told_->line.write(text);
    co_await self.told_->change();
    co_return self.told_->got;
  }

  event_loop& loop_;
  const address where_;
  std::shared_ptr<collector> told_;
};

}  // namespace

TEST_SUITE("connections") {
  TEST_CASE("create_connection refuses text without a port") {
    event_loop loop;
    const auto begin = [&loop](const auto& where) {
      loop.create_connection(new_echo, where).detach();
    };
    CHECK_THROWS_WITH_AS(begin("localhost"), "localhost: connect needs a port, HOST:PORT",
                         std::invalid_argument);
    CHECK_THROWS_AS(begin(std::string("localhost")), std::invalid_argument);
  }

  TEST_CASE("E1: where a server listens is known, not the 0 that was asked for") {
    event_loop loop;
    const server s =
        loop.run_until_complete([&] { return loop.create_server(new_echo, "127.0.0.1:0"); });
    CHECK(s.addresses().size() == 1);
    CHECK(s.addresses()[0].host() == "127.0.0.1");
    CHECK(s.addresses()[0].port() != 0);
  }

  CORO_TEST_CASE_REAL("E2: a server counts its connections, those that are open and all") {
    auto& loop = event_loop::current();
    server s = co_await loop.create_server(new_echo, "127.0.0.1:0");
    CHECK(s.size() == 0);
    CHECK(s.accepted() == 0);
    auto client = co_await loop.create_connection(new_collector, s.addresses()[0]);
    client.first.write("one request");
    co_await wait_for_text(client.second, "one request");
    CHECK(s.size() == 1);
    CHECK(s.accepted() == 1);
    client.first.close();
    while (s.size() > 0) co_await pulsar::sleep(1ms);
    CHECK(s.accepted() == 1);
  }

  TEST_CASE(
      "E3 E4 E5: requests one by one without a running loop, and a new connection after QUIT") {
    event_loop loop;
    const server s =
        loop.run_until_complete([&] { return loop.create_server(new_echo, "127.0.0.1:0"); });
    sync_client client(loop, s.addresses()[0]);
    CHECK(client.request("first") == "first");
    CHECK_FALSE(loop.is_running());
    CHECK(client.request("second") == "second");
    CHECK(client.connections == 1);
    CHECK(client.request("QUIT") == "");
    CHECK(client.request("third") == "third");
    CHECK(client.connections == 2);
    CHECK(s.accepted() == 2);
  }

  CORO_TEST_CASE_REAL("Unix sockets: connections by path") {
    auto& loop = event_loop::current();
    const scratch_directory directory;
    const std::string path = directory.path("socket");
    server s = co_await loop.create_unix_server(new_echo, path);
    auto client = co_await loop.create_unix_connection(new_collector, path);
    CHECK(client.first.peer_address().to_string() == "unix:" + path);
    client.first.write("by path");
    co_await wait_for_text(client.second, "by path");
    client.first.write_eof();
    co_await client.second->change();
    CHECK(client.second->notes == "made;lost;");
    s.close();
    CHECK(s.is_closed());
    co_await s.wait_closed();
  }

  CORO_TEST_CASE_REAL("several addresses and both families, one server") {
    auto& loop = event_loop::current();
    std::vector<address> where;
    where.emplace_back("127.0.0.1:0");
    where.emplace_back("[::1]:0");
    const pulsar::server_options options{.listen = {.backlog = 5, .reuse_port = true}};
    server s = co_await loop.create_server(new_echo, where, options);
    CHECK(s.addresses().size() == 2);
    for (const auto& each : s.addresses()) {
      auto client = co_await loop.create_connection(new_collector, each);
      client.first.write("x");
      co_await wait_for_text(client.second, "x");
      client.first.abort();
    }
    CHECK(s.accepted() == 2);
  }

  CORO_TEST_CASE_REAL("a connection that nobody takes fails, and no protocol is made") {
    auto& loop = event_loop::current();
    std::string nobody;
    {
      const pulsar::listener at(address("127.0.0.1:0"));
      nobody = at.local().to_string();
    }
    int made = 0;
    const auto factory = [](int* count) {
      return [count] {
        ++*count;
        return std::make_shared<collector>();
      };
    }(&made);
    auto connecting = loop.create_connection(factory, nobody);
    const auto refused = co_await as_result(std::move(connecting));
    CHECK(refused.code() == std::errc::connection_refused);
    CHECK(made == 0);
  }

  CORO_TEST_CASE_REAL("a server that goes ends its connections") {
    auto& loop = event_loop::current();
    std::optional<server> s;
    s.emplace(co_await loop.create_server(new_echo, "127.0.0.1:0"));
    auto client = co_await loop.create_connection(new_collector, s->addresses()[0]);
    client.first.write("there");
    co_await wait_for_text(client.second, "there");
    s.reset();
    co_await client.second->change();
    CHECK(client.second->notes == "made;lost;");
  }

  CORO_TEST_CASE_REAL("a peer that does not read pauses the writer, and goes on when it does") {
    auto& loop = event_loop::current();
    const pulsar::listener at(address("127.0.0.1:0"));
    auto client = co_await loop.create_connection(new_collector, at.local());
    std::error_code none;
    unique_fd peer;
    while (!peer) peer = at.accept(none);
    std::size_t sent = 0;
    while (client.second->notes != "made;pause;") {
      client.first.write(std::string(100'000, 'x'));
      sent += 100'000;
      co_await pulsar::sleep(0ms);
    }
    client.first.close();  // sends what waits
    stream reader(std::move(peer));
    const std::string all = co_await reader.read_to_end(1 << 28);
    CHECK(all.size() == sent);
  }

  CORO_TEST_CASE_REAL("a peer that is reset is a loss with its reason") {
    auto& loop = event_loop::current();
    const pulsar::listener at(address("127.0.0.1:0"));
    auto client = co_await loop.create_connection(new_collector, at.local());
    std::error_code none;
    unique_fd peer;
    while (!peer) peer = at.accept(none);
    const linger reset{1, 0};
    ::setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    peer.reset();
    co_await client.second->change();
    CHECK(client.second->notes == "made;lost;");
    CHECK(client.second->reason == std::errc::connection_reset);
  }

  CORO_TEST_CASE_REAL("pipes tell protocols too") {
    auto& loop = event_loop::current();
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    unique_fd read_end(ends[0]);
    const unique_fd write_end(ends[1]);
    auto reading = co_await loop.connect_read_pipe(new_collector, std::move(read_end));
    auto writing = co_await loop.connect_write_pipe(new_collector, write_end.get());
    CHECK_FALSE(writing.first.is_reading());
    writing.first.write("through the pipe");
    co_await wait_for_text(reading.second, "through the pipe");
    writing.first.close();
    co_await writing.second->change();
    CHECK(writing.second->notes == "made;lost;");
    CHECK(reading.second->notes == "made;");  // `write_end` is still open
    reading.first.close();
    co_await reading.second->change();
    CHECK(reading.second->notes == "made;lost;");
  }

  CORO_TEST_CASE_REAL("who writes into a pipe is told at once that its reader has gone") {
    auto& loop = event_loop::current();
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    unique_fd read_end(ends[0]);
    auto idle = co_await loop.connect_write_pipe(new_collector, unique_fd(ends[1]));
    auto lost = idle.second->change();
    read_end.reset();
    co_await std::move(lost);
    CHECK(idle.second->notes == "made;lost;");
    CHECK_FALSE(idle.second->reason);
    CHECK(idle.first.native_handle() == -1);

    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    read_end.reset(ends[0]);
    auto busy = co_await loop.connect_write_pipe(new_collector, unique_fd(ends[1]));
    busy.first.write(std::string(1'000'000, 'x'));
    co_await pulsar::sleep(0ms);
    CHECK(busy.first.get_write_buffer_size() > 0);
    lost = busy.second->change();
    read_end.reset();
    co_await std::move(lost);
    CHECK(busy.second->reason == std::errc::broken_pipe);
  }

  CORO_TEST_CASE_REAL("a pipe to a reader who sends something is written to all the same") {
    auto& loop = event_loop::current();
    auto [near_end, far_end] = pulsar::socket_pair(SOCK_STREAM);
    stream far_side(std::move(far_end));
    auto made = co_await loop.connect_write_pipe(new_collector, std::move(near_end));
    far_side.write("nobody reads this");
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(made.first.is_closing());
    made.first.write("x");
    const std::string one = co_await far_side.read_exactly(1);
    CHECK(one == "x");
    made.first.write_eof();
    const std::string rest = co_await far_side.read();
    CHECK(rest.empty());
    made.first.close();
    co_await made.second->change();
    CHECK_FALSE(made.second->reason);
  }

  CORO_TEST_CASE_REAL("a pipe that is read is lost at its end, whatever eof_received returns") {
    struct lingerer : collector {
      bool eof_received() override {
        notes += "eof;";
        return true;
      }
    };
    auto& loop = event_loop::current();
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    unique_fd write_end(ends[1]);
    const auto factory = [] { return std::make_unique<lingerer>(); };
    auto made = co_await loop.connect_read_pipe(factory, unique_fd(ends[0]));
    auto lost = made.second->change();
    write_end.reset();
    co_await std::move(lost);
    CHECK(made.second->notes == "made;eof;lost;");
    CHECK_FALSE(made.second->reason);
  }

  TEST_CASE("a factory that fails is the caller's failure, and at a server the connection's") {
    event_loop loop;
    const server s =
        loop.run_until_complete([&] { return loop.create_server(new_echo, "127.0.0.1:0"); });
    const auto none = [] { return std::shared_ptr<collector>(); };
    CHECK_THROWS_AS(
        loop.run_until_complete([&] { return loop.create_connection(none, s.addresses()[0]); }),
        pulsar::error);
    loop.close();
    CHECK_THROWS_AS(loop.create_connection(none, "127.0.0.1:1").detach(), pulsar::error);
  }
}
