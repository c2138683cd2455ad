// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/when_all.hpp>

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
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;
using future_test::at;
using future_test::code_of;
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

namespace {

using local_socket = asio::local::stream_protocol::socket;

template <class T>
future<T> after(event_loop::duration delay, T value, event_loop& loop = event_loop::current()) {
  co_await pulsar::sleep(delay, loop);
  co_return value;
}

future<int> fail_after(event_loop::duration delay,
                       std::string text,
                       event_loop& loop = event_loop::current()) {
  co_await pulsar::sleep(delay, loop);
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
future<int> stubborn(int value, event_loop& loop = event_loop::current()) {
  try {
    co_await pulsar::sleep(1h, loop);
  } catch (const pulsar::error&) {
    co_return value;
  }
  co_return -1;
}

}  // namespace

TEST_SUITE("when_all") {
  // ---- results

  CORO_TEST_CASE("C13: the results keep the order of the arguments, whichever ends first") {
    auto& loop = event_loop::current();
    auto all = pulsar::when_all(after(3ms, 1), after(1ms, std::string("two")), pulsar::sleep(2ms),
                                after(0ms, std::make_unique<int>(4)));
    static_assert(
        std::is_same_v<decltype(all), future<std::tuple<int, std::string, std::monostate,
                                                        std::unique_ptr<int>>>>);
    CHECK_FALSE(all.done());
    auto results = co_await std::move(all);
    CHECK(std::get<0>(results) == 1);
    CHECK(std::get<1>(results) == "two");
    CHECK(*std::get<3>(results) == 4);
    CHECK(loop.time() == at(3ms));
  }

  TEST_CASE("C12 C20: what is done already is not waited for, and nothing at all is done at once") {
    event_loop loop;
    auto ready = pulsar::when_all(pulsar::make_ready_future(1), pulsar::make_ready_future());
    CHECK(ready.done());
    CHECK(std::get<0>(ready.result()) == 1);
    auto none = pulsar::when_all();
    CHECK(none.done());
    static_assert(std::is_same_v<decltype(none), future<std::tuple<>>>);
    auto settled = pulsar::when_all_settled();
    CHECK(settled.done());
    auto empty = pulsar::when_all(std::vector<future<int>>());
    CHECK(empty.done());
    CHECK(empty.result().empty());
    auto empty_void = pulsar::when_all(std::vector<future<>>());
    CHECK(empty_void.done());
    empty_void.result();
  }

  CORO_TEST_CASE("a vector gives a vector in its order") {
    auto& loop = event_loop::current();
    std::vector<future<std::size_t>> fs;
    for (std::size_t i = 0; i < 100; ++i) {
      fs.push_back(after(std::chrono::milliseconds(i * 37 % 100), i));
    }
    const auto results = co_await pulsar::when_all(std::move(fs));
    REQUIRE(results.size() == 100);
    for (std::size_t i = 0; i < 100; ++i) CHECK(results[i] == i);
    CHECK(loop.time() == at(99ms));

    std::vector<future<>> nothing;
    for (int i = 0; i < 5; ++i) nothing.push_back(pulsar::sleep(std::chrono::milliseconds(i)));
    co_await pulsar::when_all(std::move(nothing));
    CHECK(loop.time() == at(103ms));

    std::vector<future<bool>> flags;
    flags.push_back(after(1ms, true));
    flags.push_back(pulsar::make_ready_future(false));
    const auto bits = co_await pulsar::when_all(std::move(flags));
    CHECK(bits == std::vector<bool>{true, false});

    std::vector<future<std::unique_ptr<int>>> owners;
    owners.push_back(after(1ms, std::make_unique<int>(7)));
    const auto owned = co_await pulsar::when_all(std::move(owners));
    CHECK(*owned.at(0) == 7);
  }

  CORO_TEST_CASE("C15: combinators nest") {
    auto& loop = event_loop::current();
    auto inner = pulsar::when_all(after(2ms, 1), after(1ms, 2));
    auto settled = pulsar::when_all_settled(fail_after(1ms, "x"), after(4ms, 5));
    std::vector<future<int>> fs;
    fs.push_back(after(3ms, 3));
    auto outer = pulsar::when_all(std::move(inner), pulsar::when_all(std::move(fs)),
                                  std::move(settled));
    auto results = co_await std::move(outer);
    CHECK(std::get<0>(results) == std::tuple(1, 2));
    CHECK(std::get<1>(results) == std::vector<int>{3});
    CHECK(std::get<0>(std::get<2>(results)).message() == "x");
    CHECK(std::get<1>(std::get<2>(results)).value() == 5);
    CHECK(loop.time() == at(4ms));
  }

  CORO_TEST_CASE("C16: each result is mapped by then, and a mapping that fails stays a failure") {
    std::vector<future<int>> mapped;
    for (int i = 0; i < 5; ++i) {
      mapped.push_back(after(std::chrono::milliseconds(5 - i), i).then([](int x) { return x + 9; }));
    }
    int sum = 0;
    for (const int x : co_await pulsar::when_all(std::move(mapped))) sum += x;
    CHECK(sum == 55);
    auto some = co_await pulsar::when_all_settled(
        after(1ms, 1).then([](int) -> int { throw std::runtime_error("cannot be mapped"); }),
        after(1ms, 1).then([](int x) { return x + 1; }));
    CHECK(std::get<0>(some).message() == "cannot be mapped");
    CHECK(std::get<1>(some).value() == 2);
  }

  // ---- failures

  CORO_TEST_CASE("the first failure cancels the others and is thrown when they have ended") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    for (const bool as_vector : {false, true}) {
      s->clear();
      const auto start = loop.time();
      std::string text;
      try {
        if (as_vector) {
          std::vector<future<int>> fs;
          fs.push_back(clean_up(s, "a", 5ms));
          fs.push_back(fail_after(2ms, "the reason"));
          fs.push_back(clean_up(s, "b", 3ms));
          co_await pulsar::when_all(std::move(fs));
        } else {
          co_await pulsar::when_all(clean_up(s, "a", 5ms), fail_after(2ms, "the reason"),
                                    clean_up(s, "b", 3ms));
        }
      } catch (const std::runtime_error& e) {
        text = e.what();
      }
      CHECK(text == "the reason");
      CHECK(*s == std::vector<std::string>{"a cancelled", "b cancelled", "b ended", "a ended"});
      CHECK(loop.time() - start == 7ms);
    }
  }

  TEST_CASE("the failure that came first in time is thrown, the later ones are reported") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    // Made one by one: a compiler may evaluate arguments in any order.
    auto late = fail_after(3ms, "late");
    auto first = fail_after(1ms, "first");
    auto second = fail_after(1ms, "second");
    auto all = pulsar::when_all(std::move(late), std::move(second), pulsar::sleep(1h),
                                std::move(first));
    run(loop);
    CHECK(pulsar::detail::describe(all.exception()) == "first");
    CHECK(seen.all.empty());
    all = {};
    CHECK(seen.all == std::vector<std::string>{"second"});
    CHECK(loop.time() == at(1ms));
  }

  CORO_TEST_CASE("a failure that is there already cancels those before and those behind it") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    std::string text;
    auto failed = pulsar::make_exceptional_future<int>(
        std::make_exception_ptr(std::runtime_error("at once")));
    try {
      co_await pulsar::when_all(clean_up(s, "a", 0ms), std::move(failed), clean_up(s, "b", 0ms));
    } catch (const std::runtime_error& e) {
      text = e.what();
    }
    CHECK(text == "at once");
    CHECK(*s == std::vector<std::string>{"a cancelled", "b cancelled", "a ended", "b ended"});
    CHECK(loop.time() == at(0ms));

    std::vector<future<>> fs;
    fs.push_back(pulsar::sleep(1h));
    fs.push_back(pulsar::make_exceptional_future(std::make_exception_ptr(7)));
    fs.push_back(pulsar::sleep(1h));
    int thrown = 0;
    try {
      co_await pulsar::when_all(std::move(fs));
    } catch (int n) {
      thrown = n;
    }
    CHECK(thrown == 7);
    CHECK(loop.time() == at(0ms));
  }

  CORO_TEST_CASE("a child that somebody else cancels is a failure like any other") {
    auto& loop = event_loop::current();
    auto p = loop.create_future<int>();
    auto other = loop.create_future<int>();
    auto all = pulsar::when_all(p.get_future(), other.get_future());
    p.set_exception(errc::cancelled);
    std::error_code code;
    try {
      co_await std::move(all);
    } catch (const pulsar::error& e) {
      code = e.code();
    }
    CHECK(code == errc::cancelled);
    CHECK(other.cancelled());
  }

  // ---- cancelled, dropped, closed

  CORO_TEST_CASE("cancelling it cancels every one and waits for all") {
    auto& loop = event_loop::current();
    const auto s = new_steps();
    auto all = pulsar::when_all(clean_up(s, "a", 5ms), after(0ms, 1), clean_up(s, "b", 3ms));
    co_await pulsar::sleep(1ms);
    CHECK(all.cancel());
    CHECK_FALSE(all.done());
    std::error_code code;
    try {
      co_await all;
    } catch (const pulsar::error& e) {
      code = e.code();
    }
    CHECK(code == errc::cancelled);
    CHECK(all.cancelled());
    CHECK(*s == std::vector<std::string>{"a cancelled", "b cancelled", "b ended", "a ended"});
    CHECK(loop.time() == at(6ms));
  }

  CORO_TEST_CASE("results that come in spite of a cancellation are not lost") {
    auto all = pulsar::when_all(stubborn(1), stubborn(2));
    CHECK(all.cancel());
    const auto results = co_await std::move(all);
    CHECK(results == std::tuple(1, 2));
  }

  TEST_CASE("a cancellation that comes when all have ended loses nothing and is told later") {
    event_loop loop(clock_kind::virtual_time);
    promise<int> a(loop);
    promise<int> b(loop);
    std::vector<int> got;
    auto f = [](event_loop& l, future<int> x, future<int> y, std::vector<int>& g) -> future<> {
      const auto both = co_await pulsar::when_all(std::move(x), std::move(y));
      g.push_back(std::get<0>(both) + std::get<1>(both));
      co_await pulsar::sleep(1ms, l);
      g.push_back(-1);
    }(loop, a.get_future(), b.get_future(), got);
    a.set_value(3);
    b.set_value(4);
    f.cancel();
    run(loop);
    CHECK(got == std::vector<int>{7});
    CHECK(f.cancelled());
  }

  TEST_CASE("dropping it cancels every one, and a failure on the way out is reported once") {
    const without_debug_mode scope;  // it drops futures on purpose
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    const auto s = new_steps();
    const auto fail_cleaning = [](event_loop& l) -> future<int> {
      try {
        co_await pulsar::sleep(1h, l);
      } catch (const pulsar::error&) {
      }
      co_await pulsar::sleep(1ms, l);
      throw std::runtime_error("cannot clean up");
    };
    { auto dropped = pulsar::when_all(clean_up(s, "a", 5ms), fail_cleaning(loop)); }
    CHECK(s->empty());
    run(loop);
    CHECK(*s == std::vector<std::string>{"a cancelled", "a ended"});
    CHECK(seen.all == std::vector<std::string>{"cannot clean up"});
    CHECK(loop.time() == at(5ms));
  }

  TEST_CASE("closing the loop lets every one clean up, or frees them all") {
    for (const auto limit : {event_loop::duration(1h), event_loop::duration(0)}) {
      const auto s = new_steps();
      future<std::tuple<int, int>> all;
      future<std::vector<int>> many;
      {
        event_loop loop(clock_kind::virtual_time);
        all = pulsar::when_all(clean_up(s, "a", 1ms), clean_up(s, "b", 2ms));
        std::vector<future<int>> fs;
        fs.push_back(clean_up(s, "c", 3ms));
        many = pulsar::when_all(std::move(fs));
        loop.close(limit);
      }
      CHECK(s->size() == (limit == 1h ? 6 : 0));
      CHECK(all.done() == (limit == 1h));
      CHECK(many.done() == (limit == 1h));
    }
  }

  CORO_TEST_CASE("the loop may go at any moment of a wait") {
    const without_debug_mode scope;  // it drops futures on purpose
    const auto s = new_steps();
    auto kept = pulsar::when_all_settled(clean_up(s, "a", 1ms), pulsar::sleep(7ms));
    { auto dropped = pulsar::when_all(clean_up(s, "b", 2ms), stubborn(1)); }
    try {
      co_await pulsar::when_all(clean_up(s, "c", 3ms), fail_after(2ms, "x"), after(1ms, 1));
    } catch (const std::runtime_error&) {
    }
    std::get<0>(co_await pulsar::when_all_settled(fail_after(1ms, "y"))).exception();
  }

  TEST_CASE("a promise that settles others when it is cancelled harms nothing") {
    event_loop loop;
    promise<int> a(loop);
    promise<int> b(loop);
    promise<int> c(loop);
    a.on_cancel([&] { c.set_value(3); });
    future<std::tuple<int, int, int>> all;
    c.on_cancel([&] { all.cancel(); });
    all = pulsar::when_all(a.get_future(), b.get_future(), c.get_future());
    b.set_exception(errc::actor_gone);
    run(loop);
    CHECK(a.cancelled());
    CHECK(code_of(all.exception()) == errc::actor_gone);
  }

  // ---- what is refused

  TEST_CASE("an empty future is refused, and the others are cancelled") {
    event_loop loop(clock_kind::virtual_time);
    const auto s = new_steps();
    promise<int> by_hand(loop);
    {
      auto all = pulsar::when_all(clean_up(s, "a", 1ms), by_hand.get_future(), future<int>(),
                                  clean_up(s, "b", 2ms));
      CHECK(code_of(all.exception()) == errc::already_called);
      auto settled = pulsar::when_all_settled(clean_up(s, "c", 3ms), future<>());
      CHECK(code_of(settled.exception()) == errc::already_called);
      std::vector<future<int>> fs;
      fs.push_back(clean_up(s, "d", 4ms));
      fs.emplace_back();
      auto many = pulsar::when_all(std::move(fs));
      CHECK(code_of(many.exception()) == errc::already_called);
    }
    CHECK(by_hand.cancelled());
    run(loop);
    CHECK(s->size() == 8);
  }

  TEST_CASE("a future of another loop is refused, and what waits there for it is forgotten") {
    event_loop loop(clock_kind::virtual_time);
    event_loop other(clock_kind::virtual_time);
    const auto wait = [](event_loop&, steps s, event_loop& stranger) -> future<> {
      co_await pulsar::when_all(clean_up(s, "here", 1ms), clean_up(s, "there", 1ms, stranger));
    };
    const auto s = new_steps();
    auto f = loop.run_until_complete([&] { return pulsar::as_result(wait(loop, s, other)); });
    CHECK(f.code() == errc::wrong_loop);
    run(other);
    run(loop);
    CHECK(s->size() == 4);
  }

  // ---- when_all_settled

  CORO_TEST_CASE("when_all_settled waits for all, whatever becomes of them, and cancels none") {
    auto& loop = event_loop::current();
    auto outcomes = co_await pulsar::when_all_settled(
        fail_after(1ms, "first"), after(3ms, std::string("value")), pulsar::sleep(2ms),
        pulsar::make_exceptional_future(std::make_exception_ptr(pulsar::error(errc::too_large))),
        pulsar::make_ready_future(std::make_unique<int>(5)));
    CHECK_FALSE(std::get<0>(outcomes).has_value());
    CHECK(std::get<0>(outcomes).message() == "first");
    CHECK(*std::get<1>(outcomes) == "value");
    CHECK(std::get<2>(outcomes).has_value());
    CHECK(std::get<3>(outcomes).code() == errc::too_large);
    CHECK(**std::get<4>(outcomes) == 5);
    CHECK(loop.time() == at(3ms));
  }

  CORO_TEST_CASE("cancelling when_all_settled cancels all and gives what became of them") {
    const auto s = new_steps();
    auto settled = pulsar::when_all_settled(clean_up(s, "a", 2ms), stubborn(4), after(0ms, 1));
    co_await pulsar::sleep(1ms);
    CHECK(settled.cancel());
    auto outcomes = co_await std::move(settled);
    CHECK(std::get<0>(outcomes).code() == errc::cancelled);
    CHECK(std::get<1>(outcomes).value() == 4);
    CHECK(std::get<2>(outcomes).value() == 1);
    CHECK(*s == std::vector<std::string>{"a cancelled", "a ended"});
  }

  CORO_TEST_CASE("references are passed on") {
    int target = 1;
    const auto refer = [](int& t) -> future<int&> {
      co_await pulsar::sleep(1ms);
      co_return t;
    };
    auto results = co_await pulsar::when_all(refer(target), refer(target));
    CHECK(&std::get<0>(results) == &target);
    auto outcomes = co_await pulsar::when_all_settled(refer(target));
    CHECK(&std::get<0>(outcomes).value() == &target);
  }

  CORO_TEST_CASE("a vector of references gives reference wrappers") {
    static int target = 0;
    const auto refer = [](int& t) -> future<int&> {
      co_await pulsar::sleep(1ms);
      co_return t;
    };
    std::vector<future<int&>> fs;
    fs.push_back(refer(target));
    fs.push_back(refer(target));
    auto results = co_await pulsar::when_all(std::move(fs));
    CHECK(results.size() == 2);
    CHECK(&results[1].get() == &target);
  }

  CORO_TEST_CASE("when_all_settled of a vector gives every outcome in the order of the futures") {
    const auto fail = [](event_loop::duration time) -> future<int> {
      co_await pulsar::sleep(time);
      throw std::runtime_error("on purpose");
    };
    const auto succeed = [](event_loop::duration time) -> future<int> {
      co_await pulsar::sleep(time);
      co_return 4;
    };
    std::vector<future<int>> fs;
    fs.push_back(fail(1ms));
    fs.push_back(succeed(3ms));
    fs.push_back(succeed(2ms));
    auto outcomes = co_await pulsar::when_all_settled(std::move(fs));
    CHECK(outcomes.size() == 3);
    CHECK(outcomes[0].message() == "on purpose");
    CHECK(outcomes[1].value() == 4);
    CHECK(outcomes[2].has_value());
    std::vector<future<>> none;
    auto nothing = co_await pulsar::when_all_settled(std::move(none));
    CHECK(nothing.empty());
  }

  // ---- Asio

  CORO_TEST_CASE_REAL("a failure ends the reads that wait beside it") {
    auto& loop = event_loop::current();
    const auto a = std::make_shared<local_socket>(loop.context());
    const auto b = std::make_shared<local_socket>(loop.context());
    asio::local::connect_pair(*a, *b);
    const auto read = [](std::shared_ptr<local_socket> s, steps notes) -> future<std::size_t> {
      std::array<char, 8> room{};
      try {
        co_return co_await s->async_read_some(asio::buffer(room), pulsar::use_future);
      } catch (const pulsar::error& e) {
        if (e.code() == errc::cancelled) notes->push_back("cancelled");
        throw;
      }
    };
    const auto s = new_steps();
    b->write_some(asio::buffer("xyz", 3));
    const std::size_t n = co_await read(a, s);
    CHECK(n == 3);
    std::string text;
    try {
      co_await pulsar::when_all(read(a, s), read(b, s), fail_after(1ms, "enough"));
    } catch (const std::runtime_error& e) {
      text = e.what();
    }
    CHECK(text == "enough");
    CHECK(*s == std::vector<std::string>{"cancelled", "cancelled"});
    // Both sockets work as before.
    b->write_some(asio::buffer("ab", 2));
    const std::size_t again = co_await read(a, s);
    CHECK(again == 2);
  }
}
