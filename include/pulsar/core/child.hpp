// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Child processes: started with exactly the descriptors and signals meant for them, watched,
/// signalled and reaped through a pidfd.
///
///     const std::vector<std::string> arguments{"sort", "-n"};
///     pulsar::child sort = pulsar::spawn_child({.executable = "sort", .arguments = arguments});
///     ...                                    // sort.handle() becomes readable when it has ended
///     if (auto status = sort.try_wait()) fmt::print("{}\n", to_string(*status));
///
/// Nothing here needs an event loop. Never fork: a child is started with posix_spawn, in about a
/// millisecond whatever the size of this process. A program must neither ignore SIGCHLD nor call
/// `waitpid(-1)`: the exit status is then lost.

#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/child.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/log.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar {

/// In place of a descriptor's number: the child shall have `/dev/null` there.
inline constexpr int null_device = -1;

/// One difference between the child's environment and this process's.
struct environment_change {
  /// The variable.
  std::string name;
  /// Its value in the child; nothing removes it.
  std::optional<std::string> value{};
};

/// What a child shall be. Views: what they refer to must live until `spawn_child` returns.
struct child_options {
  /// A path; a name without a slash is looked for in PATH.
  std::string_view executable{};
  /// argv, its own name first; empty: the executable alone.
  std::span<const std::string> arguments{};
  /// Applied in order to a copy of this process's environment.
  std::span<const environment_change> environment{};
  /// What the child shall have as 3, 4, ... in this order, whatever their numbers are here; all
  /// others are closed.
  std::span<const int> descriptors{};
  /// Which of this process's descriptors becomes 0.
  int standard_input = null_device;
  /// Becomes 1; `null_device` where this process has it closed.
  int standard_output = STDOUT_FILENO;
  /// Becomes 2; `null_device` where this process has it closed.
  int standard_error = STDERR_FILENO;
  /// Where the child starts; empty: where this process is.
  std::string_view working_directory{};
  /// The child's signal mask, no more and no less. All its signals have their default action.
  std::span<const int> blocked_signals{};
  /// The process group to join, 0 for one of its own; nothing: this process's.
  std::optional<pid_t> process_group{};
};

/// How a process ended: with an exit code, or by a signal.
struct exit_status {
  /// What it returned from `main` or passed to `exit`; 0 if a signal ended it.
  int code = 0;
  /// The signal that ended it, or 0.
  int signal = 0;
  /// Whether it left a core dump.
  bool core = false;

  /// Whether it ended by itself with code 0.
  bool success() const noexcept { return code == 0 && signal == 0; }

  bool operator==(const exit_status&) const noexcept = default;
};

/// "exit code 3", "signal 9 (Killed)", "signal 11 (Segmentation fault), core dumped".
inline std::string to_string(const exit_status& status) {
  if (status.signal == 0) return "exit code " + std::to_string(status.code);
  std::string text = "signal " + std::to_string(status.signal);
  if (const char* name = ::sigdescr_np(status.signal)) text.append(" (").append(name).append(")");
  if (status.core) text += ", core dumped";
  return text;
}

/// Owns a child process: the right and the duty to reap it.
///
/// The destructor neither kills nor waits. It reaps a child that has ended; one that still runs
/// goes on, and its zombie is collected when a later child is started or dropped. An owner that
/// wants it gone calls `signal(SIGKILL)` and `wait()` first. One thread at a time.
class [[nodiscard("a child that nobody owns runs on unwatched")]] child {
 public:
  /// Owns nothing.
  child() noexcept = default;
  child(child&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)),
        handle_(std::move(other.handle_)),
        status_(other.status_),
        ended_(std::exchange(other.ended_, false)) {}
  child& operator=(child&& other) noexcept {
    if (this != &other) {
      abandon();
      pid_ = std::exchange(other.pid_, -1);
      handle_ = std::move(other.handle_);
      status_ = other.status_;
      ended_ = std::exchange(other.ended_, false);
    }
    return *this;
  }
  ~child() { abandon(); }

  /// The process's number; -1 if nothing is owned. Another process may have it once this one is
  /// reaped.
  pid_t pid() const noexcept { return pid_; }

  /// Readable once the child has ended: for poll, epoll or an event loop, never to be read. A
  /// pidfd, where the kernel has them; -1 if nothing is owned.
  int handle() const noexcept { return handle_.fd.get(); }

  /// Whether there is a child that was not seen to end yet.
  bool running() const noexcept { return pid_ >= 0 && !ended_; }

  /// Sends `number` to the child, never to another process that got its pid; false if it has ended.
  ///
  /// Throws the system's error: no such signal, or the child has changed its user.
  bool signal(int number) {
    if (!running()) return false;
    const int failed = handle_.is_pidfd ? detail::send_signal_to_pidfd(handle_.fd.get(), number)
                                        : ::kill(pid_, number);
    if (failed == 0) return true;
    const int code = errno;
    if (code == ESRCH) return false;
    detail::throw_system_error(code, "cannot send signal " + std::to_string(number) +
                                          " to process " + std::to_string(pid_));
  }

  /// Reaps the child if it has ended: how, or nothing while it runs. The answer is kept.
  std::optional<exit_status> try_wait() {
    if (running()) collect(WNOHANG);
    if (!ended_) return std::nullopt;
    return status_;
  }

  /// Blocks this thread until the child has ended, reaps it and says how.
  exit_status wait() {
    PULSAR_ASSERT(pid_ >= 0, "wait() was called on a pulsar::child that owns no process");
    if (running()) collect(0);
    return status_;
  }

 private:
  friend child spawn_child(const child_options& options);

  child(pid_t pid, detail::child_handle handle) noexcept : pid_(pid), handle_(std::move(handle)) {}

  void collect(int options) {
    siginfo_t info{};
    if (detail::wait_for_child(handle_, pid_, info, WEXITED | options) != 0) {
      // Somebody else has reaped it. It has ended, so its owner must go on as if it knew how.
      log::warning(
          "the exit status of process {} is lost, 255 is assumed: this program ignores SIGCHLD or "
          "waits for children it did not start",
          pid_);
      ended_ = true;
      detail::own_children::instance().forget(pid_);
    } else if (info.si_pid != 0) {
      status_ = info.si_code == CLD_EXITED
                    ? exit_status{.code = info.si_status}
                    : exit_status{.signal = info.si_status, .core = info.si_code == CLD_DUMPED};
      ended_ = true;
      detail::own_children::instance().forget(pid_);
    }
  }

  void abandon() noexcept {
    auto& all = detail::own_children::instance();
    if (running()) all.abandon(pid_, std::move(handle_));
    all.reap_abandoned();
  }

  pid_t pid_ = -1;
  detail::child_handle handle_{};
  exit_status status_{.code = 255};  // until it is known
  bool ended_ = false;
};

/// Starts a program as a child of this process.
///
/// No other thread may change the environment (`setenv`) meanwhile. Returns when the program has
/// been loaded, or throws: the system's error with path and reason in its text
/// (`std::errc::no_such_file_or_directory`, `permission_denied`, `too_many_files_open`, ...), or
/// `std::errc::invalid_argument` for what no child can have. Nothing is left running then. Under
/// valgrind, which forks, a program that cannot be loaded ends with exit code 127 instead.
child spawn_child(const child_options& options);

/// What `reap_strangers` has found.
struct reaped_strangers {
  std::size_t count = 0;
  bool hidden = false;  ///< A dead child of this program is in the way: look again after its end was seen.
};

/// Reaps dead children that this program did not start by `spawn_child`, the duty of PID 1 and of a
/// subreaper; so that one must not wait for children of its own that it started otherwise
/// (`system`, `popen`). Does not block. Any thread.
inline reaped_strangers reap_strangers() {
  auto& own = detail::own_children::instance();
  own.reap_abandoned();
  reaped_strangers found;
  for (;;) {
    siginfo_t info{};
    if (detail::wait_again(P_ALL, 0, info, WEXITED | WNOHANG | WNOWAIT) != 0) return found;
    if (info.si_pid == 0) return found;
    if (own.knows(info.si_pid)) {
      found.hidden = true;
      return found;
    }
    const auto id = static_cast<id_t>(info.si_pid);
    if (detail::wait_again(P_PID, id, info, WEXITED | WNOHANG) == 0) ++found.count;
  }
}

// -- implementation -------------------------------------------------------------------------------

namespace detail {

// The array that exec takes, with nulls at its end; what is not this process's own stands in `added`.
inline std::vector<char*> environment_with(std::span<const environment_change> changes,
                                           std::string& added) {
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const environment_change& change = changes[i];
    refuse_zero(change.name, "a variable's name");
    if (change.value) refuse_zero(*change.value, "a variable's value");
    if (change.name.empty() || change.name.find('=') != std::string::npos) {
      throw_system_error(EINVAL,
                         "a child process cannot have a variable called '" + change.name + "'");
    }
  }
  const auto changed = [&changes](std::string_view name, std::size_t first) {
    for (std::size_t i = first; i < changes.size(); ++i) {
      if (changes[i].name == name) return true;
    }
    return false;
  };
  std::size_t inherited = 0;
  while (::environ != nullptr && ::environ[inherited] != nullptr) ++inherited;
  std::vector<char*> result(inherited + changes.size() + 1);
  std::size_t count = 0;
  for (std::size_t i = 0; i < inherited; ++i) {
    const std::string_view text = ::environ[i];
    if (!changed(text.substr(0, text.find('=')), 0)) result[count++] = ::environ[i];
  }
  // The last change of a variable counts.
  for (std::size_t i = 0; i < changes.size(); ++i) {
    if (!changes[i].value || changed(changes[i].name, i + 1)) continue;
    added.append(changes[i].name).append(1, '=').append(*changes[i].value).append(1, '\0');
  }
  for (std::size_t at = 0; at < added.size(); at = added.find('\0', at) + 1) {
    result[count++] = &added[at];
  }
  return result;
}

// What the child shall have as 0, 1, 2, 3, ...; every number that is named must be open.
inline std::vector<int> sources_of(const child_options& options) {
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; };
  std::vector<int> sources(3 + options.descriptors.size());
  sources[0] = options.standard_input;
  sources[1] = options.standard_output;
  sources[2] = options.standard_error;
  for (int standard = STDOUT_FILENO; standard <= STDERR_FILENO; ++standard) {
    int& source = sources[static_cast<std::size_t>(standard)];
    if (source == standard && !is_open(source)) source = null_device;
  }
  for (std::size_t i = 0; i < options.descriptors.size(); ++i) {
    sources[3 + i] = options.descriptors[i];
  }
  for (std::size_t target = 0; target < sources.size(); ++target) {
    const int source = sources[target];
    if (source == null_device || is_open(source)) continue;
    throw_system_error(EBADF, "descriptor " + std::to_string(source) +
                                  ", which a child process shall have as " +
                                  std::to_string(target) + ", is not open");
  }
  return sources;
}

[[noreturn]] inline void throw_not_started(int code, const child_options& options) {
  std::string what = "cannot start '" + std::string(options.executable) + "'";
  if (!options.working_directory.empty()) {
    what += " in '" + std::string(options.working_directory) + "'";
  }
  if (code == EAGAIN) what += " (raise `ulimit -u`, or the container's limit of processes)";
  throw_system_error(code, what);
}

}  // namespace detail

inline child spawn_child(const child_options& options) {
  std::string executable(options.executable);
  const std::string directory(options.working_directory);
  detail::refuse_zero(executable, "the path");
  detail::refuse_zero(directory, "the working directory");

  std::vector<char*> arguments(options.arguments.size() + 2);  // with nulls at its end
  arguments[0] = executable.data();
  for (std::size_t i = 0; i < options.arguments.size(); ++i) {
    detail::refuse_zero(options.arguments[i], "an argument");
    arguments[i] = const_cast<char*>(options.arguments[i].c_str());  // exec changes nothing
  }
  std::string added;
  const std::vector<char*> environment = detail::environment_with(options.environment, added);

  std::vector<int> sources = detail::sources_of(options);
  detail::spawn_actions actions;
  detail::move_descriptors(sources, [&](int from, int to) { actions.duplicate(from, to); });
  for (std::size_t target = 0; target < sources.size(); ++target) {
    if (sources[target] == null_device) actions.open_null_device(static_cast<int>(target));
  }
  actions.close_from(static_cast<int>(sources.size()));
  if (!directory.empty()) actions.change_directory(directory);
  const detail::spawn_attributes attributes(options.blocked_signals, options.process_group);

  auto& own = detail::own_children::instance();
  own.reap_abandoned();
  pid_t pid = -1;
  const int failed = own.spawn(pid, executable.c_str(), arguments.data(), environment.data(),
                               actions, attributes);
  if (failed != 0) detail::throw_not_started(failed, options);
  try {
    return child(pid, detail::open_child_handle(pid));
  } catch (...) {
    // Without a handle nobody could ever watch it.
    ::kill(pid, SIGKILL);
    siginfo_t info{};
    detail::wait_again(P_PID, static_cast<id_t>(pid), info, WEXITED);
    own.forget(pid);
    throw;
  }
}

}  // namespace pulsar
