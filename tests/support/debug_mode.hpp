// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// For tests that drop futures on purpose, which the debug mode (`PULSAR_DEBUG=1`) reports.

#include <pulsar/core/event_loop.hpp>

#include <cstdlib>
#include <string>

/// While it lives, loops begin without debug mode, and so does the running one go on.
class without_debug_mode {
 public:
  without_debug_mode() {
    if (pulsar::event_loop* const loop = pulsar::event_loop::running()) loop->set_debug(false);
    const char* const wanted = std::getenv("PULSAR_DEBUG");
    if (wanted == nullptr) return;
    wanted_ = wanted;
    ::unsetenv("PULSAR_DEBUG");
  }
  without_debug_mode(const without_debug_mode&) = delete;
  without_debug_mode& operator=(const without_debug_mode&) = delete;
  ~without_debug_mode() {
    if (!wanted_.empty()) ::setenv("PULSAR_DEBUG", wanted_.c_str(), 1);
  }

 private:
  std::string wanted_{};
};
