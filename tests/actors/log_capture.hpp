// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What is logged while a `log_capture` lives, at any level and from any thread.

#include <pulsar/core/log.hpp>

#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

class log_capture {
 public:
  log_capture() : level_(pulsar::log::level()), sink_(pulsar::log::set_sink(&take)) {
    pulsar::log::set_level(pulsar::log_level::trace);
    const std::lock_guard lock(mutex_);
    lines_.clear();
  }
  log_capture(const log_capture&) = delete;
  log_capture& operator=(const log_capture&) = delete;
  ~log_capture() {
    pulsar::log::set_level(level_);
    pulsar::log::set_sink(sink_);
  }

  /// How many lines contain `text`.
  static std::size_t count(std::string_view text) {
    const std::lock_guard lock(mutex_);
    std::size_t n = 0;
    for (const auto& line : lines_) n += line.find(text) != std::string::npos;
    return n;
  }

  /// All of them, for the message of a test that fails.
  static std::string all() {
    const std::lock_guard lock(mutex_);
    std::string text;
    for (const auto& line : lines_) text += line;
    return text;
  }

 private:
  static void take(pulsar::log_level, std::string_view line) {
    const std::lock_guard lock(mutex_);
    lines_.emplace_back(line);
  }

  // A sink is a plain function.
  static inline std::mutex mutex_;
  static inline std::vector<std::string> lines_;

  pulsar::log_level level_;
  pulsar::log_sink sink_;
};
