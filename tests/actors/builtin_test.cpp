// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/builtin.hpp>
#include <pulsar/actors/send.hpp>

#include "actors/local_spawn.hpp"
#include "support/coro_test.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace pulsar::literals;
using namespace std::chrono_literals;
using pulsar::actor_ref;
using pulsar::errc;
using pulsar::fn;
using pulsar::future;
using pulsar::spawn_options;
namespace cmd = pulsar::cmd;
namespace concurrency = pulsar::concurrency;

namespace {

class worker : public pulsar::actor<worker> {
 public:
  using commands = pulsar::commands<>;
};

// An actor may have commands of its own by these names; the built-in ones stay reachable.
class impostor : public pulsar::actor<impostor> {
 public:
  std::string ping() { return "mine"; }
  using commands = pulsar::commands<&impostor::ping>;
};

struct point {
  int x = 0;
  std::string label;
};

int square(int n) { return n * n; }
int square_quietly(int n) noexcept { return n * n; }
std::size_t length_of(const std::string& text) { return text.size(); }
std::string name_of(pulsar::actor_base& a) { return a.name(); }
std::thread::id thread_of() { return std::this_thread::get_id(); }
void refuse(std::string why) { throw std::invalid_argument(why); }
std::unique_ptr<int> increase(std::unique_ptr<int> n) {
  ++*n;
  return n;
}
future<std::string> greet_later(pulsar::actor_base& a, std::string whom) {
  co_await pulsar::sleep(10ms);
  co_return a.name() + " greets " + whom;
}

}  // namespace

// As users declare commands for every actor.
inline long long uptime_of(pulsar::actor_base& a) { return a.uptime() / 1ms; }
inline constexpr pulsar::command<"uptime", &uptime_of> uptime{};
inline future<std::string> repeat_of(pulsar::actor_base&, std::string text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  co_await pulsar::sleep(1ms);
  co_return all;
}
inline constexpr pulsar::command<"repeat", &repeat_of> repeat_{};

TEST_SUITE("builtin") {
  CORO_TEST_CASE("ping is answered by every actor, typed, untyped and by name") {
    const auto a = co_await spawn_local<worker>();
    const actor_ref<> untyped = a;
    const std::string typed_answer = co_await send(a, cmd::ping);
    const std::string untyped_answer = co_await send(untyped, cmd::ping);
    const std::string named_answer = co_await pulsar::send<std::string>(untyped, "ping");
    CHECK(typed_answer == "pong");
    CHECK(untyped_answer == "pong");
    CHECK(named_answer == "pong");
  }

  CORO_TEST_CASE("a command of the actor's own hides a built-in one by name only") {
    const auto a = co_await spawn_local<impostor>();
    const std::string own = co_await send(a, "ping"_cmd);
    const std::string builtin = co_await send(a, cmd::ping);
    const std::string by_name = co_await pulsar::send<std::string>(a, "ping");
    CHECK(own == "mine");
    CHECK(builtin == "pong");
    CHECK(by_name == "mine");
  }

  CORO_TEST_CASE("echo gives any value back, as the plain type") {
    const auto a = co_await spawn_local<worker>();
    const int number = co_await send(a, cmd::echo, 42);
    const std::string text = co_await send(a, cmd::echo, "text");
    const std::vector<int> list{1, 2, 3};
    const std::vector<int> same = co_await send(a, cmd::echo, list);
    const auto owned = co_await send(a, cmd::echo, std::make_unique<int>(7));
    const point made = co_await send(a, cmd::echo, pulsar::make<point>(1, "one"));
    CHECK(number == 42);
    CHECK(text == "text");
    CHECK(same == list);
    CHECK(*owned == 7);
    CHECK(made.label == "one");
  }

  CORO_TEST_CASE("echo by name gives the bytes back, of one argument") {
    const actor_ref<> a = co_await spawn_local<worker>();
    const int number = co_await pulsar::send<int>(a, "echo", 42);
    const point made = co_await pulsar::send<point>(a, "echo", pulsar::make<point>(1, "one"));
    CHECK(number == 42);
    CHECK(made.x == 1);
    CHECK(made.label == "one");
    const auto none = co_await as_result(pulsar::send<int>(a, "echo"));
    CHECK(none.code() == errc::malformed);
    CHECK(none.message() == "cmd::echo takes one argument: malformed data");
    const auto two = co_await as_result(pulsar::send<int>(a, "echo", 1, 2));
    CHECK(two.code() == errc::malformed);
  }

  CORO_TEST_CASE("run calls a free function on the actor") {
    const auto a = co_await spawn_local<worker>(spawn_options{.name = "host"});
    const int squared = co_await send(a, cmd::run, fn<&square>, 7);
    const int quietly = co_await send(a, cmd::run, fn<&square_quietly>, 8);
    const std::size_t length = co_await send(a, cmd::run, fn<&length_of>, "four");
    const std::string name = co_await send(a, cmd::run, fn<&name_of>);
    const auto increased = co_await send(a, cmd::run, fn<&increase>, std::make_unique<int>(1));
    const std::string greeting = co_await send(a, cmd::run, fn<&greet_later>, "you");
    CHECK(squared == 49);
    CHECK(quietly == 64);
    CHECK(length == 4);
    CHECK(name == "host");
    CHECK(*increased == 2);
    CHECK(greeting == "host greets you");
    const auto refused = co_await as_result(send(a, cmd::run, fn<&refuse>, "why not"));
    CHECK(refused.message() == "why not");
  }

  TEST_CASE("F14: run runs in the thread of the actor") {
    pulsar::event_loop loop;
    const auto [here, there] = loop.run_until_complete(
        []() -> future<std::pair<std::thread::id, std::thread::id>> {
          const auto near = co_await spawn_local<worker>();
          const auto far = co_await spawn_local<worker, concurrency::thread>();
          const auto in_near = co_await send(near, cmd::run, fn<&thread_of>);
          const auto in_far = co_await send(far, cmd::run, fn<&thread_of>);
          co_await send(far, cmd::stop);
          co_return std::pair(in_near, in_far);
        });
    CHECK(here == std::this_thread::get_id());
    CHECK(there != std::this_thread::get_id());
  }

  CORO_TEST_CASE("info by name is the same as typed") {
    const auto a = co_await spawn_local<worker>(spawn_options{.name = "host"});
    const auto typed = co_await send(a, cmd::info);
    const auto by_name = co_await pulsar::send<pulsar::actor_info>(a, "info");
    CHECK(typed.name == "host");
    CHECK(by_name.name == "host");
    CHECK(by_name.id == typed.id);
    CHECK(by_name.handled == typed.handled + 1);
  }

  CORO_TEST_CASE("stop is answered when the actor has ended, typed and by name") {
    const auto a = co_await spawn_local<worker>();
    co_await send(a, cmd::stop);
    const auto gone = co_await as_result(send(a, cmd::ping));
    CHECK(gone.code() == errc::actor_gone);

    const actor_ref<> b = co_await spawn_local<worker>();
    co_await pulsar::send<>(b, "stop");
    const auto gone_too = co_await as_result(send(b, cmd::ping));
    CHECK(gone_too.code() == errc::actor_gone);
  }

  CORO_TEST_CASE("stop reaches an actor whose mailbox is full") {
    const auto a = co_await spawn_local<worker>(spawn_options{.mailbox_bound = 1});
    auto in_flight = send(a, cmd::run, fn<&greet_later>, "you");
    co_await pulsar::sleep(1ms);
    const auto full = co_await as_result(send(a, cmd::ping));
    CHECK(full.code() == errc::mailbox_full);
    co_await send(a, cmd::stop);
    const std::string kept = co_await std::move(in_flight);
    CHECK(kept.ends_with(" greets you"));
  }

  CORO_TEST_CASE("a command that the program declares is one of every actor") {
    const auto a = co_await spawn_local<worker>();
    const actor_ref<> untyped = a;
    co_await pulsar::sleep(250ms);
    const long long up = co_await send(a, uptime);
    const long long again = co_await send(untyped, uptime);
    const long long by_name = co_await pulsar::send<long long>(untyped, "uptime");
    CHECK(up == 250);
    CHECK(again == 250);
    CHECK(by_name == 250);
    const std::string repeated = co_await send(a, repeat_, "ab", 3);
    CHECK(repeated == "ababab");
    const auto wrong = co_await as_result(pulsar::send<std::string>(a, "repeat", "ab"));
    CHECK(wrong.code() == errc::malformed);
  }

  TEST_CASE("all of them work between threads, too") {
    pulsar::event_loop loop;
    loop.run_until_complete([]() -> future<> {
      const auto a = co_await spawn_local<worker, concurrency::thread>();
      const std::string pong = co_await send(a, cmd::ping);
      CHECK(pong == "pong");
      const auto owned = co_await send(a, cmd::echo, std::make_unique<int>(7));
      CHECK(*owned == 7);
      const int squared = co_await send(a, cmd::run, fn<&square>, 7);
      CHECK(squared == 49);
      const std::string greeting = co_await send(a, cmd::run, fn<&greet_later>, "you");
      CHECK(greeting.ends_with(" greets you"));
      const auto info = co_await send(a, cmd::info);
      CHECK(info.id == a.id());
      CHECK(info.handled == 4);
      const std::string repeated = co_await pulsar::send<std::string>(a, "repeat", "ab", 2);
      CHECK(repeated == "abab");
      co_await send(a, cmd::stop);
      const auto gone = co_await as_result(send(a, cmd::ping));
      CHECK(gone.code() == errc::actor_gone);
    });
  }
}
