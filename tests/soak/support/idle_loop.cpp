// SPDX-License-Identifier: BSD-3-Clause
//
// Arms a thousand deadlines within the next minute, sleeps on them once, cancels them all, says so,
// and waits for what never comes.

#include <pulsar/core/event_loop.hpp>

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

using namespace std::chrono_literals;

#ifdef SYS_epoll_wait
constexpr long wait_call = SYS_epoll_wait;
#else
constexpr long wait_call = SYS_epoll_pwait;
#endif

// Does that thread wait for descriptors, for as long as it takes?
bool sleeps(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/syscall");
  std::string call;
  std::string argument;
  file >> call;
  for (int i = 0; i < 4; ++i) file >> argument;  // the fourth is the time
  return call == std::to_string(wait_call) && argument.ends_with("ffffffff");
}

int main() {
  pulsar::event_loop loop;
  static std::array<pulsar::handle, 1000> deadlines;
  int i = 0;
  for (auto& each : deadlines) each = loop.call_later(3s + 57ms * i++, [] { ::_exit(1); });
  // From outside, so that the loop has gone to sleep until the first of them.
  std::thread canceller([&loop, mine = ::gettid()] {
    while (!sleeps(mine)) std::this_thread::sleep_for(1ms);
    loop.call_soon_threadsafe([&loop] {
      for (auto& each : deadlines) each.cancel();
      loop.call_soon([] { static_cast<void>(::write(STDOUT_FILENO, "idle\n", 5)); });
    });
  });
  canceller.detach();
  loop.run_forever();
}
