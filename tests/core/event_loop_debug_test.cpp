// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/event_loop.hpp>

#include <pulsar/core/async_event.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/operation.hpp>
#include <pulsar/core/signals.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/transport.hpp>
#include <pulsar/core/when_all.hpp>
#include <pulsar/core/when_any.hpp>

#include <asio/buffer.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <doctest/doctest.h>

#include "support/death.hpp"
#include "support/futures.hpp"

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::run;
using pulsar::clock_kind;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;

namespace {

using steady = std::chrono::steady_clock;

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Holds up the thread; longer than what these tests call slow.
void work() {
  const auto until = steady::now() + 12ms;
  while (steady::now() < until) {
  }
}

unsigned line(std::source_location here = std::source_location::current()) { return here.line(); }

std::vector<std::string> logged;
void keep_log(pulsar::log_level, std::string_view text) { logged.emplace_back(text); }

// A loop in debug mode, and what it logs.
struct watched_loop {
  explicit watched_loop(clock_kind kind = clock_kind::virtual_time)
      : before(pulsar::log::set_sink(&keep_log)), loop(kind) {
    logged.clear();
    loop.set_debug(true);
    loop.set_slow_callback_duration(10ms);
  }
  watched_loop(const watched_loop&) = delete;
  watched_loop& operator=(const watched_loop&) = delete;
  ~watched_loop() { pulsar::log::set_sink(before); }

  // How often it was held up by what begins in `at`.
  static int slow_at(unsigned at) {
    int found = 0;
    for (const auto& text : logged) {
      if (contains(text, "held up") && contains(text, "event_loop_debug_test.cpp:") &&
          contains(text, ":" + std::to_string(at) + ",")) {
        ++found;
      }
    }
    return found;
  }

  pulsar::log_sink before;
  event_loop loop;
};

struct report {
  std::string message;
  std::string file;
  unsigned line = 0;
  std::string function;
};

// A loop in debug mode, and what its exception handler is told.
struct reporting_loop {
  reporting_loop() {
    loop.set_debug(true);
    loop.set_exception_handler([this](const failure_report& r) {
      CHECK(r.exception == nullptr);
      reports.push_back({r.message, r.where.file_name(), r.where.line(), r.where.function_name()});
    });
  }
  std::vector<report> reports;  // outlives the loop
  event_loop loop{clock_kind::virtual_time};
};

future<int> answer(event_loop&) { co_return 42; }

future<int> slow_answer(event_loop& loop, event_loop::duration after = 1s) {
  co_await pulsar::sleep(after, loop);
  co_return 42;
}

struct slow_protocol : pulsar::protocol {
  void data_received(std::span<const std::byte>) override { work(); }
};

struct environment {
  explicit environment(const char* value) {
    if (const char* set = std::getenv("PULSAR_DEBUG")) before = set;
    value != nullptr ? ::setenv("PULSAR_DEBUG", value, 1) : ::unsetenv("PULSAR_DEBUG");
  }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;
  ~environment() {
    before ? ::setenv("PULSAR_DEBUG", before->c_str(), 1) : ::unsetenv("PULSAR_DEBUG");
  }
  std::optional<std::string> before;
};

}  // namespace

TEST_SUITE("event_loop_debug") {
  TEST_CASE("debug mode is off, unless PULSAR_DEBUG is set and is not 0") {
    const auto debug_with = [](const char* value) {
      const environment scope(value);
      return event_loop().debug();
    };
    CHECK_FALSE(debug_with(nullptr));
    CHECK_FALSE(debug_with(""));
    CHECK_FALSE(debug_with("0"));
    CHECK(debug_with("1"));
    CHECK(debug_with("yes"));
    const environment none(nullptr);
    event_loop loop;
    CHECK(loop.slow_callback_duration() == 100ms);
    loop.set_debug(true);
    CHECK(loop.debug());
    loop.set_debug(false);
    CHECK_FALSE(loop.debug());
  }

  // ---- slow callbacks

  TEST_CASE("a slow callback is logged with how long it took, and where it was given to the loop") {
    watched_loop w(clock_kind::steady);
    std::vector<unsigned> lines;
    w.loop.call_soon(&work), lines.push_back(line());
    w.loop.call_later(1ms, &work), lines.push_back(line());
    w.loop.call_at(w.loop.time(), &work), lines.push_back(line());
    w.loop.call_soon_threadsafe(&work), lines.push_back(line());
    auto ready = pulsar::make_ready_future(1);
    ready.add_done_callback(&work), lines.push_back(line());
    pulsar::handle twice;
    twice = w.loop.call_repeatedly(1ms, [&] { work(), twice.cancel(); }), lines.push_back(line());
    w.loop.call_later(100ms, [&] { w.loop.stop(); });
    w.loop.run_forever();
    for (const auto at : lines) {
      CAPTURE(at);
      CHECK(watched_loop::slow_at(at) == 1);
    }
    REQUIRE(logged.size() == lines.size());
    CHECK(contains(logged[0], "[warning]"));
    CHECK(contains(logged[0], "the event loop was held up for "));
    CHECK(contains(logged[0], " ms by a callback that was handed to it ("));
  }

  TEST_CASE("so is a handler of a signal, and what was given to then()") {
    watched_loop w(clock_kind::steady);
    std::vector<unsigned> lines;
    w.loop.add_signal_handler(SIGUSR2, &work), lines.push_back(line());
    auto then = pulsar::sleep(1ms, w.loop).then(&work);
    lines.push_back(line() - 1);
    auto sum = slow_answer(w.loop, 1ms).then([](int n) { return work(), n; });
    lines.push_back(line() - 1);
    w.loop.call_soon([] { std::raise(SIGUSR2); });
    w.loop.call_later(100ms, [&] { w.loop.stop(); });
    w.loop.run_forever();
    for (const auto at : lines) {
      CAPTURE(at);
      CHECK(watched_loop::slow_at(at) == 1);
    }
    CHECK(logged.size() == lines.size());
  }

  TEST_CASE("a protocol that holds up the loop is named by its class") {
    watched_loop w;
    auto ends = pulsar::memory_pair(1024, {}, w.loop);
    const auto told = w.loop.run_until_complete([&] {
      return pulsar::attach_protocol(std::move(ends.first),
                                     [] { return std::make_shared<slow_protocol>(); });
    });
    ends.second.write("x");
    w.loop.run_until_complete(pulsar::sleep(1ms, w.loop));
    REQUIRE(logged.size() == 1);
    CHECK(contains(logged[0], " ms by a call of a protocol, a "));
    CHECK(contains(logged[0], "slow_protocol"));
  }

  TEST_CASE("a coroutine that holds up the loop is named, with the await behind which it did") {
    watched_loop w;
    unsigned at = 0;
    const auto busy = [](event_loop& loop, unsigned& where) -> future<> {
      co_await pulsar::sleep(1ms, loop);
      where = line() + 1;
      co_await pulsar::sleep(1ms, loop);
      work();
      co_await pulsar::sleep(1ms, loop);
    };
    w.loop.run_until_complete(busy(w.loop, at));
    CHECK(watched_loop::slow_at(at) == 1);
    REQUIRE(logged.size() == 1);
    CHECK(contains(logged[0], "ms by a coroutine that went on behind its await ("));
  }

  TEST_CASE("of a chain of coroutines the slow one is named") {
    watched_loop w;
    unsigned at = 0;
    const auto quick = [](event_loop& loop) -> future<> { co_await pulsar::sleep(1ms, loop); };
    const auto outer = [](event_loop& loop, auto inner, unsigned& where) -> future<> {
      where = line() + 1;
      co_await inner(loop);
      work();
    };
    w.loop.run_until_complete(outer(w.loop, quick, at));
    CHECK(watched_loop::slow_at(at) == 1);
    CHECK(logged.size() == 1);
  }

  TEST_CASE("a coroutine that goes on when an operation of Asio has ended is timed too") {
    watched_loop w(clock_kind::steady);
    unsigned at = 0;
    const auto reader = [](event_loop& loop, unsigned& where) -> future<> {
      using socket = asio::local::stream_protocol::socket;
      socket mine(loop.context());
      socket theirs(loop.context());
      asio::local::connect_pair(mine, theirs);
      std::array<char, 1> byte{};
      loop.call_soon([&] { theirs.write_some(asio::buffer("x", 1)); });
      where = line() + 1;
      co_await mine.async_read_some(asio::buffer(byte), pulsar::use_future);
      work();
    };
    w.loop.run_until_complete(reader(w.loop, at));
    CHECK(watched_loop::slow_at(at) == 1);
  }

  TEST_CASE("what is quick enough is not logged, nor anything outside debug mode") {
    watched_loop w;
    w.loop.set_slow_callback_duration(1h);
    w.loop.call_soon(&work);
    run(w.loop);
    w.loop.set_slow_callback_duration(1ms);
    w.loop.set_debug(false);
    w.loop.call_soon(&work);
    run(w.loop);
    CHECK(logged.empty());
  }

  TEST_CASE("debug mode may be switched by a callback") {
    watched_loop w;
    w.loop.set_debug(false);
    unsigned at = 0;
    w.loop.call_soon([&] {
      w.loop.set_debug(true);
      w.loop.call_soon(&work), at = line();
    });
    run(w.loop);
    CHECK(watched_loop::slow_at(at) == 1);
    logged.clear();
    w.loop.call_soon([&] {
      w.loop.set_debug(false);
      w.loop.call_soon(&work);
    });
    run(w.loop);
    CHECK(logged.empty());
  }

  TEST_CASE("a loop that is not in debug mode keeps quiet inside one that is") {
    watched_loop w;
    event_loop inner(clock_kind::virtual_time);
    inner.call_soon(&work);
    unsigned at = 0;
    w.loop.call_soon([&] { inner.context().run(); }), at = line();
    run(w.loop);
    CHECK(logged.size() == 1);
    CHECK(watched_loop::slow_at(at) == 1);  // which is true: it ran the other
  }

  // ---- futures that nobody awaits

  TEST_CASE("a future that is dropped with its result is reported, with the coroutine it was of") {
    reporting_loop r;
    static_cast<void>(answer(r.loop));
    REQUIRE(r.reports.size() == 1);
    CHECK(contains(r.reports[0].message, "dropped with its result"));
    CHECK(contains(r.reports[0].file, "event_loop_debug_test.cpp"));
    CHECK(contains(r.reports[0].function, "answer"));
    CHECK(r.reports[0].line > 0);
    {
      const auto late = slow_answer(r.loop);
      run(r.loop);
    }
    REQUIRE(r.reports.size() == 2);
    CHECK(contains(r.reports[1].function, "slow_answer"));
  }

  TEST_CASE("a future that is dropped while pending is reported, with the coroutine it was of") {
    reporting_loop r;
    static_cast<void>(slow_answer(r.loop));
    REQUIRE(r.reports.size() == 1);
    CHECK(contains(r.reports[0].message, "dropped while pending"));
    CHECK(contains(r.reports[0].function, "slow_answer"));
    CHECK(contains(r.reports[0].file, "event_loop_debug_test.cpp"));
    run(r.loop);
    CHECK(r.reports.size() == 1);
  }

  TEST_CASE("a promise's future that is dropped is reported with where the promise was made") {
    reporting_loop r;
    auto settled = r.loop.create_future<int>();
    const auto first = line() - 1;
    settled.set_value(1);
    static_cast<void>(settled.get_future());
    pulsar::promise<int> pending(r.loop);
    const auto second = line() - 1;
    static_cast<void>(pending.get_future());
    REQUIRE(r.reports.size() == 2);
    CHECK(r.reports[0].line == first);
    CHECK(contains(r.reports[0].message, "with its result"));
    CHECK(r.reports[1].line == second);
    CHECK(contains(r.reports[1].message, "while pending"));
  }

  TEST_CASE("nothing is reported of a future that somebody cared for") {
    reporting_loop r;
    const auto caring = [](event_loop& loop) -> future<> {
      co_await answer(loop);
      auto kept = answer(loop);
      co_await kept;
      co_await when_all(answer(loop), slow_answer(loop));
      auto first = co_await when_any(slow_answer(loop), pulsar::sleep(1ms, loop));
      CHECK(first.index() == 1);
      co_await with_timeout(slow_answer(loop), 2s);
      co_await slow_answer(loop).then([](int x) { return x + 1; });
      auto limited = co_await as_result(with_timeout(slow_answer(loop), 1ms));
      CHECK_FALSE(limited);
    };
    r.loop.run_until_complete(caring(r.loop));
    slow_answer(r.loop).detach();
    answer(r.loop).detach();
    {
      auto cancelled = slow_answer(r.loop);
      cancelled.cancel();
    }
    {
      auto seen = answer(r.loop);
      CHECK(seen.done());
    }
    {
      auto called_back = answer(r.loop);
      called_back.add_done_callback([] {});
    }
    try {
      auto passed = slow_answer(r.loop);
      throw std::runtime_error("an exception passes by");
    } catch (const std::runtime_error&) {
    }
    run(r.loop);
    CHECK(r.reports.empty());
  }

  TEST_CASE("a loop that closes reports none of the futures that go with it") {
    std::vector<report> seen;
    {
      reporting_loop r;
      const auto holder = [](event_loop& loop) -> future<> {
        auto other = slow_answer(loop);
        try {
          co_await pulsar::sleep(1h, loop);
        } catch (const pulsar::error&) {
        }
      };
      holder(r.loop).detach();
      r.loop.close();
      seen = r.reports;
    }
    CHECK(seen.empty());
  }

  TEST_CASE("outside debug mode dropped futures are nobody's business") {
    reporting_loop r;
    r.loop.set_debug(false);
    static_cast<void>(answer(r.loop));
    static_cast<void>(slow_answer(r.loop));
    run(r.loop);
    CHECK(r.reports.empty());
  }

  TEST_CASE("without an exception handler such a report is a warning") {
    watched_loop w;
    static_cast<void>(answer(w.loop));
    REQUIRE(logged.size() == 1);
    CHECK(contains(logged[0], "[warning]"));
    CHECK(contains(logged[0], "event_loop_debug_test.cpp:"));
    CHECK_FALSE(contains(logged[0], "no exception"));
  }

  // ---- which thread may call what

  TEST_CASE("what belongs to the loop's thread is refused in every other one, in debug mode") {
    struct rule {
      const char* name;
      void (*call)(event_loop&, pulsar::handle&, future<>&, pulsar::promise<>&);
    };
    using h = pulsar::handle;
    using f = future<>;
    using p = pulsar::promise<>;
    const rule rules[] = {
        {"call_soon", [](event_loop& l, h&, f&, p&) { l.call_soon([] {}); }},
        {"call_later", [](event_loop& l, h&, f&, p&) { l.call_later(1ms, [] {}); }},
        {"call_at", [](event_loop& l, h&, f&, p&) { l.call_at(l.time(), [] {}); }},
        {"call_repeatedly", [](event_loop& l, h&, f&, p&) { l.call_repeatedly(1s, [] {}); }},
        {"call_every", [](event_loop& l, h&, f&, p&) { l.call_every([] {}); }},
        {"handle::cancel", [](event_loop&, h& x, f&, p&) { x.cancel(); }},
        {"create_future", [](event_loop& l, h&, f&, p&) { l.create_future<int>(); }},
        {"set_value", [](event_loop&, h&, f&, p& x) { x.set_value(); }},
        {"future::cancel", [](event_loop&, h&, f& x, p&) { x.cancel(); }},
        {"add_done_callback", [](event_loop&, h&, f& x, p&) { x.add_done_callback([] {}); }},
        {"sleep", [](event_loop& l, h&, f&, p&) { pulsar::sleep(1ms, l).detach(); }},
        {"a coroutine", [](event_loop& l, h&, f&, p&) { slow_answer(l).detach(); }},
        {"set_debug", [](event_loop& l, h&, f&, p&) { l.set_debug(false); }},
        {"set_seed", [](event_loop& l, h&, f&, p&) { l.set_seed(1); }},
        {"set_exception_handler", [](event_loop& l, h&, f&, p&) { l.set_exception_handler({}); }},
    };
    for (const auto& each : rules) {
      CAPTURE(each.name);
      const auto end = death_of([&each] {
        event_loop loop;
        loop.set_debug(true);
        auto mine = loop.create_future();
        auto waiting = mine.get_future();
        auto timer = loop.call_later(1h, [] {});
        std::atomic<bool> running{false};
        std::thread other([&] {
          while (!running) std::this_thread::yield();
          // The system's, as top(1) has them: of the first thread the one of the process.
          std::fprintf(stderr, "called from thread %d, but the event loop runs in thread %d:\n",
                       ::gettid(), ::getpid());
          each.call(loop, timer, waiting, mine);
        });
        loop.call_soon([&] { running = true; });
        loop.run_forever();
        other.join();
      });
      CHECK(end.aborted);
      CHECK(contains(end.text, "was called from thread "));
      const auto numbers = end.text.substr(0, end.text.find('\n'));
      CHECK(numbers.ends_with(':'));
      CHECK(contains(end.text.substr(numbers.size()), numbers));
      CHECK(contains(end.text, "call_soon_threadsafe"));
    }
  }

  TEST_CASE("what any thread may call is called from another one, in debug mode too") {
    event_loop loop;
    loop.set_debug(true);
    bool called = false;
    std::thread other;
    loop.call_soon([&] {
      other = std::thread([&] {
        loop.call_soon_threadsafe([&] { called = true; });
        loop.call_soon_threadsafe([&] { loop.stop(); });
      });
    });
    loop.run_forever();
    other.join();
    CHECK(called);
    loop.call_soon([&] { other = std::thread([&] { loop.stop(); }); });
    loop.run_forever();
    other.join();
  }

  // ---- seeds

  TEST_CASE("a seed decides the order of coroutines that are ready together") {
    const auto order_of = [](std::optional<std::uint64_t> seed) {
      event_loop loop(clock_kind::virtual_time);
      if (seed) loop.set_seed(*seed);
      std::string order;
      pulsar::async_event go;
      const auto each = [](event_loop& l, pulsar::async_event& e, std::string& o,
                           char name) -> future<> {
        co_await e.wait(l);
        o += name;
        co_await pulsar::sleep(1ms, l);
        o += name;
      };
      for (const char name : std::string_view("abcdef")) each(loop, go, order, name).detach();
      loop.call_soon([&] { go.set(); });
      run(loop);
      return order;
    };
    CHECK(order_of({}) == "abcdefabcdef");
    std::set<std::string> orders;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      const auto order = order_of(seed);
      CHECK(order == order_of(seed));
      CHECK(order.size() == 12);
      // Each of them comes once before anybody comes twice: the second halves lie a millisecond on.
      CHECK(std::set<char>(order.begin(), order.begin() + 6).size() == 6);
      orders.insert(order);
    }
    CHECK(orders.size() > 40);
  }

  TEST_CASE("callbacks keep their order under every seed, coroutines go on between them") {
    std::set<std::string> orders;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      event_loop loop(clock_kind::virtual_time);
      loop.set_seed(seed);
      std::string order;
      auto p = loop.create_future();
      [](future<> f, std::string& o) -> future<> {
        co_await f;
        o += 'x';
      }(p.get_future(), order)
                                            .detach();
      for (const char name : std::string_view("abcd")) {
        loop.call_soon([&order, name] { order += name; });
      }
      p.set_value();
      run(loop);
      orders.insert(order);
      std::erase(order, 'x');
      CHECK(order == "abcd");
    }
    CHECK(orders.size() == 5);
  }

  TEST_CASE("under a seed nobody waits for ever while others are always ready") {
    event_loop loop(clock_kind::virtual_time);
    loop.set_seed(7);
    bool go_on = true;
    const auto spinner = [](event_loop& l, const bool& on) -> future<> {
      while (on) co_await pulsar::sleep(0s, l);
    };
    for (int i = 0; i < 200; ++i) spinner(loop, go_on).detach();
    const auto last = [](event_loop& l, bool& on) -> future<> {
      for (int i = 0; i < 10; ++i) co_await pulsar::sleep(0s, l);
      on = false;
    };
    loop.run_until_complete(last(loop, go_on));
    CHECK_FALSE(go_on);
  }

  TEST_CASE("a loop with a seed closes as any other, whatever is ready") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      event_loop loop(clock_kind::virtual_time);
      loop.set_seed(seed);
      const auto held = std::make_shared<int>(0);
      for (int i = 0; i < 100; ++i) {
        loop.call_soon([held] {});
        slow_answer(loop).detach();
      }
      loop.context().run_one();
      loop.close();
      CHECK(held.use_count() == 1);
    }
  }
}
