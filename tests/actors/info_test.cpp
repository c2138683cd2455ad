// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/info.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/core/codec.hpp>

#include "actors/local_spawn.hpp"
#include "support/coro_test.hpp"

#include <unistd.h>

#include <string>
#include <vector>

using namespace pulsar::literals;
using namespace std::chrono_literals;
using pulsar::actor_info;
using pulsar::future;
using pulsar::spawn_options;

namespace {

class cook : public pulsar::actor<cook> {
 public:
  future<> roast() { co_await pulsar::sleep(1h); }
  int chop(int n) { return n; }
  void burn() { throw std::string("no std::exception"); }
  using commands = pulsar::commands<&cook::roast, pulsar::named<"cut", &cook::chop>, &cook::burn>;
};

}  // namespace

TEST_SUITE("info") {
  TEST_CASE("it is a plain value that crosses processes") {
    actor_info before;
    before.id = (std::uint64_t{7} << 32) + 3;
    before.name = "bank";
    before.state = "running";
    before.process_id = 4711;
    before.uptime_ms = 12;
    before.pending = 1;
    before.handled = 2;
    before.refused = 3;
    before.commands = {"deposit", "check"};
    pulsar::buffer bytes;
    encode(bytes, before);
    const auto after = pulsar::decode<actor_info>(bytes.readable());
    CHECK(after.id == before.id);
    CHECK(after.name == "bank");
    CHECK(after.state == "running");
    CHECK(after.process_id == 4711);
    CHECK(after.uptime_ms == 12);
    CHECK(after.pending == 1);
    CHECK(after.handled == 2);
    CHECK(after.refused == 3);
    CHECK(after.commands == before.commands);
  }

  CORO_TEST_CASE("an actor tells of itself what is so") {
    const auto chef = co_await spawn_local<cook>(spawn_options{.name = "chef"});
    co_await pulsar::sleep(1500ms);
    const actor_info at_first = co_await send(chef, pulsar::cmd::info);
    CHECK(at_first.id == chef.id());
    CHECK(at_first.name == "chef");
    CHECK(at_first.state == "running");
    CHECK(at_first.process_id == ::getpid());
    CHECK(at_first.uptime_ms == 1500);
    CHECK(at_first.pending == 1);  // the question itself
    CHECK(at_first.handled == 0);
    CHECK(at_first.refused == 0);
    CHECK(at_first.commands == std::vector<std::string>{"roast", "cut", "burn"});
  }

  CORO_TEST_CASE("commands are counted when they have ended, failed or not") {
    const auto chef = co_await spawn_local<cook>();
    co_await send(chef, "cut"_cmd, 3);
    const auto burnt = co_await as_result(send(chef, "burn"_cmd));
    CHECK_FALSE(burnt.has_value());
    auto long_dinner = send(chef, "roast"_cmd);
    const actor_info now = co_await send(chef, pulsar::cmd::info);
    CHECK(now.handled == 2);
    CHECK(now.pending == 2);  // the dinner and the question
    CHECK(now.refused == 0);
  }
}
