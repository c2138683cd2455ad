// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What a measurement needs of the machine: clocks, CPU time, pinning, an optimiser barrier.
///
///     bench::pinned here(0);  // this thread stays on the first CPU we may use
///     const auto began = bench::wall_seconds();
///     bench::do_not_optimize(work());
///     const auto took = bench::wall_seconds() - began;

#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace bench {

/// Makes `value` observed: the compiler can neither drop what produced it nor guess what it is.
template <class T>
void do_not_optimize(T& value) noexcept {
  asm volatile("" : "+m"(value) : : "memory");
}

template <class T>
void do_not_optimize(const T& value) noexcept {
  asm volatile("" : : "m"(value) : "memory");
}

/// Seconds on `clock`.
inline double seconds_of(clockid_t clock) {
  timespec now{};
  if (::clock_gettime(clock, &now) != 0) {
    throw std::system_error(errno, std::generic_category(), "clock_gettime");
  }
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Seconds that pass whatever this process does.
inline double wall_seconds() { return seconds_of(CLOCK_MONOTONIC); }

/// User and system time that all threads of this process have used.
inline double cpu_seconds() { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }

/// User and system time that all threads of the process `pid` have used, to the nanosecond
/// (utime and stime of /proc/PID/stat are the same, cut to ticks of 10 ms).
inline double cpu_seconds(pid_t pid) {
  clockid_t clock{};
  if (const int failure = ::clock_getcpuclockid(pid, &clock); failure != 0) {
    throw std::system_error(failure, std::generic_category(),
                            "CPU clock of process " + std::to_string(pid));
  }
  return seconds_of(clock);
}

/// The CPUs this process was allowed to use when it started.
inline const std::vector<int>& usable_cpus() {
  static const std::vector<int> cpus = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) != 0) {
      throw std::system_error(errno, std::generic_category(), "sched_getaffinity");
    }
    std::vector<int> found;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) found.push_back(cpu);
    }
    return found;
  }();
  return cpus;
}

/// Keeps the calling thread on the `index`-th usable CPU; past the last one it starts over, so
/// that two neighbours share a machine of one CPU. Threads and children made later inherit it.
inline void pin(std::size_t index) {
  const auto& cpus = usable_cpus();
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpus[index % cpus.size()]), &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) {
    throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
  }
}

/// Undoes `pin`: the calling thread may use every CPU again.
inline void unpin() {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : usable_cpus()) CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) {
    throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
  }
}

/// Pins the calling thread while it lives.
class pinned {
 public:
  explicit pinned(std::size_t index) { pin(index); }
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;
  ~pinned() {
    try {
      unpin();
    } catch (const std::system_error&) {
      // The thread stays where it was: slower perhaps, never wrong.
    }
  }
};

/// Keeps the first two usable CPUs from sleeping while it lives: a thread on each runs whenever
/// nothing else wants to (SCHED_IDLE). A virtual CPU that sleeps is woken by the hypervisor, which
/// takes longer than what is measured and a different time each hour.
class kept_awake {
 public:
  kept_awake() : threads_{std::thread(&run, this, 0), std::thread(&run, this, 1)} {}
  kept_awake(const kept_awake&) = delete;
  kept_awake& operator=(const kept_awake&) = delete;
  ~kept_awake() {
    over_.store(true, std::memory_order_relaxed);
    for (std::thread& t : threads_) t.join();
  }

 private:
  static void run(kept_awake* self, std::size_t cpu) {
    const sched_param lowest{};
    if (::sched_setscheduler(0, SCHED_IDLE, &lowest) != 0) return;  // never beside what is measured
    pin(cpu);
    while (!self->over_.load(std::memory_order_relaxed)) {
    }
  }

  std::atomic<bool> over_{false};
  std::thread threads_[2];
};

/// The compiler that built this program, as `instructions.json` names it: "g++-12.2".
inline std::string compiler() {
#if defined(__clang__)
  return "clang++-" + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#else
  return "g++-" + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#endif
}

/// Whether this program was built for speed: optimised, without assertions and sanitizers.
constexpr bool release_build() noexcept {
#if defined(__OPTIMIZE__) && defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

}  // namespace bench
