// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/timeout.hpp>

#include <pulsar/core/operation.hpp>
#include <pulsar/core/result.hpp>

#include <asio/buffer.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/steady_timer.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/futures.hpp"

#include <array>
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
using future_test::run;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::promise;

namespace {

using local_socket = asio::local::stream_protocol::socket;

template <class T>
future<T> after(event_loop::duration delay, T value) {
  co_await pulsar::sleep(delay);
  co_return value;
}

// When it is cancelled it takes `cleaning` to end, then does as `ending` says.
enum class ending { gives_up, has_a_value, fails, fails_with_a_code };
future<int> clean_up(event_loop::duration cleaning,
                     ending how,
                     event_loop& loop = event_loop::current()) {
  std::error_code code;
  try {
    co_await pulsar::sleep(1h, loop);
  } catch (const pulsar::error& e) {
    code = e.code();
  }
  co_await pulsar::sleep(cleaning, loop);
  if (how == ending::has_a_value) co_return 7;
  if (how == ending::fails) throw std::runtime_error("cannot clean up");
  if (how == ending::fails_with_a_code) throw pulsar::error(errc::actor_gone);
  throw pulsar::error(code);
}

// What becomes of an await: its code, empty for a value.
template <class T>
future<std::error_code> outcome(future<T> f) {
  auto r = co_await pulsar::as_result(std::move(f));
  co_return r.code();
}

}  // namespace

TEST_SUITE("timeout") {
  // ---- sleep

  CORO_TEST_CASE("a sleep takes its time, to the millisecond and not less") {
    auto& loop = event_loop::current();
    co_await pulsar::sleep(1h);
    CHECK(loop.time() == at(1h));
    co_await pulsar::sleep(1us);
    CHECK(loop.time() == at(1h + 1ms));
    co_await pulsar::sleep(1500us);
    CHECK(loop.time() == at(1h + 3ms));
    co_await pulsar::sleep(std::chrono::days(365));
    CHECK(loop.time() == at(1h + 3ms + std::chrono::days(365)));
  }

  CORO_TEST_CASE("F11: a sleep of no time, or less, gives everything that is ready its turn") {
    auto& loop = event_loop::current();
    for (const event_loop::duration delay : {0ms, -1ms, -std::chrono::milliseconds(1h)}) {
      const auto ran = std::make_shared<int>(0);
      loop.call_soon([ran] {
        ++*ran;
        event_loop::current().call_soon([ran] { ++*ran; });
      });
      co_await pulsar::sleep(delay);
      CHECK(*ran >= 1);
      co_await pulsar::sleep(delay);
      CHECK(*ran == 2);
      CHECK(loop.time() == at(0ms));
    }
  }

  CORO_TEST_CASE("sleepers wake in the order of their deadlines") {
    auto& loop = event_loop::current();
    const auto order = std::make_shared<std::vector<int>>();
    std::vector<future<>> sleepers;
    for (const int ms : {30, 10, 50, 20, 40}) {
      sleepers.push_back(pulsar::sleep(std::chrono::milliseconds(ms)));
      sleepers.back().add_done_callback([order, ms] { order->push_back(ms); });
    }
    for (auto& s : sleepers) co_await s;
    co_await pulsar::sleep(0s);
    CHECK(*order == std::vector<int>{10, 20, 30, 40, 50});
    CHECK(loop.time() == at(50ms));
  }

  CORO_TEST_CASE("sleep_until waits for a moment, and not for one that has passed") {
    auto& loop = event_loop::current();
    co_await pulsar::sleep_until(at(20ms));
    CHECK(loop.time() == at(20ms));
    co_await pulsar::sleep_until(at(20ms + 1us));
    CHECK(loop.time() == at(21ms));
    co_await pulsar::sleep_until(at(21ms));
    co_await pulsar::sleep_until(at(3ms));
    co_await pulsar::sleep_until(event_loop::time_point::min());
    CHECK(loop.time() == at(21ms));
  }

  TEST_CASE("by the real clock nothing is early either") {
    event_loop loop;
    const auto measure = [](event_loop& l) -> future<int> {
      int early = 0;
      for (int i = 0; i < 20; ++i) {
        const auto limit = std::chrono::microseconds(i * 170);
        auto start = event_loop::clock::now();
        co_await pulsar::sleep(limit, l);
        if (event_loop::clock::now() - start < limit) ++early;

        start = event_loop::clock::now();
        co_await pulsar::sleep_until(start + limit, l);
        if (event_loop::clock::now() < start + limit) ++early;

        start = event_loop::clock::now();
        auto late = pulsar::with_timeout(pulsar::sleep(1h, l), limit);
        const auto code = co_await outcome(std::move(late));
        if (code != errc::timed_out || event_loop::clock::now() - start < limit) ++early;
      }
      co_return early;
    };
    CHECK(loop.run_until_complete([&] { return measure(loop); }) == 0);
  }

  TEST_CASE("a sleep that is cancelled or dropped ends at once, and its timer with it") {
    event_loop loop(clock_kind::virtual_time);
    auto f = pulsar::sleep(1h);
    auto zero = pulsar::sleep(0s);
    auto moment = pulsar::sleep_until(at(2h));
    CHECK(f.cancel());
    CHECK(zero.cancel());
    CHECK(moment.cancel());
    CHECK(f.cancelled());
    CHECK(zero.cancelled());
    CHECK(moment.cancelled());
    CHECK_FALSE(f.cancel());
    {
      auto dropped = pulsar::sleep(1h);
      auto dropped_zero = pulsar::sleep(0s);
    }
    run(loop);
    CHECK(zero.cancelled());
    CHECK(loop.time() == at(0ms));
    pulsar::sleep(1h).detach();
    pulsar::sleep(0s).detach();
    run(loop);
    CHECK(loop.time() == at(1h));
  }

  TEST_CASE("a sleep of no time needs no timer: virtual time may stand still") {
    event_loop loop(clock_kind::virtual_time);
    asio::steady_timer timer(loop.context(), 1h);
    future<> pending = timer.async_wait(pulsar::use_future);
    auto zero = pulsar::sleep(0s);
    auto later = pulsar::sleep(1ms);
    loop.context().poll();
    CHECK(zero.done());
    CHECK_FALSE(later.done());
  }

  TEST_CASE("a sleep that is over cannot be cancelled") {
    event_loop loop(clock_kind::virtual_time);
    auto f = pulsar::sleep(1ms);
    run(loop);
    CHECK(f.done());
    CHECK_FALSE(f.cancel());
    f.result();
  }

  TEST_CASE("a sleep belongs to the loop it is given, and needs one") {
    std::error_code code;
    try {
      pulsar::sleep(1ms).detach();
    } catch (const pulsar::error& e) {
      code = e.code();
    }
    CHECK(code == errc::no_loop);
    event_loop one(clock_kind::virtual_time);
    event_loop two(clock_kind::virtual_time);
    auto a = pulsar::sleep(3ms, two);
    auto b = pulsar::sleep_until(at(4ms), two);
    CHECK(&a.loop() == &two);
    run(one);
    CHECK_FALSE(a.done());
    run(two);
    CHECK(a.done());
    CHECK(b.done());
    CHECK(two.time() == at(4ms));
    CHECK(one.time() == at(0ms));
  }

  TEST_CASE("a sleep may outlive its loop, and one may begin when that is closed") {
    future<> f;
    future<> zero;
    {
      event_loop loop;
      f = pulsar::sleep(1h);
      zero = pulsar::sleep(0s);
      loop.close();
      pulsar::sleep(0s, loop).detach();
      pulsar::sleep(1h, loop).detach();
      auto late = pulsar::sleep(1h, loop);
      CHECK_FALSE(late.done());
    }
    CHECK_FALSE(f.done());
    CHECK_FALSE(f.cancel());
    CHECK_FALSE(zero.done());
  }

  // ---- with_timeout: in time

  CORO_TEST_CASE("what ends in time gives its result or its failure, and the timer goes") {
    auto& loop = event_loop::current();
    const int value = co_await pulsar::with_timeout(after(5ms, 3), 6ms);
    CHECK(value == 3);
    auto owned = co_await pulsar::with_timeout(after(1ms, std::make_unique<int>(4)), 1h);
    CHECK(*owned == 4);
    co_await pulsar::with_timeout(pulsar::sleep(1ms), 1h);
    int target = 1;
    const auto refer = [](int& t) -> future<int&> {
      co_await pulsar::sleep(1ms);
      co_return t;
    };
    int& reached = co_await pulsar::with_timeout(refer(target), 1h);
    CHECK(&reached == &target);
    const auto fail = []() -> future<int> {
      co_await pulsar::sleep(1ms);
      throw std::runtime_error("own failure");
    };
    auto failed = co_await pulsar::as_result(pulsar::with_timeout(fail(), 1h));
    CHECK(failed.message() == "own failure");
    CHECK(loop.time() == at(9ms));
  }

  TEST_CASE("what ended in time leaves no deadline behind") {
    event_loop loop(clock_kind::virtual_time);
    auto f = pulsar::with_timeout(after(1ms, 1), 1h);
    run(loop);
    CHECK(f.result() == 1);
    CHECK(loop.time() == at(1ms));
  }

  TEST_CASE("what is done already is given whatever the limit") {
    event_loop loop(clock_kind::virtual_time);
    for (const event_loop::duration limit : {1h, 0h, -1h}) {
      auto f = pulsar::with_timeout(pulsar::make_ready_future(5), limit);
      CHECK(f.done());
      CHECK(f.result() == 5);
      auto g = pulsar::with_timeout(
          pulsar::make_exceptional_future<int>(std::make_exception_ptr(9)), limit);
      CHECK_THROWS_AS(g.result(), int);
    }
  }

  // ---- with_timeout: too late

  CORO_TEST_CASE("C10: what is too late is cancelled, and waited for while it ends") {
    auto& loop = event_loop::current();
    const auto code = co_await outcome(pulsar::with_timeout(clean_up(5ms, ending::gives_up), 10ms));
    CHECK(code == errc::timed_out);
    CHECK(code == std::errc::timed_out);
    CHECK(loop.time() == at(15ms));
    auto p = loop.create_future<int>();
    const auto by_hand = co_await outcome(pulsar::with_timeout(p.get_future(), 10ms));
    CHECK(by_hand == errc::timed_out);
    CHECK(p.cancelled());
    CHECK(loop.time() == at(25ms));
  }

  CORO_TEST_CASE("C11: a limit ends a chain whose last part never ends") {
    auto p = event_loop::current().create_future<int>();
    auto chained = p.get_future().then([](int) { return pulsar::sleep(10000h); });
    auto waiting = pulsar::with_timeout(std::move(chained), 1s);
    p.set_value(1);
    auto late = co_await as_result(std::move(waiting));
    CHECK(late.code() == errc::timed_out);
    CHECK(event_loop::current().time() == at(1s));
  }

  CORO_TEST_CASE("what is too late says within which time it was to be done") {
    const auto text_for = [](event_loop::duration limit) -> future<std::string> {
      const auto late = co_await as_result(pulsar::with_timeout(pulsar::sleep(1h), limit));
      co_return late.message();
    };
    const std::string a = co_await text_for(250ms);
    CHECK(a == "not done within 250 ms: timed out");
    const std::string b = co_await text_for(5s);
    CHECK(b == "not done within 5 s: timed out");
    const std::string c = co_await text_for(-1ms);
    CHECK(c == "not done within 0 s: timed out");
    const std::string d = co_await text_for(10us);
    CHECK(d == "not done within 1 ms: timed out");
  }

  CORO_TEST_CASE("a limit of no time, or less, is over at once") {
    auto& loop = event_loop::current();
    for (const event_loop::duration limit : {0ms, -1ms}) {
      const auto code = co_await outcome(pulsar::with_timeout(pulsar::sleep(1h), limit));
      CHECK(code == errc::timed_out);
      CHECK(loop.time() == at(0ms));
    }
  }

  CORO_TEST_CASE("the longest limit there is is never over") {
    auto& loop = event_loop::current();
    const int value = co_await pulsar::with_timeout(after(1h, 1), event_loop::duration::max());
    CHECK(value == 1);
    CHECK(loop.time() == at(1h));
  }

  CORO_TEST_CASE("what ends with a result or its own failure when it is cancelled gives that") {
    auto& loop = event_loop::current();
    const int value =
        co_await pulsar::with_timeout(clean_up(5ms, ending::has_a_value), 10ms);
    CHECK(value == 7);
    auto failed =
        co_await pulsar::as_result(pulsar::with_timeout(clean_up(5ms, ending::fails), 10ms));
    CHECK(failed.message() == "cannot clean up");
    const auto code =
        co_await outcome(pulsar::with_timeout(clean_up(5ms, ending::fails_with_a_code), 10ms));
    CHECK(code == errc::actor_gone);
    CHECK(loop.time() == at(45ms));
  }

  TEST_CASE("what is settled in the tick of the deadline is not lost, if it was first") {
    event_loop loop(clock_kind::virtual_time);
    promise<int> first(loop);
    promise<int> cancelled(loop);
    promise<int> second(loop);
    loop.call_later(5ms, [&] { first.set_value(1); });
    loop.call_later(5ms, [&] { cancelled.set_exception(errc::cancelled); });
    auto a = pulsar::with_timeout(first.get_future(), 5ms);
    auto b = pulsar::with_timeout(cancelled.get_future(), 5ms);
    auto c = pulsar::with_timeout(second.get_future(), 5ms);
    loop.call_later(5ms, [&] { second.set_value(1); });
    run(loop);
    CHECK(a.result() == 1);
    CHECK_FALSE(first.cancelled());
    CHECK(code_of(b.exception()) == errc::cancelled);
    CHECK(code_of(c.exception()) == errc::timed_out);
    CHECK(loop.time() == at(5ms));
  }

  TEST_CASE("a value that arrived before the deadline is given though the loop was busy until after") {
    event_loop loop;
    promise<int> p(loop);
    auto f = pulsar::with_timeout(p.get_future(), 2ms);
    loop.call_later(1ms, [&] {
      p.set_value(1);
      const auto until = event_loop::clock::now() + 5ms;
      while (event_loop::clock::now() < until) {
      }
    });
    CHECK(loop.run_until_complete(std::move(f)) == 1);
  }

  // ---- cancelled, dropped, closed

  CORO_TEST_CASE("cancelling it cancels what it waits for, and is no timeout") {
    auto& loop = event_loop::current();
    auto f = pulsar::with_timeout(clean_up(5ms, ending::gives_up), 1h);
    co_await pulsar::sleep(1ms);
    CHECK(f.cancel());
    const auto code = co_await outcome(std::move(f));
    CHECK(code == errc::cancelled);
    CHECK(loop.time() == at(6ms));
  }

  CORO_TEST_CASE("a failure as cancelled of its own is no timeout") {
    auto& loop = event_loop::current();
    auto p = loop.create_future<int>();
    auto f = pulsar::with_timeout(p.get_future(), 1h);
    p.set_exception(errc::cancelled);
    const auto code = co_await outcome(std::move(f));
    CHECK(code == errc::cancelled);
  }

  TEST_CASE("a cancellation that comes after the deadline is told at the next await") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::error_code> codes;
    auto f = [](event_loop& l, std::vector<std::error_code>& seen) -> future<> {
      for (int i = 0; i < 2; ++i) {
        try {
          co_await pulsar::with_timeout(clean_up(5ms, ending::gives_up, l), 10ms);
        } catch (const pulsar::error& e) {
          seen.push_back(e.code());
        }
      }
    }(loop, codes);
    // It hastens the end of what is on its way out already.
    loop.call_later(12ms, [&] { f.cancel(); });
    run(loop);
    CHECK(codes == std::vector<std::error_code>{errc::timed_out, errc::cancelled});
    CHECK(loop.time() == at(17ms));
  }

  TEST_CASE("dropping it cancels what it waits for, and frees the timer") {
    const without_debug_mode scope;  // it drops futures on purpose
    event_loop loop(clock_kind::virtual_time);
    int reported = 0;
    loop.set_exception_handler([&](const failure_report&) { ++reported; });
    promise<> p(loop);
    { auto dropped = pulsar::with_timeout(p.get_future(), 1h); }
    CHECK(p.cancelled());
    { auto dropped = pulsar::with_timeout(clean_up(5ms, ending::gives_up), 1h); }
    run(loop);
    CHECK(reported == 0);
    CHECK(loop.time() == at(5ms));
  }

  TEST_CASE("a detached one that is too late is reported") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::error_code> reported;
    loop.set_exception_handler(
        [&](const failure_report& r) { reported.push_back(code_of(r.exception)); });
    pulsar::with_timeout(pulsar::sleep(1h), 5ms).detach();
    run(loop);
    CHECK(reported == std::vector<std::error_code>{errc::timed_out});
  }

  TEST_CASE("closing the loop ends what it waits for, or frees it with its deadline") {
    for (const auto limit : {event_loop::duration(1h), event_loop::duration(0)}) {
      future<int> f;
      std::optional<promise<int>> p;
      future<int> by_hand;
      {
        event_loop loop(clock_kind::virtual_time);
        p.emplace(loop);
        f = pulsar::with_timeout(clean_up(1ms, ending::gives_up), 1h);
        by_hand = pulsar::with_timeout(p->get_future(), 1h);
        loop.close(limit);
      }
      CHECK(f.done() == (limit == 1h));
      if (f.done()) CHECK(f.cancelled());
      CHECK(by_hand.done() == (limit == 1h));
    }
  }

  // ---- combined

  CORO_TEST_CASE("of nested limits the shorter one counts") {
    auto& loop = event_loop::current();
    auto inner = pulsar::with_timeout(pulsar::sleep(1h), 5ms);
    const auto a = co_await outcome(pulsar::with_timeout(std::move(inner), 10ms));
    CHECK(a == errc::timed_out);
    CHECK(loop.time() == at(5ms));
    auto longer = pulsar::with_timeout(pulsar::sleep(1h), 10ms);
    const auto b = co_await outcome(pulsar::with_timeout(std::move(longer), 5ms));
    CHECK(b == errc::timed_out);
    CHECK(loop.time() == at(10ms));
    auto same = pulsar::with_timeout(pulsar::sleep(1h), 5ms);
    const auto c = co_await outcome(pulsar::with_timeout(std::move(same), 5ms));
    CHECK(c == errc::timed_out);
    CHECK(loop.time() == at(15ms));
  }

  CORO_TEST_CASE("the loop may go at any moment of a limited wait") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto kept = pulsar::with_timeout(clean_up(3ms, ending::fails), 2ms);
    outcome(pulsar::with_timeout(clean_up(3ms, ending::gives_up), 1ms)).detach();
    { auto dropped = pulsar::with_timeout(clean_up(1ms, ending::has_a_value), 1h); }
    const auto late = co_await outcome(pulsar::with_timeout(pulsar::sleep(9ms), 1ms));
    CHECK(late == errc::timed_out);
    auto failed = co_await pulsar::as_result(std::move(kept));
    CHECK(failed.message() == "cannot clean up");
    co_await pulsar::with_timeout(pulsar::sleep(2ms), 3ms);
  }

  TEST_CASE("an empty future and one of another or a closed loop are refused") {
    event_loop loop(clock_kind::virtual_time);
    future<> left;
    event_loop other(clock_kind::virtual_time);
    {
      event_loop closed;
      left = pulsar::sleep(1h, closed);
    }
    const auto refused = [&](future<> f) {
      auto g = loop.create_task([&] { return pulsar::with_timeout(std::move(f), 5ms); });
      return g.done() ? code_of(g.exception()) : std::error_code();
    };
    CHECK(refused({}) == errc::already_called);
    CHECK(refused(pulsar::sleep(1h, other)) == errc::wrong_loop);
    CHECK(refused(std::move(left)) == errc::wrong_loop);
    run(loop);
    run(other);
    CHECK(loop.time() == at(0ms));
    CHECK(other.time() == at(0ms));
  }

  // ---- until

  CORO_TEST_CASE("wait_until cancels what is not done by that time") {
    auto& loop = event_loop::current();
    const auto start = loop.time();
    const int value = co_await pulsar::wait_until(after(1h, 7), start + 2h);
    CHECK(value == 7);
    auto late = co_await as_result(pulsar::wait_until(pulsar::sleep(2h), start + 90min));
    CHECK(late.code() == errc::timed_out);
    CHECK(loop.time() - start == 90min);
    auto past = co_await as_result(pulsar::wait_until(pulsar::sleep(2h), start));
    CHECK(past.code() == errc::timed_out);
    CHECK(loop.time() - start == 90min);
    const int there = co_await pulsar::wait_until(pulsar::make_ready_future(1), start);
    CHECK(there == 1);
  }

  CORO_TEST_CASE("wait_until asks a condition at once and then every so often") {
    auto& loop = event_loop::current();
    const auto start = loop.time();
    int asked = 0;
    const auto third = [&asked] { return ++asked == 3; };
    co_await pulsar::wait_until(third, 1min);
    CHECK(asked == 3);
    CHECK(loop.time() - start == 2min);
    auto at_once = pulsar::wait_until([] { return true; });
    CHECK(at_once.done());

    const auto later = [](int& n) -> future<bool> {
      co_await pulsar::sleep(1s);
      co_return ++n == 5;
    };
    const auto fifth = [&asked, &later] { return later(asked); };
    co_await pulsar::wait_until(fifth, 1min);
    CHECK(loop.time() - start == 3min + 2s);

    const auto never = [] { return false; };
    auto limited = co_await as_result(with_timeout(pulsar::wait_until(never), 1h));
    CHECK(limited.code() == errc::timed_out);
    const auto broken = []() -> bool { throw std::runtime_error("cannot be asked"); };
    auto failed = co_await as_result(pulsar::wait_until(broken));
    CHECK(failed.message() == "cannot be asked");
  }

  // ---- Asio

  CORO_TEST_CASE_REAL("a read that is too late is cancelled, however it looks at that") {
    auto& loop = event_loop::current();
    const auto a = std::make_shared<local_socket>(loop.context());
    const auto b = std::make_shared<local_socket>(loop.context());
    asio::local::connect_pair(*a, *b);
    const auto read = [](std::shared_ptr<local_socket> s) -> future<std::size_t> {
      std::array<char, 8> room{};
      co_return co_await s->async_read_some(asio::buffer(room), pulsar::use_future);
    };
    const auto look = [](std::shared_ptr<local_socket> s) -> future<std::size_t> {
      std::array<char, 8> room{};
      const auto got = co_await s->async_read_some(asio::buffer(room), pulsar::use_result);
      if (std::get<0>(got)) throw std::system_error(std::get<0>(got));
      co_return std::get<1>(got);
    };
    const auto thrown = co_await outcome(pulsar::with_timeout(read(a), 1ms));
    CHECK(thrown == errc::timed_out);
    const auto seen = co_await outcome(pulsar::with_timeout(look(a), 1ms));
    CHECK(seen == errc::timed_out);
    b->write_some(asio::buffer("abc", 3));
    const std::size_t n = co_await pulsar::with_timeout(read(a), 1h);
    CHECK(n == 3);
  }
}
