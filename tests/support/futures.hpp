// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What tests of futures and combinators share: moments of a virtual clock, codes of failures, what
/// was reported to a loop, and a list in which coroutines note what they did.

#include <pulsar/core/event_loop.hpp>

#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
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

/// The same of a result.
template <class R>
  requires requires(const R& r) { r.has_value(); }
std::error_code code_of(const R& r) {
  return code_of(r.exception());
}

/// The code of what `f()` throws; no code if it throws nothing.
template <class F>
std::error_code error_of(F&& f) {
  try {
    static_cast<void>(std::forward<F>(f)());
  } catch (const std::system_error& e) {
    return e.code();
  }
  return {};
}

/// What reaches the exception handler of a loop while it lives, as text.
struct reports {
  explicit reports(pulsar::event_loop& loop) {
    loop.set_exception_handler([this](const pulsar::failure_report& r) {
      all.push_back(pulsar::detail::describe(r.exception));
    });
  }
  reports(const reports&) = delete;
  reports& operator=(const reports&) = delete;

  std::vector<std::string> all{};
};

/// Runs all there is to run.
inline void run(pulsar::event_loop& loop) {
  loop.context().restart();
  loop.context().run();
}

}  // namespace future_test
