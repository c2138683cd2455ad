// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/testing/virtual_time.hpp>

#include <pulsar/core/async_event.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
namespace testing = pulsar::testing;

namespace {

std::string text_of(auto&& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing";
}

}  // namespace

TEST_SUITE("virtual_time") {
  TEST_CASE("run gives the result, and hours take no time") {
    const auto began = std::chrono::steady_clock::now();
    const int hours = testing::run([](event_loop& loop) -> future<int> {
      co_await pulsar::sleep(5h, loop);
      co_return static_cast<int>(loop.time().time_since_epoch() / 1h);
    });
    CHECK(hours == 5);
    CHECK(std::chrono::steady_clock::now() - began < 1h);
  }

  TEST_CASE("a body without parameter is on the loop too, and may capture") {
    int seen = 0;
    testing::run([&seen]() -> future<> {
      co_await pulsar::sleep(1s);
      seen = 1;
    });
    CHECK(seen == 1);
  }

  TEST_CASE("what the body throws is thrown") {
    CHECK(text_of([] {
            testing::run([](event_loop&) -> future<> {
              throw std::runtime_error("the body");
              co_return;
            });
          }) == "the body");
  }

  TEST_CASE("a failure that nobody awaits is thrown when the body has ended") {
    CHECK(text_of([] {
            testing::run([](event_loop& loop) -> future<> {
              loop.call_soon([] { throw std::runtime_error("a callback"); });
              co_await pulsar::sleep(1s, loop);
            });
          }) == "a callback");
  }

  TEST_CASE("a body that waits for what never happens is told so") {
    const auto stuck = [] {
      testing::run([](event_loop& loop) -> future<> {
        pulsar::async_event never;
        co_await never.wait(loop);
      });
    };
    CHECK(text_of(stuck).find("waits for what never happens") != std::string::npos);
  }

  TEST_CASE("what the body leaves behind has ended when run returns") {
    const auto held = std::make_shared<int>(0);
    testing::run([held](event_loop& loop) -> future<> {
      [](event_loop& l, std::shared_ptr<int> h) -> future<> {
        co_await pulsar::sleep(1h, l);
        ++*h;
      }(loop, held).detach();
      return pulsar::make_ready_future();
    });
    CHECK(*held == 0);
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("by the steady clock it waits for other threads, as long as it is told") {
    std::thread other;
    const auto woken = [&other](event_loop& loop) -> future<> {
      auto promise = std::make_shared<pulsar::promise<>>(loop);
      other = std::thread([&loop, promise] {
        loop.call_soon_threadsafe([promise] { promise->set_value(); });
      });
      return promise->get_future();
    };
    testing::run(woken, {.clock = clock_kind::steady});
    other.join();
    const auto never = [](event_loop& loop) -> future<> {
      pulsar::async_event nobody;
      co_await nobody.wait(loop);
    };
    CHECK(text_of([&] {
            testing::run(never, {.clock = clock_kind::steady, .patience = 1ms});
          }).find("never happens") != std::string::npos);
  }
}
