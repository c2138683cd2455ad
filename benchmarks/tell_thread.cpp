// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// One `tell` to an actor on another thread. Beside it `asio::post` between the same two threads.
///
/// The bound of the mailbox is on, and a tell never waits: so the sender asks for a receipt after
/// every window of messages, and goes on while the receipt of the window before is not there yet.

#include <pulsar/pulsar.hpp>

#include "support/asio_yardsticks.hpp"
#include "support/harness.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>

namespace {

using namespace pulsar::literals;

// Two of them fit into a mailbox of 10,000.
constexpr std::uint64_t window = 4096;

class account : public pulsar::actor<account> {
 public:
  void pin() { bench::pin(1); }
  void deposit(long cents) {
    cents_ += cents;
    bench::do_not_optimize(cents_);
  }
  long receipt() { return cents_; }
  using commands = pulsar::commands<&account::pin, &account::deposit, &account::receipt>;

 private:
  long cents_ = 0;
};

pulsar::future<> tells(pulsar::actor_ref<account> bank, std::uint64_t messages) {
  const long before = co_await send(bank, "receipt"_cmd);
  auto receipt = send(bank, "receipt"_cmd);
  for (std::uint64_t left = messages; left != 0;) {
    const std::uint64_t now = std::min(left, window);
    for (std::uint64_t i = 0; i < now; ++i) tell(bank, "deposit"_cmd, 1);
    left -= now;
    auto next = send(bank, "receipt"_cmd);
    co_await std::move(receipt);
    receipt = std::move(next);
  }
  const long after = co_await std::move(receipt);
  if (after - before != static_cast<long>(messages)) {
    throw std::runtime_error("messages of the benchmark were lost");
  }
}

pulsar::future<pulsar::actor_ref<account>> open() {
  auto bank = co_await pulsar::spawn<account, pulsar::concurrency::thread>();
  co_await send(bank, "pin"_cmd);
  co_return bank;
}

bench::kernel tell_thread() {
  struct bank {
    pulsar::event_loop loop;
    pulsar::actor_ref<account> ref = loop.run_until_complete(&open);
  };
  auto here = std::make_shared<bank>();
  return [here](std::uint64_t messages) {
    const bench::pinned stay(0);
    return bench::timed(
        [&] { here->loop.run_until_complete([&] { return tells(here->ref, messages); }); });
  };
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    suite.compare({"asio::post", &bench::asio_post_across_threads, {}},
                  {{"tell_thread", &tell_thread, bench::value_at_most(50, 35), 40960}});
  });
}
