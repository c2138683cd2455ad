// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/event_loop.hpp>

#include <pulsar/core/future.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/buffer.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>
#include <doctest/doctest.h>

#include "support/coro_test.hpp"
#include "support/futures.hpp"

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::at;
using future_test::run;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::handle;

namespace {

using local_socket = asio::local::stream_protocol::socket;

// One turn: all handlers that are ready.
void turn(event_loop& loop) {
  loop.context().restart();
  loop.context().poll();
}

std::error_code code_of(const auto& f) {
  try {
    f();
  } catch (const std::system_error& e) {
    return e.code();
  }
  return {};
}

}  // namespace

TEST_SUITE("event_loop_timers") {
  // ---- the reference's scenarios

  TEST_CASE("D3: call_soon calls in the loop's thread, and its handle is of that callback") {
    event_loop loop;
    std::thread::id seen;
    auto held = std::make_shared<int>(3);
    std::thread runner([&] {
      auto kept = loop.call_soon([&, held] {
        seen = std::this_thread::get_id();
        loop.stop();
      });
      CHECK_FALSE(kept.cancelled());
      CHECK(held.use_count() == 2);  // what asyncio calls the handle's arguments
      loop.run_forever();
      CHECK(held.use_count() == 1);
    });
    const auto expected = runner.get_id();
    runner.join();
    CHECK(seen == expected);
  }

  TEST_CASE("D4: timers can be cancelled and looked up; one that has fired is forgotten") {
    event_loop loop(clock_kind::virtual_time);
    const auto held = std::make_shared<int>(4);
    bool called = false;
    auto twenty = loop.call_later(20s, [&, held] { called = true; });
    auto ten = loop.call_later(10s, [&, held] { called = true; });
    CHECK(twenty.when() == at(20s));
    CHECK(ten.when() == at(10s));
    CHECK(held.use_count() == 3);
    twenty.cancel();
    ten.cancel();
    CHECK(twenty.cancelled());
    CHECK(ten.cancelled());
    CHECK(twenty.when() == at(20s));
    CHECK(held.use_count() == 1);
    bool fired = false;
    auto soon = loop.call_later(100ms, [&, held] { fired = true; });
    run(loop);
    CHECK(fired);
    CHECK_FALSE(called);
    CHECK_FALSE(soon.cancelled());
    CHECK(held.use_count() == 1);
    CHECK(loop.time() == at(100ms));
  }

  TEST_CASE("D5: a negative delay is none: it overtakes nothing that was asked for before") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<int> order;
    loop.call_later(0s, [&] { order.push_back(1); });
    loop.call_later(-5s, [&] { order.push_back(2); });
    run(loop);
    CHECK(order == std::vector<int>{1, 2});
    CHECK(loop.time() == at(0s));
  }

  TEST_CASE("D6: call_at(time() + 1s) is called before a call_later(1s) that comes after it") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<int> order;
    loop.call_at(loop.time() + 1s, [&] { order.push_back(1); });
    loop.call_later(1s, [&] { order.push_back(2); });
    run(loop);
    CHECK(order == std::vector<int>{1, 2});
  }

  TEST_CASE("D7: call_repeatedly calls once a period, and an exception ends it") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<event_loop::time_point> calls;
    std::string failure;
    loop.set_exception_handler([&](const pulsar::failure_report& report) {
      failure = pulsar::detail::describe(report.exception);
    });
    auto every = loop.call_repeatedly(2s, [&] {
      calls.push_back(loop.time());
      if (calls.size() == 3) throw std::runtime_error("enough");
    });
    CHECK(every.when() == at(2s));
    bool looked = false;
    loop.call_at(at(5s), [&] {
      looked = true;
      CHECK(calls == std::vector{at(2s), at(4s)});
      CHECK(every.when() == at(6s));
      CHECK_FALSE(every.cancelled());
    });
    run(loop);
    CHECK(looked);
    CHECK(calls == std::vector{at(2s), at(4s), at(6s)});
    CHECK(failure == "enough");
    CHECK(every.cancelled());
    CHECK(loop.time() == at(6s));
  }

  TEST_CASE("D8: call_every calls in each turn of the loop, in its thread, until it throws") {
    event_loop loop;
    loop.set_exception_handler([](const pulsar::failure_report&) {});
    int calls = 0;
    bool in_loop = true;
    auto every = loop.call_every([&] {
      in_loop = in_loop && event_loop::running() == &loop;
      if (++calls == 5) throw std::runtime_error("enough");
    });
    for (int turns = 0; turns < 5; ++turns) {
      CHECK(calls == turns);
      loop.context().run_one();
    }
    CHECK(calls == 5);
    CHECK(in_loop);
    CHECK(every.cancelled());
    turn(loop);
    CHECK(calls == 5);
  }

  TEST_CASE("D9: run_until_complete of a timer of two seconds returns, and the loop has stopped") {
    event_loop loop(clock_kind::virtual_time);
    loop.run_until_complete(pulsar::sleep(2s, loop));
    CHECK_FALSE(loop.is_running());
    CHECK(loop.time() == at(2s));
  }

  TEST_CASE("D10: with a limit of two seconds a timer of ten times out, and the loop has stopped") {
    event_loop loop(clock_kind::virtual_time);
    const auto code =
        code_of([&] { loop.run_until_complete(with_timeout(pulsar::sleep(10s, loop), 2s)); });
    CHECK(code == errc::timed_out);
    CHECK_FALSE(loop.is_running());
    CHECK(loop.time() == at(2s));
  }

  // ---- call_repeatedly

  TEST_CASE("periods do not drift, however long each call takes") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<event_loop::duration> calls;
    handle every;
    const auto start = loop.time();
    every = loop.call_repeatedly(2500us, [&] {
      calls.push_back(loop.time() - start);
      if (calls.size() == 5) every.cancel();
    });
    run(loop);
    // Not early, and late by the fraction of a tick only.
    CHECK(calls == std::vector<event_loop::duration>{3ms, 5ms, 8ms, 10ms, 13ms});
  }

  TEST_CASE("what was missed while the loop was busy is left out, not made up for") {
    event_loop loop;
    const auto start = loop.time();
    std::vector<long> periods;
    handle every;
    every = loop.call_repeatedly(2ms, [&] {
      periods.push_back((loop.time() - start) / 2ms);
      while (periods.size() == 1 && (loop.time() - start) / 2ms < periods[0] + 5) {
      }
      if (periods.size() == 4) {
        every.cancel();
        loop.stop();
      }
    });
    loop.run_forever();
    REQUIRE(periods.size() == 4);
    // The second is due once the first has ended; from then on each has a period of its own.
    CHECK(periods[1] >= periods[0] + 5);
    CHECK(periods[2] > periods[1]);
    CHECK(periods[3] > periods[2]);
  }

  TEST_CASE("a repeated callback ends when it is cancelled, from outside or by itself") {
    event_loop loop(clock_kind::virtual_time);
    const auto held = std::make_shared<int>(0);
    handle outside = loop.call_repeatedly(1s, [held] { ++*held; });
    handle inside;
    int calls = 0;
    inside = loop.call_repeatedly(1s, [&, held] {
      if (++calls == 2) inside.cancel();
      CHECK(held.use_count() >= 2);  // it may still use what it holds
    });
    loop.call_at(at(3500ms), [&] { outside.cancel(); });
    run(loop);
    CHECK(*held == 3);
    CHECK(calls == 2);
    CHECK(held.use_count() == 1);
    CHECK(loop.time() == at(3500ms));
  }

  TEST_CASE("a repeated callback that nobody has a handle of goes on, and ends with the loop") {
    const auto held = std::make_shared<int>(0);
    {
      event_loop loop(clock_kind::virtual_time);
      loop.call_repeatedly(1s, [held] { ++*held; });
      loop.call_every([held] {});
      loop.run_until_complete([&]() -> future<> { return pulsar::make_ready_future(); });
      CHECK(held.use_count() == 3);
    }
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("a handle of a repeated callback may outlive its loop") {
    const auto held = std::make_shared<int>(0);
    handle period;
    handle turns;
    {
      event_loop loop;
      period = loop.call_repeatedly(1s, [held] {});
      turns = loop.call_every([held] {});
      for (int i = 0; i < 5; ++i) loop.context().run_one();
    }
    CHECK(held.use_count() == 1);
    period.cancel();
    turns.cancel();
    CHECK(period.cancelled());
    CHECK_FALSE(turns.when());
  }

  TEST_CASE("a period must be positive, and may be the longest there is") {
    event_loop loop(clock_kind::virtual_time);
    CHECK(code_of([&] { loop.call_repeatedly(0s, [] {}); }) == std::errc::invalid_argument);
    CHECK(code_of([&] { loop.call_repeatedly(-1s, [] {}); }) == std::errc::invalid_argument);
    bool called = false;
    auto never = loop.call_repeatedly(event_loop::duration::max(), [&] { called = true; });
    handle quick;
    quick = loop.call_repeatedly(1us, [&] { quick.cancel(); });
    loop.call_later(1s, [&] { never.cancel(); });
    run(loop);
    CHECK_FALSE(called);
    CHECK(quick.cancelled());
  }

  TEST_CASE("a closed loop refuses what is to be repeated") {
    event_loop loop;
    loop.close();
    CHECK(code_of([&] { loop.call_repeatedly(1s, [] {}); }) == errc::loop_closed);
    CHECK(code_of([&] { loop.call_every([] {}); }) == errc::loop_closed);
  }

  // ---- call_every

  TEST_CASE("call_every starves neither I/O nor callbacks nor timers") {
    event_loop loop;
    local_socket mine(loop.context());
    local_socket theirs(loop.context());
    asio::local::connect_pair(mine, theirs);
    std::array<char, 1> byte{};
    bool read = false;
    bool timer = false;
    bool callback = false;
    int calls = 0;
    handle every = loop.call_every([&] {
      if (++calls == 3) {
        theirs.write_some(asio::buffer("x", 1));
        loop.call_soon([&] { callback = true; });
        loop.call_later(2ms, [&] { timer = true; });
      }
      if (read && timer && callback) {
        every.cancel();
        loop.stop();
      }
    });
    mine.async_read_some(asio::buffer(byte), [&](std::error_code ec, std::size_t) { read = !ec; });
    loop.run_forever();
    CHECK(read);
    CHECK(timer);
    CHECK(callback);
  }

  TEST_CASE("a handler of Asio has its turn between two calls of call_every") {
    event_loop loop;
    std::vector<int> order;
    handle every = loop.call_every([&] {
      order.push_back(1);
      asio::post(loop.context(), [&] { order.push_back(2); });
      if (order.size() >= 5) every.cancel();
    });
    turn(loop);
    CHECK(order == std::vector<int>{1, 2, 1, 2, 1, 2});
  }

  TEST_CASE("several of call_every keep their order, turn by turn") {
    event_loop loop;
    std::string order;
    handle a = loop.call_every([&] {
      order += 'a';
      if (order.size() > 6) a.cancel();
    });
    handle b = loop.call_every([&] {
      order += 'b';
      if (order.size() > 6) b.cancel();
    });
    turn(loop);
    CHECK(order == "abababab");
  }

  TEST_CASE("virtual time stands still while something is called in every turn") {
    event_loop loop(clock_kind::virtual_time);
    bool fired = false;
    loop.call_later(1ms, [&] { fired = true; });
    int calls = 0;
    handle every = loop.call_every([&] {
      CHECK_FALSE(fired);
      if (++calls == 20) every.cancel();
    });
    run(loop);
    CHECK(calls == 20);
    CHECK(fired);
  }

  // ---- when

  TEST_CASE("a handle knows when its callback is due") {
    event_loop loop(clock_kind::virtual_time);
    const auto soon = loop.call_soon([] {});
    const auto later = loop.call_later(1500us, [] {});
    const auto exact = loop.call_at(at(7ms), [] {});
    CHECK_FALSE(handle().when());
    CHECK_FALSE(soon.when());
    CHECK(later.when() == at(2ms));
    CHECK(exact.when() == at(7ms));
    run(loop);
    CHECK(later.when() == at(2ms));
    CHECK(exact.when() == at(7ms));
  }

  TEST_CASE("when a delay ends is counted from the loop's next look at the clock") {
    event_loop loop(clock_kind::virtual_time);
    auto gone = loop.call_later(1h, [] {});
    gone.cancel();
    CHECK_FALSE(gone.when());  // the loop has not looked
    loop.call_later(10ms, [&] {
      const auto inner = loop.call_later(5ms, [] {});
      CHECK(inner.when() == at(15ms));
    });
    run(loop);
    CHECK(loop.time() == at(15ms));
  }
}
