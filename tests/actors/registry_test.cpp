// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/registry.hpp>
#include <pulsar/actors/send.hpp>

#include "actors/local_spawn.hpp"
#include "support/coro_test.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using pulsar::actor_ref;
using pulsar::errc;
using pulsar::future;
using pulsar::registry;
using pulsar::spawn_options;
namespace concurrency = pulsar::concurrency;

namespace {

class idle : public pulsar::actor<idle> {
 public:
  using commands = pulsar::commands<>;
};

class refuses_to_be : public pulsar::actor<refuses_to_be> {
 public:
  refuses_to_be() { throw std::invalid_argument("not in the mood"); }
  using commands = pulsar::commands<>;
};

class refuses_to_start : public pulsar::actor<refuses_to_start> {
 public:
  future<> on_start() {
    co_await pulsar::sleep(1ms);
    throw std::invalid_argument("no socket");
  }
  using commands = pulsar::commands<>;
};

template <class A, class Policy>
std::string failure_of_spawn(pulsar::event_loop& loop, spawn_options options) {
  const auto failed =
      loop.run_until_complete([&] { return as_result(spawn_local<A, Policy>(options)); });
  return failed.message();
}

}  // namespace

TEST_SUITE("registry") {
  TEST_CASE("numbers are never given twice and name the process") {
    auto& all = registry::instance();
    std::vector<std::thread> threads;
    std::vector<std::vector<std::uint64_t>> given(4);
    for (auto& mine : given) {
      threads.emplace_back([&all, &mine] {
        for (int i = 0; i < 1000; ++i) mine.push_back(all.next_id());
      });
    }
    for (auto& t : threads) t.join();
    std::set<std::uint64_t> distinct;
    for (auto& mine : given) distinct.insert(mine.begin(), mine.end());
    CHECK(distinct.size() == 4000);
    CHECK(std::all_of(distinct.begin(), distinct.end(), [&all](std::uint64_t id) {
      return registry::process_of(id) == all.process();
    }));
  }

  TEST_CASE("nobody is found under a name or number that was not given") {
    CHECK_FALSE(static_cast<bool>(registry::instance().find("nobody at all")));
    CHECK_FALSE(static_cast<bool>(registry::instance().find("")));
    CHECK_FALSE(static_cast<bool>(registry::instance().find(std::uint64_t{0})));
  }

  CORO_TEST_CASE("an actor is found by its name and its number until it has ended") {
    const actor_ref<> bank = co_await spawn_local<idle>(spawn_options{.name = "bank"});
    const actor_ref<> other = co_await spawn_local<idle>();
    auto& all = registry::instance();
    CHECK(all.find("bank") == bank);
    CHECK(all.find(bank.id()) == bank);
    CHECK(all.find(other.id()) == other);
    co_await send(bank, pulsar::cmd::stop);
    CHECK_FALSE(static_cast<bool>(all.find("bank")));
    CHECK_FALSE(static_cast<bool>(all.find(bank.id())));
    CHECK(all.find(other.id()) == other);
  }

  CORO_TEST_CASE("an actor without a name of its own is found by its number alone") {
    const auto one = co_await spawn_local<idle>();
    CHECK(one.name().starts_with("idle#"));
    CHECK_FALSE(static_cast<bool>(registry::instance().find(one.name())));
  }

  CORO_TEST_CASE("all actors are listed in the order of their birth") {
    const auto before = registry::instance().all().size();
    std::vector<actor_ref<>> made;
    for (int i = 0; i < 5; ++i) {
      const auto one = co_await spawn_local<idle>();
      made.push_back(one);
    }
    auto listed = registry::instance().all();
    CHECK(listed.size() == before + 5);
    CHECK(std::equal(made.begin(), made.end(), listed.end() - 5));
    co_await send(made[2], pulsar::cmd::stop);
    CHECK(registry::instance().all().size() == before + 4);
  }

  CORO_TEST_CASE("a name is taken by one living actor, and free again as soon as it has ended") {
    const auto first = co_await spawn_local<idle>(spawn_options{.name = "bank"});
    const auto second = co_await as_result(spawn_local<idle>(spawn_options{.name = "bank"}));
    CHECK(second.code() == errc::name_taken);
    CHECK(second.message() == "an actor named 'bank' is alive already: the name is taken");
    CHECK(registry::instance().find("bank") == first);
    co_await send(first, pulsar::cmd::stop);
    const auto third = co_await spawn_local<idle>(spawn_options{.name = "bank"});
    CHECK(registry::instance().find("bank") == third);
    CHECK(third != first);
  }

  TEST_CASE("a name is unique among the actors of all loops and threads") {
    pulsar::event_loop loop;
    const auto there = loop.run_until_complete(
        [] { return spawn_local<idle, concurrency::thread>(spawn_options{.name = "bank"}); });
    CHECK(registry::instance().find("bank") == there);
    CHECK(failure_of_spawn<idle, concurrency::coroutine>(loop, {.name = "bank"}) ==
          "an actor named 'bank' is alive already: the name is taken");
    CHECK(failure_of_spawn<idle, concurrency::thread>(loop, {.name = "bank"}) ==
          "an actor named 'bank' is alive already: the name is taken");
    loop.run_until_complete([&there] { return send(there, pulsar::cmd::stop); });
    CHECK_FALSE(static_cast<bool>(registry::instance().find("bank")));
  }

  TEST_CASE_TEMPLATE("an actor that does not come to life leaves no trace", Policy,
                     concurrency::coroutine, concurrency::thread) {
    pulsar::event_loop loop;
    const auto before = registry::instance().all().size();
    CHECK(failure_of_spawn<refuses_to_be, Policy>(loop, {.name = "nobody"}) == "not in the mood");
    CHECK_FALSE(static_cast<bool>(registry::instance().find("nobody")));
    CHECK(failure_of_spawn<refuses_to_start, Policy>(loop, {.name = "nobody"}) == "no socket");
    CHECK_FALSE(static_cast<bool>(registry::instance().find("nobody")));
    CHECK(registry::instance().all().size() == before);
  }

  TEST_CASE("the actors of a loop leave with it") {
    const auto before = registry::instance().all().size();
    {
      pulsar::event_loop loop;
      loop.run_until_complete([] { return spawn_local<idle>(spawn_options{.name = "bank"}); });
      loop.run_until_complete([] { return spawn_local<idle>(); });
      CHECK(registry::instance().all().size() == before + 2);
    }
    CHECK(registry::instance().all().size() == before);
    CHECK_FALSE(static_cast<bool>(registry::instance().find("bank")));
  }

  TEST_CASE("any thread may look while actors come and go") {
    std::atomic<bool> over = false;
    std::atomic<int> found = 0;
    std::thread watcher([&] {
      while (!over) {
        if (const auto seen = registry::instance().find("sometimes")) {
          if (seen.name() == "sometimes") ++found;
        }
        for (const auto& one : registry::instance().all()) {
          if (one.id() == 0) found = -1'000'000;
        }
      }
    });
    pulsar::event_loop loop;
    for (int round = 0; round < 200; ++round) {
      auto ref = loop.run_until_complete(
          [] { return spawn_local<idle>(spawn_options{.name = "sometimes"}); });
      while (round < 5 && found <= round) std::this_thread::yield();
      loop.run_until_complete([&ref] { return send(ref, pulsar::cmd::stop); });
    }
    over = true;
    watcher.join();
    CHECK(found >= 5);
  }
}
