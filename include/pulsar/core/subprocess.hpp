// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Other programs: `event_loop::subprocess_exec`, `subprocess_shell` (asyncio's).
///
///     const pulsar::subprocess_options piped{.standard_input = pulsar::stdio::pipe,
///                                            .standard_output = pulsar::stdio::pipe};
///     auto sort = co_await loop.subprocess_exec("sort", "-n", piped);
///     const auto sorted = co_await sort.communicate("10\n9\n");
///     fmt::print("{}{}", sorted.output, to_string(sorted.status));   // 9, 10, exit code 0
///
///     auto make = co_await loop.subprocess_shell("make 2>&1 | tee log");
///     const pulsar::exit_status ended = co_await make.wait();
///
///     std::vector<std::string> command{"tar", "-cf", archive};   // what is known at run time
///     alone command.insert(command.end(), files.begin(), files.end()); auto tar = co_await
///     loop.subprocess_exec(command);
///
/// To end one that may not want to:
///
///     tar.terminate();
///     const auto ended = co_await as_result(with_timeout(tar.wait(), 5s));
///     if (!ended) tar.kill();                  // too late, or this was cancelled
///
/// A child has the descriptors that are named and no others, all signals at their default, and is
/// reaped as soon as it ends: through its pidfd, so that children that others have started are left
/// to them. Starting one keeps the loop for about a millisecond.
///
/// If this program is killed or crashes, its children live on: they see the end of their pipes, and
/// no more. Where none may be left, give each a process group of its own (`.process_group = 0`,
/// which Ctrl-C does not reach either) and have whoever supervises this program end those groups,
/// or do the work in an actor with a process of its own: that ends with its arbiter.

#include <pulsar/core/child.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/stream.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace pulsar {

class process;

namespace detail {
class process_core;
struct process_access;
template <class... Command>
future<process> launch(event_loop& loop, const Command&... command);
}  // namespace detail

/// Where a standard stream of a child comes from or goes to.
class stdio {
 public:
  static const stdio pipe;     ///< A stream of this program: `process::standard_output()`.
  static const stdio inherit;  ///< Where this program's own goes.
  static const stdio null;     ///< Nowhere.
  static const stdio output;   ///< Of standard error: where standard output goes.

  /// A descriptor of this program, which stays open here. One that is not open is refused by who
  /// starts the program, as -1 is.
  static constexpr stdio descriptor(int fd) noexcept { return stdio(fd < 0 ? not_open : fd); }

  constexpr bool operator==(const stdio&) const noexcept = default;
  /// The descriptor; negative for what is none.
  constexpr int number() const noexcept { return number_; }

 private:
  static constexpr int not_open = -6;

  explicit constexpr stdio(int number) noexcept : number_(number) {}
  int number_;
};
inline constexpr stdio stdio::pipe{-2};
inline constexpr stdio stdio::inherit{-3};
inline constexpr stdio stdio::null{-4};
inline constexpr stdio stdio::output{-5};

/// What becomes of a program whose `process` is dropped while it runs.
enum class dropped_process : std::uint8_t { runs_on, killed };

/// What a child shall be. Views: what they refer to must live until `subprocess_exec` returns.
struct subprocess_options {
  stdio standard_input = stdio::inherit;
  stdio standard_output = stdio::inherit;
  stdio standard_error = stdio::inherit;
  /// Applied in order to a copy of this process's environment.
  std::span<const environment_change> environment{};
  /// Where it starts; empty: where this process is.
  std::string_view working_directory{};
  /// The process group to join, 0 for one of its own; nothing: this process's.
  std::optional<pid_t> process_group{};
  /// Descriptors that it has as 3, 4, ... in this order.
  std::span<const int> descriptors{};
  /// Of the streams on its pipes.
  stream_options pipes{};
  dropped_process if_dropped = dropped_process::runs_on;
};

/// What `process::communicate` gives.
struct process_output {
  std::string output;  ///< All that came on standard output, if that is a pipe.
  std::string errors;  ///< The same of standard error.
  exit_status status;
};

/// A program that `subprocess_exec` has started. Belongs to the thread of its loop.
///
/// Dropping it closes its pipes and lets the program run on, unwatched but reaped when it ends;
/// with `dropped_process::killed` it is killed. When the loop closes, nobody waits any more; what
/// still runs is reaped when a later child is started or dropped.
class process {
 public:
  /// No program; all but assigning to it is an error.
  process() noexcept;
  process(process&&) noexcept;
  process& operator=(process&& other) noexcept;
  ~process();

  /// Its number. Another program may have it once this one has ended.
  pid_t pid() const noexcept;

  // -- its standard streams
  // ------------------------------------------------------------------------

  /// The pipe to its standard input. Closing it, or `write_eof`, is the end of its input. It may
  /// read little and end early: a write then fails with `std::errc::broken_pipe`. Throws
  /// `std::errc::invalid_argument` unless that is `stdio::pipe`, as the other two.
  stream& standard_input() const;
  /// The pipes from its standard output and standard error. They end when everybody has closed
  /// them, also those whom the program has started. One that nobody reads blocks the program.
  stream& standard_output() const;
  stream& standard_error() const;

  /// Writes `input`, ends it, reads all output to its end, both at the same time, and waits. A
  /// program that does not want its input is no failure. Of each of output and errors it takes no
  /// more than `limit` bytes, default 64 MiB; beyond it fails with `errc::too_large`, and the
  /// program, whose output nobody reads, stands still or is told by SIGPIPE once this is dropped.
  ///
  /// Giving it up, by `with_timeout` say, leaves the program alone: it is given the rest of its
  /// input and then the end, and none of its output is lost. Call it again, without input.
  template <class = void>
  future<process_output> communicate(std::string input = {},
                                     std::size_t limit = 64 * 1024 * 1024) const;

  // -- its end
  // -------------------------------------------------------------------------------------

  /// Done when it has ended: how. Any number may wait; giving it up leaves the program alone. Its
  /// pipes may hold output still.
  future<exit_status> wait() const;

  /// How it ended, if it was seen to.
  std::optional<exit_status> status() const noexcept;

  /// The same as one number, as Python has it: the exit code, or the signal below zero.
  std::optional<int> returncode() const noexcept;

  /// Sends it a signal; false if it has ended. Never hits another program that got its number.
  /// Throws the system's error: no such signal, or the program has changed its user.
  bool send_signal(int number) const;
  /// Asks it to end: SIGTERM.
  bool terminate() const;
  /// Ends it: SIGKILL.
  bool kill() const;

  /// Sends a signal to its process group: to it and all it has started, unless they left the group.
  /// Throws `std::errc::invalid_argument` if it was not started with `.process_group = 0`.
  bool signal_group(int number) const;

 private:
  friend struct detail::process_access;

  explicit process(detail::counted_pointer<detail::process_core> core) noexcept;

  detail::process_core& core() const noexcept;
  void let_go() noexcept;

  detail::counted_pointer<detail::process_core> core_;
};

/// Starts a program: `command` are its name (a path, or looked for in PATH) and its arguments, each
/// a text, and at the end the `subprocess_options`, if any. A `std::vector<std::string>` stands for
/// as many of them as it has: all, or some between others.
///
/// Throws `pulsar::error` with the system's code and a sentence if it cannot be started
/// (`std::errc::no_such_file_or_directory`, `permission_denied`, `too_many_files_open`), with
/// `std::errc::invalid_argument` without a name, and `errc::loop_closed`.
template <class... Command>
future<process> event_loop::subprocess_exec(const Command&... command) {
  check_open("subprocess_exec");
  return detail::launch(*this, command...);
}

/// The same for a line that /bin/sh reads. Text from strangers has no place in it.
template <class Options>
future<process> event_loop::subprocess_shell(std::string_view command, Options options) {
  const subprocess_options& given = options;
  return subprocess_exec("/bin/sh", "-c", command, given);
}

}  // namespace pulsar

#include <pulsar/core/detail/subprocess.hpp>
