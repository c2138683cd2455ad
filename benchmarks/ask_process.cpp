// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// One `send` to an actor in another process and its reply. Beside it a message of 64 bytes there
/// and back over a bare Unix stream pair, pinned to the same CPUs, which are kept from sleeping.
/// `ask_process:sleeping` lets them sleep: most of the time is then spent waking the other one, on
/// a virtual machine by the hypervisor.

#include <pulsar/pulsar.hpp>

#include "support/harness.hpp"
#include "support/raw_pair.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace {

using namespace pulsar::literals;

constexpr std::size_t message_size = 64;
constexpr std::uint64_t warm_up = 100;

class account : public pulsar::actor<account> {
 public:
  void pin(std::uint64_t cpu) { bench::pin(cpu); }
  long deposit(long cents) { return cents_ += cents; }
  using commands = pulsar::commands<&account::pin, &account::deposit>;

 private:
  long cents_ = 0;
};

pulsar::future<> asks(pulsar::actor_ref<account> bank, std::uint64_t left) {
  for (; left != 0; --left) {
    const long cents = co_await send(bank, "deposit"_cmd, 1);
    bench::do_not_optimize(cents);
  }
}

pulsar::future<> measure(std::uint64_t cpu, std::uint64_t times, double& seconds) {
  // Spawned before we pin ourselves: a child may use only the CPUs of its parent.
  auto bank = co_await pulsar::spawn<account, pulsar::concurrency::process>();
  const bench::pinned here(0);
  co_await send(bank, "pin"_cmd, cpu);
  co_await asks(bank, warm_up);
  const double began = bench::wall_seconds();
  co_await asks(bank, times);
  seconds = bench::wall_seconds() - began;
}

/// We run on the first CPU, the actor on `cpu`.
bench::kernel ask_process(char* program, std::uint64_t cpu) {
  return [program, cpu](std::uint64_t times) {
    double seconds = 0;
    char* arguments[] = {program, nullptr};
    pulsar::run(1, arguments, [&] { return measure(cpu, times, seconds); });
    return seconds;
  };
}

enum class cpus { sleep, stay_awake };

bench::kernel awake(bench::kernel work) {
  return [work = std::move(work)](std::uint64_t times) {
    const bench::kept_awake cpus_in_use;
    return work(times);
  };
}

}  // namespace

int main(int argc, char** argv) {
  pulsar::serve_if_worker(argc, argv);
  return bench::run(argc, argv, [&](bench::suite& suite) {
    using bench::raw_round_trips;
    const bool counting = !suite.asked().once.empty();
    const auto compare = [&](const std::string& name, std::size_t cpu, bench::target goal,
                             cpus may) {
      const auto prepared = [=](bench::kernel work) {
        return may == cpus::sleep || counting ? work : awake(std::move(work));
      };
      suite.compare(
          {"raw stream pair", [=] { return prepared(raw_round_trips(message_size, 0, cpu)); }, {}},
          {{name, [=] { return prepared(ask_process(argv[0], cpu)); }, goal,
            may == cpus::sleep ? std::uint64_t{0} : 2000},
           {name + ":raw_epoll",
            [=] {
              return prepared(raw_round_trips(message_size, 0, cpu, bench::waiting::in_epoll));
            },
            {},
            0}});
    };
    compare("ask_process", 1, bench::ratio_at_most(1.5, 1.2), cpus::stay_awake);
    compare("ask_process:same_cpu", 0, bench::ratio_at_most(1.5, 1.2), cpus::stay_awake);
    compare("ask_process:sleeping", 1, {}, cpus::sleep);
  });
}
