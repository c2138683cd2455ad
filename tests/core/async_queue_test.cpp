// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/async_queue.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::async_priority_queue;
using pulsar::async_queue;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::task_group;

namespace {

future<> produce(async_queue<int>& to, int first, int count) {
  for (int i = first; i < first + count; ++i) co_await to.put(i);
}

future<> consume(async_queue<int>& from, std::vector<int>& got) {
  for (;;) {
    auto next = co_await as_result(from.get());
    if (!next) break;
    got.push_back(*next);
    co_await pulsar::sleep(1ms);
    from.task_done();
  }
}

}  // namespace

TEST_SUITE("async_queue") {
  CORO_TEST_CASE("items go through in order, and who puts waits while it is full") {
    async_queue<int> queue(2);
    std::vector<int> got;
    task_group group;
    group.add(produce(queue, 0, 6));
    CHECK(queue.full());
    CHECK(queue.size() == 2);
    group.add(consume(queue, got));
    co_await pulsar::sleep(100ms);
    co_await queue.join();
    queue.close();
    co_await group.join();
    CHECK(got == std::vector<int>{0, 1, 2, 3, 4, 5});
    CHECK(queue.empty());
  }

  CORO_TEST_CASE("who waits for an item has the next one, first come, first served") {
    async_queue<std::unique_ptr<int>> queue;
    auto first = queue.get();
    auto second = queue.get();
    co_await queue.put(std::make_unique<int>(1));
    co_await queue.put(std::make_unique<int>(2));
    CHECK(queue.empty());
    const auto one = co_await std::move(first);
    const auto two = co_await std::move(second);
    CHECK(*one == 1);
    CHECK(*two == 2);
  }

  CORO_TEST_CASE("who is cancelled while it waits takes nothing and brings nothing") {
    async_queue<int> queue(1);
    auto nobody = queue.get();
    CHECK(nobody.cancel());
    co_await queue.put(1);
    auto never = queue.put(2);
    auto third = queue.put(3);
    CHECK_FALSE(never.done());
    CHECK(never.cancel());
    const int one = co_await queue.get();
    CHECK(one == 1);
    co_await std::move(third);
    const int three = co_await queue.get();
    CHECK(three == 3);
    CHECK(queue.empty());
    const auto cancelled = co_await as_result(std::move(never));
    CHECK(cancelled.code() == errc::cancelled);
  }

  CORO_TEST_CASE("a limit of time on get loses no item") {
    async_queue<int> queue;
    const auto late = co_await as_result(pulsar::with_timeout(queue.get(), 5ms));
    CHECK(late.code() == errc::timed_out);
    co_await queue.put(1);
    const int one = co_await queue.get();
    CHECK(one == 1);
  }

  CORO_TEST_CASE("an item that nobody took goes back when its future is dropped, and is the next") {
    async_queue<std::unique_ptr<int>> queue(3);
    for (int i = 1; i <= 3; ++i) queue.try_put(std::make_unique<int>(i));
    {
      auto first = queue.get();
      auto second = queue.get();
      auto third = queue.get();
      CHECK(second.done());
      CHECK(first.done());
      CHECK(queue.empty());
      second = {};
      first = {};
      CHECK(queue.size() == 2);
      const auto three = co_await std::move(third);
      CHECK(*three == 3);
    }
    CHECK(queue.size() == 2);
    for (int i = 1; i <= 2; ++i) {
      const auto got = co_await queue.get();
      CHECK(*got == i);
    }
    CHECK(queue.empty());
  }

  CORO_TEST_CASE("so does one that came while its future waited; somebody who waits then has it") {
    async_queue<int> queue(1);
    auto first = queue.get();
    auto second = queue.get();
    co_await queue.put(1);
    CHECK(first.done());
    CHECK_FALSE(second.done());
    first = {};
    CHECK(second.done());
    const int one = co_await std::move(second);
    CHECK(one == 1);
    co_await queue.put(2);
    auto waiting = queue.put(3);
    auto two = queue.get();
    CHECK(waiting.done());
    CHECK(two.done());
    two = {};
    CHECK(queue.size() == 2);
    auto fourth = queue.put(4);
    const int again = co_await queue.get();
    CHECK(again == 2);
    CHECK_FALSE(fourth.done());  // 3 is in it
    const int three = co_await queue.get();
    CHECK(three == 3);
    CHECK(fourth.done());
  }

  CORO_TEST_CASE(
      "an item that comes back is got from a closed queue, and dropped with one that ended") {
    const auto item = std::make_shared<int>(1);
    future<std::shared_ptr<int>> kept;
    {
      async_queue<std::shared_ptr<int>> queue;
      queue.try_put(item);
      auto got = queue.get();
      CHECK(got.done());
      queue.close();
      got = {};
      const auto still = co_await queue.get();
      CHECK(still == item);
      const auto over = co_await as_result(queue.get());
      CHECK(over.code() == errc::closed);
      queue.task_done();
      co_await queue.join();
    }
    {
      async_queue<std::shared_ptr<int>> queue;
      queue.try_put(item);
      kept = queue.get();
    }
    CHECK(kept.done());
    kept = {};
    CHECK(item.use_count() == 1);
  }

  CORO_TEST_CASE("an item that throws when it is handed over fails the one who waited") {
    struct shy {
      explicit shy(int m) : moves(m) {}
      shy(shy&& other) : moves(other.moves - 1) {
        if (moves < 0) throw std::length_error("seen too often");
      }
      int moves;
    };
    async_queue<shy> queue;
    auto waiting = queue.get();
    shy item(0);
    CHECK(queue.try_put(std::move(item)));
    const auto got = co_await as_result(std::move(waiting));
    CHECK(got.message() == "seen too often");
  }

  CORO_TEST_CASE("try_put and try_get never wait") {
    async_queue<std::string> queue(1);
    CHECK_FALSE(queue.try_get());
    std::string text = "kept";
    CHECK(queue.try_put("first"));
    CHECK_FALSE(queue.try_put(text));
    CHECK(text == "kept");
    CHECK(queue.try_get() == "first");
    auto waiting = queue.get();
    CHECK(queue.try_put(text));
    const auto got = co_await std::move(waiting);
    CHECK(got == "kept");
  }

  CORO_TEST_CASE("a closed queue gives what is in it and takes nothing more") {
    async_queue<int> queue(1);
    co_await queue.put(1);
    auto waiting = queue.put(2);
    queue.close();
    CHECK(queue.closed());
    const auto refused = co_await as_result(std::move(waiting));
    CHECK(refused.code() == errc::closed);
    const auto late = co_await as_result(queue.put(3));
    CHECK(late.code() == errc::closed);
    CHECK_THROWS_AS(queue.try_put(3), pulsar::error);
    const int one = co_await queue.get();
    CHECK(one == 1);
    const auto over = co_await as_result(queue.get());
    CHECK(over.code() == errc::closed);
  }

  CORO_TEST_CASE("closing tells those who wait for an item") {
    async_queue<int> queue;
    auto waiting = queue.get();
    queue.close();
    const auto over = co_await as_result(std::move(waiting));
    CHECK(over.code() == errc::closed);
  }

  CORO_TEST_CASE("join is done when all that came in is dealt with") {
    async_queue<int> queue;
    auto nothing = queue.join();
    CHECK(nothing.done());
    co_await queue.put(1);
    co_await queue.put(2);
    auto all = queue.join();
    static_cast<void>(queue.try_get());
    static_cast<void>(queue.try_get());
    queue.task_done();
    CHECK_FALSE(all.done());
    queue.task_done();
    CHECK(all.done());
    CHECK_THROWS_AS(queue.task_done(), std::system_error);
    co_return;
  }

  CORO_TEST_CASE("who waits when it ends fails") {
    future<int> taking;
    {
      async_queue<int> queue;
      taking = queue.get();
    }
    const auto ended = co_await as_result(std::move(taking));
    CHECK(ended.code() == errc::broken_promise);
  }

  TEST_CASE("who waits when its loop closes leaves the line, and swallows nothing") {
    async_queue<int> queue(1);
    future<int> kept;
    future<> late;
    {
      event_loop gone;
      kept = queue.get(gone);
      auto guard = std::make_shared<int>();
      const std::weak_ptr<int> alive = guard;
      kept.add_done_callback([g = std::move(guard)] { FAIL("its loop is closed"); });
      queue.get(gone).detach();
      gone.close();
      CHECK(kept.cancelled());
      CHECK(alive.expired());
    }
    event_loop loop;
    CHECK(queue.try_put(1));
    CHECK(queue.size() == 1);
    {
      event_loop gone;
      late = queue.put(2, gone);
    }
    CHECK(late.cancelled());
    CHECK(loop.run_until_complete(queue.get(loop)) == 1);
    CHECK(queue.empty());  // the one that was to be put went with its loop
  }

  TEST_CASE("an item that was given to a future of a closed loop goes back when that is dropped") {
    async_queue<int> queue;
    event_loop loop;
    auto next = [&queue] {
      event_loop gone;
      auto given = queue.get(gone);
      CHECK(queue.try_put(1));
      return given;
    }();
    auto waiting = queue.get(loop);
    CHECK(next.done());
    next = {};
    CHECK(loop.run_until_complete(std::move(waiting)) == 1);
  }

  TEST_CASE("a queue without room is refused") {
    CHECK_THROWS_AS(async_queue<int>(0), std::system_error);
  }
}

TEST_SUITE("async_priority_queue") {
  CORO_TEST_CASE("the least goes first, among equals the one that came first") {
    struct job {
      int urgency;
      std::string name;
    };
    struct sooner {
      bool operator()(const job& a, const job& b) const { return a.urgency < b.urgency; }
    };
    async_priority_queue<job, sooner> queue;
    for (const char* name : {"a", "b", "c"}) {
      job low{5, name};
      job high{1, std::string("urgent ") + name};
      queue.try_put(low);
      queue.try_put(high);
    }
    std::string order;
    while (auto next = queue.try_get()) order += next->name + ", ";
    CHECK(order == "urgent a, urgent b, urgent c, a, b, c, ");
    co_return;
  }

  CORO_TEST_CASE("an item that comes back has its old place among equals") {
    struct tens {
      bool operator()(int a, int b) const { return a / 10 < b / 10; }
    };
    async_priority_queue<int, tens> queue;
    for (const int i : {31, 32, 33, 11}) queue.try_put(i);
    auto first = queue.get();
    auto second = queue.get();
    auto third = queue.get();
    CHECK(second.done());
    CHECK(third.done());
    third = {};
    second = {};
    const int eleven = co_await std::move(first);
    CHECK(eleven == 11);
    for (const int i : {31, 32, 33}) CHECK(queue.try_get() == i);
  }

  CORO_TEST_CASE("who waits to put comes in when there is room") {
    async_priority_queue<int> queue(1);
    co_await queue.put(5);
    auto waiting = queue.put(1);
    const int five = co_await queue.get();
    CHECK(five == 5);
    co_await std::move(waiting);
    const int one = co_await queue.get();
    CHECK(one == 1);
  }
}
