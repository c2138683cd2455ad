// SPDX-License-Identifier: BSD-3-Clause
//
// Arms a thousand deadlines within the next minute, sleeps on them once, cancels them all, says so,
// and waits for what never comes.

#include <pulsar/core/event_loop.hpp>

#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

using namespace std::chrono_literals;

int main() {
  pulsar::event_loop loop;
  static std::array<pulsar::handle, 1000> deadlines;
  int i = 0;
  for (auto& each : deadlines) each = loop.call_later(3s + 57ms * i++, [] { ::_exit(1); });
  // From outside, so that the loop has gone to sleep until the first of them.
  std::thread canceller([&loop] {
    std::this_thread::sleep_for(200ms);
    loop.call_soon_threadsafe([&loop] {
      for (auto& each : deadlines) each.cancel();
      loop.call_soon([] { static_cast<void>(::write(STDOUT_FILENO, "idle\n", 5)); });
    });
  });
  canceller.detach();
  loop.run_forever();
}
