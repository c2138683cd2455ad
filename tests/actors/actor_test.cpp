// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/send.hpp>

#include "actors/local_spawn.hpp"
#include "actors/log_capture.hpp"
#include "support/coro_test.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace pulsar::literals;
using namespace std::chrono_literals;
using pulsar::actor_ref;
using pulsar::actor_state;
using pulsar::as_result;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::registry;
using pulsar::sleep;
using pulsar::spawn_options;
namespace cmd = pulsar::cmd;

namespace {

using words = std::vector<std::string>;

// What happened, in order. Each test begins with `happened.clear()`.
words happened;

// Says so when it goes.
struct farewell {
  explicit farewell(std::string w) : word(std::move(w)) {}
  farewell(farewell&& other) noexcept : word(std::exchange(other.word, {})) {}
  ~farewell() {
    if (!word.empty()) happened.push_back(word);
  }
  std::string word;
};

event_loop::duration now() { return event_loop::current().time().time_since_epoch(); }

// -- life --------------------------------------------------------------------------

class plain_life : public pulsar::actor<plain_life> {
 public:
  plain_life() { happened.push_back("constructed"); }
  ~plain_life() override { happened.push_back("destroyed"); }
  void on_start() { happened.push_back("on_start " + std::string(to_string(state()))); }
  void on_stopping() { happened.push_back("on_stopping " + std::string(to_string(state()))); }
  void on_stop() { happened.push_back("on_stop"); }
  std::string work() { return std::string(to_string(state())); }
  using commands = pulsar::commands<&plain_life::work>;
};

class slow_life : public pulsar::actor<slow_life> {
 public:
  ~slow_life() override { happened.push_back("destroyed"); }
  future<> on_start() {
    const farewell last("on_start left");
    happened.push_back("on_start");
    co_await sleep(1s);
    happened.push_back("started");
  }
  future<> on_stopping() {
    co_await sleep(1s);
    happened.push_back("on_stopping");
  }
  future<> on_stop() {
    co_await sleep(1s);
    happened.push_back("on_stop");
  }
  void work() { happened.push_back("work"); }
  using commands = pulsar::commands<&slow_life::work>;
};

class knows_itself : public pulsar::actor<knows_itself> {
 public:
  knows_itself() : name_(name()), id_(id()), loop_(&loop()), state_then_(state()) {}
  bool same() {
    return name_ == name() && id_ == id() && loop_ == &loop() && uptime() >= 0s &&
           state_then_ == actor_state::initial;
  }
  using commands = pulsar::commands<&knows_itself::same>;

 private:
  std::string name_;
  std::uint64_t id_;
  event_loop* loop_;
  actor_state state_then_;
};

class bad_start : public pulsar::actor<bad_start> {
 public:
  enum class how { throws, waits_and_throws, fails, fails_in_constructor, task_fails, stops };

  explicit bad_start(how h) : how_(h) {
    if (h == how::fails_in_constructor) fail(reason());
  }
  ~bad_start() override { happened.push_back("destroyed"); }
  future<> on_start() {
    const farewell last("on_start left");
    if (how_ == how::throws) std::rethrow_exception(reason());
    if (how_ == how::fails) fail(reason());
    if (how_ == how::task_fails) create_task(task());
    if (how_ == how::stops) stop().detach();
    co_await sleep(1s);
    if (how_ == how::waits_and_throws) std::rethrow_exception(reason());
  }
  using commands = pulsar::commands<>;

 private:
  static std::exception_ptr reason() {
    return std::make_exception_ptr(std::invalid_argument("no socket"));
  }
  static future<> task() {
    co_await sleep(10ms);
    std::rethrow_exception(reason());
  }
  how how_;
};

class bad_end : public pulsar::actor<bad_end> {
 public:
  ~bad_end() override { happened.push_back("destroyed"); }
  void on_stopping() { throw std::runtime_error("cannot say goodbye"); }
  future<> on_stop() {
    co_await sleep(1ms);
    throw std::runtime_error("cannot tidy up");
  }
  using commands = pulsar::commands<>;
};

// -- commands -------------------------------------------------------------------

class cook : public pulsar::actor<cook> {
 public:
  future<int> roast(int minutes) {
    const farewell last(std::to_string(minutes) + " left");
    happened.push_back(std::to_string(minutes) + " begins");
    co_await sleep(minutes * 1min);
    happened.push_back(std::to_string(minutes) + " ends");
    co_return minutes;
  }
  int chop(int n) {
    happened.push_back("chop " + std::to_string(n));
    return n;
  }
  future<> stubborn(int times) {
    for (int i = 0; i < times; ++i) {
      try {
        co_await sleep(1h);
        co_return;
      } catch (const pulsar::error&) {
      }
    }
  }
  void stop_now() {
    stop().detach();
    happened.push_back("stop_now ends");
  }
  future<> stop_and_wait() { co_await stop(100ms); }
  future<> fail_later() {
    co_await sleep(1s);
    fail(std::make_exception_ptr(std::runtime_error("burnt")));
    happened.push_back("failed");
    co_await sleep(1h);
  }
  void add_task(int kind) {
    switch (kind) {
      case 0: create_task(background()); break;
      case 1: create_task(breaks()); break;
      case 2: create_task(breaks_at_once()); break;
      case 3: create_task(tidies_up(*this)); break;
      default: create_task(short_one());
    }
  }
  future<> on_stop() {
    happened.push_back("on_stop");
    create_task(background());
    return pulsar::make_ready_future();
  }
  ~cook() override { happened.push_back("destroyed"); }
  using commands = pulsar::commands<&cook::roast, &cook::chop, &cook::stubborn, &cook::stop_now,
                                    &cook::stop_and_wait, &cook::fail_later, &cook::add_task>;

 private:
  static future<> background() {
    const farewell last("task left");
    co_await sleep(24h);
    happened.push_back("never");
  }
  static future<> short_one() {
    co_await sleep(1s);
    happened.push_back("task done");
  }
  static future<> breaks() {
    co_await sleep(1s);
    throw std::runtime_error("task broke");
  }
  static future<> breaks_at_once() {
    throw std::runtime_error("task broke");
    co_return;
  }
  static future<> tidies_up(cook& self) {
    try {
      co_await sleep(24h);
    } catch (const pulsar::error&) {
      happened.push_back("tidying up in " + self.name());
    }
    co_await sleep(1s);
    happened.push_back("tidied up");
  }
};

class serial_cook : public pulsar::actor<serial_cook> {
 public:
  static constexpr bool serial = true;
  future<> roast(int minutes) {
    happened.push_back(std::to_string(minutes) + " begins");
    co_await sleep(minutes * 1min);
    happened.push_back(std::to_string(minutes) + " ends");
  }
  int chop(int n) {
    happened.push_back("chop " + std::to_string(n));
    return n;
  }
  using commands = pulsar::commands<&serial_cook::roast, &serial_cook::chop>;
};

// What a class is spawned as decides on its hooks and commands.
class chef : public cook {
 public:
  void on_start() { happened.push_back("chef starts"); }
  int taste() { return 5; }
  using commands = pulsar::commands<pulsar::commands_of<cook>, &chef::taste>;
};

// -- logging -------------------------------------------------------------------------

class speaker : public pulsar::actor<speaker> {
 public:
  ~speaker() override { pulsar::log::info("in the destructor"); }
  void on_start() {
    pulsar::log::info("in on_start");
    create_task(task());
  }
  future<> on_stop() {
    pulsar::log::info("in on_stop");
    co_await sleep(1ms);
    pulsar::log::info("later in on_stop");
  }
  future<> talk() {
    pulsar::log::info("before");
    co_await sleep(1ms);
    pulsar::log::info("after");
    co_await deeper();
    pulsar::log::info("at the end");
  }
  void plain() { pulsar::log::info("plainly"); }
  future<> host(int) {
    const auto guest = co_await spawn_local<speaker>(spawn_options{.name = "guest"});
    pulsar::log::info("after the spawn");
    tell(guest, "plain"_cmd);
    pulsar::log::info("after the tell");
    auto ended = send(guest, cmd::stop);
    pulsar::log::info("after asking to stop");
    co_await std::move(ended);
    pulsar::log::info("after the stop");
  }
  void stop_self() {
    stop().detach();
    pulsar::log::info("after stopping itself");
  }
  using commands = pulsar::commands<&speaker::talk, &speaker::plain, &speaker::host,
                                    &speaker::stop_self>;

 private:
  static future<> deeper() {
    pulsar::log::info("deeper");
    co_await sleep(1ms);
    pulsar::log::info("deeper still");
  }
  static future<> task() {
    co_await sleep(2ms);
    pulsar::log::info("in a task");
  }
};

}  // namespace

TEST_SUITE("actor: life") {
  CORO_TEST_CASE("hooks are called in their order, and commands between them") {
    happened.clear();
    const auto a = co_await spawn_local<plain_life>();
    const std::string state = co_await send(a, "work"_cmd);
    CHECK(state == "running");
    CHECK(happened == words{"constructed", "on_start starting"});
    co_await send(a, cmd::stop);
    CHECK(happened == words{"constructed", "on_start starting", "on_stopping stopping", "on_stop",
                            "destroyed"});
  }

  CORO_TEST_CASE("hooks that are coroutines are waited for") {
    happened.clear();
    const auto begin = now();
    const auto a = co_await spawn_local<slow_life>();
    CHECK(happened == words{"on_start", "started", "on_start left"});
    CHECK(now() - begin == 1s);
    co_await send(a, cmd::stop);
    CHECK(happened ==
          words{"on_start", "started", "on_start left", "on_stopping", "on_stop", "destroyed"});
    CHECK(now() - begin == 3s);
  }

  CORO_TEST_CASE("an actor knows its name, number and loop, in its constructor too") {
    const auto named = co_await spawn_local<knows_itself>(spawn_options{.name = "me"});
    const auto unnamed = co_await spawn_local<knows_itself>();
    const bool same = co_await send(named, "same"_cmd);
    const bool same_too = co_await send(unnamed, "same"_cmd);
    CHECK(same);
    CHECK(same_too);
    CHECK(named.name() == "me");
    CHECK(unnamed.name() == "knows_itself#" + std::to_string(unnamed.id() & 0xffff'ffff));
  }

  TEST_CASE("an actor is an ordinary class to a unit test") {
    cook c;
    CHECK(c.chop(3) == 3);
    CHECK(c.state() == actor_state::initial);
    CHECK_THROWS_AS(c.stop().detach(), pulsar::error);
    event_loop loop;
    CHECK_THROWS_AS(c.create_task(pulsar::make_ready_future()), pulsar::error);
  }

  CORO_TEST_CASE("commands that come while on_start runs wait for it") {
    happened.clear();
    auto spawning = spawn_local<slow_life>(spawn_options{.name = "slow"});
    auto early = pulsar::send<>(pulsar::named_actor("slow"), "work");
    co_await sleep(500ms);
    CHECK(happened == words{"on_start"});
    co_await std::move(early);
    CHECK(happened == words{"on_start", "started", "on_start left", "work"});
    const auto a = co_await std::move(spawning);
    CHECK(a.name() == "slow");
  }

  CORO_TEST_CASE("whatever on_start does wrong fails the spawn, and nothing is left") {
    const log_capture quiet;
    using how = bad_start::how;
    for (const auto h : {how::throws, how::waits_and_throws, how::fails, how::fails_in_constructor,
                         how::task_fails}) {
      happened.clear();
      const auto failed = co_await as_result(spawn_local<bad_start>(spawn_options{.name = "bad"}, h));
      CHECK(failed.message() == "no socket");
      CHECK_THROWS_AS(std::rethrow_exception(failed.exception()), std::invalid_argument);
      if (h == how::fails_in_constructor) {
        CHECK(happened == words{"destroyed"});
      } else {
        CHECK(happened == words{"on_start left", "destroyed"});
      }
      CHECK_FALSE(static_cast<bool>(registry::instance().find("bad")));
    }
  }

  CORO_TEST_CASE("an actor that is stopped while it starts ends once on_start has") {
    happened.clear();
    auto spawning = spawn_local<slow_life>(spawn_options{.name = "slow"});
    co_await sleep(10ms);
    const auto self = registry::instance().find("slow");
    auto waiting = pulsar::send<void>(self, "work");
    co_await send(self, cmd::stop);
    const auto gone = co_await as_result(std::move(spawning));
    CHECK(gone.code() == errc::actor_gone);
    CHECK(gone.message() == "'slow' was stopped while it started: the actor is gone");
    const auto refused = co_await as_result(std::move(waiting));
    CHECK(refused.code() == errc::actor_gone);
    CHECK(happened ==
          words{"on_start", "on_start left", "on_stopping", "on_stop", "destroyed"});
  }

  CORO_TEST_CASE("an actor that stops itself in on_start fails its spawn") {
    happened.clear();
    const auto gone = co_await as_result(
        spawn_local<bad_start>(spawn_options{.name = "quitter"}, bad_start::how::stops));
    CHECK(gone.code() == errc::actor_gone);
    CHECK(gone.message() == "'quitter' was stopped while it started: the actor is gone");
    CHECK(happened == words{"on_start left", "destroyed"});
  }

  CORO_TEST_CASE("dropping a spawn cancels on_start and leaves nobody") {
    happened.clear();
    {
      auto spawning = spawn_local<slow_life>(spawn_options{.name = "unwanted"});
      co_await sleep(10ms);
    }
    co_await sleep(5s);
    CHECK(happened ==
          words{"on_start", "on_start left", "on_stopping", "on_stop", "destroyed"});
    CHECK_FALSE(static_cast<bool>(registry::instance().find("unwanted")));
  }

  CORO_TEST_CASE("hooks at the end that fail are logged and end it all the same") {
    const log_capture logged;
    happened.clear();
    const auto a = co_await spawn_local<bad_end>(spawn_options{.name = "clumsy"});
    co_await send(a, cmd::stop);
    CHECK(happened == words{"destroyed"});
    CHECK(logged.count("on_stopping of 'clumsy' failed: cannot say goodbye") == 1);
    CHECK(logged.count("on_stop of 'clumsy' failed: cannot tidy up") == 1);
  }

  CORO_TEST_CASE("a class that derives from an actor has its own hooks and commands") {
    happened.clear();
    const auto c = co_await spawn_local<chef>();
    CHECK(happened == words{"chef starts"});
    const int inherited = co_await send(c, "chop"_cmd, 2);
    const int by_member = co_await send<&cook::chop>(c, 3);
    const int own = co_await send(c, "taste"_cmd);
    const int by_name = co_await pulsar::send<int>(c, "taste");
    const auto info = co_await send(c, cmd::info);
    CHECK(inherited == 2);
    CHECK(by_member == 3);
    CHECK(own == 5);
    CHECK(by_name == 5);
    CHECK(info.commands.size() == 8);
    CHECK(info.commands.back() == "taste");
    CHECK(c.name().starts_with("chef#"));
  }
}

TEST_SUITE("actor: commands") {
  CORO_TEST_CASE("commands interleave where they wait") {
    happened.clear();
    const auto a = co_await spawn_local<cook>();
    tell(a, "roast"_cmd, 3);
    tell(a, "roast"_cmd, 1);
    auto chopped = send(a, "chop"_cmd, 7);
    co_await sleep(1ms);
    CHECK(happened == words{"3 begins", "1 begins", "chop 7"});
    co_await sleep(5min);
    CHECK(happened == words{"3 begins", "1 begins", "chop 7", "1 ends", "1 left", "3 ends", "3 left"});
    const int seven = co_await std::move(chopped);
    CHECK(seven == 7);
  }

  CORO_TEST_CASE("those of a serial actor run one after the other") {
    happened.clear();
    const auto a = co_await spawn_local<serial_cook>();
    tell(a, "roast"_cmd, 3);
    tell(a, "chop"_cmd, 1);
    tell(a, "roast"_cmd, 2);
    tell(a, "chop"_cmd, 2);
    co_await sleep(10min);
    CHECK(happened == words{"3 begins", "3 ends", "chop 1", "2 begins", "2 ends", "chop 2"});
  }

  CORO_TEST_CASE("none of many commands is lost, serial or not") {
    const log_capture quiet;
    happened.clear();
    const auto serial = co_await spawn_local<serial_cook>();
    const auto parallel = co_await spawn_local<cook>();
    for (int i = 0; i < 500; ++i) {
      tell(serial, "chop"_cmd, i);
      tell(parallel, "chop"_cmd, i);
    }
    const int last = co_await send(serial, "chop"_cmd, 500);
    const int last_too = co_await send(parallel, "chop"_cmd, 500);
    CHECK(last == 500);
    CHECK(last_too == 500);
    CHECK(happened.size() == 1002);
    const auto info = co_await send(serial, cmd::info);
    CHECK(info.handled == 501);
  }

  CORO_TEST_CASE("dropping the future of a send does not cancel the command") {
    happened.clear();
    const auto a = co_await spawn_local<cook>();
    {
      auto dropped = send(a, "roast"_cmd, 1);
      auto dropped_in_the_mailbox = send(a, "chop"_cmd, 1);
      auto cancelled = send(a, "chop"_cmd, 2);
      cancelled.cancel();
      const auto gone = co_await as_result(std::move(cancelled));
      CHECK(gone.code() == errc::cancelled);
    }
    co_await sleep(2min);
    CHECK(happened == words{"1 begins", "chop 1", "chop 2", "1 ends", "1 left"});
  }

  CORO_TEST_CASE("the bound counts what waits and what is under way") {
    const auto a = co_await spawn_local<cook>(spawn_options{.name = "busy", .mailbox_bound = 3});
    tell(a, "roast"_cmd, 1);
    co_await sleep(1ms);
    auto chop = send(a, "chop"_cmd, 1);
    auto another = send(a, "chop"_cmd, 2);
    auto refused = send(a, "chop"_cmd, 3);
    CHECK(refused.done());  // at once
    const auto full = co_await as_result(std::move(refused));
    CHECK(full.code() == errc::mailbox_full);
    CHECK(full.message() == "'busy' has 3 commands pending: the mailbox is full");
    {
      const log_capture logged;
      tell(a, "chop"_cmd, 4);
      CHECK(logged.count("a tell of 'chop' to 'busy' failed: 'busy' has 3 commands pending") == 1);
    }
    co_await std::move(another);
    co_await std::move(chop);
    auto info = co_await send(a, cmd::info);
    CHECK(info.refused == 2);
    CHECK(info.pending == 2);
    co_await sleep(2min);
    info = co_await send(a, cmd::info);
    CHECK(info.pending == 1);
    CHECK(info.refused == 2);
  }
}

TEST_SUITE("actor: deadlines") {
  CORO_TEST_CASE("a command that is not answered has timed out after ten seconds") {
    happened.clear();
    const auto a = co_await spawn_local<cook>(spawn_options{.name = "slow"});
    const auto begin = now();
    const auto late = co_await as_result(send(a, "roast"_cmd, 1));
    CHECK(late.code() == errc::timed_out);
    CHECK(late.code() == std::errc::timed_out);
    CHECK(late.message() == "'slow' did not answer 'roast' in time: timed out");
    CHECK(now() - begin == 10s);
    // The command is not cancelled, and its late reply is dropped.
    co_await sleep(1min);
    CHECK(happened == words{"1 begins", "1 ends", "1 left"});
    const int still_here = co_await send(a, "chop"_cmd, 1);
    CHECK(still_here == 1);
  }

  CORO_TEST_CASE("a command whose deadline passes in the mailbox is never run") {
    happened.clear();
    const auto a = co_await spawn_local<serial_cook>(spawn_options{.name = "slow"});
    tell(a, "roast"_cmd, 1);
    const auto begin = now();
    const auto late = co_await as_result(send(a, "chop"_cmd, 1));
    CHECK(late.code() == errc::timed_out);
    CHECK(now() - begin == 10s);
    tell(a, "chop"_cmd, 2);  // has no deadline
    co_await sleep(2min);
    CHECK(happened == words{"1 begins", "1 ends", "chop 2"});
    const auto info = co_await send(a, cmd::info);
    CHECK(info.refused == 1);
    CHECK(info.handled == 2);
  }

  CORO_TEST_CASE("the same by name: it times out, and is not run in the mailbox") {
    happened.clear();
    const actor_ref<> a = co_await spawn_local<serial_cook>(spawn_options{.name = "slow"});
    const auto begin = now();
    auto roast = pulsar::send<void>(a, "roast", 1);
    auto chop = pulsar::send<int>(a, "chop", 1);
    const auto late = co_await as_result(std::move(roast));
    CHECK(late.code() == errc::timed_out);
    CHECK(late.message() == "no answer to 'roast' of 'slow' in time: timed out");
    CHECK(now() - begin == 10s);
    const auto late_too = co_await as_result(std::move(chop));
    CHECK(late_too.code() == errc::timed_out);
    co_await sleep(2min);
    CHECK(happened == words{"1 begins", "1 ends"});
    const auto info = co_await send(a, cmd::info);
    CHECK(info.refused == 1);
  }
}

TEST_SUITE("actor: stopping") {
  CORO_TEST_CASE("what waits is refused, what is under way has its grace") {
    happened.clear();
    const auto a = co_await spawn_local<cook>(spawn_options{.name = "closing"});
    tell(a, "roast"_cmd, 1);
    tell(a, "stubborn"_cmd, 1);
    co_await sleep(56s);
    auto queued = send(a, "chop"_cmd, 1);
    const auto begin = now();
    auto stopped = send(a, cmd::stop);
    auto too_late = send(a, "chop"_cmd, 2);
    const auto refused = co_await as_result(std::move(queued));
    CHECK(refused.code() == errc::actor_gone);
    CHECK(refused.message() == "'closing' is stopping: the actor is gone");
    const auto refused_too = co_await as_result(std::move(too_late));
    CHECK(refused_too.code() == errc::actor_gone);
    co_await std::move(stopped);
    CHECK(now() - begin == 5s);
    // The roast ended within the grace, the other was cancelled after it.
    CHECK(happened == words{"1 begins", "1 ends", "1 left", "on_stop", "task left", "destroyed"});
  }

  CORO_TEST_CASE("after the grace commands are cancelled, and their senders told") {
    happened.clear();
    const auto a = co_await spawn_local<cook>();
    auto roast = send(a, "roast"_cmd, 60);
    co_await sleep(1s);
    const auto begin = now();
    co_await send(a, cmd::stop);
    CHECK(now() - begin == 5s);
    CHECK(happened == words{"60 begins", "60 left", "on_stop", "task left", "destroyed"});
    const auto cancelled = co_await as_result(std::move(roast));
    CHECK(cancelled.code() == errc::cancelled);
  }

  CORO_TEST_CASE("commands that ignore their cancellation are named in the log every 5 s") {
    const log_capture logged;
    const auto a = co_await spawn_local<cook>(spawn_options{.name = "closing"});
    tell(a, "stubborn"_cmd, 3);
    tell(a, "stubborn"_cmd, 2);
    co_await sleep(1s);
    const auto begin = now();
    auto stopped = as_result(send(a, cmd::stop));  // itself times out
    co_await sleep(9s);
    CHECK(logged.count("'closing' still has") == 0);
    co_await sleep(2s);
    CHECK(logged.count("'closing' still has 2 commands that ignore their cancellation") == 1);
    co_await sleep(5s);
    CHECK(logged.count("'closing' still has 1 commands that ignore their cancellation") == 1);
    co_await sleep(1s);
    CHECK_FALSE(static_cast<bool>(registry::instance().find("closing")));
    CHECK(logged.count("'closing' still has") == 2);
    CHECK(now() - begin == 17s);
    const auto never_answered = co_await std::move(stopped);
    CHECK(never_answered.code() == errc::timed_out);
  }

  CORO_TEST_CASE("an actor may stop itself inside a command, which still answers") {
    happened.clear();
    const auto a = co_await spawn_local<cook>();
    auto queued = send(a, "stop_now"_cmd);
    auto behind = send(a, "chop"_cmd, 1);
    co_await std::move(queued);
    const auto refused = co_await as_result(std::move(behind));
    CHECK(refused.code() == errc::actor_gone);
    co_await sleep(1ms);
    CHECK(happened == words{"stop_now ends", "on_stop", "task left", "destroyed"});
  }

  CORO_TEST_CASE("a command that waits for the end of its own actor is cancelled after the grace") {
    happened.clear();
    const auto a = co_await spawn_local<cook>();
    const auto begin = now();
    const auto cancelled = co_await as_result(send(a, "stop_and_wait"_cmd));
    CHECK(cancelled.code() == errc::cancelled);
    CHECK(now() - begin == 100ms);
    co_await sleep(1ms);
    CHECK(happened == words{"on_stop", "task left", "destroyed"});
  }

  CORO_TEST_CASE("stopping twice is no error: both wait for the end") {
    happened.clear();
    const auto a = co_await spawn_local<cook>();
    auto roast = send(a, "roast"_cmd, 60);
    co_await sleep(1s);
    auto first = send(a, cmd::stop);
    co_await sleep(1s);
    auto second = send(a, cmd::stop);
    tell(a, cmd::stop);
    co_await std::move(second);
    CHECK(first.done());
    CHECK(happened.back() == "destroyed");
    const auto third = co_await as_result(send(a, cmd::stop));
    CHECK(third.code() == errc::actor_gone);
    roast.detach();
  }

  CORO_TEST_CASE("who asks it to stop may go: it ends all the same") {
    happened.clear();
    const auto a = co_await spawn_local<slow_life>();
    { auto dropped = send(a, cmd::stop); }
    co_await sleep(5s);
    CHECK(happened.back() == "destroyed");
  }

  CORO_TEST_CASE("a stop right behind a command refuses that command and nothing else happens") {
    happened.clear();
    const auto a = co_await spawn_local<plain_life>();
    auto work = send(a, "work"_cmd);
    tell(a, cmd::stop);
    const auto refused = co_await as_result(std::move(work));
    CHECK(refused.code() == errc::actor_gone);
    co_await sleep(1ms);
    CHECK(happened.back() == "destroyed");
  }
}

TEST_SUITE("actor: tasks and failure") {
  CORO_TEST_CASE("a task runs beside commands, and its end is no event") {
    happened.clear();
    const auto a = co_await spawn_local<cook>();
    co_await send(a, "add_task"_cmd, 9);
    co_await send(a, "chop"_cmd, 1);
    co_await sleep(2s);
    CHECK(happened == words{"chop 1", "task done"});
    co_await send(a, "chop"_cmd, 2);
  }

  CORO_TEST_CASE("tasks are cancelled when the actor stops, before on_stop and after it") {
    happened.clear();
    const auto a = co_await spawn_local<cook>();
    co_await send(a, "add_task"_cmd, 0);
    co_await send(a, cmd::stop);
    CHECK(happened == words{"task left", "on_stop", "task left", "destroyed"});
  }

  CORO_TEST_CASE("the actor stays until its tasks have tidied up") {
    happened.clear();
    const auto a = co_await spawn_local<cook>(spawn_options{.name = "kitchen"});
    co_await send(a, "add_task"_cmd, 3);
    const auto begin = now();
    co_await send(a, cmd::stop);
    CHECK(now() - begin == 1s);
    CHECK(happened == words{"tidying up in kitchen", "tidied up", "on_stop", "task left", "destroyed"});
  }

  CORO_TEST_CASE("a task that fails ends the actor") {
    const log_capture logged;
    for (const int kind : {1, 2}) {
      happened.clear();
      const auto a = co_await spawn_local<cook>(spawn_options{.name = "kitchen"});
      auto roast = send(a, "roast"_cmd, 60);
      co_await send(a, "add_task"_cmd, kind);
      co_await sleep(2s);
      CHECK(happened == words{"60 begins", "60 left", "on_stop", "task left", "destroyed"});
      const auto cancelled = co_await as_result(std::move(roast));
      CHECK(cancelled.code() == errc::cancelled);
      const auto gone = co_await as_result(send(a, "chop"_cmd, 1));
      CHECK(gone.code() == errc::actor_gone);
    }
    CHECK(logged.count("'kitchen' has failed: task broke") == 2);
  }

  CORO_TEST_CASE("fail ends the actor without grace") {
    const log_capture logged;
    happened.clear();
    const auto a = co_await spawn_local<cook>(spawn_options{.name = "kitchen"});
    auto failing = send(a, "fail_later"_cmd);
    const auto begin = now();
    const auto cancelled = co_await as_result(std::move(failing));
    CHECK(cancelled.code() == errc::cancelled);
    CHECK(now() - begin < 1100ms);
    co_await sleep(1ms);
    CHECK(happened == words{"failed", "on_stop", "task left", "destroyed"});
    CHECK(logged.count("'kitchen' has failed: burnt") == 1);
  }

  CORO_TEST_CASE("a command that throws does not end its actor") {
    const auto a = co_await spawn_local<cook>();
    const auto bad = co_await as_result(pulsar::send<int>(a, "chop", "no number"));
    CHECK(bad.code() == errc::malformed);
    const int still_here = co_await send(a, "chop"_cmd, 1);
    CHECK(still_here == 1);
  }
}

TEST_SUITE("actor: log") {
  CORO_TEST_CASE("log lines name the actor before and after a co_await") {
    const log_capture logged;
    const auto a = co_await spawn_local<speaker>(spawn_options{.name = "ann"});
    co_await send(a, "talk"_cmd);
    co_await send(a, "plain"_cmd);
    pulsar::log::info("outside");
    co_await send(a, cmd::stop);
    for (const char* text : {"in on_start", "before", "after", "deeper", "deeper still",
                             "at the end", "plainly", "in a task", "in on_stop",
                             "later in on_stop", "in the destructor"}) {
      CHECK_MESSAGE(logged.count("[ann] " + std::string(text) + "\n") == 1, logged.all());
    }
    CHECK(logged.count("[info] outside") == 1);
  }

  CORO_TEST_CASE("an actor that deals with another goes on under its own name") {
    const log_capture logged;
    const auto a = co_await spawn_local<speaker>(spawn_options{.name = "ann"});
    co_await send(a, "host"_cmd, 1);
    co_await send(a, "stop_self"_cmd);
    for (const char* text : {"after the spawn", "after the tell", "after asking to stop",
                             "after the stop", "after stopping itself"}) {
      CHECK_MESSAGE(logged.count("[ann] " + std::string(text) + "\n") == 1, logged.all());
    }
    CHECK(logged.count("[guest] in on_start") == 1);
    CHECK(logged.count("[guest] in the destructor") == 1);
  }
}

namespace {

// Everything an actor may leave to its loop: tasks, hooks and commands under way, some of which
// do not end when they are cancelled. Their destructors use the actor.
class untidy : public pulsar::actor<untidy> {
 public:
  enum class what { start, task, command, stop, queue };

  explicit untidy(what w) : what_(w) {}
  ~untidy() override { happened.push_back("destroyed"); }

  future<> on_start() {
    if (what_ == what::start) co_await forever(*this, "on_start");
    if (what_ == what::task) create_task(forever(*this, "task"));
  }
  future<> on_stop() { return forever(*this, "on_stop"); }
  future<> hang() { return forever(*this, "command"); }
  future<> nap() { return sleep(24h); }
  void plain() {}
  using commands = pulsar::commands<&untidy::hang, &untidy::nap, &untidy::plain>;

 private:
  struct user {
    user(untidy& s, std::string w) : self(s), which(std::move(w)) { ++self.users_; }
    user(const user&) = delete;
    user& operator=(const user&) = delete;
    ~user() {
      --self.users_;
      happened.push_back(which + " left " + std::to_string(self.users_));
    }
    untidy& self;
    std::string which;
  };
  static future<> forever(untidy& self, std::string which) {
    const user guard(self, std::move(which));
    for (;;) {
      try {
        co_await sleep(24h);
      } catch (const pulsar::error&) {
      }
    }
  }

  what what_;
  int users_ = 0;
};

future<> leave_untidy(untidy::what w) {
  auto spawning = spawn_local<untidy>(spawn_options{.name = "untidy"}, w);
  if (w == untidy::what::start) {
    spawning.detach();
    co_return;
  }
  const auto a = co_await std::move(spawning);
  if (w == untidy::what::command) {
    send(a, "hang"_cmd).detach();
    send(a, "nap"_cmd).detach();
    pulsar::send<void>(a, "hang").detach();
    tell(a, "hang"_cmd);
    co_await sleep(1ms);
  }
  if (w == untidy::what::stop) {
    tell(a, cmd::stop);
    send(a, cmd::stop).detach();
    co_await sleep(1ms);
  }
  // Left in the mailbox.
  send(a, "plain"_cmd).detach();
  tell(a, "plain"_cmd);
}

}  // namespace

TEST_SUITE("actor: loop") {
  TEST_CASE("a loop that closes frees an actor behind all code of its own") {
    const log_capture quiet;
    using what = untidy::what;
    const std::pair<what, words> cases[] = {
        {what::start, {"on_start left 0", "destroyed"}},
        {what::task, {"task left 0", "destroyed"}},
        {what::command, {"command left 2", "command left 1", "command left 0", "destroyed"}},
        {what::stop, {"on_stop left 0", "destroyed"}},
        {what::queue, {"destroyed"}},
    };
    for (const auto& [w, expected] : cases) {
      CAPTURE(static_cast<int>(w));
      happened.clear();
      event_loop loop;
      loop.run_until_complete([w = w] { return leave_untidy(w); });
      loop.close(20ms);
      CHECK(happened == expected);
      CHECK_FALSE(static_cast<bool>(registry::instance().find("untidy")));
    }
  }

  TEST_CASE("a loop that closes cancels commands under way, and tells who asked") {
    happened.clear();
    event_loop loop;
    auto asked = loop.run_until_complete([]() -> future<future<int>> {
      const auto a = co_await spawn_local<cook>();
      auto roast = send(a, "roast"_cmd, 60);
      co_await sleep(1ms);
      co_return std::move(roast);
    });
    loop.close();
    CHECK(happened == words{"60 begins", "60 left", "destroyed"});
    CHECK(asked.done());
    CHECK(asked.cancelled());
  }

  TEST_CASE("closing a loop with many actors, idle and busy, leaves nothing") {
    const log_capture quiet;
    happened.clear();
    event_loop loop;
    loop.run_until_complete([]() -> future<> {
      for (int i = 0; i < 100; ++i) {
        const auto a = co_await spawn_local<cook>();
        if (i % 3 == 0) send(a, "roast"_cmd, 60).detach();
        if (i % 3 == 1) tell(a, "add_task"_cmd, 0);
        if (i % 5 == 0) tell(a, cmd::stop);
      }
    });
    const auto before = registry::instance().all().size();
    loop.close();
    CHECK(registry::instance().all().size() <= before - 80);
    CHECK(std::count(happened.begin(), happened.end(), "destroyed") == 100);
  }
}
