// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/send.hpp>
#include <pulsar/core/deadline.hpp>
#include <pulsar/core/tasks.hpp>
#include <pulsar/core/when_all.hpp>

#include "actors/local_spawn.hpp"
#include "actors/log_capture.hpp"
#include "support/coro_test.hpp"

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace pulsar::literals;
using namespace std::chrono_literals;
using pulsar::actor_ref;
using pulsar::as_result;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::named_actor;
using pulsar::sleep;
using pulsar::spawn_options;
namespace concurrency = pulsar::concurrency;
namespace cmd = pulsar::cmd;

namespace {

struct entry {
  std::string text;
  int number = 0;
  std::vector<std::string> tags{};
};

/// Cannot be made without its number while that is refused.
struct fussy {
  int number = checked();
  static inline bool refused = false;
  static int checked() {
    if (refused) throw std::runtime_error("does not like to be made");
    return 0;
  }
};

class maker : public pulsar::actor<maker> {
 public:
  fussy make(int n) { return fussy{n}; }
  using commands = pulsar::commands<&maker::make>;
};

class ledger : public pulsar::actor<ledger> {
 public:
  long deposit(std::string account, long cents) {
    if (cents < 0) throw std::invalid_argument("cannot deposit " + std::to_string(cents));
    log_ += account;
    return total_ += cents;
  }
  future<long> audit(const std::string& account) const {
    co_await sleep(1ms);
    co_return account == "all" ? total_ : 0;
  }
  void reset() { total_ = 0; }
  future<> settle() { co_await sleep(1ms); }
  void hold(std::shared_future<void> go) { go.wait(); }
  std::string write(entry what) { return what.text + std::to_string(what.number + static_cast<int>(what.tags.size())); }
  int keep(std::unique_ptr<int> p) { return *p; }
  int keep_too(std::unique_ptr<int>&& p) { return *std::unique_ptr<int>(std::move(p)); }
  std::unique_ptr<int> give(int n) { return std::make_unique<int>(n); }
  future<std::unique_ptr<int>> give_later(int n) {
    co_await sleep(1ms);
    co_return std::make_unique<int>(n);
  }
  const std::string& log() const { return log_; }
  int add(int a, int b) { return a + b; }
  std::string add(std::string a, std::string b) { return a + b; }
  future<long> empty() { return {}; }
  int call(std::function<int()> f) { return f(); }
  using commands = pulsar::commands<
      &ledger::deposit, pulsar::named<"check", &ledger::audit>, &ledger::reset, &ledger::settle,
      &ledger::hold,
      &ledger::write, &ledger::keep, &ledger::keep_too, &ledger::give, &ledger::give_later,
      &ledger::log, pulsar::named<"add", static_cast<int (ledger::*)(int, int)>(&ledger::add)>,
      pulsar::named<"append", static_cast<std::string (ledger::*)(std::string, std::string)>(
                                  &ledger::add)>,
      &ledger::empty, &ledger::call>;

 private:
  long total_ = 0;
  std::string log_;
};

// A result whose move fails, and one that is never made without a value.
struct immovable {
  immovable() = default;
  immovable(immovable&& other) : moves(other.moves + 1) {
    if (moves > 0) throw std::runtime_error("does not like to be moved");
  }
  int moves = 0;
};

class jester : public pulsar::actor<jester> {
 public:
  immovable plain() { return {}; }
  future<immovable> later() {
    co_await sleep(1ms);
    co_return immovable{};
  }
  int calls() { return ++calls_; }
  using commands = pulsar::commands<&jester::plain, &jester::later, &jester::calls>;

 private:
  int calls_ = 0;
};

future<int> after_ms(int n) {
  co_await sleep(std::chrono::milliseconds(n));
  co_return n;
}

// Runs the body with an actor that lives by that policy.
template <class Policy, class A, class Body>
future<> with_actor_in_loop(Body body) {
  const auto a = co_await spawn_local<A, Policy>(spawn_options{.name = "bank"});
  co_await body(a);
  co_await send(a, cmd::stop);
}
template <class Policy, class A = ledger, class Body>
void with_actor(Body body) {
  event_loop loop;
  loop.run_until_complete(with_actor_in_loop<Policy, A, Body>(body));
}

// What the last coroutine that waits for a reply says of it.
std::string waits_of(event_loop& loop) {
  std::string last;
  for (const auto& each : loop.tasks()) {
    if (each.waits_for.starts_with("a reply")) last = each.waits_for;
  }
  return last;
}

}  // namespace

TEST_SUITE("send") {
  TEST_CASE_TEMPLATE("a command is sent by its name or by its function", Policy,
                     concurrency::coroutine, concurrency::thread) {
    with_actor<Policy>([](actor_ref<ledger> bank) -> future<> {
      const long first = co_await send(bank, "deposit"_cmd, "ann", 250);
      CHECK(first == 250);
      const long second = co_await send<&ledger::deposit>(bank, "bob", 50);
      CHECK(second == 300);
      const long by_other_name = co_await send(bank, "check"_cmd, "all");
      CHECK(by_other_name == 300);
      const long by_function = co_await send<&ledger::audit>(bank, "all");
      CHECK(by_function == 300);
      const std::string log = co_await send(bank, "log"_cmd);
      CHECK(log == "annbob");
    });
  }

  TEST_CASE("F16: several messages in one go give their results in their places") {
    const auto ask_all = [](actor_ref<ledger> bank) -> future<> {
      auto answers = co_await pulsar::when_all(
          send(bank, cmd::run, pulsar::fn<&after_ms>, 12), send(bank, cmd::ping),
          send(bank, cmd::echo, 7), send(bank, cmd::run, pulsar::fn<&after_ms>, 21),
          send(bank, cmd::echo, "ciao"));
      CHECK(std::get<0>(answers) == 12);
      CHECK(std::get<1>(answers) == "pong");
      CHECK(std::get<2>(answers) == 7);
      CHECK(std::get<3>(answers) == 21);
      CHECK(std::get<4>(answers) == "ciao");
    };
    with_actor<concurrency::coroutine>(ask_all);
    with_actor<concurrency::thread>(ask_all);
  }

  TEST_CASE_TEMPLATE("each overload goes by its own name", Policy, concurrency::coroutine,
                     concurrency::thread) {
    with_actor<Policy>([](actor_ref<ledger> bank) -> future<> {
      const int sum = co_await send(bank, "add"_cmd, 1, 2);
      const std::string text = co_await send(bank, "append"_cmd, "1", "2");
      const int by_function =
          co_await send<static_cast<int (ledger::*)(int, int)>(&ledger::add)>(bank, 3, 4);
      const std::string by_name = co_await pulsar::send<std::string>(bank, "append", "a", "b");
      CHECK(sum == 3);
      CHECK(text == "12");
      CHECK(by_function == 7);
      CHECK(by_name == "ab");
    });
  }

  TEST_CASE_TEMPLATE("arguments may be converted, lent, moved, and made in place", Policy,
                     concurrency::coroutine, concurrency::thread) {
    with_actor<Policy>([](actor_ref<ledger> bank) -> future<> {
      const std::string_view view = "ann";
      const std::string lent = "bob";
      const short cents = 3;
      co_await send(bank, "deposit"_cmd, std::string(view), cents);
      co_await send(bank, "deposit"_cmd, lent, 4);
      CHECK(lent == "bob");

      const int moved = co_await send(bank, "keep"_cmd, std::make_unique<int>(5));
      auto owned = std::make_unique<int>(6);
      const int moved_too = co_await send(bank, "keep_too"_cmd, std::move(owned));
      CHECK(moved == 5);
      CHECK(moved_too == 6);
      CHECK(owned == nullptr);
      const int called = co_await send(bank, "call"_cmd, [] { return 9; });
      CHECK(called == 9);

      entry named{"a text that is too long for the string itself", 1, {"x"}};
      const std::string copied = co_await send(bank, "write"_cmd, named);
      CHECK(copied == named.text + "2");
      const std::string made = co_await send(bank, "write"_cmd, pulsar::make<entry>("made", 2));
      CHECK(made == "made2");
      const std::string given = co_await send(bank, "write"_cmd, pulsar::moved(named));
      CHECK(given == copied);
      CHECK(named.text.empty());
    });
  }

  TEST_CASE_TEMPLATE("results may be nothing, values, and move-only values", Policy,
                     concurrency::coroutine, concurrency::thread) {
    with_actor<Policy>([](actor_ref<ledger> bank) -> future<> {
      co_await send(bank, "reset"_cmd);
      co_await send(bank, "settle"_cmd);
      const std::unique_ptr<int> given = co_await send(bank, "give"_cmd, 7);
      CHECK(*given == 7);
      const std::unique_ptr<int> later = co_await send(bank, "give_later"_cmd, 8);
      CHECK(*later == 8);
    });
  }

  TEST_CASE_TEMPLATE("a command whose result cannot be passed on fails as if it had thrown", Policy,
                     concurrency::coroutine, concurrency::thread) {
    with_actor<Policy, jester>([](actor_ref<jester> a) -> future<> {
      const auto plain = co_await as_result(send(a, "plain"_cmd).then([](immovable) {}));
      CHECK(plain.message() == "does not like to be moved");
      const auto later = co_await as_result(send(a, "later"_cmd).then([](immovable) {}));
      CHECK(later.message() == "does not like to be moved");
      const auto info = co_await send(a, cmd::info);
      CHECK(info.handled == 2);
      CHECK(info.pending == 1);
    });
    with_actor<Policy>([](actor_ref<ledger> bank) -> future<> {
      const auto nothing = co_await as_result(send(bank, "empty"_cmd));
      CHECK(nothing.code() == errc::broken_promise);
      CHECK(nothing.message().starts_with("the command returned an empty future"));
    });
  }

  TEST_CASE_TEMPLATE("by name alone a command is checked when it arrives", Policy,
                     concurrency::coroutine, concurrency::thread) {
    with_actor<Policy>([](actor_ref<ledger> bank) -> future<> {
      const actor_ref<> someone = bank;
      const long cents = co_await pulsar::send<long>(someone, "deposit", "ann", 250);
      CHECK(cents == 250);
      const long by_name = co_await pulsar::send<long>(named_actor("bank"), "check", "all");
      CHECK(by_name == 250);
      co_await pulsar::send(someone, "deposit", "ann", 1);  // the result is not wanted
      co_await pulsar::send<>(someone, "reset");
      const std::string made =
          co_await pulsar::send<std::string>(someone, "write", pulsar::make<entry>("made", 2));
      CHECK(made == "made2");

      const auto unknown = co_await as_result(pulsar::send<long>(someone, "withdraw", "ann", 1));
      CHECK(unknown.code() == errc::unknown_command);
      CHECK(unknown.message() ==
            "'bank' has no command 'withdraw'; it has: deposit check reset settle hold write keep "
            "keep_too give give_later log add append empty call: unknown command");
      const auto few = co_await as_result(pulsar::send<long>(someone, "deposit", "ann"));
      CHECK(few.code() == errc::malformed);
      CHECK(few.message().starts_with(
          "the arguments of 'deposit' of 'bank': expected 2 arguments but got 1"));
      const auto many = co_await as_result(pulsar::send<long>(someone, "deposit", "ann", 1, 2));
      CHECK(many.code() == errc::malformed);
      CHECK(many.message().starts_with(
          "the arguments of 'deposit' of 'bank': expected 2 arguments but got 3"));
      const auto wrong = co_await as_result(pulsar::send<long>(someone, "deposit", 250, "ann"));
      CHECK(wrong.code() == errc::malformed);
      CHECK(wrong.message().starts_with("the arguments of 'deposit' of 'bank': "));
      const auto result = co_await as_result(pulsar::send<std::string>(someone, "check", "all"));
      CHECK(result.code() == errc::malformed);
      CHECK(result.message().starts_with("the result of 'check' of 'bank': "));
      const auto cannot = co_await as_result(pulsar::send<int>(someone, "call", 1));
      CHECK(cannot.code() == errc::not_encodable);
      CHECK(cannot.message().starts_with("'call' of 'bank' takes a std::function<"));
      CHECK(cannot.message().find("which cannot travel to another process") != std::string::npos);
      const auto failed = co_await as_result(pulsar::send<long>(someone, "deposit", "ann", -1));
      CHECK(failed.message() == "cannot deposit -1");
      CHECK_THROWS_AS(std::rethrow_exception(failed.exception()), std::invalid_argument);

      const long still = co_await send(bank, "check"_cmd, "all");
      CHECK(still == 0);
    });
  }

  TEST_CASE("a result that cannot be made here fails its send") {
    with_actor<concurrency::coroutine, maker>([](actor_ref<maker> a) -> future<> {
      const actor_ref<> someone = a;
      fussy::refused = true;
      auto asked = pulsar::send<fussy>(someone, "make", 7);
      const auto failed = co_await as_result(std::move(asked));
      fussy::refused = false;
      CHECK(failed.message() == "does not like to be made");
      auto again = pulsar::send<fussy>(someone, "make", 7);
      const fussy made = co_await std::move(again);
      CHECK(made.number == 7);
    });
  }

  TEST_CASE("a send takes no longer than the chain that it is in, nor than ten seconds") {
    event_loop loop(pulsar::clock_kind::virtual_time);
    loop.set_exception_handler([](const pulsar::failure_report&) {});  // some are never answered
    const auto body = [](event_loop& on) -> future<> {
      auto bank = co_await spawn_local<ledger>();
      const auto settle = [&bank] { return send(bank, "settle"_cmd); };
      const auto nested = [](actor_ref<ledger> b) -> future<> { co_await send(b, "settle"_cmd); };
      const auto a = pulsar::with_deadline(1min, settle);
      CHECK(waits_of(on) == "a reply (10 s left)");
      const auto b = pulsar::with_deadline(3s, settle);
      CHECK(waits_of(on) == "a reply (3 s left)");
      const auto c = pulsar::with_deadline(4s, [&] { return nested(bank); });
      CHECK(waits_of(on) == "a reply (4 s left)");
      const auto d = pulsar::with_deadline(
          5s, [&] { return pulsar::send(actor_ref<>(bank), "settle"); });
      CHECK(waits_of(on) == "a reply (5 s left)");
      // Another value of the chain is no limit.
      const auto e = pulsar::with_log_field("a", "b", [&] { return nested(bank); });
      CHECK(waits_of(on) == "a reply (10 s left)");
      const auto f = nested(bank);
      CHECK(waits_of(on) == "a reply (10 s left)");
      co_await send(bank, cmd::stop);
    };
    loop.run_until_complete([&] { return body(loop); });
  }

  TEST_CASE("what a deadline passed in the mailbox does not run") {
    event_loop loop;
    const auto body = [](event_loop&) -> future<> {
      auto bank = co_await spawn_local<ledger, concurrency::thread>(spawn_options{});
      std::promise<void> go;
      auto held = send(bank, "hold"_cmd, go.get_future().share());
      auto late = pulsar::with_deadline(1ms, [&] { return send(bank, "deposit"_cmd, "ann", 1); });
      const auto r = co_await as_result(std::move(late));
      CHECK(r.code() == errc::timed_out);
      co_await sleep(2ms);
      go.set_value();
      co_await std::move(held);
      const long total = co_await send(bank, "deposit"_cmd, "ann", 2);
      CHECK(total == 2);
      co_await send(bank, cmd::stop);
    };
    loop.run_until_complete([&] { return body(loop); });
  }

  CORO_TEST_CASE("a send that reaches nobody says so") {
    const actor_ref<> none;
    const actor_ref<ledger> nobody;
    const std::string sentence = "send through a reference that refers to no actor: unknown actor";
    auto named = co_await as_result(pulsar::send<long>(none, "deposit", "ann", 1));
    CHECK(named.code() == errc::unknown_actor);
    CHECK(named.message() == sentence);
    auto typed = co_await as_result(send(nobody, "deposit"_cmd, "ann", 1));
    CHECK(typed.code() == errc::unknown_actor);
    CHECK(typed.message() == sentence);
    auto built_in = co_await as_result(send(none, cmd::ping));
    CHECK(built_in.message() == sentence);
    CHECK_THROWS_WITH_AS(tell(nobody, "deposit"_cmd, "ann", 1),
                         "tell through a reference that refers to no actor: unknown actor",
                         pulsar::error);
    auto by_name = pulsar::send<long>(named_actor("nobody"), "deposit", "ann", 1);
    const auto outcome = co_await as_result(std::move(by_name));
    CHECK(outcome.code() == errc::unknown_actor);
    CHECK(outcome.message() == "no actor is named 'nobody': unknown actor");
  }

  TEST_CASE("a send needs a loop to come back to, a tell does not") {
    event_loop loop;
    const auto bank = loop.run_until_complete([] { return spawn_local<ledger>(); });
    std::thread([&bank] {
      CHECK_THROWS_AS(send(bank, "deposit"_cmd, "ann", 1).detach(), pulsar::error);
      for (int i = 0; i < 100; ++i) tell(bank, "deposit"_cmd, "ann", 1);
    }).join();
    CHECK(loop.run_until_complete([&bank] { return send(bank, "check"_cmd, "all"); }) == 100);
  }

  TEST_CASE("the future of a send belongs to the loop of the sender") {
    event_loop here;
    const auto bank =
        here.run_until_complete([] { return spawn_local<ledger, concurrency::thread>(); });
    auto asked = here.create_task([&bank] { return send(bank, "deposit"_cmd, "ann", 1); });
    CHECK(&asked.loop() == &here);
    CHECK(here.run_until_complete(std::move(asked)) == 1);
    here.run_until_complete([&bank] { return send(bank, cmd::stop); });
  }

  CORO_TEST_CASE("a send goes on without its sender") {
    const auto a = co_await spawn_local<jester>();
    { auto dropped = send(a, "calls"_cmd); }
    send(a, "calls"_cmd).detach();
    const int third = co_await send(a, "calls"_cmd);
    CHECK(third == 3);
  }

  TEST_CASE_TEMPLATE("commands of one sender run in the order in which they were sent", Policy,
                     concurrency::coroutine, concurrency::thread) {
    with_actor<Policy>([](actor_ref<ledger> bank) -> future<> {
      std::string expected;
      for (int i = 0; i < 300; ++i) {
        const std::string letter(1, static_cast<char>('a' + i % 26));
        expected += letter;
        switch (i % 4) {
          case 0: tell(bank, "deposit"_cmd, letter, 1); break;
          case 1: send(bank, "deposit"_cmd, letter, 1).detach(); break;
          case 2: send<&ledger::deposit>(bank, letter, 1).detach(); break;
          default: pulsar::send<long>(bank, "deposit", letter, 1).detach();
        }
      }
      const std::string log = co_await send(bank, "log"_cmd);
      CHECK(log == expected);
    });
  }
}

TEST_SUITE("tell") {
  TEST_CASE_TEMPLATE("the failure of a tell is logged where it ran", Policy,
                     concurrency::coroutine, concurrency::thread) {
    const log_capture logged;
    with_actor<Policy>([](actor_ref<ledger> bank) -> future<> {
      tell(bank, "deposit"_cmd, "ann", -1);
      tell(bank, cmd::ping);
      const long cents = co_await send(bank, "deposit"_cmd, "ann", 1);
      CHECK(cents == 1);
    });
    CHECK_MESSAGE(
        logged.count("[bank] a tell of 'deposit' to 'bank' failed: cannot deposit -1") == 1,
        logged.all());
    CHECK(logged.count("a tell of") == 1);
  }

  TEST_CASE_TEMPLATE("a tell to an actor that has ended is logged", Policy, concurrency::coroutine,
                     concurrency::thread) {
    const log_capture logged;
    event_loop loop;
    loop.run_until_complete([]() -> future<> {
      const auto bank = co_await spawn_local<ledger, Policy>(spawn_options{.name = "bank"});
      co_await send(bank, cmd::stop);
      tell(bank, "deposit"_cmd, "ann", 1);
    });
    // By the sender, or by a thread that is just ending.
    const auto give_up = std::chrono::steady_clock::now() + 60s;
    while (logged.count("a tell of 'deposit' to 'bank' failed: 'bank' has ended") == 0) {
      REQUIRE_MESSAGE(std::chrono::steady_clock::now() < give_up, logged.all());
      std::this_thread::yield();
    }
    CHECK(logged.count("a tell of") == 1);
  }
}
