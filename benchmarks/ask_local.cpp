// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// One `send` to an actor of the same loop and its reply, with deadline and bound. Beside it what a
/// program without actors would write: a posted handler that calls a virtual function, and another
/// one that takes the result.

#include <pulsar/pulsar.hpp>

#include "support/asio_yardsticks.hpp"
#include "support/harness.hpp"

#include <cstdint>
#include <memory>

namespace {

using namespace pulsar::literals;

class account : public pulsar::actor<account> {
 public:
  long deposit(long cents) { return cents_ += cents; }
  using commands = pulsar::commands<&account::deposit>;

 private:
  long cents_ = 0;
};

pulsar::future<> asks(pulsar::actor_ref<account> bank, std::uint64_t left) {
  for (; left != 0; --left) {
    const long cents = co_await send(bank, "deposit"_cmd, 1);
    bench::do_not_optimize(cents);
  }
}

pulsar::future<pulsar::actor_ref<account>> open() {
  return pulsar::spawn<account, pulsar::concurrency::coroutine>();
}

bench::kernel ask_local() {
  struct bank {
    pulsar::event_loop loop;
    pulsar::actor_ref<account> ref = loop.run_until_complete(&open);
  };
  auto here = std::make_shared<bank>();
  return [here](std::uint64_t times) {
    return bench::timed(
        [&] { here->loop.run_until_complete([&] { return asks(here->ref, times); }); });
  };
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    const bench::pinned here(0);
    suite.compare({"asio::post of a call", &bench::asio_posted_call, {}},
                  {{"ask_local", &ask_local, bench::value_at_most(100, 60)}});
  });
}
