// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// File descriptors: `unique_fd`, which owns one, and the few calls that every layer needs.
///
///     auto [mine, theirs] = pulsar::socket_pair(SOCK_SEQPACKET);   // both close-on-exec
///     pulsar::set_non_blocking(mine.get());
///
/// Every descriptor of a pulsar program is close-on-exec; what a child process shall have is named
/// when it is started (`spawn_child`). Any thread may call what is declared here.

#include <pulsar/core/error.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar {
namespace detail {

/// What the user can do about it, for the errors whose text alone does not say.
inline std::string remedy_for(int code) {
  switch (code) {
    case EMFILE: return " (this process has no descriptor left: raise `ulimit -n`)";
    case ENFILE: return " (the system has no descriptor left: raise fs.file-max)";
    default: return {};
  }
}

/// Throws `error` with the system's own code: "<what> (<remedy>): <text of the code>".
[[noreturn]] inline void throw_system_error(int code, const std::string& what) {
  throw error(std::error_code(code, std::system_category()), what + remedy_for(code));
}

}  // namespace detail

/// Owns a descriptor and closes it; -1 stands for none.
class [[nodiscard("the descriptor is closed at once")]] unique_fd {
 public:
  unique_fd() noexcept = default;
  explicit unique_fd(int fd) noexcept : fd_(fd) {}
  unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~unique_fd() { reset(); }

  /// The number, still owned here; -1 if there is none.
  int get() const noexcept { return fd_; }

  /// The number, owned by the caller from now on.
  [[nodiscard("the descriptor leaks unless somebody takes it")]] int release() noexcept {
    return std::exchange(fd_, -1);
  }

  /// Closes what is owned and owns `fd` instead.
  void reset(int fd = -1) noexcept {
    const int before = std::exchange(fd_, fd);
    if (before >= 0 && before != fd) {
      // Never retried: Linux has freed the number even when close(2) reports EINTR.
      const int code = errno;
      ::close(before);
      errno = code;
    }
  }

  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Closes `fd` in every program that this process executes from now on.
///
/// Throws the system's error if `fd` is not open.
inline void set_close_on_exec(int fd) {
  const int flags = ::fcntl(fd, F_GETFD);
  if (flags < 0 || ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
    const int code = errno;
    detail::throw_system_error(code,
                               "cannot set descriptor " + std::to_string(fd) + " close-on-exec");
  }
}

/// Makes reads and writes of `fd` return at once; whoever shares the open file shares this too.
///
/// Throws the system's error if `fd` is not open.
inline void set_non_blocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ((flags & O_NONBLOCK) == 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)) {
    const int code = errno;
    detail::throw_system_error(code,
                               "cannot set descriptor " + std::to_string(fd) + " non-blocking");
  }
}

namespace detail {

/// Gives a new descriptor a number above the standard ones, which it gets only in a program that
/// was started with one of them closed: what anybody prints would go into it otherwise.
inline unique_fd above_standard(unique_fd fd) {
  if (fd.get() < 0 || fd.get() > STDERR_FILENO) return fd;
  unique_fd moved(::fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!moved) throw_system_error(errno, "cannot move a descriptor away from standard error");
  return moved;
}

}  // namespace detail

/// Two connected Unix sockets of `type` (SOCK_STREAM, SOCK_SEQPACKET), both close-on-exec.
///
/// Throws the system's error, `std::errc::too_many_files_open` above all.
inline std::pair<unique_fd, unique_fd> socket_pair(int type) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) < 0) {
    detail::throw_system_error(errno, "cannot make a pair of Unix sockets");
  }
  unique_fd first(ends[0]);
  unique_fd second(ends[1]);
  return {detail::above_standard(std::move(first)), detail::above_standard(std::move(second))};
}

/// `/dev/null`, open for reading and writing, close-on-exec.
///
/// Throws the system's error.
inline unique_fd open_null_device() {
  unique_fd fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!fd) detail::throw_system_error(errno, "cannot open /dev/null");
  return detail::above_standard(std::move(fd));
}

/// Raises the soft limit of open descriptors towards the hard one; returns the limit now in force.
///
/// `ceiling`: where to stop, 2^20. Containers often set the hard limit to a thousand times that,
/// and old programs walk up to the soft limit they inherit. A higher soft limit is left alone.
inline rlim_t raise_descriptor_limit(rlim_t ceiling = rlim_t{1} << 20) noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) < 0) return 0;
  const rlim_t before = limit.rlim_cur;
  const rlim_t wanted = std::min(limit.rlim_max, ceiling);
  if (wanted <= before) return before;
  limit.rlim_cur = wanted;
  return ::setrlimit(RLIMIT_NOFILE, &limit) == 0 ? wanted : before;
}

/// The numbers of all open descriptors, ascending, without the one this function needs itself.
///
/// Throws the system's error if /proc is not mounted.
inline std::vector<int> open_descriptors() {
  const auto close_directory = [](DIR* directory) { ::closedir(directory); };
  const std::unique_ptr<DIR, decltype(close_directory)> directory(::opendir("/proc/self/fd"));
  if (!directory) detail::throw_system_error(errno, "cannot list /proc/self/fd");
  std::vector<int> numbers;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    int number = -1;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (bad == std::errc{} && end == name.data() + name.size() &&
        number != ::dirfd(directory.get())) {
      // They come in order but for those opened meanwhile.
      auto at = numbers.end();
      while (at != numbers.begin() && *(at - 1) > number) --at;
      numbers.insert(at, number);
    }
  }
  return numbers;
}

}  // namespace pulsar
