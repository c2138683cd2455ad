// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/async_event.hpp>
#include <pulsar/core/generator.hpp>
#include <pulsar/core/operation.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/tasks.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include <asio/ip/udp.hpp>
#include <asio/steady_timer.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/futures.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::at;
using future_test::new_steps;
using future_test::steps;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::generator;

namespace {

// Notes when it is destroyed.
struct mark {
  mark(steps l, std::string n) : list(std::move(l)), name(std::move(n)) {}
  mark(mark&&) noexcept = default;
  mark& operator=(mark&&) = delete;
  ~mark() {
    if (list) list->push_back(name);
  }
  steps list;
  std::string name;
};

generator<int> count(int most) {
  for (int i = 0; i < most; ++i) co_yield i;
}

generator<int> count_slowly(int most, event_loop::duration pause) {
  for (int i = 0; i < most; ++i) {
    co_await pulsar::sleep(pause);
    co_yield i;
  }
}

generator<int> noting(steps s, event_loop::duration pause) {
  const mark end(s, "freed");
  s->push_back("begun");
  for (int i = 0;; ++i) {
    if (pause > 0s) co_await pulsar::sleep(pause);
    co_yield i;
    s->push_back("asked for more");
  }
}

generator<std::string> words() {
  const std::string first = "one";
  co_yield first;  // a copy
  CHECK(first == "one");
  std::string second = "two";
  co_yield std::move(second);
  co_yield "three";
}

// Waits once, and passes on.
generator<int> passing_on(generator<int> from) {
  while (const int* x = co_await from.next()) co_yield *x;
}

// A generator that asks another one.
generator<int> evens(generator<int> from) {
  while (const int* x = co_await from.next()) {
    if (*x % 2 == 0) co_yield *x;
  }
}

future<std::vector<int>> all_of(generator<int> g) {
  std::vector<int> all;
  while (const int* x = co_await g.next()) all.push_back(*x);
  co_return all;
}

}  // namespace

TEST_SUITE("generator") {
  // ---- items

  CORO_TEST_CASE("gives its items in order, and then nothing, as often as it is asked") {
    auto g = count(3);
    std::vector<int> seen;
    while (const int* x = co_await g.next()) seen.push_back(*x);
    CHECK(seen == std::vector<int>{0, 1, 2});
    CHECK(g.done());
    const int* more = co_await g.next();
    CHECK(more == nullptr);
    auto none = count(0);
    more = co_await none.next();
    CHECK(more == nullptr);
  }

  CORO_TEST_CASE("waits between items, and time passes") {
    const auto start = event_loop::current().time();
    auto all = co_await all_of(count_slowly(4, 1h));
    CHECK(all == std::vector<int>{0, 1, 2, 3});
    CHECK(event_loop::current().time() - start == 4h);
  }

  CORO_TEST_CASE("the body runs only while somebody waits for an item") {
    auto s = new_steps();
    auto g = noting(s, 0s);
    co_await pulsar::sleep(1ms);
    CHECK(s->empty());
    static_cast<void>(co_await g.next());
    CHECK(*s == std::vector<std::string>{"begun"});
    co_await pulsar::sleep(1ms);
    CHECK(s->size() == 1);
    const int* second = co_await g.next();
    CHECK(*second == 1);
    CHECK(s->back() == "asked for more");
  }

  CORO_TEST_CASE("a variable is copied, a temporary and what is moved are handed out") {
    auto g = words();
    std::string* first = co_await g.next();
    CHECK(*first == "one");
    first->clear();
    std::string* second = co_await g.next();
    std::string taken = std::move(*second);
    CHECK(taken == "two");
    std::string* third = co_await g.next();
    CHECK(*third == "three");
    std::string* end = co_await g.next();
    CHECK(end == nullptr);
  }

  CORO_TEST_CASE("items may be move-only, references, or constant where they are") {
    const auto boxes = []() -> generator<std::unique_ptr<int>> {
      co_yield std::make_unique<int>(7);
      auto named = std::make_unique<int>(8);
      co_yield std::move(named);
    };
    auto b = boxes();
    std::unique_ptr<int>* box = co_await b.next();
    std::unique_ptr<int> mine = std::move(*box);
    CHECK(*mine == 7);
    box = co_await b.next();
    CHECK(**box == 8);

    std::vector<int> numbers{1, 2};
    const auto refer = [](std::vector<int>& all) -> generator<int&> {
      for (int& n : all) co_yield n;
    };
    auto r = refer(numbers);
    while (int* n = co_await r.next()) *n *= 10;
    CHECK(numbers == std::vector<int>{10, 20});

    const auto constant = [](const std::vector<int>& all) -> generator<const int> {
      for (const int& n : all) co_yield n;
    };
    auto c = constant(numbers);
    const int* n = co_await c.next();
    CHECK(n == numbers.data());
  }

  CORO_TEST_CASE("a million items without a wait take no stack") {
    long sum = 0;
    auto g = evens(count(coro_test::abandoned ? 10 : 100'000));
    while (const int* x = co_await g.next()) sum += *x;
    CHECK(sum == 2'499'950'000);
  }

  TEST_CASE("a chain of a hundred thousand generators takes no stack, asked or dropped") {
    event_loop loop(clock_kind::virtual_time);
    const auto ask = [](generator<int>& g) -> future<int> {
      const int* x = co_await g.next();
      co_return x == nullptr ? -1 : *x;
    };
    for (const auto pause : {0s, 1s}) {
      auto chain = pause > 0s ? count_slowly(10, pause) : count(10);
      for (int i = 0; i < 100'000; ++i) chain = passing_on(std::move(chain));
      CHECK(loop.run_until_complete(ask(chain)) == 0);
      CHECK(loop.run_until_complete(ask(chain)) == 1);
      if (pause > 0s) loop.close();  // one chain goes while its loop is open, one behind it
    }
  }

  CORO_TEST_CASE("items that are waited for take no stack either") {
    const auto turns = [](int most) -> generator<int> {
      for (int i = 0; i < most; ++i) {
        co_await pulsar::sleep(0s);
        co_yield i;
      }
    };
    auto all = co_await all_of(evens(turns(2'000)));
    CHECK(all.size() == 1'000);
  }

  // ---- failures

  CORO_TEST_CASE("what the body throws is thrown by next, once, and there are no more items") {
    const auto failing = [](bool wait) -> generator<int> {
      co_yield 1;
      if (wait) co_await pulsar::sleep(1ms);
      throw std::runtime_error("no more");
    };
    for (const bool wait : {false, true}) {
      auto g = failing(wait);
      const int* x = co_await g.next();
      CHECK(*x == 1);
      std::string text;
      try {
        x = co_await g.next();
      } catch (const std::runtime_error& e) {
        text = e.what();
      }
      CHECK(text == "no more");
      CHECK(g.done());
      x = co_await g.next();
      CHECK(x == nullptr);
    }
  }

  CORO_TEST_CASE("an empty generator, and a second one who asks, are refused") {
    auto g = count_slowly(2, 1ms);
    auto moved = std::move(g);
    auto empty = co_await as_result(g.next());
    CHECK(empty.code() == errc::already_called);
    future<int*> first = moved.next();
    auto second = co_await as_result(moved.next());
    CHECK(second.code() == errc::already_called);
    const int* x = co_await std::move(first);
    CHECK(*x == 0);
    x = co_await moved.next();
    CHECK(*x == 1);
  }

  TEST_CASE("a generator of another loop is refused, and of a closed one") {
    event_loop one(clock_kind::virtual_time);
    const auto on = [](event_loop&) -> generator<int> { co_yield 1; };
    const auto ask = [](event_loop&, generator<int>& g) -> future<> {
      static_cast<void>(co_await g.next());
    };
    generator<int> g = on(one);
    {
      event_loop two(clock_kind::virtual_time);
      auto asked = ask(two, g);
      CHECK(future_test::code_of(asked.exception()) == errc::wrong_loop);
    }
    one.close();
    auto late = ask(one, g);
    CHECK(late.done());
    CHECK(future_test::code_of(late.exception()) != std::error_code());
  }

  // ---- cancelling and dropping

  CORO_TEST_CASE("cancelling who waits cancels what the body waits for, and the generator ends") {
    auto s = new_steps();
    auto g = noting(s, 1h);
    future<int*> next = g.next();
    co_await pulsar::sleep(1min);
    next.cancel();
    auto r = co_await as_result(std::move(next));
    CHECK(r.code() == errc::cancelled);
    CHECK(*s == std::vector<std::string>{"begun", "freed"});
    CHECK(g.done());
    const int* more = co_await g.next();
    CHECK(more == nullptr);
  }

  CORO_TEST_CASE("a limit on next ends the generator when it is passed") {
    auto g = count_slowly(5, 1h);
    const int* x = co_await with_timeout(g.next(), 2h);
    CHECK(*x == 0);
    auto late = co_await as_result(with_timeout(g.next(), 1min));
    CHECK(late.code() == errc::timed_out);
    CHECK(g.done());
  }

  CORO_TEST_CASE("a body that catches the cancellation goes on, and who asked is told later") {
    const auto stubborn = []() -> generator<int> {
      for (int i = 0;; ++i) {
        try {
          co_await pulsar::sleep(1h);
        } catch (const pulsar::error&) {
        }
        co_yield i;
      }
    };
    auto g = stubborn();
    const auto ask = [](generator<int>& from, std::vector<int>& got) -> future<> {
      for (;;) got.push_back(*co_await from.next());
    };
    std::vector<int> got;
    auto asking = ask(g, got);
    co_await pulsar::sleep(1min);
    asking.cancel();
    auto r = co_await as_result(std::move(asking));
    CHECK(r.code() == errc::cancelled);
    CHECK(got == std::vector<int>{0});
    CHECK_FALSE(g.done());
    const int* x = co_await g.next();
    CHECK(*x == 1);
  }

  CORO_TEST_CASE("who is cancelled before it asks leaves the generator as it is") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto g = count(2);
    const auto ask = [](generator<int>& from, bool& told) -> future<> {
      co_await pulsar::sleep(0s);
      try {
        static_cast<void>(co_await from.next());
      } catch (const pulsar::error& e) {
        told = e.code() == errc::cancelled;
      }
    };
    bool told = false;
    auto asking = ask(g, told);
    // After the sleep has ended and before the coroutine goes on.
    event_loop::current().call_soon([&asking] { asking.cancel(); });
    co_await pulsar::sleep(1ms);
    const int* x = co_await g.next();
    CHECK(x != nullptr);
    if (told) CHECK(*x == 0);
  }

  CORO_TEST_CASE("a cancellation that comes while an item is on its way is told once") {
    auto& loop = event_loop::current();
    auto chain = count_slowly(3, 1s);
    for (int i = 0; i < 64; ++i) chain = passing_on(std::move(chain));  // so it takes two steps
    auto s = new_steps();
    const auto consume = [](generator<int> g, steps l) -> future<> {
      for (int i = 0; i < 3; ++i) {
        try {
          const int* x = co_await g.next();
          l->push_back(x == nullptr ? "end" : std::to_string(*x));
        } catch (const pulsar::error&) {
          l->push_back("cancelled");
        }
      }
    };
    auto consumer = consume(std::move(chain), s);
    // Behind the first step, before the second.
    loop.call_at(at(1s), [&] {
      loop.call_soon([&] { loop.call_soon([&] { consumer.cancel(); }); });
    });
    co_await consumer;
    CHECK(*s == std::vector<std::string>{"0", "cancelled", "1"});
  }

  CORO_TEST_CASE("dropping it between two items frees the body where it stands") {
    auto s = new_steps();
    {
      auto g = noting(s, 0s);
      static_cast<void>(co_await g.next());
    }
    CHECK(*s == std::vector<std::string>{"begun", "freed"});
    s->clear();
    {
      auto g = noting(s, 1ms);  // never begun
    }
    CHECK(s->empty());
    {
      auto g = noting(s, 1ms);
      static_cast<void>(co_await g.next());
      g = noting(s, 1ms);
      CHECK(*s == std::vector<std::string>{"begun", "freed"});
    }
  }

  CORO_TEST_CASE("dropping it under who waits cancels the body and fails the wait") {
    auto s = new_steps();
    auto g = std::make_unique<generator<int>>(noting(s, 1h));
    future<int*> next = g->next();
    co_await pulsar::sleep(1min);
    g.reset();
    auto r = co_await as_result(std::move(next));
    CHECK(r.code() == errc::cancelled);
    CHECK(*s == std::vector<std::string>{"begun", "freed"});
  }

  CORO_TEST_CASE("a body that goes on although it was dropped fails the wait all the same") {
    const auto stubborn = [](steps s) -> generator<int> {
      const mark end(s, "freed");
      try {
        co_await pulsar::sleep(1h);
      } catch (const pulsar::error&) {
        s->push_back("told");
      }
      co_yield 1;
      s->push_back("never");
    };
    auto s = new_steps();
    auto g = std::make_unique<generator<int>>(stubborn(s));
    future<int*> next = g->next();
    g.reset();
    auto r = co_await as_result(std::move(next));
    CHECK(r.code() == errc::cancelled);
    CHECK(*s == std::vector<std::string>{"told", "freed"});
  }

  CORO_TEST_CASE("a body may drop its own generator") {
    auto g = std::make_shared<std::optional<generator<int>>>();
    const auto suicidal =
        [](std::shared_ptr<std::optional<generator<int>>> self) -> generator<int> {
      self->reset();
      co_yield 1;
    };
    *g = suicidal(g);
    future<int*> next = (*g)->next();
    auto r = co_await as_result(std::move(next));
    CHECK(r.code() == errc::cancelled);
  }

  CORO_TEST_CASE("it may be moved while somebody waits") {
    auto g = std::make_unique<generator<int>>(count_slowly(3, 1ms));
    future<int*> next = g->next();
    generator<int> moved = std::move(*g);
    g.reset();
    const int* x = co_await std::move(next);
    CHECK(*x == 0);
    x = co_await moved.next();
    CHECK(*x == 1);
  }

  CORO_TEST_CASE("a generator that waits for a generator passes everything on") {
    auto s = new_steps();
    auto g = evens(noting(s, 2ms));
    std::vector<int> seen;
    for (int i = 0; i < 3; ++i) seen.push_back(*co_await g.next());
    CHECK(seen == std::vector<int>{0, 2, 4});
    auto late = co_await as_result(with_timeout(g.next(), 1ms));
    CHECK(late.code() == errc::timed_out);
    CHECK(s->back() == "freed");
  }

  // ---- the end of the loop

  TEST_CASE("a loop closes at once although a generator stands between two items") {
    auto s = new_steps();
    asio::io_context context;
    for (asio::io_context* on : {static_cast<asio::io_context*>(nullptr), &context}) {
      s->clear();
      generator<int> kept;
      {
        std::optional<event_loop> loop;
        on == nullptr ? static_cast<void>(loop.emplace(clock_kind::virtual_time))
                      : static_cast<void>(loop.emplace(*on, clock_kind::virtual_time));
        kept = noting(s, 1ms);
        const auto ask = [](generator<int>& g) -> future<> {
          static_cast<void>(co_await g.next());
        };
        loop->run_until_complete([&] { return ask(kept); });
        CHECK_FALSE(kept.done());
      }
      CHECK(*s == std::vector<std::string>{"begun"});
      kept = {};
      CHECK(*s == std::vector<std::string>{"begun", "freed"});
    }
  }

  TEST_CASE("a generator may outlive its loop with an object of Asio in it") {
    generator<int> kept;
    {
      event_loop loop;
      const auto with_timer = [](event_loop& l) -> generator<int> {
        asio::steady_timer timer(l.context());
        timer.expires_after(1ms);
        co_await timer.async_wait(pulsar::use_future);
        co_yield 1;
      };
      kept = with_timer(loop);
      const auto ask = [](generator<int>& g) -> future<> { static_cast<void>(co_await g.next()); };
      loop.run_until_complete([&] { return ask(kept); });
    }
    CHECK_FALSE(kept.done());
  }

  TEST_CASE("or with one among its parameters, which go last") {
    generator<int> kept;
    generator<int> unasked;
    {
      event_loop loop;
      const auto with_socket = [](event_loop&, asio::ip::udp::socket) -> generator<int> {
        co_yield 1;
      };
      const asio::ip::udp::endpoint any(asio::ip::address_v4::loopback(), 0);
      kept = with_socket(loop, asio::ip::udp::socket(loop.context(), any));
      unasked = with_socket(loop, asio::ip::udp::socket(loop.context(), any));
      const auto ask = [](generator<int>& g) -> future<> { static_cast<void>(co_await g.next()); };
      loop.run_until_complete([&] { return ask(kept); });
    }
    CHECK_FALSE(kept.done());
  }

  CORO_TEST_CASE("the loop may go at any moment of a generator's life") {
    auto s = new_steps();
    generator<int> outer = evens(noting(s, 1ms));
    auto both = pulsar::when_all(all_of(count_slowly(3, 2ms)), all_of(evens(count_slowly(4, 1ms))));
    const int* x = co_await outer.next();
    CHECK(*x == 0);
    x = co_await outer.next();
    CHECK(*x == 2);
    co_await std::move(both);
  }

  TEST_CASE("tasks() shows it between who asks and what it waits for, and not between two items") {
    event_loop loop(clock_kind::virtual_time);
    generator<int> idle = noting(new_steps(), 1ms);
    const auto on = [](event_loop&, generator<int> from) { return all_of(std::move(from)); };
    auto asking = on(loop, evens(count_slowly(3, 1h)));
    const auto tasks = loop.tasks();
    REQUIRE(tasks.size() == 3);
    const auto place = [&](const std::string& function) {
      std::size_t i = 0;
      while (i < tasks.size() && tasks[i].function != function) ++i;
      return i;
    };
    REQUIRE(place("count_slowly") < 3);
    CHECK(tasks[place("count_slowly")].waits_for.starts_with("a sleep ("));
    CHECK(tasks[place("count_slowly")].awaiter == place("evens"));
    CHECK(tasks[place("evens")].awaiter == place("all_of"));
    asking.cancel();
  }

  CORO_TEST_CASE("the body keeps the context it was called in") {
    pulsar::detail::context ann("ann");
    ann.take();
    const auto who = [] {
      const auto* c = pulsar::detail::this_context;
      return c == nullptr ? std::string() : std::string(c->name);
    };
    const auto names = [](auto ask) -> generator<std::string> {
      for (;;) {
        co_yield ask();
        co_await pulsar::sleep(1ms);
      }
    };
    generator<std::string> g;
    {
      const pulsar::detail::context_scope scope(&ann);
      g = names(who);
    }
    for (int i = 0; i < 3; ++i) {
      const std::string* name = co_await g.next();
      CHECK(*name == "ann");
      CHECK(who().empty());
    }
  }
}
