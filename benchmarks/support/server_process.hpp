// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Servers as child processes: started, waited for, their CPU time read, ended.
///
///     bench::server_process nginx({"/usr/sbin/nginx", "-c", conf}, port);
///     const double before = nginx.cpu_seconds();
///
/// A server may be a tree of processes (master and workers): all of them count.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.hpp"

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

namespace detail {

inline sockaddr_in local_address(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// `pid` and all its descendants.
inline std::vector<pid_t> process_tree(pid_t pid) {
  std::multimap<pid_t, pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text;
    if (!std::getline(file, text)) continue;  // it has just ended
    // pid (name) state parent ...: the name may hold anything, brackets too.
    int parent = 0;
    const auto bracket = text.rfind(')');
    if (bracket == std::string::npos) continue;
    if (std::sscanf(text.c_str() + bracket, ") %*c %d", &parent) != 1) continue;
    children.emplace(parent, std::stoi(name));
  }
  std::vector<pid_t> tree{pid};
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const auto [first, last] = children.equal_range(tree[i]);
    for (auto child = first; child != last; ++child) tree.push_back(child->second);
  }
  return tree;
}

}  // namespace detail

/// A TCP port of 127.0.0.1 that nobody listens on now.
inline std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto address = detail::local_address(0);
  socklen_t size = sizeof address;
  const bool bound = fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  const int failure = errno;
  ::close(fd);
  if (!bound) throw std::system_error(failure, std::generic_category(), "looking for a free port");
  return ntohs(address.sin_port);
}

/// One connection to 127.0.0.1 that asks "GET /" and stays open.
class http_connection {
 public:
  /// Throws `std::system_error` if nobody accepts.
  explicit http_connection(std::uint16_t port)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    auto address = detail::local_address(port);
    const timeval patience{15, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      const int failure = errno;
      ::close(fd_);
      throw std::system_error(failure, std::generic_category(), "connect");
    }
  }
  http_connection(const http_connection&) = delete;
  http_connection& operator=(const http_connection&) = delete;
  ~http_connection() { ::close(fd_); }

  /// The answer to one request, up to the end of a body of `Content-Length` bytes; what there is of
  /// it if the server closes or is silent for 15 s.
  std::string ask() {
    static constexpr std::string_view question = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    std::string answer;
    if (::send(fd_, question.data(), question.size(), MSG_NOSIGNAL) <= 0) return answer;
    char bytes[4096];
    while (!is_whole(answer)) {
      const auto n = ::recv(fd_, bytes, sizeof bytes, 0);
      if (n <= 0) break;
      answer.append(bytes, static_cast<std::size_t>(n));
    }
    return answer;
  }

 private:
  static bool is_whole(const std::string& answer) {
    const auto end = answer.find("\r\n\r\n");
    const auto length = answer.find("Content-Length: ");
    return end != std::string::npos && length < end &&
           answer.size() >= end + 4 + std::stoul(answer.substr(length + 16));
  }

  int fd_;
};

/// A server on 127.0.0.1; ended with all its workers when this object ends.
class server_process {
 public:
  /// Runs `command` and returns when `port` accepts.
  server_process(const std::vector<std::string>& command, std::uint16_t port)
      : server_process(command.front(), port, [&] {
          std::vector<char*> arguments;
          for (const auto& each : command) arguments.push_back(const_cast<char*>(each.c_str()));
          arguments.push_back(nullptr);
          ::execvp(arguments[0], arguments.data());
          std::perror(arguments[0]);
        }) {}

  /// The same for a server that is a function of this program.
  server_process(std::string name, std::uint16_t port, const std::function<void()>& serve)
      : name_(std::move(name)) {
    std::fflush(nullptr);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (::getppid() != parent) ::_exit(1);
      serve();
      ::_exit(127);
    }
    try {
      wait_until_it_accepts(port);
    } catch (...) {
      end();
      throw;
    }
  }

  server_process(const server_process&) = delete;
  server_process& operator=(const server_process&) = delete;
  ~server_process() { end(); }

  /// CPU time that all its processes have used so far.
  double cpu_seconds() const {
    double sum = 0;
    for (const pid_t pid : detail::process_tree(pid_)) sum += bench::cpu_seconds(pid);
    return sum;
  }

  const std::string& name() const noexcept { return name_; }

 private:
  void wait_until_it_accepts(std::uint16_t port) {
    const double until = wall_seconds() + 30;
    for (;;) {
      try {
        if (!http_connection(port).ask().empty()) return;
      } catch (const std::system_error&) {
        // Not yet there.
      }
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        throw std::runtime_error(name_ + " ended before it answered on port " +
                                 std::to_string(port) + "; what it says stands above");
      }
      if (wall_seconds() > until) {
        throw std::runtime_error(name_ + " does not answer on port " + std::to_string(port) +
                                 " within 30 s");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  void end() noexcept {
    if (pid_ < 0) return;
    ::kill(pid_, SIGTERM);
    for (int tries = 0; tries < 250; ++tries) {
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    std::fprintf(stderr, "%s does not end within 5 s of SIGTERM: killed\n", name_.c_str());
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  std::string name_;
  pid_t pid_ = -1;
};

}  // namespace bench
