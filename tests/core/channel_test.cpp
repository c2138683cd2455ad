// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/channel.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/futures.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::code_of;
using future_test::error_of;
using pulsar::as_result;
using pulsar::channel;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;

namespace {

// Shared: a coroutine that is dropped may go on for a while.
using numbers = std::shared_ptr<channel<int>>;
using seen = std::shared_ptr<std::vector<int>>;

numbers new_channel(std::size_t most) { return std::make_shared<channel<int>>(most); }
seen nothing_seen() { return std::make_shared<std::vector<int>>(); }

future<> send_all(numbers to, int first, int last) {
  for (int i = first; i < last; ++i) co_await to->send(i);
}

// Until the channel is closed.
future<> receive_all(numbers from, seen all) {
  for (;;) {
    auto next = co_await as_result(from->receive());
    if (!next) break;
    all->push_back(*next);
  }
}

}  // namespace

TEST_SUITE("channel") {
  // ---- one loop

  CORO_TEST_CASE("items come out in the order in which they went in") {
    auto c = new_channel(2);
    auto all = nothing_seen();
    auto receiving = receive_all(c, all);
    co_await send_all(c, 0, 10);
    c->close();
    co_await std::move(receiving);
    CHECK(*all == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  }

  CORO_TEST_CASE("a sender waits while it is full, and no longer") {
    channel<std::string> c(1);
    auto first = c.send("a");
    CHECK(first.done());
    auto second = c.send("b");
    auto third = c.send("c");
    CHECK_FALSE(second.done());
    std::string text = "d";
    CHECK_FALSE(c.try_send(text));
    CHECK(text == "d");
    CHECK(*c.try_receive() == "a");
    co_await std::move(second);
    CHECK_FALSE(third.done());
    CHECK(c.size() == 1);
    auto b = co_await c.receive();
    auto last = co_await c.receive();
    CHECK(b + last == "bc");
    co_await std::move(third);
    CHECK_FALSE(c.try_receive().has_value());
    CHECK(c.try_send(text));
  }

  CORO_TEST_CASE("those who wait are served in the order in which they came") {
    channel<int> c(1);
    auto one = c.receive();
    auto two = c.receive();
    co_await c.send(1);
    co_await c.send(2);
    CHECK_FALSE(c.try_receive().has_value());  // they are on their way
    const int first = co_await std::move(one);
    const int second = co_await std::move(two);
    CHECK(first == 1);
    CHECK(second == 2);
  }

  CORO_TEST_CASE(
      "a receiver that is cancelled or dropped leaves its place, and takes nothing along") {
    const without_debug_mode scope;  // it drops futures on purpose
    channel<int> c(1);
    auto gone = c.receive();
    auto dropped = c.receive();
    auto stays = c.receive();
    gone.cancel();
    dropped = {};
    CHECK(gone.cancelled());
    co_await c.send(1);
    const int value = co_await std::move(stays);
    CHECK(value == 1);
    auto late = co_await as_result(with_timeout(c.receive(), 1ms));
    CHECK(late.code() == errc::timed_out);
  }

  CORO_TEST_CASE("an item whose receiver is dropped on its way goes to the next, or back") {
    const without_debug_mode scope;  // it drops futures on purpose
    channel<int> c(4);
    auto one = c.receive();
    auto two = c.receive();
    co_await c.send(1);
    one = {};  // it was served
    const int value = co_await std::move(two);
    CHECK(value == 1);

    auto three = c.receive();
    co_await c.send(3);
    co_await c.send(4);
    three = {};
    CHECK(c.size() == 2);
    auto four = c.receive();
    CHECK(four.done());
    four = {};  // done, and never looked at
    const int again = co_await c.receive();
    CHECK(again == 3);
    const int last = co_await c.receive();
    CHECK(last == 4);
    CHECK(c.size() == 0);
  }

  CORO_TEST_CASE("items that come back stand in the order in which they came") {
    const without_debug_mode scope;  // it drops futures on purpose
    channel<int> c(4);
    auto one = c.receive();
    auto two = c.receive();
    for (int i = 1; i <= 3; ++i) co_await c.send(i);
    one = {};
    two = {};
    std::vector<int> all;
    while (auto next = c.try_receive()) all.push_back(*next);
    CHECK(all == std::vector<int>{1, 2, 3});
  }

  CORO_TEST_CASE("a receiver that is cancelled when it was served has its item") {
    channel<int> c(1);
    auto one = c.receive();
    co_await c.send(1);
    one.cancel();
    CHECK(one.done());
    const int value = co_await std::move(one);
    CHECK(value == 1);
  }

  CORO_TEST_CASE(
      "a sender that is cancelled takes its item with it, one that was served does not") {
    channel<std::unique_ptr<int>> c(1);
    co_await c.send(std::make_unique<int>(1));
    auto two = c.send(std::make_unique<int>(2));
    auto three = c.send(std::make_unique<int>(3));
    two.cancel();
    CHECK(two.cancelled());
    auto first = c.try_receive();
    CHECK(**first == 1);
    three.cancel();  // it was served by then
    auto sent = co_await as_result(std::move(three));
    CHECK(sent.has_value());
    auto second = co_await c.receive();
    CHECK(*second == 3);
  }

  CORO_TEST_CASE("after close what is in it comes out, and everybody else fails") {
    channel<int> c(1);
    auto waiting = c.receive();
    c.close();
    c.close();
    auto r = co_await as_result(std::move(waiting));
    CHECK(r.code() == errc::closed);

    channel<int> d(1);
    co_await d.send(1);
    auto stuck = d.send(2);
    d.close();
    CHECK(d.closed());
    auto s = co_await as_result(std::move(stuck));
    CHECK(s.code() == errc::closed);
    const int value = co_await d.receive();
    CHECK(value == 1);
    auto none = co_await as_result(d.receive());
    CHECK(none.code() == errc::closed);
    auto refused = co_await as_result(d.send(3));
    CHECK(refused.code() == errc::closed);
    CHECK(error_of([&d] { d.try_send(3); }) == errc::closed);
    CHECK_FALSE(d.try_receive().has_value());
  }

  TEST_CASE("a channel must have room") {
    CHECK(error_of([] { channel<int> none(0); }) == std::errc::invalid_argument);
  }

  TEST_CASE("futures may outlive the channel, and the loop") {
    future<int> received;
    future<> sent;
    std::optional<channel<int>> c(1);
    {
      event_loop loop(clock_kind::virtual_time);
      received = c->receive(loop);
      c->try_send(1);
      c->try_send(2);
      sent = c->send(3, loop);
    }
    c->try_receive();
    c.reset();
    CHECK_FALSE(sent.done());
    CHECK_FALSE(received.done());
  }

  TEST_CASE("an item on its way to a loop that closes comes back") {
    channel<int> c(2);
    future<int> received;
    {
      event_loop loop(clock_kind::virtual_time);
      received = c.receive(loop);
      c.try_send(1);
      CHECK(c.size() == 0);
    }
    CHECK(c.size() == 1);
    CHECK(c.try_receive() == 1);

    // One who waits in a loop that is gone is passed over.
    event_loop loop(clock_kind::virtual_time);
    auto next = c.receive(loop);
    received = {};
    c.try_send(2);
    CHECK(loop.run_until_complete(std::move(next)) == 2);
  }

  // ---- threads

  TEST_CASE("blocking forms refuse the thread of a loop") {
    event_loop loop(clock_kind::virtual_time);
    channel<int> c(1);
    const auto try_it = [](channel<int>& on) -> future<> {
      CHECK(error_of([&] { on.receive_wait(); }) == errc::already_running);
      CHECK(error_of([&] { on.send_wait(1); }) == errc::already_running);
      co_return;
    };
    loop.run_until_complete([&] { return try_it(c); });
  }

  TEST_CASE("threads without a loop wait for each other, or for a while") {
    channel<int> c(1);
    CHECK(error_of([&] { c.receive_wait(1ms); }) == errc::timed_out);
    c.send_wait(1);
    CHECK(error_of([&] { c.send_wait(2, 1ms); }) == errc::timed_out);
    std::thread other([&] {
      for (int i = 2; i < 100; ++i) c.send_wait(i);
      c.close();
    });
    std::vector<int> all;
    while (!error_of([&] { all.push_back(c.receive_wait()); })) {
    }
    other.join();
    CHECK(all.size() == 99);
    CHECK(all.front() == 1);
    CHECK(all.back() == 99);
    CHECK(error_of([&] { c.receive_wait(); }) == errc::closed);
    CHECK(error_of([&] { c.send_wait(1); }) == errc::closed);
  }

  TEST_CASE("the longest limit is none") {
    channel<int> c(1);
    std::thread other([&] {
      for (int i = 0; i < 100; ++i) c.send_wait(i, std::chrono::nanoseconds::max());
    });
    for (int i = 0; i < 100; ++i) CHECK(c.receive_wait(std::chrono::nanoseconds::max()) == i);
    other.join();
  }

  TEST_CASE("a channel that ends wakes the threads that wait at it") {
    std::optional<channel<int>> c(1);
    std::atomic<int> began{0};
    std::error_code seen;
    std::thread other([&] {
      channel<int>& mine = *c;
      ++began;
      seen = error_of([&] { mine.receive_wait(); });
    });
    while (began == 0) std::this_thread::yield();
    c->close();
    other.join();
    c.reset();
    CHECK(seen == errc::closed);
  }

  TEST_CASE("loops and threads send and receive at once, and every item arrives once") {
    constexpr int each = 2'000;
    auto c = new_channel(16);
    std::mutex lock;
    std::vector<int> count(static_cast<std::size_t>(4 * each));
    std::atomic<int> senders{4};
    const auto keep = [&](const std::vector<int>& some) {
      const std::lock_guard guard(lock);
      for (const int i : some) ++count[static_cast<std::size_t>(i)];
    };
    const auto sent = [&] {
      if (--senders == 0) c->close();
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        for (int i = t * each; i < (t + 1) * each; ++i) c->send_wait(i);
        sent();
      });
      threads.emplace_back([&, t] {
        event_loop loop;
        loop.run_until_complete([&] { return send_all(c, (t + 2) * each, (t + 3) * each); });
        sent();
      });
      threads.emplace_back([&] {
        std::vector<int> mine;
        while (!error_of([&] { mine.push_back(c->receive_wait()); })) {
        }
        keep(mine);
      });
      threads.emplace_back([&] {
        event_loop loop;
        auto mine = nothing_seen();
        const auto several = [](numbers from, seen all) -> future<> {
          co_await pulsar::when_all(receive_all(from, all), receive_all(from, all),
                                    receive_all(from, all));
        };
        loop.run_until_complete([&] { return several(c, mine); });
        keep(*mine);
      });
    }
    for (auto& t : threads) t.join();
    CHECK(count == std::vector<int>(count.size(), 1));
  }

  TEST_CASE("receivers that give up all the time lose nothing") {
    constexpr int items = 3'000;
    auto c = new_channel(4);
    std::vector<int> all;
    std::thread sender([&] {
      for (int i = 0; i < items; ++i) c->send_wait(i);
      c->close();
    });
    // Some are dropped while they wait, when they were served, and when they are done.
    const auto impatient = [](numbers from, std::vector<int>& to) -> future<> {
      for (int n = 0;; ++n) {
        auto one = from->receive();
        auto two = from->receive();
        if (n % 3 == 0) co_await pulsar::sleep(0s);
        one = {};
        if (n % 5 == 0) two.cancel();
        auto got = co_await as_result(std::move(two));
        if (got) {
          to.push_back(*got);
        } else if (got.code() == errc::closed) {
          break;
        }
      }
    };
    event_loop loop;
    loop.run_until_complete([&] { return impatient(c, all); });
    sender.join();
    // The last one may have come back when the other was told that there are no more.
    while (const auto rest = c->try_receive()) all.push_back(*rest);
    std::sort(all.begin(), all.end());
    CHECK(all.size() == items);
    CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
  }

  TEST_CASE("loops come and go while others send") {
    constexpr int items = 2'000;
    auto c = new_channel(8);
    std::atomic<int> got{0};
    std::thread sender([&] {
      for (int i = 0; i < items; ++i) c->send_wait(i);
      c->close();
    });
    std::thread visitor([&] {
      while (!c->closed()) {
        event_loop loop;
        auto one = c->receive(loop);
        auto two = c->receive(loop);
        const auto first = [](event_loop&, future<int> f, std::atomic<int>& n) -> future<> {
          auto r = co_await as_result(std::move(f));
          if (r) ++n;
        };
        loop.run_until_complete(first(loop, std::move(one), got));
        // The second one's item comes back with the end of the loop.
      }
    });
    event_loop loop;
    auto all = nothing_seen();
    loop.run_until_complete([&] { return receive_all(c, all); });
    sender.join();
    visitor.join();
    while (c->try_receive()) ++got;
    CHECK(static_cast<int>(all->size()) + got == items);
  }
}
