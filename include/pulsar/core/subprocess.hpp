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
/// A child has the descriptors that are named and no others, all signals at their default, and is
/// reaped as soon as it ends: through its pidfd, so that children that others have started are left
/// to them. Starting one keeps the loop for about a millisecond.

#include <pulsar/core/child.hpp>
#include <pulsar/core/detail/subprocess.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/stream.hpp>

#include <signal.h>
#include <sys/types.h>

#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pulsar {

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
  process() noexcept = default;
  process(process&&) noexcept = default;
  process& operator=(process&& other) noexcept {
    if (this != &other) {
      let_go();
      core_ = std::move(other.core_);
    }
    return *this;
  }
  ~process() { let_go(); }

  /// Its number. Another program may have it once this one has ended.
  pid_t pid() const noexcept { return core().pid(); }

  // -- its standard streams
  // ------------------------------------------------------------------------

  /// The pipe to its standard input. Closing it, or `write_eof`, is the end of its input. It may
  /// read little and end early: a write then fails with `std::errc::broken_pipe`. Throws
  /// `std::errc::invalid_argument` unless that is `stdio::pipe`, as the other two.
  stream& standard_input() const { return core().pipe(0); }
  /// The pipes from its standard output and standard error. They end when everybody has closed
  /// them, also those whom the program has started. One that nobody reads blocks the program.
  stream& standard_output() const { return core().pipe(1); }
  stream& standard_error() const { return core().pipe(2); }

  /// Writes `input`, ends it, reads all output to its end, both at the same time, and waits. A
  /// program that does not want its input is no failure. Of each of output and errors it takes no
  /// more than `limit` bytes, default 64 MiB; beyond it fails with `errc::too_large`, and the
  /// program, whose output nobody reads, stands still or is told by SIGPIPE once this is dropped.
  ///
  /// Giving it up, by `with_timeout` say, leaves the program alone and loses none of its output:
  /// call it again, without input, after `kill()` say.
  template <class = void>
  future<process_output> communicate(std::string input = {},
                                     std::size_t limit = 64 * 1024 * 1024) const {
    return detail::communicate<process_output>(core().loop("communicate"), core_, std::move(input),
                                               limit);
  }

  // -- its end
  // -------------------------------------------------------------------------------------

  /// Done when it has ended: how. Any number may wait; giving it up leaves the program alone. Its
  /// pipes may hold output still.
  future<exit_status> wait() const { return core().wait(); }

  /// How it ended, if it was seen to.
  std::optional<exit_status> status() const noexcept { return core().status(); }

  /// The same as one number, as Python has it: the exit code, or the signal below zero.
  std::optional<int> returncode() const noexcept {
    const auto ended = status();
    if (!ended) return std::nullopt;
    return ended->signal != 0 ? -ended->signal : ended->code;
  }

  /// Sends it a signal; false if it has ended. Never hits another program that got its number.
  /// Throws the system's error: no such signal, or the program has changed its user.
  bool send_signal(int number) const { return core().send_signal(number); }
  /// Asks it to end: SIGTERM.
  bool terminate() const { return send_signal(SIGTERM); }
  /// Ends it: SIGKILL.
  bool kill() const { return send_signal(SIGKILL); }

  /// Sends a signal to its process group: to it and all it has started, unless they left the group.
  /// Throws `std::errc::invalid_argument` if it was not started with `.process_group = 0`.
  bool signal_group(int number) const { return core().signal_group(number); }

 private:
  friend class event_loop;

  explicit process(detail::counted_pointer<detail::process_core> core) noexcept
      : core_(std::move(core)) {}

  detail::process_core& core() const noexcept {
    PULSAR_ASSERT(core_, "a pulsar::process without a program: it was moved from or is empty");
    return *core_;
  }
  void let_go() noexcept {
    if (core_) core_->let_go();
  }

  detail::counted_pointer<detail::process_core> core_;
};

/// Starts a program: `command` are its name (a path, or looked for in PATH) and its arguments, each
/// a text, and at the end the `subprocess_options`, if any.
///
/// Throws `pulsar::error` with the system's code and a sentence if it cannot be started
/// (`std::errc::no_such_file_or_directory`, `permission_denied`, `too_many_files_open`), and
/// `errc::loop_closed`.
template <class... Command>
future<process> event_loop::subprocess_exec(const Command&... command) {
  static_assert(sizeof...(Command) > 0, "subprocess_exec needs the name of a program");
  check_open("subprocess_exec");
  promise<process> made(*this);
  try {
    detail::command_line line;
    (line.add(command), ...);
    made.set_value(process(detail::start_process(*this, line)));
  } catch (...) {
    made.set_exception(std::current_exception());
  }
  return made.get_future();
}

/// The same for a line that /bin/sh reads. Text from strangers has no place in it.
template <class Options>
future<process> event_loop::subprocess_shell(std::string_view command, Options options) {
  const subprocess_options& given = options;
  return subprocess_exec("/bin/sh", "-c", command, given);
}

}  // namespace pulsar
