// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/concurrency.hpp>
#include <pulsar/actors/ref_codec.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/core/child.hpp>
#include <pulsar/core/task_group.hpp>

#include "actors/local_spawn.hpp"
#include "actors/log_capture.hpp"
#include "support/coro_test.hpp"

#include <asio/error.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <variant>
#include <vector>

using namespace pulsar::literals;
using namespace std::chrono_literals;
using pulsar::actor_ref;
using pulsar::as_result;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::registry;
using pulsar::sleep;
using pulsar::spawn_options;
namespace concurrency = pulsar::concurrency;
namespace cmd = pulsar::cmd;

namespace {

// -- exceptions ----------------------------------------------------------------------

namespace user {
struct failure {
  int why;
};
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
class category : public std::error_category {
 public:
  const char* name() const noexcept override { return "user"; }
  std::string message(int n) const override { return "user error " + std::to_string(n); }
};
const std::error_category& the_category() {
  static const category instance;
  return instance;
}
}  // namespace user

class thrower : public pulsar::actor<thrower> {
 public:
  void now(std::string what) { fail_with(what); }
  future<int> later(std::string what) {
    co_await sleep(1ms);
    fail_with(what);
    co_return 1;
  }
  using commands = pulsar::commands<&thrower::now, &thrower::later>;

 private:
  static void fail_with(const std::string& what) {
    if (what == "runtime_error") throw std::runtime_error("text");
    if (what == "logic_error") throw std::logic_error("text");
    if (what == "out_of_range") throw std::out_of_range("text");
    if (what == "invalid_argument") throw std::invalid_argument("text");
    if (what == "length_error") throw std::length_error("text");
    if (what == "domain_error") throw std::domain_error("text");
    if (what == "range_error") throw std::range_error("text");
    if (what == "overflow_error") throw std::overflow_error("text");
    if (what == "underflow_error") throw std::underflow_error("text");
    if (what == "exception") throw std::exception();
    if (what == "bad_alloc") throw std::bad_alloc();
    if (what == "bad_array_new_length") throw std::bad_array_new_length();
    if (what == "bad_cast") throw std::bad_cast();
    if (what == "bad_typeid") throw std::bad_typeid();
    if (what == "bad_exception") throw std::bad_exception();
    if (what == "bad_optional_access") throw std::bad_optional_access();
    if (what == "bad_variant_access") throw std::bad_variant_access();
    if (what == "bad_function_call") throw std::bad_function_call();
    if (what == "bad_weak_ptr") throw std::bad_weak_ptr();
    if (what == "pulsar") throw pulsar::error(errc::would_deadlock, "by itself");
    if (what == "pulsar without a text") throw pulsar::error(errc::too_large);
    if (what == "cancelled") throw pulsar::error(errc::cancelled);
    if (what == "system") {
      throw std::system_error(ENOENT, std::system_category(), "no such account");
    }
    if (what == "system without a text") throw std::system_error(ENOENT, std::generic_category());
    if (what == "asio") throw std::system_error(asio::error::eof, "reading");
    if (what == "user type") throw user::error("text");
    if (what == "user code") throw std::system_error(7, user::the_category(), "on purpose");
    if (what == "no exception") throw user::failure{3};
    if (what == "number") throw 42;
    if (what == "nested") throw pulsar::command_error("far::away", "text");
  }
};

/// The exact type and the text of what a command fails with.
struct outcome {
  std::string type;
  std::string text;
  std::error_code code;
};

outcome examine(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const pulsar::command_error& e) {
    return {"command_error of " + e.type(), e.text(), e.code()};
  } catch (const std::system_error& e) {
    return {pulsar::detail::type_name(typeid(e)), e.what(), e.code()};
  } catch (const std::exception& e) {
    return {pulsar::detail::type_name(typeid(e)), e.what(), {}};
  } catch (...) {
    return {"unknown", "", {}};
  }
}

template <class Policy>
future<> fail_in_every_way() {
  const auto a = co_await spawn_local<thrower, Policy>();
  struct expectation {
    std::string what;
    std::string type;
    std::string text;
    std::error_code code = {};
  };
  std::vector<expectation> all{
      {"pulsar", "pulsar::error", "by itself: the call would deadlock", errc::would_deadlock},
      {"pulsar without a text", "pulsar::error", "larger than the limit", errc::too_large},
      {"cancelled", "pulsar::error", "cancelled", errc::cancelled},
      {"system", "std::system_error", "no such account: No such file or directory",
       std::error_code(ENOENT, std::system_category())},
      {"system without a text", "std::system_error", "No such file or directory",
       std::error_code(ENOENT, std::generic_category())},
      {"asio", "std::system_error", "reading: End of file", asio::error::eof},
      {"user type", "command_error of (anonymous namespace)::user::error", "text",
       errc::command_failed},
      {"user code", "command_error of std::system_error", "on purpose: user error 7",
       errc::command_failed},
      {"no exception", "command_error of (anonymous namespace)::user::failure", "no text",
       errc::command_failed},
      {"number", "command_error of int", "no text", errc::command_failed},
      {"nested", "command_error of far::away", "text", errc::command_failed},
      {"exception", "std::exception", "std::exception"},
      {"bad_alloc", "std::bad_alloc", "std::bad_alloc"},
      {"bad_array_new_length", "std::bad_array_new_length", "std::bad_array_new_length"},
      {"bad_cast", "std::bad_cast", "std::bad_cast"},
      {"bad_typeid", "std::bad_typeid", "std::bad_typeid"},
      {"bad_exception", "std::bad_exception", "std::bad_exception"},
      {"bad_optional_access", "std::bad_optional_access", "bad optional access"},
      {"bad_variant_access", "std::bad_variant_access", "bad variant access"},
      {"bad_function_call", "std::bad_function_call", "bad_function_call"},
      {"bad_weak_ptr", "std::bad_weak_ptr", "bad_weak_ptr"},
  };
  for (const char* type : {"runtime_error", "logic_error", "out_of_range", "invalid_argument",
                           "length_error", "domain_error", "range_error", "overflow_error",
                           "underflow_error"}) {
    all.push_back({type, std::string("std::") + type, "text"});
  }
  for (const auto& expected : all) {
    DOCTEST_INFO("thrown: " << expected.what);
    const auto now = co_await as_result(send(a, "now"_cmd, expected.what));
    const auto later = co_await as_result(send(a, "later"_cmd, expected.what));
    const auto by_name = co_await as_result(pulsar::send<int>(a, "later", expected.what));
    for (const auto& failure : {now.exception(), later.exception(), by_name.exception()}) {
      const outcome seen = examine(failure);
      CHECK(seen.type == expected.type);
      CHECK(seen.text == expected.text);
      CHECK(seen.code == expected.code);
    }
  }
  co_await send(a, cmd::stop);
}

// -- threads -------------------------------------------------------------------------

std::atomic<int> alive = 0;

// Counts those of its kind; to be moved, and freed, wherever it goes.
struct counted {
  counted() { ++alive; }
  counted(counted&& other) noexcept : number(std::exchange(other.number, 0)) { ++alive; }
  counted& operator=(counted&&) = default;
  ~counted() { --alive; }
  int number = 0;
};

class helper : public pulsar::actor<helper> {
 public:
  helper() { ++alive; }
  ~helper() override { --alive; }
  std::thread::id where() { return std::this_thread::get_id(); }
  counted keep(counted c) {
    ++c.number;
    return c;
  }
  future<counted> keep_longer(counted c) {
    co_await sleep(1ms);
    ++c.number;
    co_return c;
  }
  void log_to(std::shared_ptr<std::atomic<int>> order, int number) {
    if (order->exchange(number) + 1 != number) order->store(-1'000'000);
  }
  future<int> slow(int ms) {
    co_await sleep(ms * 1ms);
    co_return ms;
  }
  // Returns only when `go` was told to by another thread.
  int block(std::shared_ptr<std::atomic<int>> gate) {
    *gate = 1;
    while (*gate != 2) std::this_thread::yield();
    return 3;
  }
  future<int> both() {
    const auto near = co_await spawn_local<helper>();
    const auto far = co_await spawn_local<helper, concurrency::thread>();
    const auto in_near = co_await send(near, "where"_cmd);
    const auto in_far = co_await send(far, "where"_cmd);
    co_await send(far, cmd::stop);
    co_return (in_near == std::this_thread::get_id()) + 2 * (in_far != std::this_thread::get_id());
  }
  using commands =
      pulsar::commands<&helper::where, &helper::keep, &helper::keep_longer, &helper::log_to,
                       &helper::slow, &helper::block, &helper::both>;
};

// Not counted: actors that nobody stops live until the program ends.
class napper : public pulsar::actor<napper> {
 public:
  future<int> nap(int ms) {
    co_await sleep(ms * 1ms);
    co_return ms;
  }
  using commands = pulsar::commands<&napper::nap>;
};

class stillborn : public pulsar::actor<stillborn> {
 public:
  explicit stillborn(std::string why) { throw user::error(why); }
  using commands = pulsar::commands<>;
};

class slow_to_start : public pulsar::actor<slow_to_start> {
 public:
  explicit slow_to_start(std::shared_ptr<std::atomic<int>> gate) : gate_(std::move(gate)) {
    ++alive;
  }
  ~slow_to_start() override { --alive; }
  void on_start() {
    *gate_ = 1;
    while (*gate_ != 2) std::this_thread::yield();
  }
  using commands = pulsar::commands<>;

 private:
  std::shared_ptr<std::atomic<int>> gate_;
};

// Everybody sends to everybody.
class peer : public pulsar::actor<peer> {
 public:
  void meet(std::vector<actor_ref<peer>> others) { others_ = std::move(others); }
  std::string hit(std::string from, std::unique_ptr<int> n) {
    ++hits_;
    return from + std::to_string(*n);
  }
  future<int> hit_later(int n) {
    co_await sleep(0ms);
    ++hits_;
    if (n % 10 == 0) throw std::out_of_range("ten");
    co_return n;
  }
  future<int> play(int rounds) {
    int good = 0;
    for (int i = 1; i <= rounds; ++i) {
      std::vector<future<std::string>> asked;
      for (const auto& other : others_) {
        asked.push_back(send(other, "hit"_cmd, name(), std::make_unique<int>(i)));
        tell(other, "hit_later"_cmd, 1);
      }
      for (auto& a : asked) {
        const std::string answer = co_await std::move(a);
        good += answer == name() + std::to_string(i);
      }
      const auto& next = others_[static_cast<std::size_t>(i) % others_.size()];
      const auto later = co_await as_result(send(next, "hit_later"_cmd, i));
      good += later ? 1 : later.message() == "ten";
      const int by_name = co_await pulsar::send<int>(next, "hit_later", 1);
      good += by_name;
    }
    co_return good;
  }
  int hits() { return hits_; }
  future<> forget() {
    others_.clear();
    co_return;
  }
  using commands = pulsar::commands<&peer::meet, &peer::hit, &peer::hit_later, &peer::play,
                                    &peer::hits, &peer::forget>;

 private:
  std::vector<actor_ref<peer>> others_;
  int hits_ = 0;
};

future<> play_together(int count, int rounds) {
  std::vector<actor_ref<peer>> peers;
  for (int i = 0; i < count; ++i) {
    const auto one = co_await spawn_local<peer, concurrency::thread>();
    peers.push_back(one);
  }
  for (const auto& one : peers) {
    std::vector<actor_ref<peer>> others;
    for (const auto& other : peers) {
      if (other != one) others.push_back(other);
    }
    co_await send(one, "meet"_cmd, others);
  }
  std::vector<future<int>> playing;
  for (const auto& one : peers) playing.push_back(send(one, "play"_cmd, rounds));
  for (auto& p : playing) {
    const int good = co_await std::move(p);
    CHECK(good == rounds * (count + 1));
  }
  int hits = 0;
  for (const auto& one : peers) {
    const int its = co_await send(one, "hits"_cmd);
    hits += its;
  }
  CHECK(hits == count * rounds * (2 * (count - 1) + 2));
  for (const auto& one : peers) co_await send(one, cmd::stop);
}

// A policy of a user's own: it says where, and leaves the rest to another.
struct own_policy {
  static constexpr std::string_view name = "own";
  static constexpr bool remote = false;
  template <class A, class... Args>
  static future<actor_ref<A>> spawn(spawn_options options, std::tuple<Args...> args) {
    return concurrency::coroutine::spawn<A>(options, std::move(args));
  }
};
struct no_policy {
  static constexpr int name = 3;
};

// Waits for a condition that another thread brings about.
template <class F>
void wait_until(F condition) {
  const auto give_up = std::chrono::steady_clock::now() + 60s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) DOCTEST_FAIL("what was waited for did not happen");
    std::this_thread::yield();
  }
}

void stop_and_wait(event_loop& loop, const actor_ref<>& ref) {
  loop.run_until_complete([&ref] { return send(ref, cmd::stop); });
}

}  // namespace

TEST_SUITE("concurrency") {
  TEST_CASE("a policy has a name and says whether arguments must travel") {
    CHECK(concurrency::coroutine::name == "coroutine");
    CHECK(concurrency::thread::name == "thread");
    CHECK_FALSE(concurrency::coroutine::remote);
    CHECK_FALSE(concurrency::thread::remote);
    CHECK(pulsar::concurrency_policy<concurrency::coroutine>);
    CHECK(pulsar::concurrency_policy<concurrency::thread>);
    CHECK(pulsar::concurrency_policy<own_policy>);
    CHECK_FALSE(pulsar::concurrency_policy<no_policy>);
    CHECK_FALSE(pulsar::concurrency_policy<int>);
  }

  TEST_CASE("a policy of a user's own serves") {
    event_loop loop;
    const auto a = loop.run_until_complete([] { return spawn_local<helper, own_policy>(); });
    CHECK(loop.run_until_complete([&a] { return send(a, "slow"_cmd, 1); }) == 1);
  }

  TEST_CASE("spawn needs a loop") {
    CHECK_THROWS_AS(spawn_local<helper>().detach(), pulsar::error);
    CHECK_THROWS_AS((spawn_local<helper, concurrency::thread>().detach()), pulsar::error);
  }

  TEST_CASE_TEMPLATE("what a command throws arrives as the same type, or as command_error", Policy,
                     concurrency::coroutine, concurrency::thread) {
    event_loop loop;
    loop.run_until_complete(fail_in_every_way<Policy>);
  }
}

TEST_SUITE("concurrency: coroutine") {
  CORO_TEST_CASE("an actor runs in the loop that spawned it") {
    const auto a = co_await spawn_local<helper>();
    const auto where = co_await send(a, "where"_cmd);
    CHECK(where == std::this_thread::get_id());
  }

  TEST_CASE("100,000 actors are made, asked and stopped") {
    event_loop loop;
    const auto before = registry::instance().all().size();
    const int alive_before = alive;
    loop.run_until_complete([]() -> future<> {
      constexpr std::size_t count = 100'000;
      std::vector<actor_ref<helper>> all;
      all.reserve(count);
      for (std::size_t i = 0; i < count; ++i) {
        const auto one = co_await spawn_local<helper>();
        all.push_back(one);
      }
      std::size_t here = 0;
      for (const auto& one : all) {
        const auto where = co_await send(one, "where"_cmd);
        here += where == std::this_thread::get_id();
      }
      CHECK(here == count);
      // The oldest first, one by one; then the rest at once.
      for (std::size_t i = 0; i < count / 2; ++i) co_await send(all[i], cmd::stop);
      pulsar::task_group stopping;
      for (std::size_t i = count / 2; i < count; ++i) stopping.add(send(all[i], cmd::stop));
      co_await stopping.join();
    });
    CHECK(alive == alive_before);
    CHECK(registry::instance().all().size() == before);
  }
}

TEST_SUITE("concurrency: thread") {
  TEST_CASE("F5: an actor has a thread and a loop of its own") {
    event_loop loop;
    const auto a = loop.run_until_complete([] { return spawn_local<helper, concurrency::thread>(); });
    const auto b = loop.run_until_complete([] { return spawn_local<helper, concurrency::thread>(); });
    const auto ask = [&loop](const actor_ref<helper>& ref) {
      return loop.run_until_complete([&ref] { return send(ref, "where"_cmd); });
    };
    const std::set<std::thread::id> different{std::this_thread::get_id(), ask(a), ask(b)};
    CHECK(different.size() == 3);
    CHECK(ask(a) == ask(a));
    stop_and_wait(loop, a);
    stop_and_wait(loop, b);
  }

  TEST_CASE("an actor of a thread may spawn others, near and far") {
    event_loop loop;
    const auto a = loop.run_until_complete([] { return spawn_local<helper, concurrency::thread>(); });
    CHECK(loop.run_until_complete([&a] { return send(a, "both"_cmd); }) == 3);
    stop_and_wait(loop, a);
    wait_until([] { return alive == 0; });
  }

  CORO_TEST_CASE_REAL("spawning, asking and stopping may be given up at any point") {
    const auto a = co_await spawn_local<napper, concurrency::thread>();
    const int answer = co_await send(a, "nap"_cmd, 1);
    CHECK(answer == 1);
    const int by_name = co_await pulsar::send<int>(a, "nap", 2);
    CHECK(by_name == 2);
    co_await send(a, cmd::stop);
    const auto gone = co_await as_result(send(a, "nap"_cmd, 1));
    CHECK(gone.code() == errc::actor_gone);
  }

  TEST_CASE("arguments and results are moved, and none is left behind") {
    wait_until([] { return alive == 0; });
    event_loop loop;
    loop.run_until_complete([]() -> future<> {
      const auto a = co_await spawn_local<helper, concurrency::thread>();
      counted c = co_await send(a, "keep"_cmd, counted());
      CHECK(c.number == 1);
      c = co_await send(a, "keep_longer"_cmd, std::move(c));
      CHECK(c.number == 2);
      const log_capture quiet;
      { auto dropped = send(a, "keep_longer"_cmd, std::move(c)); }
      tell(a, "keep_longer"_cmd, counted());
      co_await send(a, cmd::stop);
      const auto gone = co_await as_result(send(a, "keep"_cmd, counted()).then([](counted) {}));
      CHECK(gone.code() == errc::actor_gone);
    });
    loop.close();
    wait_until([] { return alive == 0; });
  }

  TEST_CASE("messages of one sender arrive in their order, those of many do not mix") {
    event_loop loop;
    const auto a = loop.run_until_complete([] { return spawn_local<helper, concurrency::thread>(); });
    std::vector<std::shared_ptr<std::atomic<int>>> orders;
    std::vector<std::thread> senders;
    for (int t = 0; t < 4; ++t) {
      orders.push_back(std::make_shared<std::atomic<int>>(0));
      senders.emplace_back([&a, order = orders.back()] {
        for (int i = 1; i <= 1000; ++i) tell(a, "log_to"_cmd, order, i);
      });
    }
    for (auto& s : senders) s.join();
    loop.run_until_complete([&a] { return send(a, cmd::ping); });  // behind them; a stop is not
    stop_and_wait(loop, a);
    for (const auto& order : orders) CHECK(*order == 1000);
  }

  TEST_CASE("8 threads send to each other") {
    event_loop loop;
    loop.run_until_complete([] { return play_together(8, 30); });
  }

  TEST_CASE("the loop of a sender may close while the thread still works for it") {
    wait_until([] { return alive == 0; });
    event_loop here;
    const auto a = here.run_until_complete([] { return spawn_local<helper, concurrency::thread>(); });
    for (int round = 0; round < 50; ++round) {
      const auto gate = std::make_shared<std::atomic<int>>(0);
      {
        event_loop sender;
        auto asked = sender.create_task([&] { return send(a, "block"_cmd, gate); });
        auto by_name = sender.create_task([&] { return pulsar::send<int>(a, "slow", 0); });
        auto dropped = sender.create_task([&] { return send(a, "keep"_cmd, counted()); });
        wait_until([&] { return *gate == 1; });
        if (round % 2 == 0) {
          sender.close();
          CHECK(asked.done());
          CHECK_THROWS_AS(asked.result(), pulsar::error);
          CHECK_THROWS_AS(by_name.result(), pulsar::error);
        }
        // Whichever is first: the end of the loop, or the answer.
        *gate = 2;
      }
    }
    stop_and_wait(here, a);
    wait_until([] { return alive == 0; });
  }

  TEST_CASE("asks that are under way when the thread ends are answered") {
    event_loop loop;
    const auto a = loop.run_until_complete([] { return spawn_local<helper, concurrency::thread>(); });
    const auto gate = std::make_shared<std::atomic<int>>(0);
    auto blocking = loop.create_task([&] { return send(a, "block"_cmd, gate); });
    wait_until([&] { return *gate == 1; });
    auto queued = loop.create_task([&] { return send(a, "slow"_cmd, 1); });
    auto by_name = loop.create_task([&] { return pulsar::send<int>(a, "slow", 1); });
    auto stopped = loop.create_task([&] { return send(a, cmd::stop); });
    auto behind = loop.create_task([&] { return send(a, "slow"_cmd, 1); });
    *gate = 2;
    CHECK(loop.run_until_complete(std::move(blocking)) == 3);
    loop.run_until_complete(std::move(stopped));
    for (auto* f : {&queued, &by_name, &behind}) {
      const auto outcome = loop.run_until_complete(as_result(std::move(*f)));
      CHECK(outcome.code() == errc::actor_gone);
    }
  }

  TEST_CASE("an actor that nobody waits for any more is stopped when it has started") {
    wait_until([] { return alive == 0; });
    for (const bool loop_closes : {false, true}) {
      const auto gate = std::make_shared<std::atomic<int>>(0);
      event_loop loop;
      {
        auto spawning = loop.create_task([&] {
          return spawn_local<slow_to_start, concurrency::thread>(
              spawn_options{.name = "unwanted"}, gate);
        });
        wait_until([&] { return *gate == 1; });
        CHECK(alive == 1);
        if (loop_closes) loop.close();
      }
      *gate = 2;
      if (!loop_closes) {
        loop.run_until_complete([]() -> future<> {
          while (alive > 0) co_await sleep(1ms);
        });
      }
      wait_until([] { return alive == 0; });
      wait_until([] { return !registry::instance().find("unwanted"); });
    }
  }

  TEST_CASE("what the constructor and on_start of a thread actor throw fails the spawn") {
    event_loop loop;
    const auto failed = loop.run_until_complete([] {
      return as_result(spawn_local<stillborn, concurrency::thread>(spawn_options{.name = "x"},
                                                                   std::string("not today")));
    });
    const auto seen = examine(failed.exception());
    CHECK(seen.type == "command_error of (anonymous namespace)::user::error");
    CHECK(seen.text == "not today");
    CHECK_FALSE(static_cast<bool>(registry::instance().find("x")));
  }

  TEST_CASE("a program may end with thread actors alive: they are stopped and joined") {
    const std::string program = std::string(PULSAR_TEST_PROGRAMS_DIR) + "/threads_at_exit";
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    auto child =
        pulsar::spawn_child({.executable = program, .standard_output = theirs.get()});
    theirs.reset();
    std::string text;
    char block[512];
    for (ssize_t n = 0; (n = ::read(mine.get(), block, sizeof(block))) > 0;) {
      text.append(block, static_cast<std::size_t>(n));
    }
    const auto status = child.wait();
    CHECK(status.code == 0);
    CHECK_MESSAGE(text.find("main ends\n") != std::string::npos, text);
    for (const char* line : {"idle stopped\n", "idle destroyed\n", "busy worked\n",
                             "busy stopped\n", "busy destroyed\n", "early destroyed\n"}) {
      CHECK_MESSAGE(text.find(line) != std::string::npos, text);
    }
  }
}
