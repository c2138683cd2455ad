// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What tests of futures and combinators share: moments of a virtual clock, codes of failures, and
/// a list in which coroutines note what they did.

#include <pulsar/core/event_loop.hpp>

#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

namespace future_test {

using steps = std::shared_ptr<std::vector<std::string>>;

inline steps new_steps() { return std::make_shared<std::vector<std::string>>(); }

inline pulsar::event_loop::time_point at(pulsar::event_loop::duration since_start) {
  return pulsar::event_loop::time_point(since_start);
}

/// No code if it has none.
inline std::error_code code_of(const std::exception_ptr& failure) {
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::system_error& e) {
    return e.code();
  } catch (...) {
  }
  return {};
}

/// Runs all there is to run.
inline void run(pulsar::event_loop& loop) {
  loop.context().restart();
  loop.context().run();
}

}  // namespace future_test
