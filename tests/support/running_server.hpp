// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Server programs as children of a test, and clients of them with blocking sockets.
///
///     server_tests::running_server server(PULSAR_TEST_PROGRAMS_DIR "/echo_server", {"--workers",
///     "2"}); REQUIRE(server_tests::eventually([&] { return bool(connect_to(server.port())); }));
///     server.process().signal(SIGTERM);
///     CHECK(server.process().wait().success());

#include <pulsar/core/child.hpp>
#include <pulsar/core/descriptor.hpp>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace server_tests {

using namespace std::chrono_literals;

/// A port that was free a moment ago.
inline int free_port() {
  const pulsar::unique_fd s(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(s.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
  socklen_t size = sizeof at;
  REQUIRE(::getsockname(s.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
  return ntohs(at.sin_port);
}

inline pulsar::unique_fd connect_to(int port) {
  pulsar::unique_fd s(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<std::uint16_t>(port));
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // Whoever is never answered shall fail, not hang.
  const timeval limit{20, 0};
  ::setsockopt(s.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (::connect(s.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) return {};
  return s;
}

/// Waits for something that another process does; it is asked again and again, never trusted to
/// have happened after a time.
template <class F>
bool eventually(F condition, std::chrono::seconds limit = 20s) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    ::poll(nullptr, 0, 5);
  }
  return true;
}

/// Processes whose parent is `parent`'s main thread.
inline std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  const std::string p = std::to_string(parent);
  std::ifstream in("/proc/" + p + "/task/" + p + "/children");
  for (pid_t pid; in >> pid;) found.push_back(pid);
  return found;
}

/// A program as a child that listens at a port of its own; killed at the end if it still runs.
class running_server {
 public:
  explicit running_server(const std::string& program,
                          const std::vector<std::string>& more = {},
                          pulsar::child_options options = {})
      : port_(free_port()) {
    std::vector<std::string> arguments{program.substr(program.rfind('/') + 1), "--bind",
                                       "127.0.0.1:" + std::to_string(port_), "--log-level",
                                       "critical"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    options.executable = program;
    options.arguments = arguments;
    process_ = pulsar::spawn_child(options);
  }
  running_server(const running_server&) = delete;
  running_server& operator=(const running_server&) = delete;
  ~running_server() {
    if (!process_.running()) return;
    process_.signal(SIGKILL);
    process_.wait();
  }

  int port() const { return port_; }
  pulsar::child& process() { return process_; }
  std::vector<pid_t> workers() const { return children_of(process_.pid()); }

 private:
  int port_;
  pulsar::child process_;
};

/// The exit code of a program that says nothing here.
inline int exit_code_of(const std::string& program, const std::vector<std::string>& arguments) {
  pulsar::child_options options;
  options.executable = program;
  options.arguments = arguments;
  options.standard_output = pulsar::null_device;
  options.standard_error = pulsar::null_device;
  auto child = pulsar::spawn_child(options);
  return child.wait().code;
}

}  // namespace server_tests
