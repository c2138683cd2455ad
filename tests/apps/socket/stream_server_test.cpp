// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/socket/stream_server.hpp>

#include <doctest/doctest.h>
#include <signal.h>
#include <support/running_server.hpp>
#include <sys/socket.h>

#include <chrono>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

using server_tests::connect_to;
using server_tests::eventually;

/// A client that speaks lines.
class talk {
 public:
  explicit talk(pulsar::unique_fd fd) : fd_(std::move(fd)) {}

  bool connected() const { return static_cast<bool>(fd_); }

  void say(const std::string& line) {
    REQUIRE(::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(line.size()));
  }
  /// The next line with its end, or nothing at the end of the connection.
  std::string hear() {
    std::string line;
    for (char c = 0; c != '\n' && ::recv(fd_.get(), &c, 1, 0) == 1;) line += c;
    return line;
  }
  std::string ask(const std::string& line) {
    say(line);
    return hear();
  }

 private:
  pulsar::unique_fd fd_;
};

class echo_server : public server_tests::running_server {
 public:
  explicit echo_server(const std::vector<std::string>& more = {})
      : running_server(PULSAR_TEST_PROGRAMS_DIR "/echo_server", more) {
    REQUIRE(eventually([&] {
      talk client(connect_to(port()));
      return client.connected() && client.ask("x\n") == "x\n";
    }));
  }
  talk connect() const { return talk(connect_to(port())); }
};

}  // namespace

TEST_SUITE("stream_server") {
  TEST_CASE("the workers of each kind give lines back, and TERM ends them with exit code 0") {
    for (const std::string kind : {"process", "thread", "coroutine"}) {
      CAPTURE(kind);
      echo_server server({"--workers", "2", "--concurrency", kind});
      auto one = server.connect();
      auto other = server.connect();
      CHECK(one.ask("hello\n") == "hello\n");
      CHECK(other.ask("there\n") == "there\n");
      server.process().signal(SIGTERM);
      one = talk(pulsar::unique_fd());  // what they do has an end
      other = talk(pulsar::unique_fd());
      CHECK(to_string(server.process().wait()) == "exit code 0");
      CHECK_FALSE(connect_to(server.port()));
    }
  }

  TEST_CASE("a worker that is killed breaks its own connections alone, and is replaced") {
    echo_server server({"--workers", "2"});
    auto one = server.connect();
    const pid_t first = std::stoi(one.ask("pid\n"));
    // The kernel chooses who accepts: connections are made until the other worker has one.
    std::vector<talk> others;
    pid_t second = first;
    REQUIRE(eventually([&] {
      others.push_back(server.connect());
      second = std::stoi(others.back().ask("pid\n"));
      return second != first;
    }));
    REQUIRE(::kill(first, SIGKILL) == 0);
    CHECK(one.hear().empty());
    CHECK(std::stoi(others.back().ask("pid\n")) == second);
    CHECK(eventually([&] {
      const auto now = server.workers();
      const std::set<pid_t> pids(now.begin(), now.end());
      return pids.size() == 2 && pids.count(first) == 0 && pids.count(second) == 1;
    }));
    CHECK(server.connect().ask("on\n") == "on\n");
  }

  TEST_CASE("a handler that throws ends its own connection") {
    echo_server server;
    auto one = server.connect();
    auto other = server.connect();
    CHECK(other.ask("before\n") == "before\n");
    CHECK(one.ask("throw\n").empty());
    CHECK(other.ask("after\n") == "after\n");
  }

  TEST_CASE("at a stop handlers have the grace to end by themselves") {
    echo_server server;
    auto client = server.connect();
    CHECK(client.ask("slow\n") == "slow\n");
    server.process().signal(SIGTERM);
    CHECK(client.hear() == "done\n");
    client = talk(pulsar::unique_fd());
    CHECK(to_string(server.process().wait()) == "exit code 0");
  }

  TEST_CASE("behind the grace those who stay are closed") {
    echo_server server({"--graceful-timeout", "0"});
    auto client = server.connect();
    CHECK(client.ask("here\n") == "here\n");
    server.process().signal(SIGTERM);
    CHECK(client.hear().empty());
    CHECK(to_string(server.process().wait()) == "exit code 0");
  }
}
