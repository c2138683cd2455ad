// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/context.hpp>
#include <pulsar/core/executor.hpp>
#include <pulsar/core/generator.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include "support/coro_test.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::bind_context;
using pulsar::clock_kind;
using pulsar::context_value;
using pulsar::event_loop;
using pulsar::future;
using pulsar::with_log_field;
using pulsar::with_value;

namespace {

const context_value<std::string> trace_id("none");
const context_value<int> depth;

future<std::string> trace_after(event_loop::duration delay) {
  co_await pulsar::sleep(delay);
  co_return trace_id.get();
}

// The trace at each step of a chain of awaits.
future<std::vector<std::string>> handle(int levels) {
  std::vector<std::string> seen{trace_id.get()};
  co_await pulsar::sleep(1ms);
  if (levels > 0) seen = co_await handle(levels - 1);
  seen.push_back(trace_id.get());
  co_return seen;
}

// Work that begins the next piece of work.
future<> begin_anew(event_loop& loop, int times) {
  co_await pulsar::sleep(0s, loop);
  if (times > 0) with_value(depth, times, [&] { begin_anew(loop, times - 1).detach(); });
}

std::vector<std::string> logged;
void keep_log(pulsar::log_level, std::string_view line) { logged.emplace_back(line); }

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("context") {
  TEST_CASE("a value is there while the function runs, and the fallback elsewhere") {
    CHECK(trace_id.get() == "none");
    CHECK(trace_id.find() == nullptr);
    CHECK(depth.get() == 0);
    const int seven = with_value(trace_id, "abc", [] {
      CHECK(trace_id.get() == "abc");
      CHECK(depth.find() == nullptr);
      return 7;
    });
    CHECK(seven == 7);
    CHECK(trace_id.get() == "none");
  }

  TEST_CASE("the innermost value counts, and others are seen through it") {
    with_value(trace_id, "outer", [] {
      with_value(depth, 1, [] {
        with_value(trace_id, std::string("inner"), [] {
          CHECK(trace_id.get() == "inner");
          CHECK(depth.get() == 1);
        });
        CHECK(trace_id.get() == "outer");
      });
    });
  }

  TEST_CASE("an exception leaves the context as it was") {
    CHECK_THROWS_AS(with_value(depth, 1, []() -> int { throw 5; }), int);
    CHECK(depth.get() == 0);
  }

  CORO_TEST_CASE(
      "coroutines keep the values they were called with, however deep and how often they wait") {
    auto ann = with_value(trace_id, "ann", [] { return handle(3); });
    auto bob = with_value(trace_id, "bob", [] { return handle(3); });
    auto none = handle(3);
    CHECK(trace_id.get() == "none");
    auto all = co_await pulsar::when_all(std::move(ann), std::move(bob), std::move(none));
    CHECK(std::get<0>(all) == std::vector<std::string>(5, "ann"));
    CHECK(std::get<1>(all) == std::vector<std::string>(5, "bob"));
    CHECK(std::get<2>(all) == std::vector<std::string>(5, "none"));
    CHECK(trace_id.get() == "none");
  }

  CORO_TEST_CASE("then, create_task, combinators, groups and generators keep them too") {
    const auto through_all = []() -> future<std::vector<std::string>> {
      std::vector<std::string> seen;
      auto chained = trace_after(1ms).then([](std::string) { return trace_after(1ms); });
      seen.push_back(co_await std::move(chained));
      auto made = event_loop::current().create_task([] { return trace_after(1ms); });
      seen.push_back(co_await std::move(made));
      auto limited = with_timeout(trace_after(1ms), 1s);
      seen.push_back(co_await std::move(limited));
      pulsar::task_group group;
      const auto in_group = [](std::vector<std::string>& to) -> future<> {
        to.push_back(co_await trace_after(1ms));
      };
      group.add(in_group(seen));
      co_await group.join();
      const auto items = []() -> pulsar::generator<std::string> {
        co_await pulsar::sleep(1ms);
        co_yield trace_id.get();
      };
      auto generated = items();
      seen.push_back(*co_await generated.next());
      co_return seen;
    };
    auto seen = co_await with_value(trace_id, "abc", through_all);
    CHECK(seen == std::vector<std::string>(5, "abc"));
  }

  CORO_TEST_CASE("callbacks run without, unless they are bound") {
    auto& loop = event_loop::current();
    const auto seen = std::make_shared<std::vector<std::string>>();
    const auto note = [seen] { seen->push_back(trace_id.get()); };
    with_value(trace_id, "abc", [&] {
      loop.call_soon(note);
      loop.call_later(1ms, note);
      loop.call_soon(bind_context(note));
      loop.call_later(2ms, bind_context(note));
    });
    loop.call_soon(bind_context(note));
    co_await pulsar::sleep(10ms);
    CHECK(*seen == std::vector<std::string>{"none", "abc", "none", "none", "abc"});
  }

  TEST_CASE("a bound function passes arguments and results on") {
    auto add = with_value(depth, 5, [] {
      return bind_context([](int a, std::unique_ptr<int> b) { return a + *b + depth.get(); });
    });
    CHECK(add(1, std::make_unique<int>(2)) == 8);
  }

  CORO_TEST_CASE_REAL("an executor's thread does not see the values of a loop") {
    const auto ask = []() -> future<std::string> {
      auto asked = event_loop::current().run_in_executor([] { return trace_id.get(); });
      co_return co_await std::move(asked);
    };
    const auto seen = co_await with_value(trace_id, "abc", ask);
    CHECK(seen == "none");
  }

  TEST_CASE("a value lives as long as a coroutine that was called with it") {
    const context_value<std::shared_ptr<int>> box;
    const auto value = std::make_shared<int>(1);
    event_loop loop(clock_kind::virtual_time);
    auto f = with_value(box, value, [&] { return pulsar::sleep(1h, loop).then([] { return 1; }); });
    CHECK(value.use_count() == 2);
    f.cancel();
    loop.run_until_complete([] { return pulsar::sleep(1ms); });
    f = {};
    CHECK(value.use_count() == 1);
  }

  TEST_CASE("the parameters of a coroutine that nobody owns end in its context") {
    struct noting {
      explicit noting(std::string& w) : where(&w) {}
      noting(noting&& other) noexcept : where(std::exchange(other.where, nullptr)) {}
      noting& operator=(noting&&) = delete;
      ~noting() {
        if (where != nullptr) *where = trace_id.get();
      }
      std::string* where;
    };
    const auto job = [](event_loop& own, noting) -> future<> {
      co_await pulsar::sleep(1ms, own);
    };
    std::string seen;
    event_loop loop(clock_kind::virtual_time);
    with_value(trace_id, "abc", [&] { job(loop, noting(seen)).detach(); });
    loop.run_until_complete([] { return pulsar::sleep(2ms); });
    CHECK(seen == "abc");
  }

  TEST_CASE("a hundred thousand values, each within the one before, take no stack") {
    event_loop loop(clock_kind::virtual_time);
    begin_anew(loop, 100'000).detach();
    loop.context().run();
    CHECK(depth.get() == 0);
  }

  TEST_CASE("log fields stand in front of what is logged, and nest") {
    logged.clear();
    const auto before = pulsar::log::set_sink(&keep_log);
    {
      event_loop loop(clock_kind::virtual_time);
      const auto work = []() -> future<> {
        co_await pulsar::sleep(1ms);
        pulsar::log::info("slept");
        co_await with_log_field("step", "2", []() -> future<> {
          co_await pulsar::sleep(1ms);
          pulsar::log::info("slept again");
        });
        with_value(trace_id, "abc", [] { pulsar::log::info("done"); });
      };
      const pulsar::log_scope speaker("bank");
      loop.run_until_complete([&] { return with_log_field("request", "17", work); });
      pulsar::log::info("idle");
    }
    pulsar::log::set_sink(before);
    REQUIRE(logged.size() == 4);
    CHECK(contains(logged[0], "[bank] [request=17] slept\n"));
    CHECK(contains(logged[1], "[bank] [request=17] [step=2] slept again\n"));
    CHECK(contains(logged[2], "[bank] [request=17] done\n"));
    CHECK(contains(logged[3], "[bank] idle\n"));
  }
}
