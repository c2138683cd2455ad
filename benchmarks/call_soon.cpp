// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// One hop through the ready queue: a chain of callbacks, each asking for the next, while a
/// descriptor is pending in the reactor. Beside it the same chain through `asio::post`.

#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>

#include <asio/posix/stream_descriptor.hpp>
#include <unistd.h>

#include "support/asio_yardsticks.hpp"
#include "support/harness.hpp"

#include <cstdint>
#include <memory>
#include <system_error>

namespace {

/// A loop as a server has it: its reactor waits for a descriptor all the time.
struct busy_loop {
  busy_loop() {
    descriptor.async_wait(asio::posix::stream_descriptor::wait_read, [](std::error_code) {});
  }

  pulsar::event_loop loop;
  bench::silent_pipe pipe;
  asio::posix::stream_descriptor descriptor{loop.context(), ::dup(pipe.reader())};
};

struct hop {
  pulsar::event_loop* loop;
  std::uint64_t left;

  void operator()() const {
    if (left == 0) return loop->stop();
    loop->call_soon(hop{loop, left - 1});
  }
};

bench::kernel call_soon_chain() {
  auto busy = std::make_shared<busy_loop>();
  return [busy](std::uint64_t hops) {
    return bench::timed([&] {
      busy->loop.call_soon(hop{&busy->loop, hops});
      busy->loop.run_forever();
    });
  };
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    const bench::pinned here(0);
    suite.compare({"asio::post", &bench::asio_post_chain, {}},
                  {{"call_soon", &call_soon_chain, bench::value_at_most(6, 3)}});
  });
}
