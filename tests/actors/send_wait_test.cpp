// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/send_wait.hpp>

#include <pulsar/core/tasks.hpp>

#include "actors/local_spawn.hpp"
#include "support/coro_test.hpp"

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace pulsar::literals;
using namespace std::chrono_literals;
using pulsar::actor_ref;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::named_actor;
using pulsar::result;
using pulsar::send_then;
using pulsar::send_wait;
using pulsar::spawn_options;
namespace concurrency = pulsar::concurrency;
namespace cmd = pulsar::cmd;

namespace {

struct entry {
  std::string text;
  int number = 0;
};

class ledger : public pulsar::actor<ledger> {
 public:
  long deposit(std::string account, long cents) {
    if (cents < 0) throw std::invalid_argument("cannot deposit " + std::to_string(cents));
    return total_ += cents + static_cast<long>(account.size());
  }
  future<long> slow(long value) {
    co_await pulsar::sleep(1ms);
    co_return value;
  }
  future<> endless() { co_await pulsar::sleep(1h); }
  void nothing() {}
  // Until it is told otherwise.
  void block() {
    blocks = true;
    while (blocks) std::this_thread::yield();
  }
  static inline std::atomic<bool> blocks{false};
  std::string write(entry what) { return what.text + std::to_string(what.number); }
  int keep(std::unique_ptr<int> p) { return *p; }
  using commands = pulsar::commands<&ledger::deposit,
                                    &ledger::slow,
                                    &ledger::endless,
                                    &ledger::nothing,
                                    &ledger::block,
                                    &ledger::write,
                                    &ledger::keep>;

 private:
  long total_ = 0;
};

template <class F>
std::error_code error_of(F&& f) {
  try {
    f();
  } catch (const std::system_error& e) {
    return e.code();
  }
  return {};
}

// What the sends of that loop wait for.
std::string replies_of(event_loop& loop) {
  std::string all;
  for (const auto& each : loop.tasks()) all += each.waits_for + ";";
  return all;
}

// Runs the body in a thread without a loop while the actor lives, in this one or in its own.
template <class Policy, class Body>
void with_actor(Body body) {
  event_loop loop;
  const auto in_loop = [](event_loop& on, Body b) -> future<> {
    const auto bank = co_await spawn_local<ledger, Policy>(spawn_options{.name = "bank"});
    pulsar::promise<> done(on);
    std::thread outside([&] {
      b(bank);
      on.call_soon_threadsafe([&] { done.set_value(); });
    });
    auto ended = done.get_future();
    co_await std::move(ended);
    outside.join();
    co_await send(bank, cmd::stop);
  };
  loop.run_until_complete([&] { return in_loop(loop, body); });
}

}  // namespace

TEST_SUITE("send_wait") {
  TEST_CASE_TEMPLATE("a thread without a loop asks and waits", Policy, concurrency::coroutine,
                     concurrency::thread) {
    with_actor<Policy>([](const actor_ref<ledger>& bank) {
      CHECK(send_wait(5s, bank, "deposit"_cmd, "ann", 247) == 250);
      CHECK(send_wait<&ledger::deposit>(5s, bank, "bob", 47) == 300);
      CHECK(send_wait(5s, bank, "slow"_cmd, 7) == 7);
      CHECK(send_wait(5s, bank, cmd::ping) == "pong");
      send_wait(5s, bank, "nothing"_cmd);
      CHECK(send_wait<long>(5s, actor_ref<>(bank), "slow", 8L) == 8);
      CHECK(send_wait<long>(5s, named_actor("bank"), "slow", 9L) == 9);
      CHECK(send_wait(5s, bank, "keep"_cmd, std::make_unique<int>(3)) == 3);
      CHECK_FALSE(event_loop::find_current() != nullptr);
    });
  }

  TEST_CASE_TEMPLATE("failures arrive as what they are", Policy, concurrency::coroutine,
                     concurrency::thread) {
    with_actor<Policy>([](const actor_ref<ledger>& bank) {
      CHECK_THROWS_AS(send_wait(5s, bank, "deposit"_cmd, "ann", -1), std::invalid_argument);
      CHECK(error_of([&] { send_wait(1ms, bank, "endless"_cmd); }) == errc::timed_out);
      CHECK(error_of([&] { send_wait<long>(5s, actor_ref<>(bank), "steal"); }) ==
            errc::unknown_command);
    });
  }

  TEST_CASE("its timeout is that of the send, also if that is longer than ten seconds") {
    with_actor<concurrency::thread>([](const actor_ref<ledger>& bank) {
      std::thread asks([&] { send_wait(100min, bank, "block"_cmd); });
      auto& background = pulsar::detail::background_loop::get();
      std::string waits;
      while (waits.find("a reply") == std::string::npos) {
        waits = pulsar::run_threadsafe(background, [&] { return replies_of(background); }).get();
      }
      CHECK_MESSAGE(waits.find("a reply (1 h ") != std::string::npos, waits);
      while (!ledger::blocks) std::this_thread::yield();
      ledger::blocks = false;
      asks.join();
    });
  }

  TEST_CASE("a time that is too long to be added to is no failure") {
    with_actor<concurrency::coroutine>([](const actor_ref<ledger>& bank) {
      CHECK(send_wait(event_loop::duration::max(), bank, "slow"_cmd, 7) == 7);
    });
  }

  TEST_CASE("a command that is still in the mailbox when the time is up does not run") {
    with_actor<concurrency::thread>([](const actor_ref<ledger>& bank) {
      std::thread holds([&] { send_wait(1min, bank, "block"_cmd); });
      while (!ledger::blocks) std::this_thread::yield();
      try {
        send_wait(1ms, bank, "deposit"_cmd, "ann", 1000);
        CHECK(false);
      } catch (const pulsar::error& e) {
        CHECK(e.code() == errc::timed_out);
        CHECK(std::string(e.what()).find("'deposit' of 'bank'") != std::string::npos);
      }
      ledger::blocks = false;
      holds.join();
      CHECK(send_wait(1min, bank, "deposit"_cmd, "ann", 247) == 250);
    });
  }

  TEST_CASE("F15: a message to nobody fails at who sent it") {
    CHECK(error_of([] { send_wait(5s, actor_ref<ledger>(), "nothing"_cmd); }) ==
          errc::unknown_actor);
    CHECK(error_of([] { send_wait<void>(5s, named_actor("nobody"), "ping"); }) ==
          errc::unknown_actor);
    std::promise<std::error_code> told;
    send_then([&](result<> r) { told.set_value(r.code()); }, actor_ref<ledger>(), "nothing"_cmd);
    CHECK(told.get_future().get() == errc::unknown_actor);
  }

  TEST_CASE("in the thread of a running loop it is refused") {
    event_loop loop;
    std::error_code code;
    loop.call_soon([&] {
      code = error_of([] { send_wait(5s, actor_ref<ledger>(), "nothing"_cmd); });
      loop.stop();
    });
    loop.run_forever();
    CHECK(code == errc::already_running);
  }

  TEST_CASE_TEMPLATE("a callback is called with a value or a failure", Policy,
                     concurrency::coroutine, concurrency::thread) {
    with_actor<Policy>([](const actor_ref<ledger>& bank) {
      std::promise<long> cents;
      std::promise<std::thread::id> where;
      send_then(
          [&](result<long> r) {
            where.set_value(std::this_thread::get_id());
            cents.set_value(r.value());
          },
          bank, "deposit"_cmd, "ann", 247);
      CHECK(cents.get_future().get() == 250);
      CHECK(where.get_future().get() != std::this_thread::get_id());

      std::promise<std::string> failure;
      send_then<&ledger::deposit>([&](result<long> r) { failure.set_value(r.message()); }, bank,
                                  "ann", -1);
      CHECK(failure.get_future().get() == "cannot deposit -1");

      std::promise<long> by_name;
      send_then<long>([&](result<long> r) { by_name.set_value(r.value()); }, actor_ref<>(bank),
                      "slow", 7L);
      CHECK(by_name.get_future().get() == 7);

      std::promise<std::string> text;
      send_then([&](result<std::string> r) { text.set_value(r.value()); }, bank, "write"_cmd,
                pulsar::make<entry>("text", 3));
      CHECK(text.get_future().get() == "text3");
      std::promise<int> kept;
      send_then([&](result<int> r) { kept.set_value(r.value()); }, bank, "keep"_cmd,
                std::make_unique<int>(3));
      CHECK(kept.get_future().get() == 3);
    });
  }

  TEST_CASE("where a loop runs the callback is called in that") {
    with_actor<concurrency::thread>([](const actor_ref<ledger>& bank) {
      event_loop mine;
      std::thread::id where;
      mine.call_soon([&] {
        send_then(
            [&](result<long>) {
              where = std::this_thread::get_id();
              mine.stop();
            },
            bank, "slow"_cmd, 7);
      });
      mine.run_forever();
      CHECK(where == std::this_thread::get_id());
    });
  }

  TEST_CASE("many threads ask at once, in both ways") {
    with_actor<concurrency::thread>([](const actor_ref<ledger>& bank) {
      std::atomic<long> sum{0};
      std::atomic<int> answers{0};
      std::vector<std::thread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
          for (int i = 0; i < 50; ++i) {
            sum += send_wait(10s, bank, "slow"_cmd, i);
            send_then(
                [&](result<long> r) {
                  sum += r.value();
                  ++answers;
                },
                bank, "slow"_cmd, i);
          }
        });
      }
      for (auto& t : threads) t.join();
      while (answers < 200) std::this_thread::yield();
      CHECK(sum == 8 * 49 * 25);
    });
  }
}
