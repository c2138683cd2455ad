// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/result.hpp>
#include <pulsar/core/shared_future.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/futures.hpp"

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::code_of;
using future_test::new_steps;
using future_test::reports;
using future_test::steps;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::promise;
using pulsar::shared_future;

namespace {

future<std::string> slow_text(steps s) {
  try {
    co_await pulsar::sleep(10ms);
  } catch (const pulsar::error&) {
    s->push_back("cancelled");
    throw;
  }
  s->push_back("made");
  co_return "text";
}

future<int> fail_slowly() {
  co_await pulsar::sleep(10ms);
  throw std::runtime_error("broken");
}

future<> note(shared_future<std::string> f, steps s, std::string name) {
  const std::string& text = co_await f;
  s->push_back(name + " " + text);
}

}  // namespace

TEST_SUITE("shared_future") {
  CORO_TEST_CASE("several wait for one result, and are resumed in the order in which they came") {
    auto s = new_steps();
    shared_future<std::string> f(slow_text(s));
    auto copy = f;
    CHECK_FALSE(f.done());
    co_await pulsar::when_all(note(f, s, "ann"), note(copy, s, "bob"), note(f, s, "cid"));
    CHECK(*s == std::vector<std::string>{"made", "ann text", "bob text", "cid text"});
    CHECK(f.done());
    const std::string& again = co_await f;
    CHECK(&again == &copy.result());
  }

  CORO_TEST_CASE("what is done is shared as well, and waiting for it does not suspend") {
    shared_future<int> f(pulsar::make_ready_future(7));
    CHECK(f.done());
    CHECK(f.result() == 7);
    CHECK(co_await f == 7);
    shared_future<> nothing(pulsar::make_ready_future());
    co_await nothing;
    nothing.result();
  }

  CORO_TEST_CASE("a result may be a reference, or one that cannot be copied") {
    int number = 1;
    promise<int&> p;
    shared_future<int&> f(p.get_future());
    p.set_value(number);
    int& same = co_await f;
    CHECK(&same == &number);
    shared_future<std::unique_ptr<int>> owner(pulsar::make_ready_future(std::make_unique<int>(3)));
    const std::unique_ptr<int>& box = co_await owner;
    CHECK(*box == 3);
  }

  CORO_TEST_CASE("a failure is thrown to all who wait, and to those who come later") {
    shared_future f(fail_slowly());
    auto outcomes = co_await pulsar::when_all_settled(f, f);
    CHECK(std::get<0>(outcomes).message() == "broken");
    CHECK(std::get<1>(outcomes).message() == "broken");
    CHECK_THROWS_AS(f.result(), std::runtime_error);
    CHECK(f.exception() != nullptr);
    CHECK_FALSE(f.cancelled());
  }

  CORO_TEST_CASE("who is cancelled while it waits goes alone") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto s = new_steps();
    shared_future<std::string> f(slow_text(s));
    auto ann = note(f, s, "ann");
    auto bob = note(f, s, "bob");
    auto cid = note(f, s, "cid");
    co_await pulsar::sleep(1ms);
    bob.cancel();
    auto gone = co_await as_result(std::move(bob));
    CHECK(gone.code() == errc::cancelled);
    ann = {};  // dropped
    co_await std::move(cid);
    CHECK(*s == std::vector<std::string>{"made", "cid text"});
  }

  CORO_TEST_CASE("combinators take it as often as one likes, and leave the work alone") {
    auto s = new_steps();
    shared_future<std::string> f(slow_text(s));
    auto late = co_await as_result(with_timeout(f, 1ms));
    CHECK(late.code() == errc::timed_out);
    auto both = co_await pulsar::when_all(f, f);
    static_assert(
        std::is_same_v<decltype(both), std::tuple<const std::string&, const std::string&>>);
    CHECK(&std::get<0>(both) == &std::get<1>(both));
    CHECK(*s == std::vector<std::string>{"made"});
  }

  CORO_TEST_CASE("cancelling the work tells all who wait") {
    auto s = new_steps();
    shared_future<std::string> f(slow_text(s));
    auto ann = note(f, s, "ann");
    auto bob = note(f, s, "bob");
    CHECK(f.cancel());
    auto outcomes = co_await pulsar::when_all_settled(std::move(ann), std::move(bob));
    CHECK(std::get<0>(outcomes).code() == errc::cancelled);
    CHECK(std::get<1>(outcomes).code() == errc::cancelled);
    CHECK(f.cancelled());
    CHECK_FALSE(f.cancel());
    CHECK(*s == std::vector<std::string>{"cancelled"});
  }

  CORO_TEST_CASE("the work is cancelled when nobody is left") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto s = new_steps();
    {
      std::optional<shared_future<std::string>> f(slow_text(s));
      auto ann = note(*f, s, "ann");
      f.reset();
      co_await pulsar::sleep(1ms);
      CHECK(s->empty());  // ann waits
    }
    co_await pulsar::sleep(1ms);
    CHECK(*s == std::vector<std::string>{"cancelled"});
  }

  CORO_TEST_CASE("a temporary may be awaited") {
    auto s = new_steps();
    const auto begin = [](steps list) { return shared_future<std::string>(slow_text(list)); };
    const std::string text = co_await begin(s);
    CHECK(text == "text");
  }

  TEST_CASE("a failure that nobody looked at is reported when the last copy goes") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    {
      shared_future f(loop.create_task([] { return fail_slowly(); }));
      auto copy = f;
      loop.run_until_complete([] { return pulsar::sleep(1s); });
      CHECK(copy.done());
      CHECK(seen.all.empty());
    }
    CHECK(seen.all == std::vector<std::string>{"broken"});
  }

  TEST_CASE("a failure that somebody asked for is not reported") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    {
      promise<int> p(loop);
      const shared_future f(p.get_future());
      CHECK_THROWS_AS(static_cast<void>(f.exception()), pulsar::error);
      p.set_exception(std::make_exception_ptr(std::runtime_error("broken")));
      CHECK(f.exception() != nullptr);
    }
    const shared_future good(pulsar::make_ready_future(1));
    CHECK(good.exception() == nullptr);
    CHECK(seen.all.empty());
  }

  TEST_CASE("debug mode does not take a shared result for one that nobody looked at") {
    event_loop loop(clock_kind::virtual_time);
    loop.set_debug(true);
    reports seen(loop);
    {
      const shared_future f(pulsar::make_ready_future(1));
      CHECK(f.result() == 1);
    }
    CHECK(seen.all.empty());
  }

  TEST_CASE("an empty one says so") {
    event_loop loop(clock_kind::virtual_time);
    shared_future<int> empty;
    CHECK_FALSE(empty.valid());
    CHECK_FALSE(empty.cancel());
    const auto wait = [](shared_future<int> f) -> future<> { static_cast<void>(co_await f); };
    auto waiting = wait(empty);
    CHECK(code_of(waiting.exception()) == errc::already_called);
    CHECK_THROWS_AS(shared_future<int>(future<int>()), pulsar::error);
  }

  TEST_CASE("callbacks are called from the loop, also when it is done already") {
    event_loop loop(clock_kind::virtual_time);
    promise<int> p(loop);
    shared_future f(p.get_future());
    int called = 0;
    f.add_done_callback([&called] { ++called; });
    p.set_value(1);
    CHECK(called == 0);
    future_test::run(loop);
    CHECK(called == 1);
    f.add_done_callback([&called] { ++called; });
    future_test::run(loop);
    CHECK(called == 2);
    CHECK(&f.loop() == &loop);
  }

  TEST_CASE("copies may outlive the loop, whatever state they are in") {
    std::vector<shared_future<int>> kept;
    std::vector<promise<int>> promises;
    future<> waiting;
    {
      event_loop loop(clock_kind::virtual_time);
      kept.emplace_back(pulsar::make_ready_future(1));
      promises.emplace_back(loop);
      kept.emplace_back(promises.back().get_future());
      kept.emplace_back(loop.create_task([] { return fail_slowly(); }));
      const auto wait = [](shared_future<int> f) -> future<> { static_cast<void>(co_await f); };
      waiting = wait(kept[1]);
    }
    CHECK(kept[0].result() == 1);
    CHECK_FALSE(kept[1].cancel());
    promises.clear();
    event_loop other(clock_kind::virtual_time);
    const auto wait = [](event_loop&, shared_future<int> f) -> future<> {
      static_cast<void>(co_await f);
    };
    auto late = wait(other, kept[1]);
    CHECK(late.done());
    CHECK(code_of(late.exception()) != std::error_code());
  }
}
