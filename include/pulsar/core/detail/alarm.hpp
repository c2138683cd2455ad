// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The system calls of a loop's timer, a descriptor that becomes readable: Linux's timerfd.

#include <pulsar/core/descriptor.hpp>

#include <sys/timerfd.h>

#include <cerrno>
#include <cstdint>
#include <ctime>

namespace pulsar::detail {

inline unique_fd open_alarm() {
  auto alarm =
      above_standard(unique_fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)));
  if (!alarm) throw_system_error(errno, "an event loop gets no timer");
  return alarm;
}

/// Readable once `std::chrono::steady_clock` is `milliseconds` past its epoch, and not before.
inline void set_alarm(int alarm, std::uint64_t milliseconds) noexcept {
  itimerspec when{};
  when.it_value.tv_sec = static_cast<std::time_t>(milliseconds / 1000);
  when.it_value.tv_nsec = static_cast<long>(milliseconds % 1000) * 1'000'000;
  ::timerfd_settime(alarm, TFD_TIMER_ABSTIME, &when, nullptr);
}

/// Not readable any more.
inline void unset_alarm(int alarm) noexcept {
  const itimerspec never{};
  ::timerfd_settime(alarm, TFD_TIMER_ABSTIME, &never, nullptr);
}

}  // namespace pulsar::detail
