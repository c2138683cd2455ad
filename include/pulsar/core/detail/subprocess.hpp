// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The machinery of <pulsar/core/subprocess.hpp>: what a child is started with, and who waits for
// it.

#include <pulsar/core/child.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/broken_pipes.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/descriptor_table.hpp>
#include <pulsar/core/detail/loop_ref.hpp>
#include <pulsar/core/detail/pipe.hpp>
#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/core/subprocess.hpp>
#include <pulsar/core/when_all.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace pulsar {

namespace detail {

/// The words of a command and its options.
class program_line {
 public:
  template <class T>
  void add(const T& part) {
    constexpr bool is_text = std::is_convertible_v<const T&, std::string_view>;
    constexpr bool are_texts = std::is_same_v<T, std::vector<std::string>>;
    static_assert(is_text || are_texts || std::is_same_v<T, subprocess_options>,
                  "subprocess_exec takes texts, and subprocess_options at the end");
    if constexpr (std::is_same_v<T, subprocess_options>) {
      options_ = part;
    } else if constexpr (is_text) {
      words_.emplace_back(std::string_view(part));
    } else if constexpr (are_texts) {
      words_.insert(words_.end(), part.begin(), part.end());
    }
  }

  const std::vector<std::string>& words() const noexcept { return words_; }
  const subprocess_options& options() const noexcept { return options_; }

 private:
  std::vector<std::string> words_;
  subprocess_options options_{};
};

struct waiting_for_process {
  void describe(wait_description& to) const {
    to.text = "the end of process " + std::to_string(pid);
  }
  pid_t pid = 0;
};

/// A child and those who wait for it. One thread. Counted by its `process`, by calls of
/// `communicate`, and once while the loop watches it.
class process_core final : public counted_here, descriptor_waiter {
 public:
  process_core(event_loop& loop, child started, const subprocess_options& options)
      : loop_(loop),
        child_(std::move(started)),
        has_group_(options.process_group == 0),
        if_dropped_(options.if_dropped) {
    try {
      loop_access::local<descriptor_table>(loop).wait(child_.handle(), direction::in, *this);
    } catch (...) {  // nobody would know of it
      child_.signal(SIGKILL);
      child_.wait();
      throw;
    }
    take();
  }

  /// `which`: 0, 1, 2.
  void set_pipe(std::size_t which, stream pipe) { pipes_[which].emplace(std::move(pipe)); }
  bool has_pipe(std::size_t which) const noexcept { return pipes_[which].has_value(); }
  stream& pipe(std::size_t which) {
    static constexpr const char* names[] = {"standard_input", "standard_output", "standard_error"};
    if (pipes_[which]) return *pipes_[which];
    if (let_go_) throw error(errc::closed, "the process was dropped");
    throw error(std::make_error_code(std::errc::invalid_argument),
                std::string(names[which]) +
                    "() of a process that was started without a pipe there: "
                    "set subprocess_options::" +
                    names[which] + " to stdio::pipe");
  }

  pid_t pid() const noexcept { return child_.pid(); }
  std::optional<exit_status> status() const noexcept { return status_; }

  event_loop& loop(const char* what) const {
    if (event_loop* const open = loop_.get()) return *open;
    throw error(errc::loop_closed, what);
  }

  future<exit_status> wait() {
    event_loop& open = loop("process::wait");
    return status_ ? settled<exit_status>(open, *status_) : waiting_.wait(open, {child_.pid()});
  }

  bool send_signal(int number) { return child_.signal(number); }

  bool signal_group(int number) {
    if (!has_group_) {
      throw error(std::make_error_code(std::errc::invalid_argument),
                  "signal_group of a process that has no group of its own: start it with "
                  ".process_group = 0");
    }
    // Its number stays its group's as long as it was not reaped.
    if (!child_.running()) return false;
    if (::kill(-child_.pid(), number) == 0) return true;
    if (errno == ESRCH) return false;
    throw_system_error(errno, "cannot send signal " + std::to_string(number) +
                                  " to process group " + std::to_string(child_.pid()));
  }

  /// What `communicate` has read of it so far.
  std::string& collected(std::size_t which) noexcept { return collected_[which - 1]; }

  bool is_let_go() const noexcept { return let_go_; }
  void let_go() noexcept {
    let_go_ = true;
    for (auto& each : pipes_) {
      if (each && each->is_closing()) each->abort();  // who feeds it waits for that
      each.reset();
    }
    if (if_dropped_ != dropped_process::killed) return;
    try {
      child_.signal(SIGKILL);
    } catch (...) {  // it has become somebody else's
    }
  }

 private:
  bool attempt() noexcept override {
    status_ = child_.try_wait();
    if (!status_) return false;
    leave();
    while (!waiting_.empty()) waiting_.wake_first(*status_);
    drop();
    return true;
  }

  void give_up(std::error_code why) noexcept override {
    waiting_.fail_all(std::make_exception_ptr(error(why)));
    drop();
  }

  const loop_ref loop_;
  child child_;
  std::optional<exit_status> status_;
  waiting_line<exit_status, waiting_for_process> waiting_{"the end of a process"};
  std::array<std::optional<stream>, 3> pipes_;
  std::array<std::string, 2> collected_;
  bool let_go_ = false;
  const bool has_group_;
  const dropped_process if_dropped_;
};

struct pipe_pair {
  unique_fd read_end;
  unique_fd write_end;
};

inline pipe_pair make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_system_error(errno, "cannot make a pipe");
  pipe_pair made{unique_fd(ends[0]), unique_fd(ends[1])};
  made.read_end = above_standard(std::move(made.read_end));
  made.write_end = above_standard(std::move(made.write_end));
  return made;
}

inline int source_of(stdio from, int inherited) noexcept {
  if (from == stdio::inherit) return ::fcntl(inherited, F_GETFD) >= 0 ? inherited : null_device;
  return from == stdio::null ? null_device : from.number();
}

template <class = void>
counted_pointer<process_core> start_process(event_loop& loop, const program_line& line) {
  if (line.words().empty()) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "subprocess_exec needs the name of a program");
  }
  const subprocess_options& options = line.options();
  const stdio wanted[] = {options.standard_input, options.standard_output, options.standard_error};
  unique_fd mine[3];
  unique_fd theirs[3];
  int sources[3];
  for (int i = 0; i < 3; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (wanted[i] == stdio::pipe) {
      pipe_pair made = make_pipe();
      mine[at] = std::move(i == 0 ? made.write_end : made.read_end);
      theirs[at] = std::move(i == 0 ? made.read_end : made.write_end);
      set_non_blocking(mine[at].get());
      sources[at] = theirs[at].get();
    } else if (wanted[i] == stdio::output) {
      if (i != 2) {
        throw error(std::make_error_code(std::errc::invalid_argument),
                    "stdio::output is for standard error alone");
      }
      sources[at] = sources[1];
    } else {
      sources[at] = source_of(wanted[i], i);
    }
  }
  child_options given;
  given.executable = line.words()[0];
  given.arguments = line.words();
  given.environment = options.environment;
  given.descriptors = options.descriptors;
  given.standard_input = sources[0];
  given.standard_output = sources[1];
  given.standard_error = sources[2];
  given.working_directory = options.working_directory;
  given.process_group = options.process_group;
  ignore_broken_pipes();
  // What wants descriptors comes before the child: one that nobody watches must not run.
  static_cast<void>(loop_access::local<descriptor_table>(loop));
  std::optional<stream> pipes[3];
  for (std::size_t i = 0; i < 3; ++i) {
    if (!mine[i]) continue;
    pipes[i].emplace(new_descriptor_stream<>(loop, std::move(mine[i]), descriptor_kind::other),
                     options.pipes, loop);
  }
  child started = spawn_child(given);
  const counted_pointer<process_core> made(new process_core(loop, std::move(started), options));
  for (std::size_t i = 0; i < 3; ++i) {
    if (pipes[i]) made->set_pipe(i, std::move(*pipes[i]));
  }
  return made;
}

/// Writes the input, and ends it. Who does not want it is no failure. What the program has not
/// taken when this is given up goes on to it, and then the end.
template <class = void>
future<> feed(event_loop& loop, counted_pointer<process_core> to, std::string input) {
  if (!to->has_pipe(0) && input.empty()) co_return;
  try {
    if (!input.empty()) to->pipe(0).write(input);
    input = std::string();
    // Not `stream::close`: an input that is cut off looks whole to who reads it.
    const counted_pointer<stream_core> under = share(stream_access::core(to->pipe(0)));
    under->stop();
    while (!under->is_flushed()) co_await under->flushed(loop);
    if (const auto failure = under->write_failure()) std::rethrow_exception(failure);
  } catch (const std::system_error& e) {
    if (e.code() != std::errc::broken_pipe && e.code() != std::errc::connection_reset &&
        !to->is_let_go()) {
      throw;
    }
  }
}

/// Reads all output of one kind, into the core: it is not lost if this is given up.
template <class = void>
future<> collect(event_loop&,
                 counted_pointer<process_core> from,
                 std::size_t which,
                 std::size_t limit) {
  if (!from->has_pipe(which)) co_return;
  try {
    const std::string more = co_await from->pipe(which).read_to_end(limit);
    from->collected(which) += more;
  } catch (...) {
    if (!from->is_let_go()) throw;
  }
}

template <class = void>
future<process_output> communicate(event_loop& loop,
                                   counted_pointer<process_core> with,
                                   std::string input,
                                   std::size_t limit) {
  auto fed = feed<>(loop, with, std::move(input));
  auto output = collect<>(loop, with, 1, limit);
  auto errors = collect<>(loop, with, 2, limit);
  co_await when_all(std::move(fed), std::move(output), std::move(errors));
  if (with->is_let_go()) throw error(errc::closed, "the process was dropped");
  co_await with->wait();
  process_output all{std::exchange(with->collected(1), {}), std::exchange(with->collected(2), {}),
                     *with->status()};
  co_return all;
}

}  // namespace detail

// -- the members of process -----------------------------------------------------------------------

inline process::process() noexcept = default;
inline process::process(process&&) noexcept = default;
inline process& process::operator=(process&& other) noexcept {
  if (this != &other) {
    let_go();
    core_ = std::move(other.core_);
  }
  return *this;
}
inline process::~process() { let_go(); }

inline process::process(detail::counted_pointer<detail::process_core> core) noexcept
    : core_(std::move(core)) {}

inline void process::let_go() noexcept {
  if (core_) core_->let_go();
}

inline detail::process_core& process::core() const noexcept {
  PULSAR_ASSERT(core_, "a pulsar::process without a program: it was moved from or is empty");
  return *core_;
}

inline pid_t process::pid() const noexcept { return core().pid(); }

inline stream& process::standard_input() const { return core().pipe(0); }
inline stream& process::standard_output() const { return core().pipe(1); }
inline stream& process::standard_error() const { return core().pipe(2); }

template <class>
future<process_output> process::communicate(std::string input, std::size_t limit) const {
  return detail::communicate<>(core().loop("process::communicate"), core_, std::move(input), limit);
}

inline future<exit_status> process::wait() const { return core().wait(); }

inline std::optional<exit_status> process::status() const noexcept { return core().status(); }

inline std::optional<int> process::returncode() const noexcept {
  const auto ended = status();
  if (!ended) return std::nullopt;
  return ended->signal != 0 ? -ended->signal : ended->code;
}

inline bool process::send_signal(int number) const { return core().send_signal(number); }
inline bool process::terminate() const { return send_signal(SIGTERM); }
inline bool process::kill() const { return send_signal(SIGKILL); }
inline bool process::signal_group(int number) const { return core().signal_group(number); }

// -- starting one ---------------------------------------------------------------------------------

struct detail::process_access {
  static process make(counted_pointer<process_core> core) noexcept {
    return process(std::move(core));
  }
};

template <class... Command>
future<process> detail::launch(event_loop& loop, const Command&... command) {
  static_assert(sizeof...(Command) > 0, "subprocess_exec needs the name of a program");
  promise<process> made(loop);
  try {
    program_line line;
    (line.add(command), ...);
    made.set_value(process_access::make(start_process(loop, line)));
  } catch (...) {
    made.set_exception(std::current_exception());
  }
  return made.get_future();
}

}  // namespace pulsar
