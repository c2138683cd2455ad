// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/ref.hpp>
#include <pulsar/actors/send.hpp>

#include "actors/local_spawn.hpp"
#include "actors/log_capture.hpp"
#include "support/coro_test.hpp"

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

using namespace pulsar::literals;
using pulsar::actor_ref;
using pulsar::errc;
using pulsar::future;
using pulsar::spawn_options;

namespace {

class counter : public pulsar::actor<counter> {
 public:
  int next() { return ++last_; }
  using commands = pulsar::commands<&counter::next>;

 private:
  int last_ = 0;
};

}  // namespace

TEST_SUITE("ref") {
  TEST_CASE("a reference that was made from nothing refers to none") {
    const actor_ref<> none;
    CHECK_FALSE(static_cast<bool>(none));
    CHECK(none.id() == 0);
    CHECK(none.name().empty());
    CHECK(none == actor_ref<>());
    CHECK(none == actor_ref<counter>());
    CHECK(std::hash<actor_ref<>>()(none) == std::hash<actor_ref<counter>>()(actor_ref<counter>()));
  }

  TEST_CASE("a reference is a value, and loses its type only one way") {
    CHECK(std::is_nothrow_move_constructible_v<actor_ref<counter>>);
    CHECK(std::is_copy_assignable_v<actor_ref<counter>>);
    CHECK(std::is_convertible_v<actor_ref<counter>, actor_ref<>>);
    CHECK_FALSE(std::is_convertible_v<actor_ref<>, actor_ref<counter>>);
  }

  TEST_CASE("named_actor keeps the name and asks nobody") {
    CHECK(pulsar::named_actor("no such actor").name() == "no such actor");
  }

  CORO_TEST_CASE("two references are equal if they refer to the same actor") {
    const auto a = co_await spawn_local<counter>(spawn_options{.name = "a"});
    const auto b = co_await spawn_local<counter>();
    const actor_ref<> same = a;
    CHECK(static_cast<bool>(a));
    CHECK(a == same);
    CHECK(a != b);
    CHECK(a != actor_ref<>());
    CHECK(a.id() == same.id());
    CHECK(a.name() == "a");
    CHECK(same.name() == "a");

    std::unordered_set<actor_ref<counter>> set{a, b, a};
    CHECK(set.size() == 2);
    CHECK(set.contains(b));
    CHECK(std::hash<actor_ref<>>()(same) == std::hash<actor_ref<counter>>()(a));
  }

  CORO_TEST_CASE("a reference that was moved from refers to none") {
    auto a = co_await spawn_local<counter>();
    const auto id = a.id();
    const auto b = std::move(a);
    CHECK_FALSE(static_cast<bool>(a));
    CHECK(b.id() == id);
    a = b;
    CHECK(a == b);
  }

  CORO_TEST_CASE("a reference outlives its actor and then only fails") {
    const auto a = co_await spawn_local<counter>(spawn_options{.name = "short-lived"});
    co_await send(a, pulsar::cmd::stop);
    CHECK(static_cast<bool>(a));
    CHECK(a.name() == "short-lived");
    const auto typed = co_await as_result(send(a, "next"_cmd));
    CHECK(typed.code() == errc::actor_gone);
    CHECK(typed.message() == "'short-lived' has ended: the actor is gone");
    const auto untyped = co_await as_result(pulsar::send<int>(actor_ref<>(a), "next"));
    CHECK(untyped.code() == errc::actor_gone);
    CHECK(untyped.message() == "'short-lived' has ended: the actor is gone");
  }

  TEST_CASE("a reference outlives the loop of its actor, here and in other threads") {
    const log_capture logged;
    actor_ref<counter> left;
    {
      pulsar::event_loop loop;
      left = loop.run_until_complete([] { return spawn_local<counter>(); });
    }
    CHECK(left.name().starts_with("counter#"));
    pulsar::event_loop another;
    const auto asked =
        another.run_until_complete([&left] { return as_result(send(left, "next"_cmd)); });
    CHECK(asked.code() == errc::actor_gone);
    const auto name = left.name();
    std::thread([last = std::exchange(left, {})] { tell(last, "next"_cmd); }).join();
    CHECK(log_capture::count("a tell of 'next' to '" + name + "' failed: '" + name +
                             "' has ended: the actor is gone") == 1);
  }

  TEST_CASE("the last reference may go in another thread, while the actor lives or after it") {
    pulsar::event_loop loop;
    for (const bool alive : {true, false}) {
      auto ref = loop.run_until_complete([] { return spawn_local<counter>(); });
      if (!alive) loop.run_until_complete([&ref] { return send(ref, pulsar::cmd::stop); });
      std::thread([last = std::move(ref)]() mutable { last = {}; }).join();
      loop.run_until_complete([] { return pulsar::sleep({}); });
    }
  }

  TEST_CASE("references are copied and dropped by many threads at once") {
    const log_capture quiet;
    std::atomic<int> ready = 0;
    pulsar::event_loop loop;
    auto ref = loop.run_until_complete(
        [] { return spawn_local<counter, pulsar::concurrency::thread>(); });
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&ready, mine = ref]() mutable {
        ++ready;
        while (ready < 4) std::this_thread::yield();
        for (int i = 0; i < 1000; ++i) {
          auto copy = mine;
          tell(copy, "next"_cmd);
          const actor_ref<> another = copy;
          copy = {};
        }
        mine = {};
      });
    }
    // Its thread ends while the references are being dropped.
    loop.run_until_complete([&ref] { return send(ref, pulsar::cmd::stop); });
    ref = {};
    for (auto& t : threads) t.join();
  }
}
