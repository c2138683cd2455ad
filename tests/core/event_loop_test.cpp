// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/event_loop.hpp>

#include <pulsar/core/future.hpp>
#include <pulsar/core/operation.hpp>
#include <pulsar/core/signals.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/async_result.hpp>
#include <asio/buffer.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include "support/death.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;

namespace {

using steady = std::chrono::steady_clock;
using local_socket = asio::local::stream_protocol::socket;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The code and text of the pulsar::error that `f()` throws.
struct thrown {
  std::error_code code;
  std::string text;
};
template <class F>
thrown error_of(F&& f) {
  try {
    f();
  } catch (const pulsar::error& e) {
    return {e.code(), e.what()};
  }
  return {};
}

// Runs the handlers that are ready.
void turn(event_loop& loop) {
  loop.context().restart();
  loop.context().poll();
}

// Calls itself again and again, as a busy program does.
struct chain {
  event_loop* loop;
  std::size_t* hops;
  const bool* go_on;
  std::chrono::microseconds work{0};

  void operator()() const {
    ++*hops;
    const auto until = steady::now() + work;
    while (steady::now() < until) {
    }
    if (*go_on) loop->call_soon(*this);
  }
};

void spin(event_loop& loop) {
  loop.call_soon([&loop] { spin(loop); });
}

// One end of a pair of sockets waits for a byte; tells when it came.
struct listener {
  explicit listener(event_loop& loop) : mine(loop.context()), theirs(loop.context()) {
    asio::local::connect_pair(mine, theirs);
    mine.async_read_some(asio::buffer(byte), [this](std::error_code ec, std::size_t n) {
      served = !ec && n == 1;
      if (on_byte) on_byte();
    });
  }
  void write() { theirs.write_some(asio::buffer("x", 1)); }

  local_socket mine;
  local_socket theirs;
  std::array<char, 1> byte{};
  bool served = false;
  std::function<void()> on_byte;
};

std::vector<std::string> logged;
void keep_log(pulsar::log_level, std::string_view line) { logged.emplace_back(line); }

struct log_capture {
  log_capture() : before(pulsar::log::set_sink(&keep_log)) { logged.clear(); }
  log_capture(const log_capture&) = delete;
  log_capture& operator=(const log_capture&) = delete;
  ~log_capture() { pulsar::log::set_sink(before); }
  pulsar::log_sink before;
};

future<event_loop*> where_am_i(event_loop& loop) {
  co_await pulsar::sleep(1ms, loop);
  co_return event_loop::running();
}

struct widget {
  future<event_loop*> member(event_loop& loop, int) const { return where_am_i(loop); }
  future<int> coroutine(std::string text, event_loop& loop) {
    co_await pulsar::sleep(1ms, loop);
    if (event_loop::running() != &loop) co_return -1;
    co_return static_cast<int>(text.size());
  }
};

future<int> last_parameter(int a, const std::string& b, event_loop& loop) {
  const auto n = a + static_cast<int>(b.size());
  co_await pulsar::sleep(1ms, loop);
  co_return n;
}

future<int> no_parameter() { co_return 1; }

// Once it is cancelled it takes its time.
future<> ends_slowly(event_loop& loop) {
  try {
    co_await pulsar::sleep(1h, loop);
  } catch (const pulsar::error&) {
  }
  co_await pulsar::sleep(2ms, loop);
}

// An operation that is under way until it is cancelled, and completes in that call.
template <class Token>
auto ended_by_its_slot(Token&& token) {
  return asio::async_initiate<Token, void(std::error_code)>(
      [](auto handler) {
        auto slot = asio::get_associated_cancellation_slot(handler);
        const auto held = std::make_shared<decltype(handler)>(std::move(handler));
        slot.assign([held](asio::cancellation_type) {
          const auto kept = held;
          (*kept)(make_error_code(asio::error::operation_aborted));
        });
      },
      token);
}

}  // namespace

TEST_SUITE("event_loop") {
  // ---- the ready queue

  TEST_CASE("callbacks run in the order they were asked for, those they ask for behind them") {
    event_loop loop;
    std::vector<int> order;
    loop.call_soon([&] {
      order.push_back(1);
      loop.call_soon([&] {
        order.push_back(4);
        loop.call_soon([&] { order.push_back(5); });
      });
    });
    loop.call_soon([&] { order.push_back(2); });
    loop.call_soon([&] { order.push_back(3); });
    turn(loop);
    CHECK(order == std::vector<int>{1, 2, 3, 4, 5});
  }

  TEST_CASE("nothing runs before the loop does") {
    event_loop loop;
    bool called = false;
    loop.call_soon([&] { called = true; });
    CHECK_FALSE(called);
    CHECK_FALSE(loop.is_running());
    loop.call_soon([&] { loop.stop(); });
    loop.run_forever();
    CHECK(called);
  }

  TEST_CASE("a callback may be move-only, mutable and large") {
    event_loop loop;
    std::array<char, 5000> big{};
    big[4999] = 'z';
    char seen = 0;
    int sum = 0;
    loop.call_soon([&, big] { seen = big[4999]; });
    loop.call_soon([&, n = std::make_unique<int>(2)]() mutable { sum += ++*n; });
    turn(loop);
    CHECK(seen == 'z');
    CHECK(sum == 3);
  }

  TEST_CASE("a chain of callbacks without end does not starve a descriptor") {
    event_loop loop;
    listener reader(loop);
    std::size_t hops = 0;
    bool go_on = true;
    std::size_t before = 0;
    std::size_t after = 0;
    reader.on_byte = [&] {
      after = hops;
      go_on = false;
    };
    loop.call_soon(chain{&loop, &hops, &go_on});
    while (hops < 10'000) loop.context().run_one();
    before = hops;
    reader.write();
    while (!reader.served) loop.context().run_one();
    // The batch that was on its way, and the one that the reactor stood behind.
    CHECK(after - before <= 3 * 256);
    const auto stopped_at = hops;
    turn(loop);
    CHECK(hops <= stopped_at + 1);
  }

  TEST_CASE("a timer waits for few callbacks, however long each of them takes") {
    event_loop loop;
    std::size_t hops = 0;
    bool go_on = true;
    loop.call_soon(chain{&loop, &hops, &go_on, 2ms});
    std::size_t before = 0;
    loop.call_later(1ms, [&] {
      before = hops;
      go_on = false;
      loop.stop();
    });
    loop.run_forever();
    CHECK(before >= 1);
    CHECK(before <= 5);
  }

  TEST_CASE("a batch of slow callbacks ends by time, long before their number is reached") {
    event_loop loop;
    std::size_t hops = 0;
    bool go_on = true;
    loop.call_soon(chain{&loop, &hops, &go_on, 100us});
    // Each handler is one batch; the clock is looked at every 16 callbacks.
    for (int i = 0; i < 3; ++i) {
      const auto before = hops;
      loop.context().run_one();
      CHECK(hops - before >= 1);
      CHECK(hops - before <= 48);
    }
    go_on = false;
  }

  TEST_CASE("timers are served beside a chain without end") {
    event_loop loop;
    std::size_t hops = 0;
    bool go_on = true;
    loop.call_soon(chain{&loop, &hops, &go_on});
    loop.call_later(2ms, [&] { go_on = false; });
    const auto give_up = steady::now() + 10s;
    while (go_on && steady::now() < give_up) loop.context().run_one();
    CHECK_FALSE(go_on);
  }

  TEST_CASE("an Asio handler that makes something ready has it run before the next one") {
    event_loop loop;
    std::vector<int> order;
    asio::post(loop.context(), [&] { order.push_back(2); });
    loop.call_soon([&] {
      order.push_back(1);
      asio::post(loop.context(), [&] { order.push_back(4); });
      loop.call_soon([&] { order.push_back(3); });
    });
    turn(loop);
    // call_soon's own handler was posted second.
    CHECK(order == std::vector<int>{2, 1, 3, 4});
  }

  // ---- exceptions

  TEST_CASE("what a callback throws reaches the exception handler, and the rest goes on") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::string> seen;
    loop.set_exception_handler([&](const failure_report& report) {
      CHECK(contains(report.message, "callback"));
      CHECK(report.where.line() == 0);
      seen.push_back(pulsar::detail::describe(report.exception));
    });
    int called = 0;
    loop.call_soon([] { throw std::runtime_error("one"); });
    loop.call_soon([&] { ++called; });
    loop.call_later(1ms, [] { throw std::runtime_error("two"); });
    loop.call_later(1ms, [&] { ++called; });
    loop.call_soon([] { throw 3; });
    loop.call_soon_threadsafe([] { throw std::runtime_error("four"); });
    loop.call_soon_threadsafe([&] { ++called; });
    loop.context().run();
    CHECK(called == 3);
    CHECK(seen == std::vector<std::string>{"one", "an exception that is no std::exception", "four",
                                           "two"});
  }

  TEST_CASE("without a handler failures are logged as errors, with what happened") {
    const log_capture capture;
    event_loop loop;
    loop.call_soon([] { throw std::runtime_error("the reason"); });
    turn(loop);
    REQUIRE(logged.size() == 1);
    CHECK(contains(logged[0], "[error]"));
    CHECK(contains(logged[0], "a callback of the event loop threw: the reason"));
  }

  TEST_CASE("an exception handler that throws is logged and harms nothing") {
    const log_capture capture;
    event_loop loop;
    loop.set_exception_handler([](const failure_report&) { throw std::runtime_error("worse"); });
    bool called = false;
    loop.call_soon([] { throw std::runtime_error("bad"); });
    loop.call_soon([&] { called = true; });
    turn(loop);
    CHECK(called);
    REQUIRE(logged.size() == 1);
    CHECK(contains(logged[0], "worse"));
  }

  TEST_CASE("an exception handler may replace itself") {
    event_loop loop;
    std::vector<int> seen;
    loop.set_exception_handler([&, held = std::make_shared<int>(1)](const failure_report&) {
      loop.set_exception_handler([&](const failure_report&) { seen.push_back(2); });
      seen.push_back(*held);
    });
    loop.call_soon([] { throw 1; });
    loop.call_soon([] { throw 2; });
    turn(loop);
    CHECK(seen == std::vector<int>{1, 2});
  }

  TEST_CASE("call_exception_handler may be called by hand") {
    event_loop loop;
    std::string seen;
    loop.set_exception_handler([&](const failure_report& r) { seen = r.message; });
    loop.call_exception_handler({"by hand", nullptr, {}});
    CHECK(seen == "by hand");
  }

  TEST_CASE("an exception of a foreign Asio handler leaves run_forever, and the loop runs on") {
    event_loop loop;
    asio::post(loop.context(), [] { throw std::runtime_error("foreign"); });
    CHECK_THROWS_AS(loop.run_forever(), std::runtime_error);
    CHECK_FALSE(loop.is_running());
    bool called = false;
    loop.call_soon([&] {
      called = true;
      loop.stop();
    });
    loop.run_forever();
    CHECK(called);
  }

  // ---- other threads

  TEST_CASE("call_soon_threadsafe brings all work of many threads, in the order of each") {
    constexpr std::size_t threads = 4;
    constexpr int each = 5'000;
    event_loop loop;
    std::array<int, threads> last{};
    std::size_t wrong = 0;
    std::size_t count = 0;
    std::vector<std::thread> pushers;
    for (std::size_t t = 0; t < threads; ++t) {
      pushers.emplace_back([&, t] {
        for (int i = 1; i <= each; ++i) {
          const bool taken = loop.call_soon_threadsafe([&, t, i, own = std::make_unique<int>(i)] {
            if (i != last[t] + 1 || *own != i) ++wrong;
            last[t] = i;
            if (++count == threads * each) loop.stop();
          });
          if (!taken) std::abort();
        }
      });
    }
    loop.run_forever();
    for (auto& t : pushers) t.join();
    CHECK(count == threads * each);
    CHECK(wrong == 0);
  }

  TEST_CASE("call_soon_threadsafe wakes a loop that sleeps, and works from its own thread") {
    event_loop loop;
    bool own = false;
    loop.call_soon_threadsafe([&] { own = true; });
    std::thread other;
    loop.call_soon([&] {
      other = std::thread([&] {
        loop.call_soon_threadsafe([&] { loop.stop(); });
      });
    });
    loop.run_forever();
    other.join();
    CHECK(own);
  }

  TEST_CASE("work from other threads does not starve a descriptor, nor the other way round") {
    event_loop loop;
    listener reader(loop);
    std::atomic<bool> go_on{true};
    std::size_t received = 0;
    std::thread flood([&] {
      while (go_on) {
        // A hundred at a time, so that memory stays small.
        const auto left = std::make_shared<std::atomic<int>>(100);
        for (int i = 0; i < 100; ++i) {
          loop.call_soon_threadsafe([&, left] {
            if (++received == 1'000) reader.write();
            --*left;
          });
        }
        while (*left > 0 && go_on) std::this_thread::yield();
      }
    });
    reader.on_byte = [&] {
      go_on = false;
      loop.stop();
    };
    loop.run_forever();
    flood.join();
    CHECK(reader.served);
    CHECK(received >= 1'000);
  }

  TEST_CASE("after close call_soon_threadsafe refuses and frees what it was given") {
    event_loop loop;
    const auto held = std::make_shared<int>(1);
    loop.close();
    CHECK_FALSE(loop.call_soon_threadsafe([held] {}));
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("whoever pushes while the loop closes is run, freed or refused, never lost") {
    for (int round = 0; round < 20; ++round) {
      std::atomic<int> alive{0};
      struct counted {
        explicit counted(std::atomic<int>& n) : count(&n) { ++*count; }
        counted(counted&& other) noexcept : count(other.count) { ++*count; }
        ~counted() { --*count; }
        void operator()() const {}
        std::atomic<int>* count;
      };
      std::atomic<bool> started{false};
      std::atomic<bool> refused{false};
      {
        auto loop = std::make_unique<event_loop>();
        const auto inbox = pulsar::detail::loop_access::inbox(*loop);
        // As the thread of an actor does it: by the inbox, which outlives the loop.
        struct node : pulsar::detail::task_node {
          explicit node(std::atomic<int>& n) : task_node(&run), c(n) {}
          static void run(task_node* t, bool) { delete static_cast<node*>(t); }
          counted c;
        };
        std::thread pusher([&, inbox] {
          started = true;
          while (!refused) {
            auto* n = new node(alive);
            if (inbox->push(n)) continue;
            delete n;
            refused = true;
          }
        });
        while (!started) std::this_thread::yield();
        for (int i = 0; i < round; ++i) loop->context().poll_one();
        loop.reset();
        pusher.join();
      }
      CHECK(refused);
      CHECK(alive == 0);
    }
  }

  TEST_CASE("stop may come from another thread") {
    event_loop loop;
    std::thread other;
    loop.call_soon([&] { other = std::thread([&] { loop.stop(); }); });
    loop.run_forever();
    other.join();
    CHECK_FALSE(loop.is_running());
  }

  TEST_CASE("a loop may run in another thread than the one that made it") {
    event_loop loop;
    event_loop* seen = nullptr;
    int sum = 0;
    std::thread runner([&] {
      loop.call_soon([&] { seen = event_loop::running(); });
      sum = loop.run_until_complete([]() -> future<int> {
        co_await pulsar::sleep(1ms);
        co_return 5;
      });
    });
    runner.join();
    CHECK(seen == &loop);
    CHECK(sum == 5);
    CHECK(event_loop::running() == nullptr);
  }

#ifndef NDEBUG
  TEST_CASE("a call from the wrong thread ends the program with a sentence that names both") {
    struct attached : pulsar::detail::loop_extension {
      explicit attached(event_loop&) {}
    };
    for (int what = 0; what < 9; ++what) {
      const auto end = death_of([what] {
        event_loop loop;
        auto p = loop.create_future();
        auto waiting = [](event_loop&, future<> f) -> future<> {
          co_await std::move(f);
        }(loop, p.get_future());
        std::atomic<bool> running{false};
        std::thread other([&] {
          while (!running) std::this_thread::yield();
          if (what == 0) loop.call_soon([] {});
          if (what == 1) loop.call_later(1ms, [] {});
          if (what == 2) p.set_value();
          if (what == 3) loop.create_future<int>();
          if (what == 4) pulsar::sleep(1ms, loop).detach();
          if (what == 5) loop.set_exception_handler({});
          if (what == 6) pulsar::detail::loop_access::local<attached>(loop);
          if (what == 7) {
            [](event_loop&) -> future<> { co_await std::suspend_always(); }(loop).detach();
          }
          if (what == 8) loop.remove_signal_handler(SIGUSR1);
        });
        loop.call_soon([&] { running = true; });
        loop.run_forever();
        other.join();
      });
      CHECK(end.aborted);
      CHECK(contains(end.text, "thread"));
      CHECK(contains(end.text, "call_soon_threadsafe"));
      const auto first = end.text.find("from thread ");
      const auto second = end.text.find("runs in thread ");
      REQUIRE(first != std::string::npos);
      REQUIRE(second != std::string::npos);
      CHECK(end.text.substr(first + 12, 8) != end.text.substr(second + 15, 8));
    }
  }
#endif

  // ---- running and stopping

  TEST_CASE("stop ends run_forever, and the loop may run again") {
    event_loop loop;
    int runs = 0;
    for (int i = 0; i < 3; ++i) {
      loop.call_soon([&] {
        CHECK(loop.is_running());
        CHECK(event_loop::running() == &loop);
        ++runs;
        loop.stop();
      });
      loop.run_forever();
      CHECK_FALSE(loop.is_running());
      CHECK(event_loop::running() == nullptr);
    }
    CHECK(runs == 3);
  }

  TEST_CASE("a stop that came before the run lets one turn run") {
    event_loop loop;
    int called = 0;
    loop.call_soon([&] { ++called; });
    loop.stop();
    loop.run_forever();
    CHECK(called == 1);
    // Only that one run.
    loop.call_soon([&] { loop.call_later(1ms, [&] { ++called; loop.stop(); }); });
    loop.run_forever();
    CHECK(called == 2);
  }

  TEST_CASE("a stop that came before the run ends it although callbacks go on for ever") {
    event_loop loop;
    spin(loop);
    loop.stop();
    loop.run_forever();
    CHECK_FALSE(loop.is_running());
  }

  TEST_CASE("stop ends the run although callbacks go on for ever") {
    event_loop loop;
    spin(loop);
    loop.call_soon([&] { loop.stop(); });
    loop.run_forever();
    CHECK_FALSE(loop.is_running());
  }

  TEST_CASE("run_until_complete returns the result of a callable's future, or throws its failure") {
    event_loop loop;
    CHECK(loop.run_until_complete([]() -> future<int> { co_return 3; }) == 3);
    CHECK(loop.run_until_complete([] { return pulsar::make_ready_future(4); }) == 4);
    loop.run_until_complete([]() -> future<> { co_await pulsar::sleep(1ms); });
    const auto failing = []() -> future<int> {
      co_await pulsar::sleep(1ms);
      throw std::out_of_range("no");
    };
    CHECK_THROWS_AS(loop.run_until_complete(failing), std::out_of_range);
    // The callable itself may throw.
    CHECK_THROWS_AS(loop.run_until_complete([]() -> future<> { throw std::out_of_range("no"); }),
                    std::out_of_range);
  }

  TEST_CASE("run_until_complete takes a future, of a move-only result too") {
    event_loop loop;
    auto p = loop.create_future<std::unique_ptr<int>>();
    auto f = p.get_future();
    loop.call_soon([&] { p.set_value(std::make_unique<int>(8)); });
    CHECK(*loop.run_until_complete(std::move(f)) == 8);
    CHECK(loop.run_until_complete(pulsar::make_ready_future(1)) == 1);
  }

  TEST_CASE("run_until_complete refuses a future of another loop, and an empty one") {
    event_loop loop;
    event_loop other;
    auto p = other.create_future();
    const auto wrong = error_of([&] { loop.run_until_complete(p.get_future()); });
    CHECK(wrong.code == errc::wrong_loop);
    CHECK(contains(wrong.text, "another event loop"));
    const auto empty = error_of([&] { loop.run_until_complete(future<>()); });
    CHECK(empty.code == errc::already_called);
  }

  TEST_CASE("running a loop inside a loop is refused before anything of it begins") {
    event_loop loop;
    event_loop other;
    int begun = 0;
    std::vector<thrown> refused;
    loop.run_until_complete([&](event_loop* l = nullptr) {
      l = &loop;
      const auto begin = [&]() -> future<> {
        ++begun;
        return pulsar::make_ready_future();
      };
      refused.push_back(error_of([&] { l->run_forever(); }));
      refused.push_back(error_of([&] { other.run_forever(); }));
      refused.push_back(error_of([&] { l->run_until_complete(begin); }));
      refused.push_back(error_of([&] { other.run_until_complete(begin); }));
      return pulsar::sleep(1ms, *l);
    });
    // create_task called it outside of run_forever: now inside.
    loop.call_soon([&] {
      refused.push_back(error_of([&] { loop.run_forever(); }));
      refused.push_back(error_of([&] { other.run_forever(); }));
      loop.stop();
    });
    loop.run_forever();
    REQUIRE(refused.size() == 6);
    for (const auto& r : refused) {
      CHECK(r.code == errc::already_running);
      CHECK(contains(r.text, "inside a callback or coroutine of a loop"));
    }
    CHECK(begun == 0);
  }

  TEST_CASE("a refused nested run does not stop the outer one") {
    event_loop loop(clock_kind::virtual_time);
    bool finished = false;
    loop.run_until_complete([&loop, &finished] {
      return [](event_loop& l, bool& done) -> future<> {
        try {
          l.run_until_complete(pulsar::sleep(1ms, l));
        } catch (const pulsar::error& e) {
          if (e.code() != errc::already_running) throw;
        }
        co_await pulsar::sleep(10ms, l);
        done = true;
      }(loop, finished);
    });
    CHECK(finished);
  }

  TEST_CASE("a closed loop refuses everything with a sentence") {
    event_loop loop;
    auto kept = loop.create_future();
    auto f = kept.get_future();
    loop.close();
    CHECK(loop.is_closed());
    CHECK(error_of([&] { loop.run_forever(); }).code == errc::loop_closed);
    CHECK(error_of([&] { loop.run_until_complete(&no_parameter); }).code == errc::loop_closed);
    CHECK(error_of([&] { loop.create_task(&no_parameter).detach(); }).code == errc::loop_closed);
    CHECK(error_of([&] { loop.call_soon([] {}); }).code == errc::loop_closed);
    CHECK(error_of([&] { loop.call_later(1ms, [] {}); }).code == errc::loop_closed);
    CHECK(error_of([&] { loop.call_at(loop.time(), [] {}); }).code == errc::loop_closed);
    CHECK(error_of([&] { loop.run_until_complete(std::move(f)); }).code == errc::loop_closed);
    CHECK(contains(error_of([&] { loop.call_soon([] {}); }).text, "closed"));
    loop.stop();
    loop.close();
  }

  TEST_CASE("create_task keeps what a callable has captured until its coroutine is done") {
    event_loop loop;
    const auto seen = std::make_shared<int>(7);
    auto f = loop.create_task([seen, &loop]() -> future<int> {
      co_await pulsar::sleep(1ms, loop);
      co_return *seen;
    });
    CHECK(seen.use_count() == 2);
    CHECK(loop.run_until_complete(std::move(f)) == 7);
    CHECK(seen.use_count() == 1);
  }

  TEST_CASE("what a callable has captured outlives the run that was stopped, and the loop") {
    std::string text = "a text that is too long to lie in the string itself";
    std::string cleaned;
    future<> kept;
    {
      event_loop loop;
      loop.call_later(1ms, [&] { loop.stop(); });
      const auto stopped = error_of([&] {
        loop.run_until_complete([&loop, &cleaned, text]() -> future<> {
          try {
            co_await pulsar::sleep(1h, loop);
          } catch (const pulsar::error&) {
            cleaned = text;
          }
        });
      });
      CHECK(stopped.code == errc::loop_stopped);
      struct at_end {
        const std::string& from;
        std::string& to;
        ~at_end() { to += from; }
      };
      kept = loop.create_task([&loop, &cleaned, text]() -> future<> {
        const at_end guard{text, cleaned};
        co_await pulsar::sleep(1h, loop);
      });
      loop.close(0s);
    }
    CHECK(cleaned == "");
    kept = {};
    CHECK(cleaned == text);
  }

  TEST_CASE("a callable that is an lvalue stays where it is, and what it throws passes by") {
    event_loop loop;
    struct counted {
      int calls = 0;
      future<int> operator()() { return pulsar::make_ready_future(++calls); }
      counted() = default;
      counted(const counted&) = delete;
    } lvalue;
    CHECK(loop.run_until_complete(lvalue) == 1);
    CHECK(lvalue.calls == 1);
    int captured = 1;
    auto refuse = [captured]() -> future<> {
      if (captured == 1) throw std::runtime_error("refused");
      return pulsar::make_ready_future();
    };
    CHECK_THROWS_WITH(loop.create_task(std::move(refuse)).detach(), "refused");
  }

  TEST_CASE("the failure of a callable's coroutine is reported where that failed") {
    event_loop loop;
    std::string file;
    loop.set_exception_handler([&](const failure_report& r) { file = r.where.file_name(); });
    int captured = 1;
    loop.create_task([captured, &loop]() -> future<> {
          co_await pulsar::sleep(1ms, loop);
          if (captured == 1) throw std::runtime_error("lost");
        })
        .detach();
    loop.call_later(5ms, [&] { loop.stop(); });
    loop.run_forever();
    CHECK(contains(file, "event_loop_test.cpp"));
  }

  TEST_CASE("a stop before a run that ends of its own accord is not left to the next run") {
    event_loop loop;
    loop.stop();
    loop.call_soon([&] { loop.stop(); });
    loop.run_forever();
    CHECK(loop.run_until_complete([&loop]() -> future<int> {
      co_await pulsar::sleep(2ms, loop);
      co_return 5;
    }) == 5);
  }

  TEST_CASE("a stop before the run leaves nothing of the loop on the user's context") {
    asio::io_context context;
    {
      event_loop loop(context);
      loop.stop();
      loop.call_soon([&] { loop.stop(); });
      loop.run_forever();
    }
    context.restart();
    CHECK(context.run() == 0);
  }

  TEST_CASE("a loop that is stopped before the future is done says so and can go on") {
    event_loop loop(clock_kind::virtual_time);
    loop.call_later(1ms, [&] { loop.stop(); });
    const auto stopped = error_of([&] { loop.run_until_complete(pulsar::sleep(1h, loop)); });
    CHECK(stopped.code == errc::loop_stopped);
    // The dropped future ends now; that must not stop this run.
    CHECK(loop.run_until_complete([]() -> future<int> {
      co_await pulsar::sleep(2h);
      co_return 6;
    }) == 6);
  }

  TEST_CASE("what an exception threw out of run_until_complete does not stop a later run") {
    event_loop loop(clock_kind::virtual_time);
    asio::post(loop.context(), [] { throw std::runtime_error("foreign"); });
    auto p = loop.create_future();
    CHECK_THROWS_AS(loop.run_until_complete(p.get_future()), std::runtime_error);
    p.set_value();
    CHECK(loop.run_until_complete([]() -> future<int> {
      co_await pulsar::sleep(2h);
      co_return 6;
    }) == 6);
  }

  TEST_CASE("a stop in a handler that throws is not left to the next run") {
    event_loop loop;
    asio::post(loop.context(), [&] {
      loop.stop();
      throw std::runtime_error("foreign");
    });
    CHECK_THROWS_AS(loop.run_forever(), std::runtime_error);
    bool called = false;
    loop.call_later(1ms, [&] {
      called = true;
      loop.stop();
    });
    loop.run_forever();
    CHECK(called);
  }

  // ---- which loop

  TEST_CASE("without a loop in the thread everything that needs one says how to get one") {
    for (const auto& f : std::vector<std::function<void()>>{
             [] { event_loop::current(); }, [] { no_parameter().detach(); },
             [] { pulsar::sleep(1ms).detach(); }, [] { pulsar::promise<> p; },
             [] { pulsar::make_ready_future(1).detach(); }}) {
      const auto refused = error_of(f);
      CHECK(refused.code == errc::no_loop);
      CHECK(contains(refused.text, "this thread has no event loop: make one"));
      CHECK(contains(refused.text, "event_loop& parameter"));
    }
  }

  TEST_CASE("with two loops in the thread and none running, the parameter decides") {
    event_loop first;
    event_loop second;
    const auto refused = error_of([] { no_parameter().detach(); });
    CHECK(refused.code == errc::no_loop);
    CHECK(contains(refused.text, "several event loops"));
    CHECK(contains(refused.text, "event_loop& parameter"));
    CHECK(first.run_until_complete(where_am_i(first)) == &first);
    CHECK(second.run_until_complete(where_am_i(second)) == &second);
  }

  TEST_CASE("the only loop alive is the current one, in whatever order the others end") {
    const auto is_current = [](event_loop& loop) { return &event_loop::current() == &loop; };
    for (const auto& order : std::vector<std::array<std::size_t, 3>>{
             {0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}) {
      std::array<std::unique_ptr<event_loop>, 3> loops;
      for (auto& l : loops) l = std::make_unique<event_loop>();
      loops[order[0]].reset();
      CHECK(error_of([] { event_loop::current(); }).code == errc::no_loop);
      loops[order[1]].reset();
      CHECK(is_current(*loops[order[2]]));
      {
        const event_loop another;
        CHECK(error_of([] { event_loop::current(); }).code == errc::no_loop);
      }
      CHECK(is_current(*loops[order[2]]));
    }
    CHECK(error_of([] { event_loop::current(); }).code == errc::no_loop);
  }

  TEST_CASE("two loops in a thread take turns and keep their coroutines apart") {
    event_loop first(clock_kind::virtual_time);
    event_loop second(clock_kind::virtual_time);
    auto a = where_am_i(first);
    auto b = where_am_i(second);
    while (!a.done() || !b.done()) {
      turn(first);
      turn(second);
    }
    CHECK(a.result() == &first);
    CHECK(b.result() == &second);
  }

  TEST_CASE("a coroutine binds to its event_loop& parameter wherever it stands") {
    event_loop loop;
    event_loop other;
    widget w;
    CHECK(loop.run_until_complete(w.member(loop, 1)) == &loop);
    CHECK(loop.run_until_complete(w.coroutine("four", loop)) == 4);
    CHECK(loop.run_until_complete(last_parameter(1, "abc", loop)) == 4);
    const auto lambda = [](int n, event_loop& l) -> future<int> {
      co_await pulsar::sleep(1ms, l);
      co_return event_loop::running() == &l ? n : -1;
    };
    CHECK(loop.run_until_complete(lambda(9, loop)) == 9);
    CHECK(&lambda(9, other).loop() == &other);
    // Even in a callback of another loop.
    event_loop* bound = nullptr;
    loop.call_soon([&] {
      bound = &lambda(9, other).loop();
      loop.stop();
    });
    loop.run_forever();
    CHECK(bound == &other);
  }

  TEST_CASE("inside a loop a coroutine without parameter binds to it though there are others") {
    event_loop loop;
    const event_loop other;
    CHECK(loop.run_until_complete([&] {
      auto f = no_parameter();
      CHECK(&f.loop() == &loop);
      return f;
    }) == 1);
    loop.call_soon([&] {
      CHECK(&event_loop::current() == &loop);
      CHECK(&no_parameter().loop() == &loop);
      loop.stop();
    });
    loop.run_forever();
  }

  // ---- time

  TEST_CASE("timers fire in the order of their deadlines, never early") {
    event_loop loop;
    std::vector<int> order;
    std::size_t early = 0;
    const auto start = loop.time();
    for (const int ms : {9, 3, 0, 7, 1, 5}) {
      loop.call_at(start + std::chrono::milliseconds(ms), [&, ms] {
        if (loop.time() - start < std::chrono::milliseconds(ms)) ++early;
        order.push_back(ms);
      });
    }
    loop.call_at(start + 12ms, [&] { loop.stop(); });
    loop.run_forever();
    CHECK(order == std::vector<int>{0, 1, 3, 5, 7, 9});
    CHECK(early == 0);
  }

  TEST_CASE("no deadline is early by the fraction of a tick, however it is asked for") {
    event_loop loop;
    std::size_t early = 0;
    std::size_t left = 0;
    for (int i = 0; i < 40; ++i) {
      const auto delay = std::chrono::microseconds(137 * i);
      ++left;
      const auto due = loop.time() + delay;
      loop.call_at(due, [&, due] {
        if (loop.time() < due) ++early;
        if (--left == 0) loop.stop();
      });
      ++left;
      const auto start = loop.time();
      auto f = pulsar::sleep(delay, loop);
      f.add_done_callback([&, start, delay] {
        if (loop.time() - start < delay) ++early;
        if (--left == 0) loop.stop();
      });
      f.detach();
      // So that deadlines lie anywhere within a tick.
      const auto until = steady::now() + 53us;
      while (steady::now() < until) {
      }
    }
    loop.run_forever();
    CHECK(early == 0);
    CHECK(left == 0);
  }

  TEST_CASE("a deadline in the past, or none at all, is met at once; a negative delay too") {
    event_loop loop;
    int called = 0;
    loop.call_at(loop.time() - 1h, [&] { ++called; });
    loop.call_at(event_loop::time_point::min(), [&] { ++called; });
    loop.call_later(-5s, [&] { ++called; });
    loop.call_later(event_loop::duration::min(), [&] { ++called; });
    loop.call_later(0s, [&] { ++called; });
    loop.call_later(20ms, [&] { loop.stop(); });
    loop.run_forever();
    CHECK(called == 5);
  }

  TEST_CASE("a timer that arms itself for the past again and again starves nobody") {
    for (const auto kind : {clock_kind::steady, clock_kind::virtual_time}) {
      event_loop loop(kind);
      int calls = 0;
      std::function<void()> again = [&] {
        if (++calls < 1000) loop.call_at(event_loop::time_point{}, again);
      };
      loop.call_soon(again);
      // Behind the first turns of it, long before the last.
      asio::post(loop.context(), [&] { loop.stop(); });
      loop.run_forever();
      CHECK(calls >= 1);
      CHECK(calls < 10);
      loop.call_later(1ms, [&] { loop.stop(); });
      loop.run_forever();
    }
  }

  TEST_CASE("a deadline in the past takes one handler, not those of a whole tick") {
    event_loop loop;
    bool called = false;
    loop.call_at(loop.time() - 1h, [&] { called = true; });
    loop.context().restart();
    loop.context().poll_one();
    CHECK(called);
  }

  TEST_CASE("virtual time: what is due now does not wait for an operation that is pending") {
    event_loop loop(clock_kind::virtual_time);
    asio::io_context& context = loop.context();
    asio::steady_timer never(context, 1h);
    const auto forever = [](asio::steady_timer& t) -> future<> {
      co_await t.async_wait(pulsar::use_future);
    };
    auto pending = forever(never);
    bool reached = false;
    bool called = false;
    auto until = pulsar::sleep_until(loop.time(), loop);
    until.add_done_callback([&] { reached = true; });
    loop.call_later(0ms, [&] { called = true; });
    for (int i = 0; i < 10; ++i) turn(loop);
    CHECK(reached);
    CHECK(called);
    pending.cancel();
    turn(loop);
  }

  TEST_CASE("a timer armed by what the end of a batch calls is not forgotten") {
    event_loop loop;
    loop.call_at(event_loop::time_point{}, [&] { loop.call_later(1ms, [&] { loop.stop(); }); });
    loop.run_forever();
    CHECK(loop.is_running() == false);
  }

  TEST_CASE("a timer's callback speaks for nobody, whoever ran before it") {
    for (const auto kind : {clock_kind::steady, clock_kind::virtual_time}) {
      event_loop loop(kind);
      auto* const ann = new pulsar::detail::context("ann");
      bool somebody = false;
      loop.call_later(1ms, [&] { somebody = pulsar::detail::this_context != nullptr; });
      {
        const pulsar::detail::context_scope scope(ann);
        loop.create_task([&loop]() -> future<> {
              const auto end = loop.time() + 3ms;
              while (loop.time() < end) co_await pulsar::sleep(loop.time() == end - 3ms ? 1us : 1ms);
            })
            .detach();
      }
      loop.call_later(5ms, [&] { loop.stop(); });
      loop.run_forever();
      CHECK_FALSE(somebody);
      loop.close();
      ann->drop();
    }
  }

  TEST_CASE("the longest delay there is does not wrap around") {
    event_loop loop;
    int called = 0;
    loop.call_later(event_loop::duration::max(), [&] { ++called; });
    loop.call_at(event_loop::time_point::max(), [&] { ++called; });
    auto f = pulsar::sleep(event_loop::duration::max(), loop);
    loop.call_later(5ms, [&] { loop.stop(); });
    loop.run_forever();
    CHECK(called == 0);
    CHECK_FALSE(f.done());
    loop.close(event_loop::duration::max());
  }

  TEST_CASE("a timer may arm and cancel timers") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<int> order;
    pulsar::handle victim = loop.call_later(3ms, [&] { order.push_back(-1); });
    loop.call_later(1ms, [&] {
      order.push_back(1);
      victim.cancel();
      loop.call_later(1ms, [&] { order.push_back(2); });
      loop.call_later(0ms, [&] { order.push_back(3); });
    });
    loop.call_later(5ms, [&] { order.push_back(4); });
    loop.context().run();
    CHECK(order == std::vector<int>{1, 3, 2, 4});
    CHECK(loop.time() == event_loop::time_point() + 5ms);
  }

  TEST_CASE("an earlier timer that comes later moves the alarm") {
    event_loop loop;
    bool late = false;
    loop.call_later(1h, [&] { late = true; });
    loop.call_soon([&] {
      loop.call_later(50ms, [&] { late = true; });
      // From a later handler, when the alarm is set already.
      asio::post(loop.context(), [&] {
        loop.call_later(1ms, [&] { loop.stop(); });
      });
    });
    loop.run_forever();
    CHECK_FALSE(late);
  }

  TEST_CASE("a loop that waits for a timer sleeps") {
    event_loop loop;
    bool fired = false;
    loop.call_later(70ms, [&] { fired = true; });
    int handlers = 0;
    for (; !fired && handlers < 1000; ++handlers) loop.context().run_one();
    CHECK(fired);
    // One to begin with, one for each level of the wheel on the way, and no more.
    CHECK(handlers <= 8);
  }

  TEST_CASE("virtual time starts at zero and jumps to each deadline when nothing else is ready") {
    event_loop loop(clock_kind::virtual_time);
    const event_loop::time_point zero;
    CHECK(loop.time() == zero);
    std::vector<event_loop::duration> seen;
    for (const auto d : {event_loop::duration(24h * 365 * 50), event_loop::duration(1ms),
                         event_loop::duration(1h), event_loop::duration(1500us)}) {
      loop.call_later(d, [&] { seen.push_back(loop.time() - zero); });
    }
    loop.context().run();
    // In ticks of a millisecond, never early.
    CHECK(seen == std::vector<event_loop::duration>{1ms, 2ms, 1h, 24h * 365 * 50});
  }

  TEST_CASE("virtual time stands still while callbacks are ready") {
    event_loop loop(clock_kind::virtual_time);
    std::size_t hops = 0;
    bool go_on = true;
    loop.call_later(1ms, [&] { go_on = false; });
    loop.call_soon(chain{&loop, &hops, &go_on});
    for (int i = 0; i < 50; ++i) loop.context().run_one();
    CHECK(go_on);
    CHECK(hops == 50 * 256);
    CHECK(loop.time() == event_loop::time_point());
    go_on = false;
  }

  TEST_CASE("virtual time does not overtake an operation that is awaited") {
    event_loop loop(clock_kind::virtual_time);
    listener unused(loop);
    std::vector<int> order;
    loop.call_later(1h, [&] { order.push_back(2); });
    auto f = [](event_loop& l, std::vector<int>& seen) -> future<> {
      asio::steady_timer real(l.context(), 20ms);
      co_await real.async_wait(pulsar::use_future);
      seen.push_back(1);
      CHECK(l.time() == event_loop::time_point());
      co_await pulsar::sleep(2h, l);
      seen.push_back(3);
    }(loop, order);
    loop.run_until_complete(std::move(f));
    CHECK(order == std::vector<int>{1, 2, 3});
    CHECK(loop.time() == event_loop::time_point() + 2h);
  }

  TEST_CASE("virtual time goes on after work from another thread") {
    event_loop loop(clock_kind::virtual_time);
    std::thread other;
    int called = 0;
    other = std::thread([&] {
      loop.call_soon_threadsafe([&] {
        ++called;
        loop.call_later(1h, [&] { loop.stop(); });
      });
    });
    loop.run_forever();
    other.join();
    CHECK(called == 1);
    CHECK(loop.time() == event_loop::time_point() + 1h);
  }

  // ---- on a context of the user's

  TEST_CASE("run() of the user's context returns when all is done") {
    for (const auto kind : {clock_kind::steady, clock_kind::virtual_time}) {
      asio::io_context context;
      event_loop loop(context, kind);
      int timers = 0;
      loop.call_later(3ms, [&] { ++timers; });
      auto f = where_am_i(loop);
      context.run();
      CHECK(timers == 1);
      CHECK(f.result() == &loop);
      CHECK_FALSE(loop.is_running());
      CHECK(event_loop::running() == nullptr);
    }
  }

  TEST_CASE("on the user's context virtual time jumps as ever") {
    asio::io_context context;
    event_loop loop(context, clock_kind::virtual_time);
    std::vector<int> order;
    loop.call_soon([&] { order.push_back(1); });
    loop.call_later(3h, [&] { order.push_back(3); });
    auto f = [](event_loop& l, std::vector<int>& seen) -> future<int> {
      co_await pulsar::sleep(1h, l);
      seen.push_back(2);
      CHECK(event_loop::running() == &l);
      co_await pulsar::sleep(5h, l);
      seen.push_back(4);
      co_return 7;
    }(loop, order);
    context.run();
    CHECK(order == std::vector<int>{1, 2, 3, 4});
    CHECK(f.result() == 7);
    CHECK(loop.time() == event_loop::time_point() + 6h);
    loop.close();
  }

  TEST_CASE("on the user's context run_until_complete, stop and run_forever work as ever") {
    asio::io_context context;
    event_loop loop(context);
    CHECK(loop.run_until_complete(where_am_i(loop)) == &loop);
    loop.call_later(1ms, [&] { loop.stop(); });
    loop.run_forever();
    CHECK(&loop.context() == &context);
  }

  TEST_CASE("the user's handlers and the loop's share the context") {
    asio::io_context context;
    std::vector<int> order;
    event_loop loop(context);
    asio::post(context, [&] {
      order.push_back(1);
      loop.call_soon([&] {
        order.push_back(2);
        asio::post(context, [&] { order.push_back(3); });
      });
    });
    context.run();
    CHECK(order == std::vector<int>{1, 2, 3});
  }

  TEST_CASE("close ends the coroutines on the user's context and leaves the rest of it alone") {
    asio::io_context context;
    int user = 0;
    bool cleaned = false;
    bool timed = false;
    asio::steady_timer timer(context, 50ms);
    timer.async_wait([&](std::error_code ec) { user += ec ? 100 : 1; });
    {
      event_loop loop(context);
      loop.call_later(1ms, [&] { timed = true; });
      [](event_loop& l, bool& done) -> future<> {
        local_socket a(l.context());
        local_socket b(l.context());
        asio::local::connect_pair(a, b);
        std::array<char, 1> byte{};
        try {
          co_await a.async_read_some(asio::buffer(byte), pulsar::use_future);
        } catch (const pulsar::error& e) {
          done = e.code() == errc::cancelled;
        }
      }(loop, cleaned).detach();
      CHECK_FALSE(cleaned);
      loop.close();
      CHECK(cleaned);
      CHECK(loop.is_closed());
    }
    context.restart();
    context.run();
    CHECK(user == 1);
    CHECK_FALSE(timed);
  }

  TEST_CASE("a context that ends before its loop ends the program with a sentence") {
    const auto end = death_of([] {
      auto context = std::make_unique<asio::io_context>();
      event_loop loop(*context);
      ends_slowly(loop).detach();
      context.reset();
    });
    CHECK(end.aborted);
    CHECK(contains(end.text, "close() the loop before its context ends"));
  }

  TEST_CASE("a loop that is closed may outlive the user's context, and futures of it too") {
    auto context = std::make_unique<asio::io_context>();
    event_loop loop(*context);
    auto left = ends_slowly(loop);
    loop.call_later(1h, [] {});
    loop.call_soon([] {});
    loop.close();
    context.reset();
    CHECK(loop.is_closed());
    loop.close();
  }

  TEST_CASE("a loop is found by its context while it is open") {
    asio::io_context context;
    CHECK(event_loop::find(context) == nullptr);
    event_loop first(context);
    event_loop other;
    CHECK(event_loop::find(context) == &first);
    CHECK(event_loop::find(other.context()) == &other);
    {
      event_loop second(context);
      CHECK(event_loop::find(context) == &second);
    }
    CHECK(event_loop::find(context) == &first);
    first.close();
    CHECK(event_loop::find(context) == nullptr);
  }

  TEST_CASE("a loop that is closed while its handlers are on their way leaves none behind") {
    asio::io_context context;
    int called = 0;
    for (int i = 0; i < 3; ++i) {
      event_loop loop(context);
      loop.call_soon([&] { ++called; });
      loop.call_soon_threadsafe([&] { ++called; });
      loop.call_later(1ms, [&] { ++called; });
      // Also with the timer armed, and already expired.
      context.restart();
      if (i > 0) context.poll();
      if (i > 1) std::this_thread::sleep_for(3ms);
    }
    context.restart();
    context.run();
    CHECK(called == 4);
  }

  TEST_CASE("a coroutine that will not end on the user's context ends the program") {
    const auto end = death_of([] {
      asio::io_context context;
      event_loop loop(context);
      [](event_loop& l) -> future<> {
        for (;;) {
          try {
            co_await pulsar::sleep(1h, l);
          } catch (const pulsar::error&) {
          }
        }
      }(loop).detach();
      loop.close(10ms);
    });
    CHECK(end.aborted);
    CHECK(contains(end.text, "let them end before close()"));
  }

  TEST_CASE("no loop takes the number of a standard descriptor that is closed") {
    const pulsar::unique_fd input(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    asio::io_context context;
    const local_socket first(context);  // Asio's own descriptors are there
    ::close(STDIN_FILENO);
    {
      const event_loop loop(context);
      CHECK(::fcntl(STDIN_FILENO, F_GETFD) == -1);
    }
    ::dup2(input.get(), STDIN_FILENO);
  }

  TEST_CASE("closing a loop inside itself ends the program with a sentence, in any build") {
    const auto by_callback = death_of([] {
      event_loop loop;
      loop.call_soon([&] { loop.close(); });
      loop.run_forever();
    });
    CHECK(by_callback.aborted);
    CHECK(contains(by_callback.text, "cannot be closed while it runs: call stop()"));
    const auto by_coroutine = death_of([] {
      asio::io_context context;
      event_loop loop(context);
      [](event_loop& l) -> future<> {
        co_await pulsar::sleep(1ms, l);
        l.close();
      }(loop).detach();
      context.run();
    });
    CHECK(by_coroutine.aborted);
    CHECK(contains(by_coroutine.text, "cannot be closed while it runs"));
  }

  // ---- closing

  TEST_CASE("closing frees callbacks without calling them") {
    const auto held = std::make_shared<int>(1);
    int called = 0;
    event_loop loop;
    loop.call_soon([&called, held] { ++called; });
    loop.call_soon_threadsafe([&called, held] { ++called; });
    loop.call_later(1h, [&called, held] { ++called; });
    loop.call_at(loop.time(), [&called, held] { ++called; });
    asio::post(loop.context(), [&called, held] { ++called; });
    CHECK(held.use_count() == 6);
    loop.close();
    CHECK(held.use_count() == 1);
    CHECK(called == 0);
    CHECK(loop.is_closed());
    loop.close();
  }

  TEST_CASE("what is freed when the loop closes may still call it") {
    struct caller {
      explicit caller(event_loop& l) : loop(l) {}
      ~caller() {
        loop.call_soon([] {});
        loop.call_later(1ms, [] {});
        loop.call_soon_threadsafe([] {});
      }
      event_loop& loop;
    };
    event_loop loop;
    loop.call_soon([c = std::make_unique<caller>(loop)] {});
    loop.call_later(1h, [c = std::make_unique<caller>(loop)] {});
    loop.call_soon_threadsafe([c = std::make_unique<caller>(loop)] {});
    asio::post(loop.context(), [c = std::make_unique<caller>(loop)] {});
    [](event_loop& l) -> future<> {
      const caller here(l);
      for (;;) {
        try {
          co_await pulsar::sleep(1h, l);
        } catch (const pulsar::error&) {
        }
      }
    }(loop).detach();
    loop.close(1ms);
  }

  TEST_CASE("closing lets cancelled coroutines clean up, by waiting and stopping too") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<int> order;
    [](event_loop& l, std::vector<int>& seen) -> future<> {
      try {
        co_await pulsar::sleep(1h, l);
      } catch (const pulsar::error& e) {
        if (e.code() == errc::cancelled) seen.push_back(1);
      }
      l.stop();
      co_await pulsar::sleep(10s, l);
      seen.push_back(2);
      l.stop();
      co_await pulsar::sleep(10s, l);
      seen.push_back(3);
    }(loop, order).detach();
    loop.close();
    CHECK(order == std::vector<int>{1, 2, 3});
  }

  TEST_CASE("a coroutine that will not end is given the limit, then freed") {
    event_loop loop;
    const auto held = std::make_shared<int>(1);
    const auto stubborn = [](event_loop& l, std::shared_ptr<int>) -> future<> {
      for (;;) {
        try {
          co_await pulsar::sleep(1ms, l);
        } catch (const pulsar::error&) {
        }
      }
    };
    stubborn(loop, held).detach();
    auto kept = stubborn(loop, held);
    CHECK(held.use_count() == 3);
    const auto start = steady::now();
    loop.close(30ms);
    const auto took = steady::now() - start;
    CHECK(took >= 30ms);
    CHECK(took < 5s);
    CHECK_FALSE(kept.done());
    CHECK_FALSE(kept.cancel());
    kept = {};
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("the user's handler that throws or stops while the loop closes does no harm") {
    asio::io_context context;
    std::vector<std::string> reported;
    int ran = 0;
    {
      event_loop loop(context);
      loop.set_exception_handler(
          [&](const failure_report& r) { reported.push_back(pulsar::detail::describe(r.exception)); });
      asio::post(context, [] { throw std::runtime_error("the user's"); });
      asio::post(context, [&] { context.stop(); });
      loop.call_soon([&] { ++ran; });
      loop.close();
    }
    CHECK(reported == std::vector<std::string>{"the user's"});
    CHECK(ran == 0);
    context.restart();
    CHECK(context.run() == 0);
  }

  TEST_CASE("a user's context that was stopped is stopped when its loop has closed") {
    for (const bool before : {true, false}) {
      CAPTURE(before);
      asio::io_context context;
      const auto work = asio::make_work_guard(context);
      event_loop loop(context);
      ends_slowly(loop).detach();
      asio::post(context, [&] {
        if (before) context.stop();
        asio::post(context, [&] { context.stop(); });
        loop.close();
        CHECK(context.stopped());
      });
      context.run();
      CHECK(loop.is_closed());
    }
  }

  TEST_CASE("a user's context that was not stopped is not when its loop has closed") {
    for (const bool working : {true, false}) {
      CAPTURE(working);
      asio::io_context context;
      std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
      if (working) work.emplace(context.get_executor());
      {
        event_loop loop(context);
        ends_slowly(loop).detach();
        loop.call_later(1h, [] {});
      }
      CHECK_FALSE(context.stopped());
      bool called = false;
      asio::post(context, [&] {
        called = true;
        context.stop();
      });
      context.run();
      CHECK(called);
    }
  }

  TEST_CASE("a stop in another thread harms no loop that closes, and is not lost") {
    asio::io_context context;
    event_loop loop(context);
    std::atomic<bool> ended{false};
    [](event_loop& l, std::atomic<bool>& done) -> future<> {
      co_await ends_slowly(l);
      done = true;
    }(loop, ended).detach();
    std::thread other([&] {
      while (!ended) context.stop();
      context.stop();
    });
    const auto work = asio::make_work_guard(context);
    loop.close(10s);
    other.join();
    CHECK(ended);
    CHECK(context.stopped());
  }

  TEST_CASE("a close inside a close does nothing") {
    asio::io_context context;
    for (const bool own : {true, false}) {
      CAPTURE(own);
      std::optional<event_loop> loop;
      own ? loop.emplace() : loop.emplace(context);
      auto ends = ends_slowly(*loop);
      bool inside = false;
      asio::post(loop->context(), [&] {
        loop->close();
        inside = !loop->is_closed();
      });
      loop->call_soon([&] { loop->close(); });
      loop->close();
      CHECK(inside);
      CHECK(loop->is_closed());
      CHECK(ends.done());
    }
  }

#ifndef NDEBUG
  TEST_CASE("a loop that ends inside its own close ends the program with a sentence") {
    const auto end = death_of([] {
      asio::io_context context;
      auto* const loop = new event_loop(context);
      ends_slowly(*loop).detach();
      asio::post(context, [loop] { delete loop; });
      loop->close();
    });
    CHECK(end.aborted);
    CHECK(contains(end.text, "while it closes"));
  }
#endif

  TEST_CASE("an operation may end inside its cancellation while the loop closes") {
    event_loop loop;
    int ended = 0;
    for (int i = 0; i < 3; ++i) {
      [](event_loop&, int& count) -> future<> {
        try {
          co_await ended_by_its_slot(pulsar::use_future);
        } catch (const pulsar::error& e) {
          CHECK(e.code() == errc::cancelled);
          ++count;
        }
      }(loop, ended).detach();
    }
    loop.close();
    CHECK(ended == 3);
  }

  TEST_CASE("what is attached to a loop may attach more while it ends") {
    static int ended = 0;
    ended = 0;
    using access = pulsar::detail::loop_access;
    struct third : pulsar::detail::loop_extension {
      explicit third(event_loop&) {}
      ~third() override { ++ended; }
    };
    struct second : pulsar::detail::loop_extension {
      explicit second(event_loop& l) : loop(l) {}
      ~second() override {
        access::local<third>(loop);
        ++ended;
      }
      event_loop& loop;
    };
    struct first : pulsar::detail::loop_extension {
      explicit first(event_loop& l) : loop(l) {}
      ~first() override {
        access::local<second>(loop);
        access::local<third>(loop);
        ++ended;
      }
      event_loop& loop;
    };
    {
      event_loop loop;
      access::local<first>(loop);
    }
    CHECK(ended == 4);
  }

  TEST_CASE("what is attached to a loop that is closed goes with the loop") {
    static int ended = 0;
    ended = 0;
    struct late : pulsar::detail::loop_extension {
      explicit late(event_loop&) {}
      ~late() override { ++ended; }
    };
    {
      event_loop loop;
      loop.close();
      pulsar::detail::loop_access::local<late>(loop);
      CHECK(ended == 0);
    }
    CHECK(ended == 1);
  }

  TEST_CASE("a foreign handler that throws while the loop closes is reported") {
    event_loop loop;
    int reported = 0;
    bool ended = false;
    loop.set_exception_handler([&](const failure_report&) { ++reported; });
    [](event_loop& l, bool& done) -> future<> {
      try {
        co_await pulsar::sleep(1h, l);
      } catch (const pulsar::error&) {
      }
      co_await pulsar::sleep(2ms, l);
      done = true;
    }(loop, ended).detach();
    asio::post(loop.context(), [] { throw std::runtime_error("foreign"); });
    loop.close();
    CHECK(reported == 1);
    CHECK(ended);
  }

  TEST_CASE("a loop may be closed inside another one's callback") {
    event_loop outer;
    bool cancelled = false;
    event_loop* after = nullptr;
    outer.call_soon([&] {
      {
        event_loop inner(clock_kind::virtual_time);
        [](event_loop& l, bool& seen) -> future<> {
          try {
            co_await pulsar::sleep(1h, l);
          } catch (const pulsar::error&) {
            seen = event_loop::running() == &l;
          }
        }(inner, cancelled).detach();
      }
      after = event_loop::running();
      outer.stop();
    });
    outer.run_forever();
    CHECK(cancelled);
    CHECK(after == &outer);
  }
}
