// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// For tests with processes: cases that run under `pulsar::run`, programs whose output and end are
/// watched, and proof that nothing is left of either.
///
///     PROGRAM_TEST_CASE("an actor answers from its own process") {
///       auto a = co_await pulsar::spawn<clerk, pulsar::concurrency::process>();
///       ...
///     }

#include <pulsar/core/child.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace process_test {

// Of the compiler's sanitizers, which make memory and starting a program slow.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool thread_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool thread_sanitizer = true;
#else
inline constexpr bool thread_sanitizer = false;
#endif
#else
inline constexpr bool thread_sanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool address_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool address_sanitizer = true;
#else
inline constexpr bool address_sanitizer = false;
#endif
#else
inline constexpr bool address_sanitizer = false;
#endif
inline constexpr bool sanitized = thread_sanitizer || address_sanitizer;

/// Far beyond what anything here takes, even under sanitizers on a machine that is busy.
inline constexpr auto patience = std::chrono::seconds(30);

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// The letter of a process's state, 'T' for one that is stopped, 'Z' for a zombie; 0 if there is no
/// such process.
inline char state_of(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  const auto name_end = text.rfind(')');
  return name_end == std::string::npos ? '\0' : text[name_end + 2];
}

/// Waits in a loop for what other handlers, or other processes, bring about.
template <class Condition>
pulsar::future<> until(pulsar::event_loop& loop, Condition condition) {
  const auto limit = loop.time() + patience;
  while (!condition()) {
    if (loop.time() > limit) {
      DOCTEST_FAIL_CHECK("what was waited for did not come");
      co_return;
    }
    co_await pulsar::sleep(std::chrono::milliseconds(1), loop);
  }
}

/// Sees a process end that need not be a child of this one.
class end_watch {
 public:
  explicit end_watch(int pid)
      : pid_(pid), fd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))) {}

  int pid() const noexcept { return pid_; }

  /// True when it has ended, at the latest after `limit`.
  bool ended_within(std::chrono::milliseconds limit) const {
    if (!fd_) return true;  // gone before it could be watched
    pollfd end{fd_.get(), POLLIN, 0};
    return ::poll(&end, 1, static_cast<int>(limit.count())) == 1;
  }

  void signal(int number) const { ::syscall(SYS_pidfd_send_signal, fd_.get(), number, nullptr, 0); }

 private:
  int pid_;
  pulsar::unique_fd fd_;
};

/// A program with its output and its end. Killed, should a test give up before it has ended.
class program {
 public:
  explicit program(const std::string& path,
                   std::vector<std::string> arguments,
                   const std::vector<pulsar::environment_change>& environment = {}) {
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    output_ = std::move(mine);
    errors_ = pulsar::unique_fd(::memfd_create("errors", MFD_CLOEXEC));
    arguments.insert(arguments.begin(), path);
    pulsar::child_options options;
    options.executable = path;
    options.arguments = arguments;
    options.environment = environment;
    options.standard_output = theirs.get();
    options.standard_error = errors_.get();
    process_ = pulsar::spawn_child(options);
  }
  program(const program&) = delete;
  program& operator=(const program&) = delete;
  ~program() {
    if (!process_.running()) return;
    process_.signal(SIGKILL);
    process_.wait();
  }

  int pid() const noexcept { return process_.pid(); }
  void signal(int number) { process_.signal(number); }

  /// The next line of its output; empty at its end.
  std::string line() {
    for (;;) {
      if (const auto end = text_.find('\n'); end != std::string::npos) {
        std::string found = text_.substr(0, end);
        text_.erase(0, end + 1);
        return found;
      }
      if (!read_more()) return std::exchange(text_, {});
    }
  }
  int number() { return std::atoi(line().c_str()); }

  /// Waits until it has ended.
  pulsar::exit_status wait() {
    pollfd end{process_.handle(), POLLIN, 0};
    const auto limit = std::chrono::milliseconds(patience).count();
    if (::poll(&end, 1, static_cast<int>(limit)) != 1) {
      DOCTEST_FAIL_CHECK("the program did not end");
      process_.signal(SIGKILL);
    }
    return process_.wait();
  }

  /// The rest of its output, and of that of its workers: they have all let go of it then.
  std::string rest() {
    while (read_more()) {
    }
    return std::exchange(text_, {});
  }

  std::string errors() const {
    std::string text(1 << 20, '\0');
    const auto n = ::pread(errors_.get(), text.data(), text.size(), 0);
    text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return text;
  }

 private:
  bool read_more() {
    pollfd more{output_.get(), POLLIN, 0};
    const auto limit = std::chrono::milliseconds(patience).count();
    if (::poll(&more, 1, static_cast<int>(limit)) != 1) {
      DOCTEST_FAIL_CHECK("the program neither writes nor ends");
      return false;
    }
    char chunk[4096];
    const auto n = ::read(output_.get(), chunk, sizeof(chunk));
    if (n <= 0) return false;
    text_.append(chunk, static_cast<std::size_t>(n));
    return true;
  }

  pulsar::unique_fd output_;
  pulsar::unique_fd errors_;
  pulsar::child process_;
  std::string text_;
};

inline bool has_children() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

}  // namespace process_test
