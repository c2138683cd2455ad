// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/when_any.hpp>

#include <pulsar/core/operation.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/buffer.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/futures.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::at;
using future_test::code_of;
using future_test::new_steps;
using future_test::run;
using future_test::steps;
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

future<int> fail_after(event_loop::duration delay, std::string text) {
  co_await pulsar::sleep(delay);
  throw std::runtime_error(text);
}

// Takes `cleaning` to end when it is cancelled, and notes both.
future<int> clean_up(steps s,
                     std::string name,
                     event_loop::duration cleaning,
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
  throw pulsar::error(code);
}

// Ends with a value although it is cancelled.
future<int> stubborn(int value) {
  try {
    co_await pulsar::sleep(1h);
  } catch (const pulsar::error&) {
    co_return value;
  }
  co_return -1;
}

template <class... Ts>
std::vector<future<int>> listed(Ts... fs) {
  std::vector<future<int>> all;
  (all.push_back(std::move(fs)), ...);
  return all;
}

}  // namespace

TEST_SUITE("when_any") {
  CORO_TEST_CASE("the first to end is given, the others are cancelled and waited for") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    auto any = pulsar::when_any(clean_up(s, "a", 5ms), after(2ms, std::string("b")),
                                clean_up(s, "c", 3ms), pulsar::sleep(1h));
    auto first = co_await std::move(any);
    CHECK(first.index() == 1);
    CHECK(first.get<1>() == "b");
    CHECK(first.outcome<0>().code() == errc::cancelled);
    CHECK(first.outcome<2>().code() == errc::cancelled);
    CHECK(first.outcome<3>().code() == errc::cancelled);
    CHECK(*s == std::vector<std::string>{"a cancelled", "c cancelled", "c ended", "a ended"});
    CHECK(loop.time() == at(7ms));
  }

  CORO_TEST_CASE("the result of a future<> and a move-only one can be taken, a reference referred to") {
    int target = 5;
    const auto refer = [](int& t) -> future<int&> {
      co_await pulsar::sleep(2ms);
      co_return t;
    };
    auto a = co_await pulsar::when_any(pulsar::sleep(1ms), pulsar::sleep(1h));
    CHECK(a.index() == 0);
    a.get<0>();
    auto b = co_await pulsar::when_any(after(1ms, std::make_unique<int>(3)));
    const std::unique_ptr<int> owned = std::move(b.get<0>());
    CHECK(*owned == 3);
    auto c = co_await pulsar::when_any(refer(target), pulsar::sleep(1h));
    CHECK(&c.get<0>() == &target);
  }

  CORO_TEST_CASE("a failure may be the first, and its place is known") {
    auto& loop = event_loop::current();
    auto first = co_await pulsar::when_any(after(2ms, 1), fail_after(1ms, "broken"));
    CHECK(first.index() == 1);
    CHECK(first.outcome<1>().message() == "broken");
    CHECK_THROWS_AS(first.get<1>(), std::runtime_error);
    CHECK(first.outcome<0>().code() == errc::cancelled);
    CHECK(loop.time() == at(1ms));
  }

  CORO_TEST_CASE("no value is lost: neither of what ended too, nor of what ends in spite") {
    auto& loop = event_loop::current();
    auto p = loop.create_future<int>();
    auto q = loop.create_future<int>();
    auto any = pulsar::when_any(stubborn(1), q.get_future(), p.get_future());
    p.set_value(3);
    q.set_value(2);
    auto first = co_await std::move(any);
    CHECK(first.index() == 2);
    CHECK(first.get<2>() == 3);
    CHECK(first.get<1>() == 2);
    CHECK(first.get<0>() == 1);
    CHECK(loop.time() == at(0ms));
  }

  CORO_TEST_CASE("what had ended before is the first, in the order of the arguments") {
    const auto s = new_steps();
    auto first =
        co_await pulsar::when_any(clean_up(s, "a", 1ms), pulsar::make_ready_future(2),
                                  clean_up(s, "b", 2ms), pulsar::make_ready_future(4));
    CHECK(first.index() == 1);
    CHECK(first.get<1>() == 2);
    CHECK(first.get<3>() == 4);
    CHECK(*s == std::vector<std::string>{"a cancelled", "b cancelled", "a ended", "b ended"});
    auto alone = pulsar::when_any(pulsar::make_ready_future());
    CHECK(alone.done());
  }

  CORO_TEST_CASE("a loser's failure is among the outcomes, not reported") {
    const auto break_down = []() -> future<int> {
      try {
        co_await pulsar::sleep(1h);
      } catch (const pulsar::error&) {
      }
      throw std::runtime_error("cannot clean up");
    };
    auto first = co_await pulsar::when_any(after(1ms, 1), break_down());
    CHECK(first.index() == 0);
    CHECK(first.outcome<1>().message() == "cannot clean up");
  }

  CORO_TEST_CASE("of a vector the index and all outcomes are given") {
    auto& loop = event_loop::current();
    auto first = co_await pulsar::when_any(listed(after(3ms, 0), after(1ms, 1), stubborn(2)));
    CHECK(first.index() == 1);
    CHECK(first.get() == 1);
    REQUIRE(first.outcomes().size() == 3);
    CHECK(first.outcomes()[0].code() == errc::cancelled);
    CHECK(first.outcomes()[2].value() == 2);
    CHECK(loop.time() == at(1ms));

    std::vector<future<>> nothing;
    for (int i = 5; i > 0; --i) nothing.push_back(pulsar::sleep(std::chrono::milliseconds(i)));
    auto last = co_await pulsar::when_any(std::move(nothing));
    CHECK(last.index() == 4);
    last.get();
    CHECK(loop.time() == at(2ms));

    auto failed = co_await pulsar::when_any(listed(fail_after(1ms, "x"), stubborn(1)));
    CHECK(failed.index() == 0);
    CHECK_THROWS_AS(failed.get(), std::runtime_error);
  }

  TEST_CASE("of no futures none can be the first") {
    event_loop loop;
    auto any = pulsar::when_any(std::vector<future<int>>());
    CHECK(code_of(any.exception()) == errc::not_ready);
    CHECK(pulsar::detail::describe(any.exception()).find("when_any of no futures") == 0);
  }

  CORO_TEST_CASE("it nests: races of races and of all") {
    auto& loop = event_loop::current();
    auto slow = pulsar::when_any(after(5ms, 1), after(6ms, 2));
    auto quick = pulsar::when_all(after(1ms, 3), after(3ms, 4));
    auto first = co_await pulsar::when_any(std::move(slow), std::move(quick));
    CHECK(first.index() == 1);
    CHECK(first.get<1>() == std::tuple(3, 4));
    CHECK(first.outcome<0>().code() == errc::cancelled);
    CHECK(loop.time() == at(3ms));
  }

  // ---- cancelled, dropped, closed

  CORO_TEST_CASE("cancelling it cancels every one, waits for all and fails as cancelled") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    auto any = pulsar::when_any(clean_up(s, "a", 3ms), clean_up(s, "b", 5ms));
    auto many = pulsar::when_any(listed(clean_up(s, "c", 1ms)));
    co_await pulsar::sleep(1ms);
    CHECK(any.cancel());
    CHECK(many.cancel());
    CHECK_FALSE(any.done());
    std::vector<std::error_code> codes;
    try {
      static_cast<void>(co_await any);
    } catch (const pulsar::error& e) {
      codes.push_back(e.code());
    }
    try {
      static_cast<void>(co_await many);
    } catch (const pulsar::error& e) {
      codes.push_back(e.code());
    }
    CHECK(codes == std::vector<std::error_code>(2, errc::cancelled));
    CHECK(any.cancelled());
    CHECK(s->size() == 6);
    CHECK(loop.time() == at(6ms));
  }

  CORO_TEST_CASE("cancelling it loses no value that comes all the same") {
    auto any = pulsar::when_any(pulsar::sleep(1h), stubborn(7));
    CHECK(any.cancel());
    auto first = co_await std::move(any);
    CHECK(first.index() == 0);
    CHECK(first.get<1>() == 7);
    auto many = pulsar::when_any(listed(stubborn(8), stubborn(9)));
    CHECK(many.cancel());
    auto all = co_await std::move(many);
    CHECK(all.index() == 0);
    CHECK(all.outcomes()[1].value() == 9);
  }

  TEST_CASE("a value that came before the cancellation is not lost while the losers end") {
    event_loop loop(clock_kind::virtual_time);
    const auto s = new_steps();
    promise<int> p(loop);
    std::vector<int> got;
    auto f = [](event_loop& l, future<int> a, future<int> b, std::vector<int>& g) -> future<> {
      auto first = co_await pulsar::when_any(std::move(a), std::move(b));
      g.push_back(first.get<0>());
      co_await pulsar::sleep(1ms, l);
      g.push_back(-1);
    }(loop, p.get_future(), clean_up(s, "loser", 5ms), got);
    p.set_value(3);
    loop.call_later(2ms, [&] { f.cancel(); });
    run(loop);
    CHECK(got == std::vector<int>{3});
    CHECK(f.cancelled());
    // The cancellation reached the loser in the middle of what it does to end.
    CHECK(*s == std::vector<std::string>{"loser cancelled"});
  }

  CORO_TEST_CASE("one that is cancelled by others is the first, and no reason to fail") {
    auto& loop = event_loop::current();
    auto p = loop.create_future<int>();
    auto any = pulsar::when_any(p.get_future(), pulsar::sleep(1h));
    p.set_exception(errc::cancelled);
    auto first = co_await std::move(any);
    CHECK(first.index() == 0);
    CHECK(first.outcome<0>().code() == errc::cancelled);
  }

  TEST_CASE("dropping it cancels every one and lets them end") {
    const without_debug_mode scope;  // it drops futures on purpose
    event_loop loop(clock_kind::virtual_time);
    int reported = 0;
    loop.set_exception_handler([&](const failure_report&) { ++reported; });
    const auto s = new_steps();
    { auto dropped = pulsar::when_any(clean_up(s, "a", 2ms), clean_up(s, "b", 1ms)); }
    run(loop);
    CHECK(*s == std::vector<std::string>{"a cancelled", "b cancelled", "b ended", "a ended"});
    CHECK(reported == 0);
  }

  TEST_CASE("closing the loop lets every one clean up, or frees them all") {
    for (const auto limit : {event_loop::duration(1h), event_loop::duration(0)}) {
      const auto s = new_steps();
      future<pulsar::first_of<int, int>> any;
      {
        event_loop loop(clock_kind::virtual_time);
        any = pulsar::when_any(clean_up(s, "a", 1ms), clean_up(s, "b", 2ms));
        loop.close(limit);
      }
      CHECK(s->size() == (limit == 1h ? 4 : 0));
      CHECK(any.done() == (limit == 1h));
    }
  }

  CORO_TEST_CASE("the loop may go at any moment of a race") {
    const without_debug_mode scope;  // it drops futures on purpose
    const auto s = new_steps();
    auto kept = pulsar::when_any(clean_up(s, "a", 1ms), pulsar::sleep(4ms));
    { auto dropped = pulsar::when_any(clean_up(s, "b", 2ms), stubborn(1)); }
    auto first = co_await pulsar::when_any(clean_up(s, "c", 3ms), after(2ms, 1));
    CHECK(first.index() == 1);
    auto many = co_await pulsar::when_any(listed(after(1ms, 1), stubborn(2)));
    CHECK(many.index() == 0);
  }

  TEST_CASE("an empty future and one of another loop are refused, and the others are cancelled") {
    event_loop loop(clock_kind::virtual_time);
    event_loop other(clock_kind::virtual_time);
    const auto s = new_steps();
    const auto refused = [&](auto... fs) {
      auto any = [&] {
        return loop.create_task([&] { return pulsar::when_any(std::move(fs)...); });
      }();
      return any.done() ? code_of(any.exception()) : std::error_code();
    };
    CHECK(refused(clean_up(s, "a", 1ms, loop), future<int>()) == errc::already_called);
    CHECK(refused(clean_up(s, "b", 1ms, loop), clean_up(s, "c", 1ms, other)) == errc::wrong_loop);
    run(loop);
    run(other);
    CHECK(s->size() == 6);
  }

  // ---- Asio

  CORO_TEST_CASE_REAL("a read and a deadline race, and the socket is as good as before") {
    auto& loop = event_loop::current();
    const auto a = std::make_shared<local_socket>(loop.context());
    const auto b = std::make_shared<local_socket>(loop.context());
    asio::local::connect_pair(*a, *b);
    const auto read = [](std::shared_ptr<local_socket> s) -> future<std::size_t> {
      std::array<char, 8> room{};
      co_return co_await s->async_read_some(asio::buffer(room), pulsar::use_future);
    };
    auto first = co_await pulsar::when_any(read(a), pulsar::sleep(1ms));
    CHECK(first.index() == 1);
    CHECK(first.outcome<0>().code() == errc::cancelled);
    b->write_some(asio::buffer("abc", 3));
    auto second = co_await pulsar::when_any(read(a), pulsar::sleep(1h));
    CHECK(second.index() == 0);
    CHECK(second.get<0>() == 3);
  }
}
