// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Logging: one line a record, written at once, naming the actor that speaks.
///
///     pulsar::log::info("listening on {}", at.local());   // with address_format.hpp
///     // 2026-11-21 07:33:07.123 [4711] [info] [arbiter] listening on 127.0.0.1:8060
///
/// Any thread may log; errno stays as it is. A record is one line, whatever its text: control bytes
/// are written as `\n`, `\x1b` and so on, and what exceeds 4 KiB is cut. What is below the level costs
/// one relaxed load and formats nothing. A formatter for a type of one's own needs <fmt/format.h>.

#include <pulsar/core/detail/context.hpp>

#include <fmt/core.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar {

/// How grave a record is; `off` is a level for the logger alone: nothing is written.
enum class log_level { trace, debug, info, warning, error, critical, off };

/// The name of a level: "trace", "debug", "info", "warning", "error", "critical", "off".
constexpr std::string_view to_string(log_level level) noexcept {
  constexpr std::string_view names[] = {"trace", "debug",    "info", "warning",
                                        "error", "critical", "off"};
  return names[static_cast<std::size_t>(level)];
}

/// The level of that name, or nothing.
constexpr std::optional<log_level> parse_log_level(std::string_view name) noexcept {
  for (int i = 0; i <= static_cast<int>(log_level::off); ++i) {
    if (to_string(static_cast<log_level>(i)) == name) return static_cast<log_level>(i);
  }
  return std::nullopt;
}

/// Where finished records go. Called from any thread, possibly from several at once;
/// `line` ends with a newline. It should not throw: what it throws is dropped with the record.
using log_sink = void (*)(log_level level, std::string_view line);

namespace detail {

/// One write(2) a record, so that lines of several processes do not mix.
inline void write_to_stderr(log_level, std::string_view line) {
  while (!line.empty()) {
    const auto n = ::write(STDERR_FILENO, line.data(), line.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    line.remove_prefix(static_cast<std::size_t>(n));
  }
}

inline std::atomic<log_level> log_threshold{log_level::info};
inline std::atomic<log_sink> log_output{&write_to_stderr};

/// Who speaks in this thread where no actor does.
inline constinit thread_local std::string_view log_speaker{};

inline constexpr std::size_t longest_record = 4096;

/// Makes one line of a record, which may hold the text of strangers: no line of theirs, no command
/// for the terminal, no flood.
inline void tame(std::string& line) {
  constexpr std::string_view cut = " ... (cut)";
  if (line.size() > longest_record) {
    std::size_t end = longest_record - cut.size();
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0U) == 0x80U) --end;  // of UTF-8
    line.resize(end);
    line += cut;
  }
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  std::size_t at = 0;
  while (at < line.size() && !is_control(line[at])) ++at;
  if (at == line.size()) return;
  std::string tamed(line, 0, at);
  constexpr std::string_view digits = "0123456789abcdef";
  for (const char c : std::string_view(line).substr(at)) {
    if (!is_control(c)) {
      tamed += c;
    } else if (c == '\n') {
      tamed += "\\n";
    } else if (c == '\t') {
      tamed += "\\t";
    } else {
      const auto byte = static_cast<unsigned char>(c);
      tamed.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 15U]);
    }
  }
  line = std::move(tamed);
}

inline void log_record(log_level level, fmt::string_view format, fmt::format_args args) {
  const int code = errno;
  std::timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  std::tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  // Only what libfmt holds compiled: `format_to` compiles all of it again in each program.
  std::string line = fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03} [{}] [{}] ",
                                 parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                                 parts.tm_hour, parts.tm_min, parts.tm_sec,
                                 now.tv_nsec / 1'000'000, ::getpid(), to_string(level));
  const bool in_actor = this_context != nullptr && !this_context->name.empty();
  const std::string_view speaker = in_actor ? std::string_view(this_context->name) : log_speaker;
  if (!speaker.empty()) line.append("[").append(speaker).append("] ");
  if (this_context != nullptr && this_context->addition != nullptr) {
    line.append(this_context->addition->fields);
  }
  line += fmt::vformat(format, args);
  tame(line);
  line.push_back('\n');
  try {
    log_output.load(std::memory_order_acquire)(level, line);
  } catch (...) {
    // Who logs is often where no exception may leave.
  }
  errno = code;
}

}  // namespace detail

/// Names the speaker of this thread's records while it lives, where no actor speaks; `name` must
/// outlive it.
class log_scope {
 public:
  explicit log_scope(std::string_view name) noexcept
      : before_(std::exchange(detail::log_speaker, name)) {}
  log_scope(const log_scope&) = delete;
  log_scope& operator=(const log_scope&) = delete;
  ~log_scope() { detail::log_speaker = before_; }

 private:
  std::string_view before_;
};

namespace log {

/// Records below `level` are dropped from now on. Any thread.
inline void set_level(log_level level) noexcept {
  detail::log_threshold.store(level, std::memory_order_relaxed);
}

/// The level set last; `info` at the start.
inline log_level level() noexcept { return detail::log_threshold.load(std::memory_order_relaxed); }

/// Sends records to `sink` from now on; returns the sink before. Standard error at the start.
inline log_sink set_sink(log_sink sink) noexcept {
  return detail::log_output.exchange(sink, std::memory_order_acq_rel);
}

/// Writes one record if `at` is not below the level.
template <class... Args>
void write(log_level at, fmt::format_string<Args...> format, Args&&... args) {
  if (at >= level()) detail::log_record(at, format, fmt::make_format_args(args...));
}

template <class... Args>
void trace(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level::trace >= level()) {
    detail::log_record(log_level::trace, format, fmt::make_format_args(args...));
  }
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level::debug >= level()) {
    detail::log_record(log_level::debug, format, fmt::make_format_args(args...));
  }
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level::info >= level()) {
    detail::log_record(log_level::info, format, fmt::make_format_args(args...));
  }
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level::warning >= level()) {
    detail::log_record(log_level::warning, format, fmt::make_format_args(args...));
  }
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level::error >= level()) {
    detail::log_record(log_level::error, format, fmt::make_format_args(args...));
  }
}
template <class... Args>
void critical(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level::critical >= level()) {
    detail::log_record(log_level::critical, format, fmt::make_format_args(args...));
  }
}

}  // namespace log
}  // namespace pulsar
