// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/operation.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/shield.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/steady_timer.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/futures.hpp"

#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::code_of;
using future_test::new_steps;
using future_test::steps;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::shield;

namespace {

future<int> work(steps s, std::string failure = {}) {
  try {
    co_await pulsar::sleep(10ms);
  } catch (const pulsar::error&) {
    s->push_back("cancelled");
    throw;
  }
  s->push_back("done");
  if (!failure.empty()) throw std::runtime_error(failure);
  co_return 7;
}

}  // namespace

TEST_SUITE("shield") {
  CORO_TEST_CASE("passes a result and a failure on") {
    auto s = new_steps();
    const int value = co_await shield(work(s));
    CHECK(value == 7);
    auto failed = co_await as_result(shield(work(s, "broken")));
    CHECK(failed.message() == "broken");
    co_await shield(pulsar::sleep(1ms));
    CHECK(co_await shield(pulsar::make_ready_future(3)) == 3);
  }

  CORO_TEST_CASE("whoever waits may be cancelled, and the work goes on") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto s = new_steps();
    auto late = co_await as_result(with_timeout(shield(work(s)), 1ms));
    CHECK(late.code() == errc::timed_out);
    CHECK(s->empty());
    auto dropped = shield(work(s));
    dropped = {};
    co_await pulsar::sleep(1s);
    CHECK(*s == std::vector<std::string>{"done", "done"});
  }

  TEST_CASE("a failure that nobody waits for any more is reported where it was") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<failure_report> seen;
    loop.set_exception_handler([&](const failure_report& r) { seen.push_back(r); });
    auto s = new_steps();
    auto f = loop.create_task([s] { return shield(work(s, "broken")); });
    f.cancel();
    loop.run_until_complete([] { return pulsar::sleep(1s); });
    CHECK(f.cancelled());
    REQUIRE(seen.size() == 1);
    CHECK(pulsar::detail::describe(seen[0].exception) == "broken");
    CHECK(std::string(seen[0].where.function_name()).find("work") != std::string::npos);
  }

  TEST_CASE("the end of the loop ends the work too") {
    auto s = new_steps();
    {
      event_loop loop(clock_kind::virtual_time);
      auto f = loop.create_task([s] { return shield(work(s)); });
      f.detach();
    }
    CHECK(*s == std::vector<std::string>{"cancelled"});
  }

  CORO_TEST_CASE_REAL("an operation is shielded as well") {
    asio::steady_timer timer(event_loop::current().context());
    timer.expires_after(1ms);
    co_await shield(timer.async_wait(pulsar::use_future));
  }

  TEST_CASE("an empty future is refused") {
    event_loop loop(clock_kind::virtual_time);
    CHECK_THROWS_AS(static_cast<void>(shield(future<int>())), pulsar::error);
  }

  TEST_CASE("what cannot go on, because its loop is closed, is refused") {
    event_loop loop;
    pulsar::promise<int> p(loop);
    auto f = p.get_future();
    loop.close();
    CHECK_THROWS_AS(static_cast<void>(shield(std::move(f))), pulsar::error);
  }
}
