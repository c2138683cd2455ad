// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The machinery of <pulsar/core/child.hpp>: in which order descriptors move in the child, what
// posix_spawn is handed, and how the end of a child is watched for.

#include <pulsar/core/descriptor.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace pulsar::detail {

// -- descriptors ----------------------------------------------------------------------------------

// Calls `duplicate(from, to)`, as dup2, until descriptor t is what `sources[t]` was, for every t; a
// negative source takes no part. Sources may be targets of others, permuted, or named twice.
//
// A source that stands where another one is to be is first copied out of the way, to a number that
// nobody uses. A number is moved onto itself too, because that dup2 is what clears close-on-exec.
template <class Duplicate>
void move_descriptors(std::vector<int>& sources, Duplicate duplicate) {
  const int end = static_cast<int>(sources.size());
  int spare = end;
  for (std::size_t t = 0; t < sources.size(); ++t) {
    int& source = sources[t];
    if (source < 0 || source >= end || source == static_cast<int>(t)) continue;
    for (std::size_t i = 0; i < sources.size();) i = sources[i] == spare ? (++spare, 0) : i + 1;
    duplicate(source, spare);
    source = spare;
  }
  for (std::size_t t = 0; t < sources.size(); ++t) {
    if (sources[t] >= 0) duplicate(sources[t], static_cast<int>(t));
  }
}

// -- what posix_spawn is handed -------------------------------------------------------------------

class spawn_actions {
 public:
  spawn_actions() { check(::posix_spawn_file_actions_init(&actions_)); }
  spawn_actions(const spawn_actions&) = delete;
  spawn_actions& operator=(const spawn_actions&) = delete;
  ~spawn_actions() { ::posix_spawn_file_actions_destroy(&actions_); }

  void duplicate(int from, int to) {
    check(::posix_spawn_file_actions_adddup2(&actions_, from, to));
  }
  void open_null_device(int to) {
    check(::posix_spawn_file_actions_addopen(&actions_, to, "/dev/null", O_RDWR, 0));
  }
  void close_from(int first) {
    check(::posix_spawn_file_actions_addclosefrom_np(&actions_, first));
  }
  void change_directory(const std::string& path) {
    check(::posix_spawn_file_actions_addchdir_np(&actions_, path.c_str()));
  }
  const posix_spawn_file_actions_t* get() const noexcept { return &actions_; }

 private:
  static void check(int code) {
    if (code != 0) throw_system_error(code, "cannot describe the descriptors of a child process");
  }

  posix_spawn_file_actions_t actions_;
};

// All signals default, exactly `blocked` blocked, and a process group if one is asked for.
class spawn_attributes {
 public:
  spawn_attributes(std::span<const int> blocked, std::optional<pid_t> group) {
    if (const int code = ::posix_spawnattr_init(&attributes_); code != 0) {
      throw_system_error(code, "cannot describe a child process");
    }
    sigset_t all;
    ::sigfillset(&all);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    sigset_t mask;
    ::sigemptyset(&mask);
    for (std::size_t i = 0; i < blocked.size(); ++i) {
      if (::sigaddset(&mask, blocked[i]) == 0) continue;
      ::posix_spawnattr_destroy(&attributes_);
      throw_system_error(EINVAL, "a child cannot block signal " + std::to_string(blocked[i]));
    }
    ::posix_spawnattr_setsigmask(&attributes_, &mask);
    int flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
    if (group) {
      ::posix_spawnattr_setpgroup(&attributes_, *group);
      flags |= POSIX_SPAWN_SETPGROUP;
    }
    ::posix_spawnattr_setflags(&attributes_, static_cast<short>(flags));
  }
  spawn_attributes(const spawn_attributes&) = delete;
  spawn_attributes& operator=(const spawn_attributes&) = delete;
  ~spawn_attributes() { ::posix_spawnattr_destroy(&attributes_); }

  const posix_spawnattr_t* get() const noexcept { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

// A zero byte would silently cut the string that the child receives.
inline void refuse_zero(const std::string& text, const char* what) {
  if (text.find('\0') != std::string::npos) {
    throw_system_error(EINVAL, std::string(what) + " of a child process contains a zero byte");
  }
}

// -- the end of a child ---------------------------------------------------------------------------

// P_PIDFD has this value in Linux; the C library knows the name only since 2.36.
inline constexpr auto wait_for_pidfd = static_cast<idtype_t>(3);

inline int send_signal_to_pidfd(int pidfd, int signal) noexcept {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

// waitid, begun again when a signal interrupts it: 0 or the error.
inline int wait_again(idtype_t type, id_t id, siginfo_t& info, int options) noexcept {
  for (;;) {
    info = siginfo_t{};
    if (::waitid(type, id, &info, options) == 0) return 0;
    if (errno != EINTR) return errno;
  }
}

struct watched_child {
  pid_t pid;
  unique_fd told;
};

// The body of a thread that takes over its `watched_child`.
inline void tell_end(void* data) {
  auto* const child = static_cast<watched_child*>(data);
  siginfo_t info{};
  wait_again(P_PID, static_cast<id_t>(child->pid), info, WEXITED | WNOWAIT);
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(child->told.get(), &one, sizeof one);
  delete child;
}

// A descriptor that becomes readable when the child `pid` ends, where the kernel (or valgrind, or a
// sandbox) has no pidfds: a thread waits without reaping and then tells an eventfd.
inline unique_fd watch_by_thread(pid_t pid) {
  const std::string failure = "cannot watch child process " + std::to_string(pid);
  unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) throw_system_error(errno, failure);
  // The thread has a descriptor of its own: the owner may close his at any time.
  unique_fd told(::fcntl(event.get(), F_DUPFD_CLOEXEC, 0));
  if (!told) throw_system_error(errno, failure);
  auto* const watched = new watched_child{pid, std::move(told)};
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals belong to the program's own threads
  try {
    std::thread(&tell_end, static_cast<void*>(watched)).detach();
  } catch (...) {
    delete watched;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return above_standard(std::move(event));
}

struct child_handle {
  unique_fd fd;
  bool is_pidfd = true;
};

// `wait_again` for the child `pid`.
inline int wait_for_child(const child_handle& handle, pid_t pid, siginfo_t& info,
                          int options) noexcept {
  return handle.is_pidfd
             ? wait_again(wait_for_pidfd, static_cast<id_t>(handle.fd.get()), info, options)
             : wait_again(P_PID, static_cast<id_t>(pid), info, options);
}

// Safe against re-use of the number although it comes after the start: a pid is free only once its
// zombie is reaped, and nobody but the owner of the handle does that.
inline child_handle open_child_handle(pid_t pid) {
  static std::atomic<bool> missing{false};
  if (!missing.load(std::memory_order_relaxed)) {
    const auto fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    if (fd >= 0) return {above_standard(unique_fd(fd)), true};
    const int code = errno;
    if (code != ENOSYS && code != EPERM) {
      throw_system_error(code, "cannot watch child process " + std::to_string(pid));
    }
    missing.store(true, std::memory_order_relaxed);
  }
  return {watch_by_thread(pid), false};
}

// The children that `spawn_child` has started and nobody has reaped yet. Those whose owner let go of
// them while they ran are collected at the next start of a child or destruction of an owner, so that
// their zombies never pile up. Any thread.
class own_children {
 public:
  static own_children& instance() {
    static auto* const list = new own_children;  // outlives every static owner of a child
    return *list;
  }

  // posix_spawnp; nobody can take the new child for a stranger meanwhile. 0 or the error.
  int spawn(pid_t& pid, const char* executable, char* const* arguments, char* const* environment,
            const spawn_actions& actions, const spawn_attributes& attributes) {
    auto* const made = new entry;
    const std::lock_guard lock(mutex_);
    const int failed = ::posix_spawnp(&pid, executable, actions.get(), attributes.get(),
                                      arguments, environment);
    if (failed != 0) {
      delete made;
      return failed;
    }
    made->pid = pid;
    made->next = std::exchange(first_, made);
    return 0;
  }

  bool knows(pid_t pid) noexcept {
    const std::lock_guard lock(mutex_);
    return *find(pid) != nullptr;
  }

  // It was reaped.
  void forget(pid_t pid) noexcept {
    const std::lock_guard lock(mutex_);
    entry** const at = find(pid);
    if (*at != nullptr) delete std::exchange(*at, (*at)->next);
  }

  void abandon(pid_t pid, child_handle handle) noexcept {
    const std::lock_guard lock(mutex_);
    if (entry* const known = *find(pid)) known->abandoned = std::move(handle);
  }

  void reap_abandoned() noexcept {
    const std::lock_guard lock(mutex_);
    for (entry** at = &first_; *at != nullptr;) {
      if ((*at)->abandoned.fd && has_ended(**at)) {
        delete std::exchange(*at, (*at)->next);
      } else {
        at = &(*at)->next;
      }
    }
  }

 private:
  struct entry {
    pid_t pid = -1;
    child_handle abandoned{};
    entry* next = nullptr;
  };

  entry** find(pid_t pid) noexcept {
    entry** at = &first_;
    while (*at != nullptr && (*at)->pid != pid) at = &(*at)->next;
    return at;
  }

  static bool has_ended(const entry& each) noexcept {
    siginfo_t info{};
    return wait_for_child(each.abandoned, each.pid, info, WEXITED | WNOHANG) != 0 ||
           info.si_pid != 0;
  }

  std::mutex mutex_;
  entry* first_ = nullptr;
};

}  // namespace pulsar::detail
