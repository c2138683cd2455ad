// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/result.hpp>
#include <pulsar/core/run_threadsafe.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include "support/coro_test.hpp"
#include "support/futures.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::error_of;
using pulsar::blocking_future;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::result;
using pulsar::run_threadsafe;

namespace {

// A loop that runs in a thread of its own.
class loop_thread {
 public:
  loop_thread() {
    std::atomic<bool> ready{false};
    thread_ = std::thread([&] {
      event_loop loop;
      loop_ = &loop;
      loop.call_soon([&] { ready = true; });
      loop.run_forever();
      loop.close();
      closed = true;
      while (!may_end) std::this_thread::yield();
    });
    while (!ready) std::this_thread::yield();
  }
  ~loop_thread() {
    stop();
    may_end = true;
    thread_.join();
  }
  void stop() {
    loop_->stop();
    while (!closed) std::this_thread::yield();
  }

  event_loop& loop() const { return *loop_; }
  std::thread::id id() const { return thread_.get_id(); }

 private:
  std::thread thread_;
  event_loop* loop_ = nullptr;
  std::atomic<bool> closed{false};
  std::atomic<bool> may_end{false};
};

future<std::string> slow_text(std::string text) {
  co_await pulsar::sleep(1ms);
  co_return text;
}

// Tells when it has begun, and how it ended.
future<> endless(std::atomic<int>& began, std::atomic<int>& cancelled) {
  ++began;
  try {
    co_await pulsar::sleep(1h);
  } catch (const pulsar::error&) {
    ++cancelled;
    throw;
  }
}

}  // namespace

TEST_SUITE("run_threadsafe") {
  TEST_CASE("a thread without a loop gets what a coroutine or a function gives in the loop") {
    const loop_thread other;
    auto text = run_threadsafe(other.loop(), [] { return slow_text("abc"); });
    static_assert(std::is_same_v<decltype(text), blocking_future<std::string>>);
    CHECK(text.get() == "abc");
    CHECK_FALSE(text.valid());
    auto no_limit = run_threadsafe(other.loop(), [] { return slow_text("abc"); });
    CHECK(no_limit.get(std::chrono::nanoseconds::max()) == "abc");
    auto where = run_threadsafe(other.loop(), [] { return std::this_thread::get_id(); });
    CHECK(where.get() == other.id());
    auto nothing = run_threadsafe(other.loop(), [] {});
    nothing.get();
    auto sleeping = run_threadsafe(other.loop(), [] { return pulsar::sleep(1ms); });
    sleeping.get();
    // Move-only, in and out.
    auto box = std::make_unique<int>(7);
    auto same = run_threadsafe(other.loop(), [box = std::move(box)]() mutable {
      return pulsar::make_ready_future(std::move(box));
    });
    CHECK(*same.get() == 7);
  }

  TEST_CASE("failures are thrown where the result is asked for") {
    const loop_thread other;
    auto thrown =
        run_threadsafe(other.loop(), []() -> int { throw std::runtime_error("at once"); });
    CHECK_THROWS_AS(thrown.get(), std::runtime_error);
    auto later = run_threadsafe(other.loop(), []() -> future<int> {
      co_await pulsar::sleep(1ms);
      throw std::runtime_error("later");
    });
    std::string text;
    try {
      later.get();
    } catch (const std::runtime_error& e) {
      text = e.what();
    }
    CHECK(text == "later");
  }

  TEST_CASE("who has waited for long enough cancels the work") {
    std::atomic<int> began{0};
    std::atomic<int> cancelled{0};
    {
      const loop_thread other;
      auto f = run_threadsafe(other.loop(), [&] { return endless(began, cancelled); });
      CHECK_FALSE(f.wait_for(1ms));
      CHECK(error_of([&] { f.get(1ms); }) == errc::timed_out);
      CHECK_FALSE(f.valid());
      auto quick = run_threadsafe(other.loop(), [] { return 1; });
      CHECK(quick.wait_for(1h));
      CHECK(quick.done());
      CHECK(quick.get(0ms) == 1);
    }
    CHECK(began == cancelled);
  }

  TEST_CASE("cancelling and dropping it cancel the work, detaching does not") {
    std::atomic<int> began{0};
    std::atomic<int> cancelled{0};
    std::atomic<bool> ran{false};
    const loop_thread other;
    auto f = run_threadsafe(other.loop(), [&] { return endless(began, cancelled); });
    while (began == 0) std::this_thread::yield();
    f.cancel();
    CHECK(error_of([&] { f.get(); }) == errc::cancelled);
    CHECK(cancelled == 1);
    {
      auto dropped = run_threadsafe(other.loop(), [&] { return endless(began, cancelled); });
      while (began == 1) std::this_thread::yield();
    }
    while (cancelled == 1) std::this_thread::yield();
    auto replaced = run_threadsafe(other.loop(), [&] { return endless(began, cancelled); });
    while (began == 2) std::this_thread::yield();
    replaced = run_threadsafe(other.loop(), [] { return pulsar::sleep(1ms); });
    while (cancelled == 2) std::this_thread::yield();
    replaced.get();
    auto detached = run_threadsafe(
        other.loop(), [&]() -> future<> { return pulsar::sleep(1ms).then([&] { ran = true; }); });
    detached.detach();
    while (!ran) std::this_thread::yield();
  }

  TEST_CASE("a loop that closes ends what waits for it, and refuses what comes later") {
    std::atomic<int> began{0};
    std::atomic<int> cancelled{0};
    loop_thread other;
    auto f = run_threadsafe(other.loop(), [&] { return endless(began, cancelled); });
    while (began == 0) std::this_thread::yield();
    other.stop();
    CHECK(error_of([&] { f.get(); }) == errc::cancelled);
    auto late = run_threadsafe(other.loop(), [] { return 1; });
    CHECK(late.done());
    CHECK(error_of([&] { late.get(); }) == errc::loop_closed);
    CHECK(error_of([&] {
            run_threadsafe(
                other.loop(), [] {}, [](result<>) {});
          }) == errc::loop_closed);
  }

  TEST_CASE("what never began because its loop closed says so") {
    blocking_future<int> f;
    std::error_code told;
    {
      event_loop loop;
      f = run_threadsafe(loop, [] { return 1; });
      run_threadsafe(
          loop, [] { return 1; }, [&](result<int> r) { told = r.code(); });
    }
    CHECK(error_of([&] { f.get(); }) == errc::loop_closed);
    CHECK(told == errc::loop_closed);
  }

  TEST_CASE("the callback is called in the loop, with a value or a failure") {
    const loop_thread other;
    std::atomic<int> called{0};
    std::thread::id where;
    std::string text;
    run_threadsafe(
        other.loop(), [] { return slow_text("abc"); },
        [&](result<std::string> r) {
          where = std::this_thread::get_id();
          text = r.value();
          ++called;
        });
    while (called == 0) std::this_thread::yield();
    CHECK(where == other.id());
    CHECK(text == "abc");
    run_threadsafe(
        other.loop(), []() -> int { throw std::runtime_error("no"); },
        [&](result<int> r) {
          text = r.message();
          ++called;
        });
    while (called == 1) std::this_thread::yield();
    CHECK(text == "no");
  }

  TEST_CASE("what a callback throws goes to the loop's exception handler") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::string> seen;
    loop.set_exception_handler([&](const pulsar::failure_report& r) {
      seen.push_back(pulsar::detail::describe(r.exception));
    });
    run_threadsafe(
        loop, [] {}, [](result<>) { throw std::runtime_error("bad callback"); });
    future_test::run(loop);
    CHECK(seen == std::vector<std::string>{"bad callback"});
  }

  TEST_CASE("blocking in the thread of a loop is refused") {
    const loop_thread other;
    event_loop loop(clock_kind::virtual_time);
    loop.call_soon([&] {
      auto f = run_threadsafe(other.loop(), [] { return 1; });
      CHECK(error_of([&] { f.get(); }) == errc::already_running);
      CHECK(error_of([&] { f.wait_for(1ms); }) == errc::already_running);
      f.detach();
    });
    future_test::run(loop);
  }

  // ---- several loops

  TEST_CASE("F10: loops of several threads run at once, each the current one of its own") {
    const loop_thread one;
    const loop_thread two;
    event_loop mine;
    const auto current = [] { return &event_loop::current(); };
    auto first = run_threadsafe(one.loop(), current);
    auto second = run_threadsafe(two.loop(), current);
    CHECK(first.get() == &one.loop());
    CHECK(second.get() == &two.loop());
    CHECK(one.id() != two.id());
    CHECK(current() == &mine);
  }

  TEST_CASE("F12: what is settled by another thread resumes a coroutine in its own") {
    std::thread::id resumed;
    event_loop loop;
    const auto wait = [](future<int> f, std::thread::id& where) -> future<int> {
      const int value = co_await std::move(f);
      where = std::this_thread::get_id();
      co_return value;
    };
    pulsar::promise<int> p(loop);
    auto waiting = wait(p.get_future(), resumed);
    std::thread other([&] { loop.call_soon_threadsafe([&p] { p.set_value(7); }); });
    CHECK(loop.run_until_complete(std::move(waiting)) == 7);
    CHECK(resumed == std::this_thread::get_id());
    other.join();
  }

  TEST_CASE("loops of several threads pass work around in a circle") {
    constexpr int rounds = 300;
    std::vector<std::unique_ptr<loop_thread>> ring;
    for (int i = 0; i < 3; ++i) ring.push_back(std::make_unique<loop_thread>());
    std::atomic<int> hops{0};
    std::vector<std::thread::id> wrong;
    std::function<void(int)> pass = [&](int n) {
      auto& here = *ring[static_cast<std::size_t>(n) % ring.size()];
      if (std::this_thread::get_id() != here.id()) wrong.push_back(here.id());
      if (++hops == rounds) return;
      ring[static_cast<std::size_t>(n + 1) % ring.size()]->loop().call_soon_threadsafe(
          [&pass, n] { pass(n + 1); });
    };
    ring[0]->loop().call_soon_threadsafe([&] { pass(0); });
    while (hops < rounds) std::this_thread::yield();
    ring.clear();
    CHECK(wrong.empty());
  }

  TEST_CASE("a loop on the user's context, in a thread of the user's, is asked like any other") {
    asio::io_context context;
    event_loop loop(context);
    std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work(
        context.get_executor());
    std::thread outside([&] {
      auto text = run_threadsafe(loop, [] { return slow_text("abc"); });
      CHECK(text.get() == "abc");
      auto limited = run_threadsafe(loop, [] { return pulsar::sleep(1h); });
      CHECK(error_of([&] { limited.get(1ms); }) == errc::timed_out);
      loop.call_soon_threadsafe([&] { work.reset(); });
    });
    context.run();
    outside.join();
    loop.close();
  }

  TEST_CASE("many threads ask one loop at once") {
    const loop_thread other;
    std::vector<std::thread> threads;
    std::atomic<long> sum{0};
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) {
          auto f = run_threadsafe(other.loop(), [t, i] {
            return pulsar::sleep(0s).then([t, i] { return t * 1000 + i; });
          });
          if (i % 10 == 9) continue;  // dropped
          sum += f.get();
        }
      });
    }
    for (auto& t : threads) t.join();
    long expected = 0;
    for (int t = 0; t < 4; ++t) {
      for (int i = 0; i < 200; ++i) expected += i % 10 == 9 ? 0 : t * 1000 + i;
    }
    CHECK(sum == expected);
  }
}
