// SPDX-License-Identifier: BSD-3-Clause
//
// Leaves main with thread actors that are alive, busy, or about to start, and prints what becomes
// of them.

#include <pulsar/actors/concurrency.hpp>
#include <pulsar/actors/send.hpp>

#include <chrono>
#include <cstdio>
#include <string>
#include <tuple>
#include <utility>

using namespace pulsar::literals;
using namespace std::chrono_literals;

namespace {

void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

class worker : public pulsar::actor<worker> {
 public:
  ~worker() override { say(name() + " destroyed"); }
  void on_start() { create_task(background()); }
  pulsar::future<> on_stop() {
    co_await pulsar::sleep(1ms);
    say(name() + " stopped");
  }
  pulsar::future<> work() {
    co_await pulsar::sleep(50ms);
    say(name() + " worked");
  }
  using commands = pulsar::commands<&worker::work>;

 private:
  static pulsar::future<> background() { co_await pulsar::sleep(24h); }
};

pulsar::future<pulsar::actor_ref<worker>> spawn_worker(std::string name) {
  return pulsar::concurrency::thread::spawn<worker>(pulsar::spawn_options{.name = name},
                                                    std::tuple<>());
}

pulsar::future<> app() {
  const auto idle = co_await spawn_worker("idle");
  const auto busy = co_await spawn_worker("busy");
  tell(busy, "work"_cmd);
  const std::string pong = co_await send(busy, pulsar::cmd::ping);  // it works by now
  spawn_worker("early").detach();
}

}  // namespace

int main() {
  pulsar::event_loop loop;
  loop.run_until_complete(app);
  say("main ends");
}
