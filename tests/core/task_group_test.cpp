// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/task_group.hpp>

#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/futures.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::at;
using future_test::code_of;
using future_test::error_of;
using future_test::new_steps;
using future_test::reports;
using future_test::run;
using future_test::steps;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::promise;
using pulsar::task_group;

namespace {

future<> note_after(event_loop::duration delay, steps s, std::string text) {
  co_await pulsar::sleep(delay);
  s->push_back(text);
}

future<> fail_after(event_loop::duration delay, std::string text) {
  co_await pulsar::sleep(delay);
  throw std::runtime_error(text);
}

// Takes `cleaning` to end when it is cancelled, and notes both. Fails with `text` if there is one.
future<> clean_up(steps s,
                  std::string name,
                  event_loop::duration cleaning,
                  std::string text = {},
                  event_loop& loop = event_loop::current()) {
  std::error_code code;
  try {
    co_await pulsar::sleep(1h, loop);
  } catch (const pulsar::error& e) {
    code = e.code();
  }
  s->push_back(name + (code == errc::cancelled ? " cancelled" : " woken"));
  co_await pulsar::sleep(cleaning, loop);
  s->push_back(name + " ended");
  if (!text.empty()) throw std::runtime_error(text);
  if (code) throw pulsar::error(code);
}

}  // namespace

TEST_SUITE("task_group") {
  // ---- children that end

  CORO_TEST_CASE("join waits for all children, of whatever type") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    task_group group;
    CHECK(group.size() == 0);
    group.add(note_after(2ms, s, "b"));
    group.add(note_after(1ms, s, "a"));
    group.add(pulsar::sleep(3ms).then([] { return std::make_unique<int>(1); }));
    group.add(pulsar::make_ready_future(std::string("ready")));
    CHECK(group.size() == 3);
    auto joined = group.join();
    CHECK_FALSE(joined.done());
    co_await std::move(joined);
    CHECK(group.size() == 0);
    CHECK(*s == std::vector<std::string>{"a", "b"});
    CHECK(loop.time() == at(3ms));
  }

  TEST_CASE("an empty group is joined at once, as often as one likes") {
    event_loop loop;
    task_group group(loop);
    for (int i = 0; i < 3; ++i) {
      auto joined = group.join();
      CHECK(joined.done());
      joined.result();
    }
  }

  CORO_TEST_CASE("C14: children may be added while a join waits, by children too, and after it") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    // The group goes before what its children hold.
    const auto group = std::make_shared<task_group>();
    const auto add_more = [](std::weak_ptr<task_group> where, steps notes) -> future<> {
      co_await pulsar::sleep(1ms);
      if (const auto here = where.lock()) here->add(note_after(2ms, notes, "by a child"));
      notes->push_back("child");
    };
    group->add(add_more(group, s));
    loop.call_later(2ms, [where = std::weak_ptr(group), s] {
      if (const auto here = where.lock()) here->add(note_after(5ms, s, "by a callback"));
    });
    co_await group->join();
    CHECK(*s == std::vector<std::string>{"child", "by a child", "by a callback"});
    CHECK(loop.time() == at(7ms));
    group->add(note_after(1ms, s, "afterwards"));
    co_await group->join();
    CHECK(s->size() == 4);
  }

  CORO_TEST_CASE("a child that is added when the last one has just ended is waited for") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    const auto group = std::make_shared<task_group>();
    auto last = loop.create_future();
    auto ended = last.get_future();
    // Called behind the end of the child, and before the join goes on.
    ended.add_done_callback([where = std::weak_ptr(group), s] {
      const auto here = where.lock();
      if (here == nullptr) return;
      s->push_back(std::to_string(here->size()));
      here->add(note_after(5ms, s, "late"));
    });
    group->add(std::move(ended));
    auto joined = group->join();
    last.set_value();
    co_await std::move(joined);
    CHECK(*s == std::vector<std::string>{"0", "late"});
    CHECK(group->size() == 0);
  }

  CORO_TEST_CASE("many children come and go in any order") {
    auto& loop = event_loop::current();
    task_group group;
    for (int i = 0; i < 200; ++i) group.add(pulsar::sleep(std::chrono::milliseconds(i * 37 % 200)));
    CHECK(group.size() == 200);
    co_await pulsar::sleep(99ms);
    co_await pulsar::sleep(0s);
    CHECK(group.size() == 100);
    co_await group.join();
    CHECK(group.size() == 0);
    CHECK(loop.time() == at(199ms));
  }

  // ---- children that fail

  CORO_TEST_CASE("the first failure cancels the others, and join throws it when all have ended") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    task_group group;
    group.add(clean_up(s, "a", 5ms));
    group.add(fail_after(2ms, "the reason"));
    group.add(clean_up(s, "b", 3ms));
    auto joined = co_await pulsar::as_result(group.join());
    CHECK(joined.message() == "the reason");
    CHECK(s->size() == 4);
    CHECK(s->back() == "a ended");
    CHECK(group.size() == 0);
    CHECK(loop.time() == at(7ms));
    // It stays failed: who joins is told again, who comes is cancelled.
    group.add(clean_up(s, "late", 1ms));
    auto again = co_await pulsar::as_result(group.join());
    CHECK(again.message() == "the reason");
    CHECK(s->back() == "late ended");
    CHECK(loop.time() == at(8ms));
  }

  CORO_TEST_CASE("a failure before the join is kept for it, one of a child that was done as well") {
    task_group group;
    group.add(pulsar::make_exceptional_future(
        std::make_exception_ptr(std::runtime_error("done already"))));
    CHECK(group.size() == 0);
    auto joined = co_await pulsar::as_result(group.join());
    CHECK(joined.message() == "done already");

    task_group other;
    other.add(fail_after(1ms, "early"));
    other.add(pulsar::sleep(1h));
    co_await pulsar::sleep(2ms);
    CHECK(other.size() == 0);
    auto late = co_await pulsar::as_result(other.join());
    CHECK(late.message() == "early");
  }

  TEST_CASE("later failures are reported, and the first one too if nobody joins") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    const auto s = new_steps();
    {
      task_group group;
      group.add(fail_after(1ms, "first"));
      group.add(clean_up(s, "a", 1ms, "cannot clean up"));
      auto joined = pulsar::as_result(group.join());
      run(loop);
      CHECK(joined.result().message() == "first");
      CHECK(seen.all == std::vector<std::string>{"cannot clean up"});
    }
    CHECK(seen.all.size() == 1);
    seen.all.clear();
    {
      task_group group;
      group.add(fail_after(1ms, "unseen"));
      run(loop);
      CHECK(seen.all.empty());
    }
    CHECK(seen.all == std::vector<std::string>{"unseen"});
  }

  TEST_CASE("what a child does to clean up is not cancelled because another one fails then") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    const auto s = new_steps();
    task_group group;
    group.add(clean_up(s, "slow", 5ms));
    group.add(clean_up(s, "bad", 2ms, "cannot clean up"));
    auto joined = pulsar::as_result(group.join());
    group.cancel();
    run(loop);
    CHECK(joined.result().message() == "cannot clean up");
    CHECK(s->back() == "slow ended");
    CHECK(loop.time() == at(5ms));
  }

  CORO_TEST_CASE("a child that others cancel is no failure") {
    auto& loop = event_loop::current();
    task_group group;
    auto p = loop.create_future<int>();
    group.add(p.get_future());
    group.add(pulsar::sleep(3ms));
    p.set_exception(errc::cancelled);
    co_await group.join();
    CHECK(loop.time() == at(3ms));
  }

  // ---- cancelled

  CORO_TEST_CASE("cancel cancels all children and those that come later, and join does not throw") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    task_group group;
    group.add(clean_up(s, "a", 3ms));
    co_await pulsar::sleep(1ms);
    group.cancel();
    CHECK(group.size() == 1);
    group.add(clean_up(s, "b", 5ms));
    co_await group.join();
    CHECK(*s == std::vector<std::string>{"a cancelled", "b cancelled", "a ended", "b ended"});
    CHECK(loop.time() == at(6ms));
  }

  CORO_TEST_CASE("cancelling a join cancels the children, waits for them and throws") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    task_group group;
    group.add(clean_up(s, "a", 5ms));
    group.add(clean_up(s, "b", 3ms));
    auto joined = group.join();
    co_await pulsar::sleep(1ms);
    CHECK(joined.cancel());
    CHECK_FALSE(joined.done());
    auto end = co_await pulsar::as_result(std::move(joined));
    CHECK(end.code() == errc::cancelled);
    CHECK(group.size() == 0);
    CHECK(s->size() == 4);
    CHECK(loop.time() == at(6ms));
  }

  TEST_CASE("a failure on the way out of a cancelled join is thrown instead") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    const auto s = new_steps();
    task_group group;
    group.add(clean_up(s, "slow", 5ms));
    group.add(clean_up(s, "bad", 2ms, "cannot clean up"));
    auto joined = group.join();
    CHECK(joined.cancel());
    run(loop);
    CHECK(pulsar::detail::describe(joined.exception()) == "cannot clean up");
    CHECK(s->back() == "slow ended");
    CHECK(loop.time() == at(5ms));
    CHECK(seen.all.empty());
  }

  CORO_TEST_CASE("a join with a limit cancels the children and says that time was up") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    task_group group;
    group.add(clean_up(s, "a", 5ms));
    auto end = co_await pulsar::as_result(pulsar::with_timeout(group.join(), 10ms));
    CHECK(end.code() == errc::timed_out);
    CHECK(group.size() == 0);
    CHECK(loop.time() == at(15ms));
  }

  TEST_CASE("dropping a join cancels the children, as cancelling it would") {
    const without_debug_mode scope;  // it drops futures on purpose
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    const auto s = new_steps();
    task_group group;
    group.add(clean_up(s, "a", 2ms));
    { auto dropped = group.join(); }
    run(loop);
    CHECK(*s == std::vector<std::string>{"a cancelled", "a ended"});
    CHECK(seen.all.empty());
    CHECK(group.join().done());
  }

  // ---- joined twice, dropped, closed

  CORO_TEST_CASE("a second join is refused while the first waits, and harms nothing") {
    auto& loop = event_loop::current();
    task_group group;
    group.add(pulsar::sleep(5ms));
    auto first = group.join();
    auto second = co_await pulsar::as_result(group.join());
    CHECK(second.code() == errc::already_called);
    CHECK(group.size() == 1);
    co_await std::move(first);
    CHECK(loop.time() == at(5ms));
    co_await group.join();
  }

  TEST_CASE("a group that is dropped cancels its children, lets them end and reports failures") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    const auto s = new_steps();
    {
      task_group group;
      group.add(clean_up(s, "a", 2ms));
      group.add(clean_up(s, "b", 1ms, "cannot clean up"));
    }
    CHECK(s->empty());
    run(loop);
    CHECK(s->size() == 4);
    CHECK(s->back() == "a ended");
    CHECK(seen.all == std::vector<std::string>{"cannot clean up"});
    CHECK(loop.time() == at(2ms));
  }

  TEST_CASE("a join that outlives its group ends with the children") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    const auto s = new_steps();
    future<> joined;
    {
      task_group group;
      group.add(clean_up(s, "a", 2ms));
      joined = group.join();
    }
    CHECK_FALSE(joined.done());
    run(loop);
    CHECK(joined.done());
    CHECK(s->size() == 2);
    CHECK(seen.all.empty());
  }

  TEST_CASE("a child may end its own group") {
    event_loop loop(clock_kind::virtual_time);
    const auto s = new_steps();
    auto group = std::make_unique<task_group>(loop);
    const auto end_it = [](event_loop&, std::unique_ptr<task_group>& g, steps notes) -> future<> {
      co_await pulsar::sleep(1ms);
      g.reset();
      notes->push_back("reset");
    };
    group->add(clean_up(s, "a", 2ms));
    group->add(end_it(loop, group, s));
    run(loop);
    CHECK(group == nullptr);
    CHECK(s->front() == "reset");
    CHECK(s->back() == "a ended");
  }

  TEST_CASE("what a child's end of waiting does to the group harms nothing") {
    event_loop loop;
    auto group = std::make_unique<task_group>(loop);
    promise<> a(loop);
    promise<> b(loop);
    a.on_cancel([&] { group->add(pulsar::sleep(1h, loop)); });
    b.on_cancel([&] { group->cancel(); });
    group->add(a.get_future());
    group->add(b.get_future());
    auto joined = group->join();
    group->cancel();
    run(loop);
    CHECK(joined.done());
    CHECK(group->size() == 0);
  }

  TEST_CASE("closing the loop lets the children clean up, or frees them with the join") {
    for (const auto limit : {event_loop::duration(1h), event_loop::duration(0)}) {
      const auto s = new_steps();
      future<> joined;
      std::optional<task_group> left;
      {
        event_loop loop(clock_kind::virtual_time);
        left.emplace();
        left->add(clean_up(s, "a", 1ms));
        left->add(clean_up(s, "b", 2ms));
        joined = left->join();
        task_group within;
        within.add(clean_up(s, "c", 3ms));
        loop.close(limit);
        CHECK(error_of([&] { left->add(pulsar::sleep(1h, loop)); }) == errc::loop_closed);
        CHECK(error_of([&] { left->join().detach(); }) == errc::loop_closed);
      }
      CHECK(s->size() == (limit == 1h ? 6 : 0));
      CHECK(joined.done() == (limit == 1h));
      CHECK(left->size() == 0);
      left->cancel();
      left.reset();
    }
  }

  CORO_TEST_CASE("the loop may go at any moment of a group's life") {
    const auto s = new_steps();
    task_group group;
    group.add(clean_up(s, "a", 3ms));
    {
      task_group dropped;
      dropped.add(clean_up(s, "b", 2ms));
      dropped.add(pulsar::sleep(1ms));
    }
    const auto scoped = [](steps notes) -> future<> {
      task_group inner;
      inner.add(clean_up(notes, "c", 2ms));
      inner.add(note_after(4ms, notes, "d"));
      co_await inner.join();
    };
    group.add(scoped(s));
    group.add(fail_after(3ms, "x"));
    auto end = co_await pulsar::as_result(group.join());
    CHECK(end.message() == "x");
  }

  // ---- with_task_group

  CORO_TEST_CASE("with_task_group waits for the children though its body throws") {
    const auto s = new_steps();
    // The child uses what the body and its caller own.
    std::string note = "a";
    const auto body = [&s, &note](task_group& group) -> future<> {
      const auto child = [](steps notes, const std::string& text) -> future<> {
        try {
          co_await pulsar::sleep(1h);
        } catch (const pulsar::error&) {
          notes->push_back(text + " cancelled");
        }
        co_await pulsar::sleep(1ms);
        notes->push_back(text + " ended");
      };
      group.add(child(s, note));
      co_await pulsar::sleep(1ms);
      throw std::runtime_error("the body");
    };
    auto end = co_await pulsar::as_result(pulsar::with_task_group(body));
    CHECK(end.message() == "the body");
    CHECK(*s == std::vector<std::string>{"a cancelled", "a ended"});
  }

  CORO_TEST_CASE("with_task_group cancels its body when a child fails") {
    const auto s = new_steps();
    const auto body = [&s](task_group& group) -> future<> {
      group.add(fail_after(2ms, "the child"));
      try {
        co_await pulsar::sleep(1h);
      } catch (const pulsar::error&) {
        s->push_back("cancelled");
        throw;
      }
    };
    auto end = co_await pulsar::as_result(pulsar::with_task_group(body));
    CHECK(end.message() == "the child");
    CHECK(*s == std::vector<std::string>{"cancelled"});
  }

  CORO_TEST_CASE("with_task_group ends when all have, cancelled or not") {
    const auto s = new_steps();
    const auto body = [&s](task_group& group) -> future<> {
      group.add(note_after(3ms, s, "child"));
      s->push_back("body");
      return pulsar::make_ready_future();
    };
    co_await pulsar::with_task_group(body);
    CHECK(*s == std::vector<std::string>{"body", "child"});
    const auto endless = [](task_group& group) -> future<> {
      group.add(pulsar::sleep(1h));
      co_await pulsar::sleep(1h);
    };
    auto cancelled = pulsar::with_task_group(endless);
    co_await pulsar::sleep(1ms);
    cancelled.cancel();
    auto end = co_await pulsar::as_result(std::move(cancelled));
    CHECK(end.code() == errc::cancelled);
    // A body that ends so by itself takes its children along.
    const auto gives_up = [](task_group& group) -> future<> {
      group.add(pulsar::sleep(1h));
      co_await pulsar::sleep(1ms);
      throw pulsar::error(errc::cancelled);
    };
    auto given_up = co_await pulsar::as_result(pulsar::with_task_group(gives_up));
    CHECK(given_up.code() == errc::cancelled);
  }

  // ---- what is refused

  TEST_CASE("an empty future, or one of another loop, is a failure of the group") {
    event_loop loop(clock_kind::virtual_time);
    event_loop other(clock_kind::virtual_time);
    const auto s = new_steps();
    for (int i = 0; i < 2; ++i) {
      task_group group(loop);
      group.add(clean_up(s, "a", 1ms, {}, loop));
      group.add(i == 0 ? future<>() : pulsar::sleep(1h, other));
      auto joined = group.join();
      run(loop);
      CHECK(code_of(joined.exception()) == (i == 0 ? errc::already_called : errc::wrong_loop));
    }
    CHECK(s->size() == 4);
    run(other);
    CHECK(other.time() == at(0ms));
  }

  TEST_CASE("a group needs a loop") {
    CHECK(error_of([] { task_group group; }) == errc::no_loop);
  }
}
