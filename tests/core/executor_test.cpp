// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/executor.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <optional>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::executor;
using pulsar::future;
using pulsar::task_group;

namespace {

/// Opened once, from any thread.
class gate {
 public:
  void open() { closed_.release(); }
  void pass() { closed_.acquire(); }

 private:
  std::binary_semaphore closed_{0};
};

/// Told of the first line of the log while it lives.
class told_of_waiting {
 public:
  told_of_waiting() : before_(pulsar::log::set_sink(&tell)) { text.clear(); }
  told_of_waiting(const told_of_waiting&) = delete;
  told_of_waiting& operator=(const told_of_waiting&) = delete;
  ~told_of_waiting() { pulsar::log::set_sink(before_); }

  /// For a while.
  void wait() const { static_cast<void>(came_.try_acquire_for(10s)); }

  static inline std::string text;

 private:
  static void tell(pulsar::log_level, std::string_view line) {
    if (!text.empty()) return;
    text = line;
    came_.release();
  }

  static inline std::binary_semaphore came_{0};
  pulsar::log_sink before_;
};

}  // namespace

TEST_SUITE("executor") {
  CORO_TEST_CASE_REAL("what a function gives, or throws, comes back to the loop") {
    auto& loop = event_loop::current();
    const auto here = std::this_thread::get_id();
    const auto there = co_await loop.run_in_executor([] { return std::this_thread::get_id(); });
    CHECK(there != here);
    const std::unique_ptr<int> made =
        co_await loop.run_in_executor([] { return std::make_unique<int>(7); });
    CHECK(*made == 7);
    co_await loop.run_in_executor([] {});
    auto failing = loop.run_in_executor([]() -> int { throw std::out_of_range("too far"); });
    const auto failed = co_await as_result(std::move(failing));
    CHECK(failed.message() == "too far");
    CHECK(std::this_thread::get_id() == here);
  }

  TEST_CASE("the loop goes on while a function blocks") {
    event_loop loop;
    gate g;
    auto blocked = loop.run_in_executor([&g] { g.pass(); });
    loop.call_soon([&g] { g.open(); });
    loop.run_until_complete(std::move(blocked));
  }

  TEST_CASE("no more functions run at a time than the executor has threads") {
    event_loop loop;
    executor pool(2);
    CHECK(pool.size() == 2);
    std::atomic<int> now = 0;
    std::atomic<int> most = 0;
    std::latch both(2);
    const auto body = [&](task_group& group) -> future<> {
      for (int i = 0; i < 6; ++i) {
        group.add(loop.run_in_executor(pool, [&, i] {
          const int n = ++now;
          int seen = most;
          while (n > seen && !most.compare_exchange_weak(seen, n)) {
          }
          if (i < 2) both.arrive_and_wait();
          --now;
        }));
      }
      co_return;
    };
    loop.run_until_complete([&] { return pulsar::with_task_group(body); });
    CHECK(most == 2);
  }

  TEST_CASE("what has not begun is freed when it is cancelled or dropped, and never runs") {
    event_loop loop;
    executor pool(1);
    gate g;
    auto blocking = loop.run_in_executor(pool, [&g] { g.pass(); });
    const auto held = std::make_shared<std::atomic<int>>(0);
    auto counts = [counter = held] { return ++*counter; };
    auto cancelled = loop.run_in_executor(pool, counts);
    auto dropped = loop.run_in_executor(pool, counts);
    auto kept = loop.run_in_executor(pool, pulsar::moved(counts));
    CHECK(pool.queued() >= 3);
    CHECK(cancelled.cancel());
    dropped = {};
    CHECK(held.use_count() == 2);
    CHECK(cancelled.cancelled());
    g.open();
    CHECK(loop.run_until_complete(std::move(kept)) == 1);
    loop.run_until_complete(std::move(blocking));
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("who is cancelled while its function runs goes on at once") {
    event_loop loop;
    executor pool(1);
    gate begun;
    gate g;
    auto blocking = loop.run_in_executor(pool, [&] {
      begun.open();
      g.pass();
      return 1;
    });
    begun.pass();
    const auto late = [](future<int> f) -> future<pulsar::errc> {
      const auto ended = co_await as_result(with_timeout(std::move(f), 1ms));
      co_return ended.code() == errc::timed_out ? errc::timed_out : errc::cancelled;
    };
    CHECK(loop.run_until_complete([&] { return late(std::move(blocking)); }) == errc::timed_out);
    g.open();
    CHECK(loop.run_until_complete(loop.run_in_executor(pool, [] { return 2; })) == 2);
  }

  TEST_CASE("an executor that ends waits for what runs and fails what has not begun") {
    event_loop loop;
    gate begun;
    gate g;
    std::atomic<bool> over = false;
    std::optional<executor> pool(std::in_place, 1);
    auto running = loop.run_in_executor(*pool, [&] {
      begun.open();
      g.pass();
      over = true;
    });
    begun.pass();
    auto queued = loop.run_in_executor(*pool, [] {});
    std::thread closer([&] { pool.reset(); });
    const auto late = [](future<> f) -> future<bool> {
      const auto ended = co_await as_result(std::move(f));
      co_return ended.code() == errc::closed;
    };
    CHECK(loop.run_until_complete([&] { return late(std::move(queued)); }));
    CHECK_FALSE(over);
    g.open();
    closer.join();
    CHECK(over);
    loop.run_until_complete(std::move(running));
  }

  TEST_CASE("a loop asks the default executor, which may be replaced and have ended") {
    event_loop loop;
    CHECK(loop.run_until_complete(loop.run_in_executor([] { return 1; })) == 1);
    {
      executor pool(1);
      loop.set_default_executor(pool);
      gate g;
      auto blocking = loop.run_in_executor([&g] { g.pass(); });
      auto behind = loop.run_in_executor([] {});
      CHECK(pool.queued() >= 1);
      g.open();
      loop.run_until_complete(std::move(blocking));
      loop.run_until_complete(std::move(behind));
    }
    auto refused = loop.run_in_executor([] { return 2; });
    CHECK(refused.done());
    CHECK_THROWS_WITH_AS(refused.result(), "the executor has ended: closed", pulsar::error);
  }

  TEST_CASE("a resized executor has more threads for what waits, or fewer") {
    event_loop loop;
    executor pool(1);
    gate first;
    gate second;
    auto one = loop.run_in_executor(pool, [&] { first.pass(); });
    auto two = loop.run_in_executor(pool, [&] {
      second.open();  // runs beside the first
      first.open();
    });
    pool.resize(2);
    second.pass();
    loop.run_until_complete(std::move(one));
    loop.run_until_complete(std::move(two));
    pool.resize(1);
    CHECK(pool.size() == 1);
    for (int i = 0; i < 4; ++i) {
      CHECK(loop.run_until_complete(loop.run_in_executor(pool, [i] { return i; })) == i);
    }
    CHECK_THROWS_AS(pool.resize(0), std::system_error);
    CHECK_THROWS_AS(executor(0), std::system_error);
  }

  TEST_CASE("a loop may close while a function runs") {
    gate begun;
    gate g;
    executor pool(1);
    future<int> kept;
    future<int> queued;
    {
      event_loop loop;
      kept = loop.run_in_executor(pool, [&] {
        begun.open();
        g.pass();
        return 1;
      });
      queued = loop.run_in_executor(pool, [] { return 2; });
      begun.pass();
      loop.run_in_executor(pool, [] { return 3; }).detach();
    }
    CHECK(kept.done());
    CHECK_THROWS_AS(kept.result(), pulsar::error);
    CHECK_THROWS_AS(queued.result(), pulsar::error);
    g.open();
  }

  TEST_CASE("a loop that closes waits for its own executor, and says so after a while") {
    gate begun;
    bool ended = false;
    const told_of_waiting told;
    {
      event_loop loop;
      loop.run_in_executor([&] {
            begun.open();
            told.wait();
            ended = true;
          })
          .detach();
      begun.pass();
      loop.close(1ms);
      CHECK(ended);
    }
    CHECK(told.text.find("waits for 1 of its functions") != std::string::npos);
  }

  TEST_CASE("a user's context runs until a function that it waits for has ended") {
    asio::io_context context;
    event_loop loop(context);
    gate g;
    std::atomic<bool> begun = false;
    loop.run_in_executor([] {}).detach();  // which alone would stop the context
    auto answer = [](event_loop& own, gate& opened, std::atomic<bool>& at_work) -> future<int> {
      co_await pulsar::sleep(1ms, own);
      co_await own.run_in_executor([&opened, &at_work] {
        at_work = true;
        opened.pass();
      });
      co_return co_await own.run_in_executor([] { return 3; });
    }(loop, g, begun);
    while (!begun) {
      context.poll();
      REQUIRE_FALSE(context.stopped());
    }
    context.poll();
    CHECK_FALSE(context.stopped());  // there is work, elsewhere
    g.open();
    context.run();
    CHECK(answer.done());
    CHECK(answer.result() == 3);
    loop.close();
  }

  TEST_CASE("giving a function up does not stop a user's context before it runs") {
    asio::io_context context;
    event_loop loop(context);
    auto given_up = loop.run_in_executor([] {});
    given_up = {};
    bool called = false;
    loop.call_soon([&] { called = true; });
    context.run();
    CHECK(called);
    loop.close();
  }

  TEST_CASE("virtual time does not pass while a function runs") {
    event_loop loop(clock_kind::virtual_time);
    const auto start = loop.time();
    bool fired = false;
    loop.call_later(1h, [&] { fired = true; });
    CHECK(loop.run_until_complete(loop.run_in_executor([] { return 5; })) == 5);
    CHECK(loop.time() == start);
    CHECK_FALSE(fired);
  }

  TEST_CASE("loops of several threads share an executor") {
    executor pool(2);
    std::vector<std::thread> threads;
    std::atomic<int> sum = 0;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        event_loop loop;
        for (int i = 0; i < 20; ++i) {
          sum += loop.run_until_complete(loop.run_in_executor(pool, [] { return 1; }));
        }
      });
    }
    for (auto& t : threads) t.join();
    CHECK(sum == 60);
  }
}
