// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What a process of pulsar knows about itself before `main`: where it was started, and whether it
/// is a worker that an arbiter started.
///
///     auto& process = pulsar::this_process();
///     if (process.is_worker()) serve(process.take_control_socket(), process.take_stream());
///
/// An arbiter marks its workers by one environment variable. It is read and removed before the
/// first static variable of the program is initialised, so that no process started from there on
/// takes itself for a worker; a value that no arbiter can have set ends the program with exit code
/// 70 and a sentence. Any thread may call what is declared here.

#include <pulsar/actors/detail/control_socket.hpp>
#include <pulsar/actors/detail/worker_environment.hpp>
#include <pulsar/actors/image.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/error.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar {

/// The environment variable that makes a process a worker.
inline constexpr const char* worker_variable = "PULSAR_WORKER";

/// The exit code of a process that cannot be what its arbiter started it as: EX_SOFTWARE.
inline constexpr int misuse_exit_code = detail::misuse_exit_code;

/// What a worker is for.
enum class worker_kind {
  /// For actors spawned with the process policy; serves at the first entry point of pulsar.
  actor,
  /// For an application; runs `main` up to its master's `run`.
  application,
};

/// What an arbiter tells a worker about itself.
struct worker_marker {
  /// The worker's socket for control packets, SOCK_SEQPACKET.
  int control = -1;
  /// The worker's end of the stream to the arbiter, SOCK_STREAM.
  int stream = -1;
  /// Counts the workers of one arbiter, from 1.
  std::uint64_t serial = 0;
  /// What it is for.
  worker_kind kind = worker_kind::actor;
  /// Which `run` of the program an application's worker serves, from 1; 0 for actors.
  std::uint64_t ordinal = 0;
  /// The process that started it.
  pid_t arbiter = 0;
  /// How many descriptors it is given besides: those that follow the greater of the two above.
  unsigned inherited = 0;

  bool operator==(const worker_marker&) const noexcept = default;
};

/// The value of the environment variable: "1 control=3 stream=4 serial=7 kind=actor arbiter=4711",
/// with "kind=application:1" for a worker of the first `run`, and " inherited=2" behind all that if
/// it is given two descriptors.
inline std::string to_string(const worker_marker& marker) {
  std::string kind = "actor";
  if (marker.kind == worker_kind::application) {
    kind = "application:" + std::to_string(marker.ordinal);
  }
  return "1 control=" + std::to_string(marker.control) +
         " stream=" + std::to_string(marker.stream) + " serial=" + std::to_string(marker.serial) +
         " kind=" + kind + " arbiter=" + std::to_string(marker.arbiter) +
         (marker.inherited == 0 ? "" : " inherited=" + std::to_string(marker.inherited));
}

namespace detail {

/// Reads what `to_string` wrote, to the letter; false for any other text.
inline bool read_worker_marker(std::string_view text, worker_marker& marker) noexcept {
  marker_reader read(text);
  read.word("1 control=").number(marker.control).word(" stream=").number(marker.stream);
  read.word(" serial=").number(marker.serial).word(" kind=");
  if (read.has("application:")) {
    marker.kind = worker_kind::application;
    read.word("application:").number(marker.ordinal);
  } else {
    read.word("actor");
  }
  read.word(" arbiter=").number(marker.arbiter);
  constexpr int highest = 1 << 30;  // of all numbers, so that none can overflow
  bool some = true;
  if (read.has(" inherited=")) {
    read.word(" inherited=").number(marker.inherited);
    some = marker.inherited > 0 && marker.inherited <= 1U << 20 && marker.control < highest &&
           marker.stream < highest;
  }
  return read.finished() && some && marker.control > STDERR_FILENO &&
         marker.stream > STDERR_FILENO && marker.control != marker.stream && marker.serial > 0 &&
         marker.arbiter > 0 && (marker.kind == worker_kind::actor) == (marker.ordinal == 0);
}

}  // namespace detail

/// The marker that `to_string` wrote as `text`, to the letter; nothing for any other text.
inline std::optional<worker_marker> parse_worker_marker(std::string_view text) noexcept {
  worker_marker marker;
  return detail::read_worker_marker(text, marker) ? std::optional(marker) : std::nullopt;
}

/// The numbers of the descriptors that a worker is given besides its sockets.
inline std::vector<int> inherited_by(const worker_marker& marker) {
  std::vector<int> numbers(marker.inherited);
  int last = marker.control > marker.stream ? marker.control : marker.stream;
  for (int& fd : numbers) fd = ++last;
  return numbers;
}

/// Why this process cannot be the worker that `marker` describes; empty if it can.
inline std::string problem_of(const worker_marker& marker) {
  if (auto problem = detail::socket_problem("control", marker.control, SOCK_SEQPACKET);
      !problem.empty()) {
    return problem;
  }
  if (auto problem = detail::socket_problem("stream", marker.stream, SOCK_STREAM);
      !problem.empty()) {
    return problem;
  }
  for (const int fd : inherited_by(marker)) {
    if (::fcntl(fd, F_GETFD) < 0) {
      return "descriptor " + std::to_string(fd) + " (inherited) is not open";
    }
  }
  if (::getppid() != marker.arbiter) {
    return "its arbiter, process " + std::to_string(marker.arbiter) +
           ", is not this process's parent or has ended";
  }
  try {
    if (detail::peer_credentials(marker.control).pid == marker.arbiter) return {};
  } catch (const error&) {
    // It leads nowhere: the same sentence.
  }
  return "the control socket does not lead to process " + std::to_string(marker.arbiter);
}

/// This process: how it was started, what it is, and how far it has come. One object, made by
/// `this_process()`.
class worker_environment {
 public:
  worker_environment(const worker_environment&) = delete;
  worker_environment& operator=(const worker_environment&) = delete;

  // -- how it was started -------------------------------------------------------------------------

  /// The directory it was started in; empty if that has no path.
  const std::string& working_directory() const noexcept { return working_directory_; }

  /// The command line, the program's name first.
  const std::vector<std::string>& arguments() const noexcept { return arguments_; }

  /// The mask of permissions it was started with.
  mode_t umask() const noexcept { return umask_; }

  /// What to execute in order to start this program again; see `image::executable`.
  const std::string& executable() const noexcept { return executable_; }

  // -- what it is ---------------------------------------------------------------------------------

  /// Whether an arbiter started it as a worker.
  bool is_worker() const noexcept { return marker_.serial != 0; }

  /// What the arbiter said; only in a worker.
  const worker_marker& marker() const noexcept {
    PULSAR_ASSERT(is_worker(), "marker() was called in a process that is no worker");
    return marker_;
  }

  /// The socket for control packets, owned by the caller from now on; empty the second time.
  unique_fd take_control_socket() noexcept { return unique_fd(control_.exchange(-1)); }

  /// The end of the stream to the arbiter, owned by the caller from now on; empty the second time.
  unique_fd take_stream() noexcept { return unique_fd(stream_.exchange(-1)); }

  /// What the master hands to its workers besides, in its order, owned by the caller from now on;
  /// nothing the second time. What the program itself has opened meanwhile is not among it.
  std::vector<unique_fd> take_inherited() {
    std::vector<unique_fd> result;
    if (!is_worker() || inherited_taken_.exchange(true)) return result;
    for (int fd : inherited_by(marker_)) result.emplace_back(fd);
    return result;
  }

  // -- how far it has come ------------------------------------------------------------------------

  /// Whether it may run loops and spawn: always, but for a worker that does not serve yet.
  bool serving() const noexcept { return !is_worker() || serving_.load(std::memory_order_acquire); }

  /// Says that this worker serves from now on. From here a dying arbiter costs it a SIGCONT, not a
  /// SIGKILL, because now it has something to finish.
  void mark_serving() {
    serving_.store(true, std::memory_order_release);
    renew_death_signal();
  }

  /// Ends a worker that does not serve yet with exit code 70 and a sentence: "worker 7 cannot
  /// <what> before it serves: ...". `what` is a verb with its object, as in "spawn an actor".
  void require_serving(std::string_view what) const {
    if (serving()) return;
    detail::refuse("worker " + std::to_string(marker_.serial) + " cannot " + std::string(what) +
                   " before it serves: call pulsar::run first in main, or in a program with a main "
                   "of its own pulsar::serve_if_worker(argc, argv)");
  }

  /// Asks the kernel again for a signal when the arbiter dies: a change of user clears it. Ends
  /// this worker with exit code 70 if that has happened already; nothing in other processes.
  ///
  /// A supplement: the end of the control socket is what tells a worker to drain and leave. The
  /// signal reaches one that is not at its socket: SIGKILL before it serves, when the terminating
  /// signals are blocked and nothing is lost; then SIGCONT, which drains as well and wakes one that
  /// was stopped.
  void renew_death_signal() const {
    if (!is_worker()) return;
    const int signal = serving() ? SIGCONT : SIGKILL;
    ::prctl(PR_SET_PDEATHSIG, static_cast<unsigned long>(signal), 0UL, 0UL, 0UL);
    // The arbiter may have died before the call above.
    if (::getppid() == marker_.arbiter) return;
    detail::refuse("the arbiter, process " + std::to_string(marker_.arbiter) +
                   ", has ended: worker " + std::to_string(marker_.serial) + " ends too");
  }

 private:
  friend worker_environment& this_process();
  friend class run_scope;

  worker_environment()
      : working_directory_(detail::current_directory()),
        arguments_(detail::command_line()),
        umask_(detail::current_umask()),
        executable_(image::executable()) {
    detail::open_standard_descriptors();
    const char* value = ::getenv(worker_variable);
    if (value == nullptr) return;
    const std::string text = value;
    ::unsetenv(worker_variable);
    adopt(text);
  }

  void adopt(const std::string& text) {
    const std::string reason = "; pulsar sets " + std::string(worker_variable) +
                               " for its own worker processes, any other program must unset it";
    if (!detail::read_worker_marker(text, marker_)) {
      detail::refuse(std::string(worker_variable) + " is '" + detail::printable(text) +
                     "', which no arbiter of this version can have set" + reason);
    }
    if (const auto problem = problem_of(marker_); !problem.empty()) {
      detail::refuse(std::string(worker_variable) + " does not fit this process: " + problem +
                     reason);
    }
    control_ = marker_.control;
    stream_ = marker_.stream;
    set_close_on_exec(marker_.control);
    set_close_on_exec(marker_.stream);
    for (const int fd : inherited_by(marker_)) set_close_on_exec(fd);
    // Started through a link of the kernel, it would be called "exe" in the list of processes.
    if (!arguments_.empty()) {
      const auto& name = arguments_.front();
      ::prctl(PR_SET_NAME, name.c_str() + (name.find_last_of('/') + 1), 0UL, 0UL, 0UL);
    }
    renew_death_signal();
  }

  std::string working_directory_;
  std::vector<std::string> arguments_;
  mode_t umask_;
  std::string executable_;
  worker_marker marker_{};  // without a serial number in a process that is no worker
  std::atomic<int> control_{-1};
  std::atomic<int> stream_{-1};
  std::atomic<bool> inherited_taken_{false};
  std::atomic<bool> serving_{false};
  std::atomic<bool> running_{false};
  std::atomic<std::uint64_t> runs_{0};
};

/// The one object that describes this process.
inline worker_environment& this_process() {
  // Outlives every static object that asks it.
  static auto* const process = new worker_environment;
  return *process;
}

/// Stands for one `pulsar::run` from its beginning to its end, and counts them.
class run_scope {
 public:
  /// Begins a run.
  ///
  /// Throws `errc::already_running` inside another one. Ends an application's worker with exit code
  /// 70 and a sentence if this is not the run that its master was in.
  run_scope() {
    auto& process = this_process();
    if (process.running_.exchange(true, std::memory_order_acq_rel)) {
      throw error(errc::already_running,
                  "pulsar::run was called inside pulsar::run: spawn an actor instead; a server is "
                  "run by main in place of pulsar::run, and spawns actors from its handlers");
    }
    ordinal_ = process.runs_.fetch_add(1, std::memory_order_acq_rel) + 1;
    if (!process.is_worker() || process.marker().kind != worker_kind::application) return;
    const auto wanted = process.marker().ordinal;
    if (ordinal_ == wanted) return;
    detail::refuse("worker " + std::to_string(process.marker().serial) +
                   " belongs to call number " + std::to_string(wanted) +
                   " of pulsar::run in its program, but call number " + std::to_string(ordinal_) +
                   " came first: application workers belong to the first one");
  }
  run_scope(const run_scope&) = delete;
  run_scope& operator=(const run_scope&) = delete;
  ~run_scope() { this_process().running_.store(false, std::memory_order_release); }

  /// Which run of this process it is, from 1.
  std::uint64_t ordinal() const noexcept { return ordinal_; }

  /// Whether a run is under way in this process.
  static bool active() noexcept { return this_process().running_.load(std::memory_order_acquire); }

 private:
  std::uint64_t ordinal_ = 0;
};

namespace detail {

// Before all static variables of ordinary priority, in every translation unit.
[[gnu::constructor(101)]] static void adopt_worker_environment() { this_process(); }

}  // namespace detail
}  // namespace pulsar
