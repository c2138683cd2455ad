// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/signals.hpp>

#include <pulsar/core/future.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/io_context.hpp>

#include "support/coro_test.hpp"
#include "support/futures.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::error_of;
using future_test::reports;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::promise;

namespace {

// True if the process would do with `signal` what it does by default.
bool has_default_action(int signal) {
  struct sigaction now {};
  ::sigaction(signal, nullptr, &now);
  return now.sa_handler == SIG_DFL;
}

// Runs what is ready, and waits for nothing.
void turn(event_loop& loop) {
  loop.context().restart();
  loop.context().poll();
}

// Returns when that thread of this process sleeps.
void wait_until_asleep(long thread) {
  for (;;) {
    std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string text;
    std::getline(stat, text);
    const auto name_ends = text.rfind(')');
    if (name_ends != std::string::npos && text.size() > name_ends + 2 &&
        text[name_ends + 2] == 'S') {
      return;
    }
    std::this_thread::yield();
  }
}

long this_thread() { return ::syscall(SYS_gettid); }

}  // namespace

TEST_SUITE("signals") {
  TEST_CASE("a handler is called from the loop, once for every signal that was caught") {
    event_loop loop;
    int called = 0;
    const event_loop* in = nullptr;
    loop.add_signal_handler(SIGUSR1, [&] {
      ++called;
      in = event_loop::running();
    });
    for (int i = 0; i < 3; ++i) ::raise(SIGUSR1);
    CHECK(called == 0);
    turn(loop);
    CHECK(called == 3);
    CHECK(in == &loop);
    ::raise(SIGUSR1);
    turn(loop);
    CHECK(called == 4);
  }

  TEST_CASE("a signal wakes a loop that sleeps") {
    event_loop loop;
    bool called = false;
    loop.add_signal_handler(SIGUSR1, [&] {
      called = true;
      loop.stop();
    });
    const auto start = event_loop::clock::now();
    loop.call_later(1h, [&] { loop.stop(); });
    const long here = this_thread();
    std::thread other([here] {
      wait_until_asleep(here);
      ::kill(::getpid(), SIGUSR1);
    });
    loop.run_forever();
    other.join();
    CHECK(called);
    CHECK(event_loop::clock::now() - start < 1min);
  }

  TEST_CASE("a signal that comes while the loop does not run waits for it") {
    event_loop loop;
    int called = 0;
    loop.add_signal_handler(SIGUSR1, [&] {
      ++called;
      loop.stop();
    });
    ::raise(SIGUSR1);
    loop.run_forever();
    CHECK(called == 1);
  }

  TEST_CASE("what a handler makes ready is run at once, and it may settle what is awaited") {
    event_loop loop;
    promise<int> p(loop);
    std::vector<int> order;
    loop.add_signal_handler(SIGUSR1, [&] {
      loop.call_soon([&] { order.push_back(2); });
      order.push_back(1);
      p.set_value(5);
    });
    ::raise(SIGUSR1);
    CHECK(loop.run_until_complete(p.get_future()) == 5);
    CHECK(order == std::vector<int>{1, 2});
  }

  TEST_CASE("signals are told apart") {
    event_loop loop;
    std::vector<int> caught;
    for (const int signal : {SIGUSR1, SIGUSR2, SIGHUP}) {
      loop.add_signal_handler(signal, [&, signal] { caught.push_back(signal); });
    }
    ::raise(SIGUSR2);
    turn(loop);
    ::raise(SIGHUP);
    turn(loop);
    CHECK(caught == std::vector<int>{SIGUSR2, SIGHUP});
  }

  TEST_CASE("a signal that comes again and again does not keep the others waiting") {
    event_loop loop;
    int often = 0;
    int before_the_other = 0;
    loop.add_signal_handler(SIGUSR1, [&] {
      if (++often < 100) ::raise(SIGUSR1);
    });
    loop.add_signal_handler(SIGTERM, [&] { before_the_other = often; });
    ::raise(SIGUSR1);
    ::raise(SIGTERM);
    while (often < 100) turn(loop);
    CHECK(before_the_other > 0);
    CHECK(before_the_other < 10);
  }

  // ---- replaced and removed

  TEST_CASE("what a handler holds may add handlers while it is freed") {
    struct adds {
      event_loop* loop = nullptr;
      int* called = nullptr;
      ~adds() {
        if (loop != nullptr) {
          loop->add_signal_handler(SIGUSR2, [told = called] { ++*told; });
        }
      }
    };
    event_loop loop;
    int called = 0;
    const auto hold = [&] {
      auto held = std::make_shared<adds>();
      held->loop = &loop;
      held->called = &called;
      loop.add_signal_handler(SIGUSR1, [held] {});
    };
    hold();
    SUBCASE("when it is removed") { loop.remove_signal_handler(SIGUSR1); }
    SUBCASE("when it is replaced") { loop.add_signal_handler(SIGUSR1, [] {}); }
    ::raise(SIGUSR2);
    turn(loop);
    CHECK(called == 1);
    CHECK(loop.remove_signal_handler(SIGUSR2));
    CHECK(has_default_action(SIGUSR2));
    loop.remove_signal_handler(SIGUSR1);
    CHECK(has_default_action(SIGUSR1));
  }

  TEST_CASE("a second handler replaces the first, which is freed") {
    event_loop loop;
    const auto held = std::make_shared<int>(0);
    int called = 0;
    loop.add_signal_handler(SIGUSR1, [held] { ++*held; });
    CHECK(held.use_count() == 2);
    loop.add_signal_handler(SIGUSR1, [&] { ++called; });
    CHECK(held.use_count() == 1);
    ::raise(SIGUSR1);
    turn(loop);
    CHECK(*held == 0);
    CHECK(called == 1);
  }

  TEST_CASE("removing a handler restores the default, and says whether there was one") {
    event_loop loop;
    const auto held = std::make_shared<int>(0);
    CHECK_FALSE(loop.remove_signal_handler(SIGUSR1));
    CHECK(has_default_action(SIGUSR1));
    loop.add_signal_handler(SIGUSR1, [held] { ++*held; });
    CHECK_FALSE(has_default_action(SIGUSR1));
    CHECK_FALSE(loop.remove_signal_handler(SIGUSR2));
    CHECK(loop.remove_signal_handler(SIGUSR1));
    CHECK(has_default_action(SIGUSR1));
    CHECK_FALSE(loop.remove_signal_handler(SIGUSR1));
    CHECK(held.use_count() == 1);
    loop.add_signal_handler(SIGUSR1, [held] { ++*held; });
    ::raise(SIGUSR1);
    turn(loop);
    CHECK(*held == 1);
  }

  TEST_CASE("a signal that was caught but not told yet is not told to a handler that is gone") {
    event_loop loop;
    int called = 0;
    int others = 0;
    loop.add_signal_handler(SIGUSR2, [&] { ++others; });
    loop.add_signal_handler(SIGUSR1, [&] { ++called; });
    ::raise(SIGUSR1);
    ::raise(SIGUSR2);
    CHECK(loop.remove_signal_handler(SIGUSR1));
    turn(loop);
    CHECK(others == 1);
    loop.add_signal_handler(SIGUSR1, [&] { ++called; });
    turn(loop);
    CHECK(called == 0);
    // Taken in by Asio, but not told: a handler of the loop's own stands before it.
    loop.add_signal_handler(SIGUSR2, [&] { loop.remove_signal_handler(SIGUSR1); });
    ::raise(SIGUSR2);
    ::raise(SIGUSR1);
    turn(loop);
    CHECK(called == 0);
  }

  TEST_CASE("a handler may remove or replace itself while it is called") {
    event_loop loop;
    int first = 0;
    int second = 0;
    loop.add_signal_handler(SIGUSR1, [&, held = std::make_shared<int>(7)] {
      loop.add_signal_handler(SIGUSR1, [&] {
        ++second;
        loop.remove_signal_handler(SIGUSR1);
        CHECK(has_default_action(SIGUSR1));
      });
      first += *held;
    });
    ::raise(SIGUSR1);
    turn(loop);
    CHECK(first == 7);
    CHECK(second == 0);
    ::raise(SIGUSR1);
    turn(loop);
    CHECK(first == 7);
    CHECK(second == 1);
    CHECK(has_default_action(SIGUSR1));
  }

  TEST_CASE("a handler that throws is reported, and called again") {
    event_loop loop;
    reports seen(loop);
    int called = 0;
    loop.add_signal_handler(SIGUSR1, [&] {
      ++called;
      throw std::runtime_error("in a handler");
    });
    for (int i = 0; i < 2; ++i) {
      ::raise(SIGUSR1);
      turn(loop);
    }
    CHECK(called == 2);
    CHECK(seen.all == std::vector<std::string>(2, "in a handler"));
  }

  // ---- refused

  TEST_CASE("what cannot be caught is refused, and what there was stays") {
    event_loop loop;
    int called = 0;
    loop.add_signal_handler(SIGUSR1, [&] { ++called; });
    for (const int signal : {SIGKILL, SIGSTOP, 0, -1, 100'000}) {
      CHECK(error_of([&] { loop.add_signal_handler(signal, [] {}); }).value() != 0);
      CHECK_FALSE(loop.remove_signal_handler(signal));
    }
    const auto text_of = [&loop](int signal) -> std::string {
      try {
        loop.add_signal_handler(signal, [] {});
      } catch (const pulsar::error& e) {
        return e.what();
      }
      return "nothing thrown";
    };
    CHECK(text_of(SIGKILL) ==
          "add_signal_handler: signal 9 (SIGKILL) cannot be handled: Invalid argument");
    CHECK(text_of(-1) == "add_signal_handler: signal -1 cannot be handled: Invalid argument");
    CHECK(error_of([&] { loop.add_signal_handler(SIGUSR1, nullptr); }) ==
          std::errc::invalid_argument);
    ::raise(SIGUSR1);
    turn(loop);
    CHECK(called == 1);
  }

  TEST_CASE("a closed loop takes no handler, has none, and leaves the default behind") {
    event_loop loop;
    const auto held = std::make_shared<int>(0);
    loop.add_signal_handler(SIGUSR1, [held] { ++*held; });
    loop.add_signal_handler(SIGUSR2, [held] { ++*held; });
    ::raise(SIGUSR1);
    loop.close();
    CHECK(held.use_count() == 1);
    CHECK(*held == 0);
    CHECK(has_default_action(SIGUSR1));
    CHECK(has_default_action(SIGUSR2));
    CHECK(error_of([&] { loop.add_signal_handler(SIGUSR1, [] {}); }) == errc::loop_closed);
    CHECK_FALSE(loop.remove_signal_handler(SIGUSR1));
    CHECK(has_default_action(SIGUSR1));
  }

  // ---- several loops, a user's context

  TEST_CASE("each of two loops that ask for a signal is told of it") {
    std::optional<event_loop> one(std::in_place);
    event_loop two;
    int by_one = 0;
    int by_two = 0;
    one->add_signal_handler(SIGUSR1, [&] { ++by_one; });
    two.add_signal_handler(SIGUSR1, [&] { ++by_two; });
    ::raise(SIGUSR1);
    turn(two);
    turn(*one);
    CHECK(by_one == 1);
    CHECK(by_two == 1);
    CHECK(one->remove_signal_handler(SIGUSR1));
    CHECK_FALSE(has_default_action(SIGUSR1));
    ::raise(SIGUSR1);
    turn(two);
    turn(*one);
    CHECK(by_one == 1);
    CHECK(by_two == 2);
    one.reset();
    ::raise(SIGUSR1);
    turn(two);
    CHECK(by_two == 3);
    CHECK(two.remove_signal_handler(SIGUSR1));
    CHECK(has_default_action(SIGUSR1));
  }

  TEST_CASE("loops of two threads are told each in its own") {
    std::thread::id told_here;
    std::thread::id told_there;
    event_loop here;
    here.add_signal_handler(SIGUSR1, [&] {
      told_here = std::this_thread::get_id();
      here.stop();
    });
    // Ready when the other thread has its handler, too.
    std::thread other([&] {
      event_loop there;
      there.add_signal_handler(SIGUSR1, [&] {
        told_there = std::this_thread::get_id();
        there.stop();
      });
      here.call_soon_threadsafe([] { ::kill(::getpid(), SIGUSR1); });
      there.run_forever();
    });
    const auto id = other.get_id();
    here.run_forever();
    other.join();
    CHECK(told_here == std::this_thread::get_id());
    CHECK(told_there == id);
    here.close();
    CHECK(has_default_action(SIGUSR1));
  }

  TEST_CASE("a loop on the user's context leaves nothing there when it is closed") {
    asio::io_context context;
    int called = 0;
    {
      event_loop loop(context);
      loop.add_signal_handler(SIGUSR1, [&] { ++called; });
      ::raise(SIGUSR1);
      context.poll();
      CHECK(called == 1);
      ::raise(SIGUSR1);
      loop.close();
    }
    context.restart();
    context.run();  // comes back: nothing is pending
    CHECK(called == 1);
    CHECK(has_default_action(SIGUSR1));
  }

  TEST_CASE("a handler does not keep virtual time from passing") {
    event_loop loop(clock_kind::virtual_time);
    loop.add_signal_handler(SIGUSR1, [] {});
    loop.run_until_complete([] { return pulsar::sleep(1h); });
    CHECK(loop.time() == event_loop::time_point() + 1h);
  }

  CORO_TEST_CASE_REAL("the loop may go at any moment of a wait for a signal") {
    auto& loop = event_loop::current();
    const auto caught = [](event_loop& l, int signal) -> future<> {
      // The handler goes with the loop, and what it holds with the handler.
      const auto p = std::make_shared<promise<>>(l);
      l.add_signal_handler(signal, [p] {
        if (!p->done()) p->set_value();
      });
      co_await p->get_future();
    };
    auto f = caught(loop, SIGUSR1);
    loop.call_soon([] { ::raise(SIGUSR1); });
    co_await std::move(f);
    auto g = caught(loop, SIGUSR1);
    co_await pulsar::sleep(0s);
    ::raise(SIGUSR1);
    co_await std::move(g);
    CHECK(loop.remove_signal_handler(SIGUSR1));
  }
}
