// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/server.hpp>
#include <pulsar/core/child.hpp>

#include <arpa/inet.h>
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <support/running_server.hpp>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <set>
#include <string>
#include <vector>

using namespace std::chrono_literals;

namespace {

using server_tests::children_of;
using server_tests::connect_to;
using server_tests::eventually;
using server_tests::free_port;

/// The whole answer to one request on a connection of its own; empty if there was none.
std::string get(int port, const std::string& path) {
  const auto s = connect_to(port);
  if (!s) return {};
  const std::string request =
      "GET " + path + " HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
  if (::send(s.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return {};
  std::string answer;
  char part[4096];
  for (;;) {
    const auto n = ::recv(s.get(), part, sizeof part, 0);
    if (n <= 0) break;
    answer.append(part, static_cast<std::size_t>(n));
  }
  return answer;
}

std::string body_of(const std::string& answer) {
  const auto end = answer.find("\r\n\r\n");
  return end == std::string::npos ? std::string() : answer.substr(end + 4);
}

/// What a process has open beside the standard three: "socket", "pipe", "anon_inode:[timerfd]", or
/// the path of a file.
std::multiset<std::string> descriptors_of(pid_t pid) {
  std::multiset<std::string> kinds;
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd/";
  DIR* open = ::opendir(folder.c_str());
  REQUIRE(open != nullptr);
  while (const dirent* entry = ::readdir(open)) {
    char target[256];
    const auto n = ::readlink((folder + entry->d_name).c_str(), target, sizeof target);
    if (n <= 0 || std::stoi(entry->d_name) < 3) continue;
    const std::string text(target, static_cast<std::size_t>(n));
    kinds.insert(text.starts_with("anon_inode") ? text : text.substr(0, text.find(":[")));
  }
  ::closedir(open);
  return kinds;
}

/// hello_server as a child.
class running_server : public server_tests::running_server {
 public:
  explicit running_server(std::vector<std::string> more = {}, pulsar::child_options options = {})
      : server_tests::running_server(program, more, std::move(options)) {}

  bool answers() const { return body_of(get(port(), "/")) == "Hello, World!"; }

  /// True once each of so many workers has answered; the first one does so before the last is
  /// ready.
  bool all_answer(std::size_t count) const {
    std::set<std::string> pids;
    return eventually([&] {
      if (const auto pid = body_of(get(port(), "/pid")); !pid.empty()) pids.insert(pid);
      return pids.size() == count;
    });
  }

  static constexpr const char* program = PULSAR_TEST_PROGRAMS_DIR "/hello_server";
};

int exit_code_of(const std::vector<std::string>& arguments) {
  return server_tests::exit_code_of(running_server::program, arguments);
}

/// Has that process a handler for `signal`?
bool catches(pid_t pid, int signal) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("SigCgt:")) continue;
    return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0;
  }
  return false;
}

}  // namespace

TEST_SUITE("http server") {
  TEST_CASE("two process workers answer any path, and TERM ends them all with exit code 0") {
    running_server server({"--workers", "2"});
    REQUIRE(eventually([&] { return server.answers(); }));
    const auto workers = server.workers();
    CHECK(workers.size() == 2);
    CHECK(get(server.port(), "/any/path").starts_with("HTTP/1.1 200 "));
    server.process().signal(SIGTERM);
    const auto status = server.process().wait();
    CHECK(to_string(status) == "exit code 0");
    for (const pid_t pid : workers) CHECK(::kill(pid, 0) != 0);
    CHECK_FALSE(connect_to(server.port()));
  }

  TEST_CASE("a killed worker is replaced, and the service goes on meanwhile") {
    running_server server({"--workers", "2"});
    REQUIRE(eventually([&] { return server.answers(); }));
    const auto before = server.workers();
    REQUIRE(before.size() == 2);
    REQUIRE(::kill(before[0], SIGKILL) == 0);
    CHECK(eventually([&] {
      const auto now = server.workers();
      return now.size() == 2 && std::set<pid_t>(now.begin(), now.end()).count(before[0]) == 0 &&
             server.answers();
    }));
    for (int i = 0; i < 20; ++i) CHECK(server.answers());
    server.process().signal(SIGTERM);
    CHECK(server.process().wait().success());
  }

  TEST_CASE("when the master is killed no worker and no port is left after five seconds") {
    running_server server({"--workers", "2"});
    REQUIRE(eventually([&] { return server.answers(); }));
    const auto workers = server.workers();
    server.process().signal(SIGKILL);
    server.process().wait();
    CHECK(eventually(
        [&] {
          for (const pid_t pid : workers) {
            if (::kill(pid, 0) == 0) return false;
          }
          return true;
        },
        5s));
    CHECK_FALSE(connect_to(server.port()));
  }

  TEST_CASE("when the master is killed a worker that was stopped does not keep the port either") {
    running_server server({"--workers", "2"});
    REQUIRE(eventually([&] { return server.answers(); }));
    const auto workers = server.workers();
    // One of them may answer while the other has only begun.
    for (const pid_t pid : workers) REQUIRE(eventually([&] { return catches(pid, SIGCONT); }));
    for (const pid_t pid : workers) REQUIRE(::kill(pid, SIGSTOP) == 0);
    server.process().signal(SIGKILL);
    server.process().wait();
    CHECK(eventually(
        [&] {
          return std::all_of(workers.begin(), workers.end(),
                             [](pid_t pid) { return ::kill(pid, 0) != 0; });
        },
        5s));
    CHECK_FALSE(connect_to(server.port()));
  }

  TEST_CASE("signals that its parent blocked reach the server all the same") {
    const std::vector<int> blocked{SIGTERM, SIGINT, SIGQUIT, SIGCHLD};
    pulsar::child_options options;
    options.blocked_signals = blocked;
    running_server server({"--workers", "2"}, options);
    REQUIRE(eventually([&] { return server.answers(); }));
    const auto workers = server.workers();
    REQUIRE(::kill(workers[0], SIGKILL) == 0);
    CHECK(eventually([&] {
      const auto now = server.workers();
      return now.size() == 2 && std::count(now.begin(), now.end(), workers[0]) == 0;
    }));
    server.process().signal(SIGTERM);
    CHECK(to_string(server.process().wait()) == "exit code 0");
  }

  TEST_CASE("a request under way is answered before the server ends") {
    running_server server;
    REQUIRE(eventually([&] { return server.answers(); }));
    const auto s = connect_to(server.port());
    REQUIRE(s);
    const std::string request = "GET /slow HTTP/1.1\r\nHost: here\r\n\r\n";
    REQUIRE(::send(s.get(), request.data(), request.size(), MSG_NOSIGNAL) > 0);
    // Its worker has it when it answers another one that came later on the same loop.
    REQUIRE(server.answers());
    server.process().signal(SIGTERM);
    std::string answer;
    char part[1024];
    for (;;) {
      const auto n = ::recv(s.get(), part, sizeof part, 0);
      if (n <= 0) break;
      answer.append(part, static_cast<std::size_t>(n));
    }
    CHECK(body_of(answer) == "Hello, World!");
    CHECK(server.process().wait().success());
  }

  TEST_CASE("workers may be threads or coroutines of one process") {
    for (const char* kind : {"thread", "coroutine"}) {
      CAPTURE(kind);
      running_server server({"--workers", "2", "--concurrency", kind});
      REQUIRE(eventually([&] { return server.answers(); }));
      CHECK(server.workers().empty());
      CHECK(body_of(get(server.port(), "/pid")) == std::to_string(server.process().pid()));
      server.process().signal(SIGINT);
      CHECK(to_string(server.process().wait()) == "exit code 0");
    }
  }

  TEST_CASE("a worker has exactly the descriptors meant for it, whatever its master has open") {
    const pulsar::unique_fd file(::open("/etc/passwd", O_RDONLY | O_CLOEXEC));
    auto [one, two] = pulsar::socket_pair(SOCK_STREAM);
    const std::vector<int> strays{file.get(), one.get(), two.get()};
    pulsar::child_options options;
    options.descriptors = strays;
    running_server server({}, options);
    REQUIRE(eventually([&] { return server.answers(); }));
    CHECK(descriptors_of(server.process().pid()).count("/etc/passwd") == 1);
    const auto workers = server.workers();
    REQUIRE(workers.size() == 1);
    // Control socket, stream, listener, and what connections there are; epoll, eventfd and timerfd
    // of Asio, and the loop's own timerfd; both ends of the pipe that signals come through.
    const auto exactly = [&](std::size_t connections) {
      const auto all = descriptors_of(workers[0]);
      return all.count("socket") == 3 + connections && all.count("anon_inode:[eventpoll]") == 1 &&
             all.count("anon_inode:[eventfd]") == 1 && all.count("anon_inode:[timerfd]") == 2 &&
             all.count("pipe") == 2 && all.size() == 9 + connections;
    };
    {
      std::vector<pulsar::unique_fd> clients;
      for (int i = 0; i < 5; ++i) clients.push_back(connect_to(server.port()));
      CHECK(eventually([&] { return exactly(5); }));
    }
    CHECK(eventually([&] { return exactly(0); }));
    server.process().signal(SIGTERM);
    CHECK(server.process().wait().success());
  }

  TEST_CASE("a stopped worker costs the others nothing, and does not keep the server from ending") {
    running_server server({"--workers", "2", "--graceful-timeout", "0"});
    REQUIRE(server.all_answer(2));
    const auto workers = server.workers();
    REQUIRE(workers.size() == 2);
    REQUIRE(::kill(workers[0], SIGSTOP) == 0);
    for (int i = 0; i < 20; ++i) CHECK(server.answers());
    server.process().signal(SIGTERM);
    CHECK(to_string(server.process().wait()) == "exit code 0");
    CHECK(::kill(workers[0], 0) != 0);
  }

  TEST_CASE("a worker that is asked to leave while its master is stopped is replaced afterwards") {
    running_server server({"--workers", "2"});
    REQUIRE(server.all_answer(2));
    const auto before = server.workers();
    REQUIRE(before.size() == 2);
    server.process().signal(SIGSTOP);
    REQUIRE(::kill(before[0], SIGTERM) == 0);
    for (int i = 0; i < 20; ++i) CHECK(server.answers());
    server.process().signal(SIGCONT);
    CHECK(eventually([&] {
      const auto now = server.workers();
      return now.size() == 2 && std::count(now.begin(), now.end(), before[0]) == 0;
    }));
    server.process().signal(SIGTERM);
    CHECK(server.process().wait().success());
  }

  TEST_CASE("signals to all processes at once, again and again, end the server once") {
    running_server server({"--workers", "2"});
    REQUIRE(eventually([&] { return server.answers(); }));
    const auto workers = server.workers();
    for (int i = 0; i < 50; ++i) {
      for (const pid_t pid : workers) ::kill(pid, SIGTERM);
      server.process().signal(SIGTERM);
    }
    CHECK(to_string(server.process().wait()) == "exit code 0");
    for (const pid_t pid : workers) CHECK(::kill(pid, 0) != 0);
    CHECK_FALSE(connect_to(server.port()));
  }

  TEST_CASE("a log that cannot be written does not end the server") {
    const pulsar::unique_fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
    REQUIRE(full);
    pulsar::child_options options;
    options.standard_error = full.get();
    running_server server({"--workers", "2", "--log-level", "trace"}, options);
    REQUIRE(eventually([&] { return server.answers(); }));
    const auto before = server.workers();
    REQUIRE(before.size() == 2);
    REQUIRE(::kill(before[0], SIGKILL) == 0);
    CHECK(eventually([&] {
      const auto now = server.workers();
      return now.size() == 2 && std::count(now.begin(), now.end(), before[0]) == 0;
    }));
    CHECK(server.answers());
    server.process().signal(SIGTERM);
    CHECK(to_string(server.process().wait()) == "exit code 0");
  }

  TEST_CASE("a port in use ends the program with exit code 1 and nothing left running") {
    running_server server;
    REQUIRE(eventually([&] { return server.answers(); }));
    CHECK(exit_code_of({"hello_server", "--bind", "127.0.0.1:" + std::to_string(server.port())}) ==
          1);
    CHECK(server.answers());
    server.process().signal(SIGTERM);
    CHECK(server.process().wait().success());
  }

  TEST_CASE("a bad command line ends with exit code 2, help and version with 0") {
    CHECK(exit_code_of({"hello_server", "--workers", "none"}) == 2);
    CHECK(exit_code_of({"hello_server", "--workers", "0"}) == 2);
    CHECK(exit_code_of({"hello_server", "--concurrency", "fibre"}) == 2);
    CHECK(exit_code_of({"hello_server", "--no-such-flag"}) == 2);
    CHECK(exit_code_of({"hello_server", "--bind", "127.0.0.1:99999"}) == 2);
    CHECK(exit_code_of({"hello_server", "--bind", "unix:"}) == 2);
    CHECK(exit_code_of({"hello_server", "--help"}) == 0);
    CHECK(exit_code_of({"hello_server", "--version"}) == 0);
  }
}
