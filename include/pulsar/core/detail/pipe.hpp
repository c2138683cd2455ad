// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How a descriptor of the user's becomes the raw_stream of a pipe without others noticing.

#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/broken_pipes.hpp>
#include <pulsar/core/detail/socket_stream.hpp>
#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/stream.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar::detail {

enum class pipe_end : std::uint8_t { reads, writes };

// Gives its flags back to an open file that others share, once the last stream on it has gone. Any
// thread.
class borrowed_flags {
 public:
  /// Null for a file that is non-blocking by itself, and not by a stream of ours.
  static std::shared_ptr<const borrowed_flags> of(int fd, int flags, const struct stat& what) {
    static std::mutex mutex;
    static auto& all = *new std::vector<std::weak_ptr<const borrowed_flags>>;
    const std::lock_guard lock(mutex);
    std::erase_if(all, [](const auto& each) { return each.expired(); });
    std::shared_ptr<const borrowed_flags> found;
    if ((flags & O_NONBLOCK) == 0) {
      found = std::make_shared<const borrowed_flags>(fd, flags, what);
      all.emplace_back(found);
    } else {
      for (const auto& each : all) {
        const auto one = each.lock();
        if (one && one->device_ == what.st_dev && one->inode_ == what.st_ino) found = one;
      }
    }
    return found;
  }

  borrowed_flags(int fd, int flags, const struct stat& what)
      : fd_(::fcntl(fd, F_DUPFD_CLOEXEC, 3)),
        flags_(flags),
        device_(what.st_dev),
        inode_(what.st_ino) {}
  borrowed_flags(const borrowed_flags&) = delete;
  borrowed_flags& operator=(const borrowed_flags&) = delete;
  ~borrowed_flags() {
    if (fd_) ::fcntl(fd_.get(), F_SETFL, flags_);
  }

 private:
  const unique_fd fd_;
  const int flags_;
  const dev_t device_;
  const ino_t inode_;
};

class restoring_stream final : public raw_stream {
 public:
  restoring_stream(std::shared_ptr<const borrowed_flags> flags, std::unique_ptr<raw_stream> under)
      : flags_(std::move(flags)), under_(std::move(under)) {}

  bool read(std::span<std::byte> into, operation& op) override { return under_->read(into, op); }
  bool write(std::span<const std::byte> from, operation& op) override {
    return under_->write(from, op);
  }
  std::size_t read_now(std::span<std::byte> into, std::error_code& failure) noexcept override {
    return under_->read_now(into, failure);
  }
  std::size_t write_now(std::span<const std::byte> from,
                        std::error_code& failure) noexcept override {
    return under_->write_now(from, failure);
  }
  bool shut_down(operation& op) override { return under_->shut_down(op); }
  void close() noexcept override { under_->close(); }
  void reset() noexcept override { under_->reset(); }
  int native_handle() const noexcept override { return under_->native_handle(); }

 private:
  const std::shared_ptr<const borrowed_flags> flags_;
  const std::unique_ptr<raw_stream> under_;
};

// What can be opened by the name of its descriptor and is the same thing then.
inline bool can_be_reopened(int fd, const struct stat& what) noexcept {
  if (S_ISFIFO(what.st_mode)) return true;
  // The master of a pseudo-terminal would be another terminal.
  unsigned number = 0;
  return S_ISCHR(what.st_mode) && ::isatty(fd) == 1 && ::ioctl(fd, TIOCGPTN, &number) != 0;
}

inline unique_fd reopen(int fd, pipe_end end) noexcept {
  const std::string name = "/proc/self/fd/" + std::to_string(fd);
  const int mode = end == pipe_end::reads ? O_RDONLY : O_WRONLY;
  return unique_fd(::open(name.c_str(), mode | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
}

// True for a FIFO that nobody has opened to write, as far as this open file can know. One that was
// opened anew knows less: it is asked of the old one, afterwards.
inline bool is_unopened_fifo(int fd, const struct stat& what) noexcept {
  pollfd now{fd, POLLIN, 0};
  return S_ISFIFO(what.st_mode) && ::poll(&now, 1, 0) == 0;
}

inline unique_fd copy_of(int fd) {
  unique_fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!copy) {
    throw_system_error(errno, "cannot make a stream of descriptor " + std::to_string(fd));
  }
  return copy;
}

/// A raw_stream on a descriptor of the user's, `given` or named by its number.
template <class = void>
std::unique_ptr<raw_stream> open_pipe(event_loop& loop, int fd, unique_fd given, pipe_end end) {
  struct stat what {};
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fstat(fd, &what) != 0) {
    throw_system_error(errno, "cannot make a stream of descriptor " + std::to_string(fd));
  }
  const int refused = end == pipe_end::reads ? O_WRONLY : O_RDONLY;
  if ((flags & O_ACCMODE) == refused || S_ISDIR(what.st_mode)) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "descriptor " + std::to_string(fd) +
                    (S_ISDIR(what.st_mode)    ? " is a directory"
                     : end == pipe_end::reads ? " is open for writing alone"
                                              : " is open for reading alone"));
  }
  ignore_broken_pipes();
  // The stream's own is only what it alone writes to: the other direction belongs to somebody else.
  const bool own = given && end == pipe_end::writes;
  auto kind = !S_ISSOCK(what.st_mode) ? descriptor_kind::other
              : own                   ? descriptor_kind::socket
                                      : descriptor_kind::shared_socket;
  const bool reads = end == pipe_end::reads;
  if ((flags & O_NONBLOCK) == 0 && can_be_reopened(fd, what)) {
    if (unique_fd anew = above_standard(reopen(fd, end))) {
      if (reads && is_unopened_fifo(fd, what)) kind = descriptor_kind::unopened_fifo;
      return new_descriptor_stream<>(loop, std::move(anew), kind);
    }
  }
  if (!given) given = copy_of(fd);
  if (reads && is_unopened_fifo(fd, what)) kind = descriptor_kind::unopened_fifo;
  if (S_ISREG(what.st_mode)) return new_descriptor_stream<>(loop, std::move(given), kind);
  auto borrowed = borrowed_flags::of(given.get(), flags, what);
  auto under = new_descriptor_stream<>(loop, std::move(given), kind);
  if (borrowed == nullptr) return under;
  return std::make_unique<restoring_stream>(std::move(borrowed), std::move(under));
}

template <class Options>
future<stream> pipe_stream(
    event_loop& loop, int fd, unique_fd given, pipe_end end, const Options& options) {
  promise<stream> made(loop);
  try {
    made.set_value(open_pipe<>(loop, fd, std::move(given), end), options, loop);
  } catch (...) {
    made.set_exception(std::current_exception());
  }
  return made.get_future();
}

}  // namespace pulsar::detail
