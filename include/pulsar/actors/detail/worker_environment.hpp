// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The machinery of <pulsar/actors/worker_environment.hpp>: reading the marker to the letter, asking
// the kernel about this process, and ending it with a sentence. All of it runs before the static
// variables of the program exist, so nothing here uses streams or locales.

#include <pulsar/core/descriptor.hpp>

#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace pulsar::detail {

inline constexpr int misuse_exit_code = 70;  // EX_SOFTWARE

// Ends the process at once, without running destructors: it has not become what it should be.
[[noreturn]] inline void refuse(const std::string& sentence) noexcept {
  const std::string line = "pulsar: " + sentence + "\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  ::_exit(misuse_exit_code);
}

// Gives a program that was started without one of the standard descriptors /dev/null there: it would
// get a socket, and whatever anybody prints would go into that.
inline void open_standard_descriptors() noexcept {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) static_cast<void>(::open("/dev/null", O_RDWR));  // the lowest free
  }
}

// Text from outside, fit for one line of a terminal.
inline std::string printable(std::string_view text) {
  constexpr std::size_t most = 100;
  std::string result;
  for (const char c : text.substr(0, most)) result += c >= ' ' && c <= '~' ? c : '?';
  if (text.size() > most) result += "...";
  return result;
}

// Takes a text apart from left to right; after the first mismatch nothing matches any more.
class marker_reader {
 public:
  explicit marker_reader(std::string_view text) noexcept : rest_(text) {}

  bool has(std::string_view expected) const noexcept { return rest_.starts_with(expected); }

  marker_reader& word(std::string_view expected) noexcept {
    good_ = good_ && has(expected);
    if (good_) rest_.remove_prefix(expected.size());
    return *this;
  }

  // Digits without a sign and without leading zeros, within the range of T.
  template <class T>
  marker_reader& number(T& value) noexcept {
    value = static_cast<T>(digits(std::numeric_limits<T>::max()));
    return *this;
  }

  bool finished() const noexcept { return good_ && rest_.empty(); }

 private:
  std::uint64_t digits(std::uint64_t most) noexcept {
    std::uint64_t value = 0;
    std::size_t size = 0;
    for (; size < rest_.size() && rest_[size] >= '0' && rest_[size] <= '9'; ++size) {
      const auto digit = static_cast<std::uint64_t>(rest_[size] - '0');
      good_ = good_ && value <= (most - digit) / 10;
      value = 10 * value + digit;
    }
    good_ = good_ && size > 0 && (size == 1 || rest_[0] != '0');
    if (good_) rest_.remove_prefix(size);
    return value;
  }

  std::string_view rest_;
  bool good_ = true;
};

// Why `fd` is not a Unix socket of `type`; empty if it is one.
inline std::string socket_problem(const char* name, int fd, int type) {
  const std::string what = std::string("descriptor ") + std::to_string(fd) + " (" + name + ") ";
  struct stat status {};
  if (::fstat(fd, &status) != 0) return what + "is not open";
  int domain = 0;
  int actual = 0;
  socklen_t size = sizeof domain;
  if (!S_ISSOCK(status.st_mode) || ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
      domain != AF_UNIX) {
    return what + "is no Unix socket";
  }
  size = sizeof actual;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &actual, &size) != 0 || actual != type) {
    return what + "is a socket of another type";
  }
  return {};
}

inline std::string current_directory() {
  std::array<char, PATH_MAX> path;
  return ::getcwd(path.data(), path.size()) != nullptr ? std::string(path.data()) : std::string();
}

inline std::vector<std::string> command_line() {
  std::vector<std::string> result;
  const unique_fd file(::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> chunk;
  for (ssize_t n = 0; file && (n = ::read(file.get(), chunk.data(), chunk.size())) > 0;) {
    text.append(chunk.data(), static_cast<std::size_t>(n));
  }
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = text.find('\0', begin);
    result.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) break;
    begin = end + 1;
  }
  return result;
}

// It can only be read by setting it: to the strict side, should another thread make a file now.
inline mode_t current_umask() noexcept {
  const mode_t mask = ::umask(077);
  ::umask(mask);
  return mask;
}

}  // namespace pulsar::detail
