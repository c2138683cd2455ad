// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/interop.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/experimental/deferred.hpp>
#include <asio/io_context.hpp>
#include <asio/execution.hpp>
#include <asio/execution_context.hpp>
#include <asio/query.hpp>
#include <asio/steady_timer.hpp>
#include <asio/strand.hpp>
#include <asio/this_coro.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/use_future.hpp>

#include "support/coro_test.hpp"
#include "support/futures.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::code_of;
using pulsar::as_future;
using pulsar::as_result;
using pulsar::async_run;
using pulsar::async_wait;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;

namespace {

future<std::string> slow_text(std::string text) {
  co_await pulsar::sleep(1ms);
  co_return text;
}

future<int> fail_slowly() {
  co_await pulsar::sleep(1ms);
  throw std::runtime_error("broken");
}

// How it ended: 0 not yet, 1 cancelled, 2 of itself.
future<> endless(std::shared_ptr<std::atomic<int>> ended) {
  try {
    co_await pulsar::sleep(1h);
    *ended = 2;
  } catch (const pulsar::error&) {
    *ended = 1;
    throw;
  }
}
std::shared_ptr<std::atomic<int>> not_ended() { return std::make_shared<std::atomic<int>>(0); }

using codes = std::vector<std::error_code>;

std::string text_of(const std::exception_ptr& e) { return pulsar::detail::describe(e); }

// A context of Asio that runs in a thread of its own.
class asio_thread {
 public:
  ~asio_thread() {
    work_.reset();
    thread_.join();
  }
  asio::io_context& context() { return context_; }
  std::thread::id id() const { return thread_.get_id(); }

 private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
  std::thread thread_{[this] { context_.run(); }};
};

// Counts what it gives.
template <class T>
struct counting_allocator {
  using value_type = T;
  explicit counting_allocator(int& n) : count(&n) {}
  template <class U>
  counting_allocator(const counting_allocator<U>& other) : count(other.count) {}
  T* allocate(std::size_t n) {
    ++*count;
    return std::allocator<T>().allocate(n);
  }
  void deallocate(T* p, std::size_t n) { std::allocator<T>().deallocate(p, n); }
  bool operator==(const counting_allocator& other) const { return count == other.count; }
  int* count;
};
struct allocating_handler {
  using allocator_type = counting_allocator<char>;
  allocator_type get_allocator() const { return allocator_type(*count); }
  void operator()(std::exception_ptr) const { *called = true; }
  int* count;
  bool* called;
};

// ---- coroutines of Asio

asio::awaitable<std::string> wait_for_text(std::string text) {
  co_return co_await async_wait(slow_text(text), asio::use_awaitable);
}

asio::awaitable<int> sleep_in_asio(std::chrono::milliseconds delay, int value) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  timer.expires_after(delay);
  co_await timer.async_wait(asio::use_awaitable);
  co_return value;
}

asio::awaitable<void> note_cancellation(std::shared_ptr<std::atomic<int>> ended) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  timer.expires_after(1h);
  try {
    co_await timer.async_wait(asio::use_awaitable);
    *ended = 2;
  } catch (const std::system_error& e) {
    *ended = e.code() == asio::error::operation_aborted ? 1 : 3;
    throw;
  }
}

asio::awaitable<int> fail_in_asio() {
  static_cast<void>(co_await sleep_in_asio(1ms, 0));
  throw std::runtime_error("broken in asio");
}

}  // namespace

TEST_SUITE("interop") {
  // ---- a future for a handler

  TEST_CASE("a callback is called with a value or a failure, never inside the call") {
    event_loop loop(clock_kind::virtual_time);
    std::string text;
    std::string failure;
    bool ready = false;
    loop.call_soon([&] {
      async_wait(slow_text("abc"), [&](std::exception_ptr e, std::string t) {
        CHECK(e == nullptr);
        text = t;
      });
      async_wait(fail_slowly(), [&](std::exception_ptr e, int) { failure = text_of(e); });
      async_wait(pulsar::make_ready_future(), [&](std::exception_ptr e) { ready = e == nullptr; });
      CHECK_FALSE(ready);
    });
    future_test::run(loop);
    CHECK(text == "abc");
    CHECK(failure == "broken");
    CHECK(ready);
  }

  TEST_CASE("asio::use_future gives a std::future, to another thread too") {
    std::promise<std::future<std::string>> out;
    std::thread other([&] {
      event_loop loop;
      loop.run_until_complete([&]() -> future<> {
        out.set_value(async_wait(slow_text("abc"), asio::use_future));
        return pulsar::sleep(20ms);
      });
    });
    auto text = out.get_future().get();
    CHECK(text.get() == "abc");
    other.join();
  }

  TEST_CASE("a deferred wait starts when it is called") {
    event_loop loop(clock_kind::virtual_time);
    std::string text;
    loop.call_soon([&] {
      auto later = async_wait(slow_text("abc"), asio::experimental::deferred);
      std::move(later)([&](std::exception_ptr, std::string t) { text = t; });
    });
    future_test::run(loop);
    CHECK(text == "abc");
  }

  TEST_CASE("the handler runs on its executor, in whatever thread that is") {
    asio_thread other;
    event_loop loop;
    std::atomic<bool> called{false};
    std::thread::id where;
    const auto start = [&] {
      return async_wait(slow_text("abc"), asio::bind_executor(other.context().get_executor(),
                                                              [&](std::exception_ptr, std::string) {
                                                                where = std::this_thread::get_id();
                                                                called = true;
                                                              }));
    };
    loop.run_until_complete([&] {
      start();
      return pulsar::wait_until([&] { return called.load(); }, 1ms);
    });
    CHECK(where == other.id());
  }

  TEST_CASE("the handler's allocator is asked for memory") {
    event_loop loop(clock_kind::virtual_time);
    int count = 0;
    bool called = false;
    asio::thread_pool pool(1);
    loop.call_soon([&] {
      async_wait(pulsar::sleep(1ms),
                 asio::bind_executor(pool.get_executor(), allocating_handler{&count, &called}));
    });
    future_test::run(loop);
    pool.join();
    CHECK(called);
    CHECK(count > 0);
  }

  TEST_CASE("a cancellation slot cancels the future") {
    event_loop loop(clock_kind::virtual_time);
    asio::cancellation_signal signal;
    auto ended = not_ended();
    std::error_code code;
    loop.call_soon([&] {
      async_wait(endless(ended),
                 asio::bind_cancellation_slot(signal.slot(),
                                              [&](std::exception_ptr e) { code = code_of(e); }));
    });
    loop.call_later(1s, [&] { signal.emit(asio::cancellation_type::terminal); });
    future_test::run(loop);
    CHECK(*ended == 1);
    CHECK(code == errc::cancelled);
    CHECK(loop.time() == future_test::at(1s));
    signal.emit(asio::cancellation_type::all);  // there is nobody any more
  }

  TEST_CASE("a loop that closes tells a handler that runs elsewhere") {
    asio_thread other;
    std::promise<std::error_code> told;
    std::optional<pulsar::promise<>> unsettled;
    {
      event_loop loop;
      unsettled.emplace(loop);
      async_wait(unsettled->get_future(),
                 asio::bind_executor(other.context().get_executor(),
                                     [&](std::exception_ptr e) { told.set_value(code_of(e)); }));
    }
    CHECK(told.get_future().get() == errc::loop_closed);
  }

  TEST_CASE("an empty future and a closed loop are told to the handler, never inside the call") {
    event_loop loop(clock_kind::virtual_time);
    codes told;
    const auto note = [&](std::exception_ptr e) { told.push_back(code_of(e)); };
    async_wait(future<>(), note);
    CHECK(told.empty());
    future_test::run(loop);
    CHECK(told == codes{errc::already_called});
    auto left = pulsar::sleep(1h, loop);
    loop.close();
    asio::io_context context;
    async_wait(std::move(left), asio::bind_executor(context.get_executor(), note));
    CHECK(told.size() == 1);
    context.run();
    CHECK(told == codes{errc::already_called, errc::loop_closed});
    // Where no loop is left and the handler has no executor, Asio's own calls it.
    std::promise<std::error_code> here;
    async_wait(future<>(), [&](std::exception_ptr e) { here.set_value(code_of(e)); });
    CHECK(here.get_future().get() == errc::already_called);
  }

  TEST_CASE("a coroutine of Asio may catch that its wait could not begin") {
    event_loop loop;
    loop.close();
    asio::io_context context;
    codes told;
    asio::co_spawn(
        context,
        [](event_loop& closed, codes& to) -> asio::awaitable<void> {
          try {
            co_await async_wait(future<>(), asio::use_awaitable);
          } catch (const pulsar::error& e) {
            to.push_back(e.code());
          }
          try {
            static_cast<void>(co_await async_run(
                closed, [] { return slow_text("late"); }, asio::use_awaitable));
          } catch (const pulsar::error& e) {
            to.push_back(e.code());
          }
        }(loop, told),
        asio::detached);
    context.run();
    CHECK(told == codes{errc::already_called, errc::loop_closed});
  }

  TEST_CASE("a wait that cannot begin is not cancelled either") {
    event_loop closed;
    closed.close();
    asio::io_context context;
    asio::cancellation_signal signal;
    codes told;
    async_run(
        closed, [] { return pulsar::sleep(1h); },
        asio::bind_executor(
            context.get_executor(),
            asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
              told.push_back(code_of(e));
            })));
    signal.emit(asio::cancellation_type::all);
    context.run();
    CHECK(told == codes{errc::loop_closed});
  }

  // ---- coroutines of Asio on the loop

  TEST_CASE("a coroutine of Asio awaits a future of pulsar") {
    event_loop loop;
    std::string text;
    asio::co_spawn(
        loop.context(),
        [&]() -> asio::awaitable<void> {
          text = co_await wait_for_text("abc");
          try {
            co_await async_wait(fail_slowly(), asio::use_awaitable);
          } catch (const std::runtime_error& e) {
            text += e.what();
          }
          loop.stop();
        },
        asio::detached);
    loop.run_forever();
    CHECK(text == "abcbroken");
  }

  CORO_TEST_CASE_REAL("a coroutine of pulsar awaits one of Asio, and through it one of pulsar") {
    const int value = co_await as_future(sleep_in_asio(1ms, 7));
    CHECK(value == 7);
    const auto text = co_await as_future(wait_for_text("abc"));
    CHECK(text == "abc");
    auto failed = co_await as_result(as_future(fail_in_asio()));
    CHECK(failed.message() == "broken in asio");
  }

  CORO_TEST_CASE_REAL("it may be awaited as it is") {
    const int value = co_await sleep_in_asio(1ms, 7);
    CHECK(value == 7);
    const auto text = co_await wait_for_text("a text too long to be kept in the string itself");
    CHECK(text.size() == 47);
    auto named = sleep_in_asio(1ms, 8);
    const int again = co_await std::move(named);
    CHECK(again == 8);
    std::string failure;
    try {
      static_cast<void>(co_await fail_in_asio());
    } catch (const std::runtime_error& e) {
      failure = e.what();
    }
    CHECK(failure == "broken in asio");
    const auto wait = [](std::shared_ptr<std::atomic<int>> ended) -> future<> {
      co_await note_cancellation(ended);
    };
    auto ended = not_ended();
    auto late = co_await as_result(with_timeout(wait(ended), 1ms));
    CHECK(late.code() == errc::timed_out);
    CHECK(*ended == 1);
  }

  TEST_CASE("a coroutine of Asio runs on the loop of the coroutine that awaits it") {
    event_loop a;
    event_loop b;
    asio::execution_context* where = nullptr;
    const auto theirs = [](asio::execution_context*& w) -> asio::awaitable<void> {
      const auto executor = co_await asio::this_coro::executor;
      w = &asio::query(executor, asio::execution::context);
    };
    const auto ours = [](event_loop&, decltype(theirs)& t, asio::execution_context*& w) -> future<> {
      co_await t(w);
    };
    // While neither runs, and while the other does.
    auto first = ours(a, theirs, where);
    a.run_until_complete(std::move(first));
    CHECK(where == &a.context());
    where = nullptr;
    future<> second;
    b.call_soon([&] {
      second = ours(a, theirs, where);
      b.stop();
    });
    b.run_forever();
    CHECK(where == nullptr);
    a.run_until_complete(std::move(second));
    CHECK(where == &a.context());
    auto third = as_future(theirs(where), b);
    b.run_until_complete(std::move(third));
    CHECK(where == &b.context());
  }

  CORO_TEST_CASE_REAL("cancelling reaches through coroutines of both kinds, both ways") {
    auto ended = not_ended();
    auto late = co_await as_result(with_timeout(as_future(note_cancellation(ended)), 1ms));
    CHECK(late.code() == errc::timed_out);
    CHECK(*ended == 1);

    // pulsar, Asio, pulsar.
    auto inner = not_ended();
    const auto through = [](std::shared_ptr<std::atomic<int>> e) -> asio::awaitable<void> {
      co_await async_wait(endless(e), asio::use_awaitable);
    };
    auto outer = co_await as_result(with_timeout(as_future(through(inner)), 1ms));
    CHECK_FALSE(outer.has_value());
    CHECK(*inner == 1);
  }

  TEST_CASE("a coroutine of Asio that is cancelled cancels the future it awaits") {
    event_loop loop;
    asio::cancellation_signal signal;
    auto ended = not_ended();
    std::error_code code;
    asio::co_spawn(
        loop.context(),
        [](std::shared_ptr<std::atomic<int>> e) -> asio::awaitable<void> {
          co_await async_wait(endless(e), asio::use_awaitable);
        }(ended),
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
          code = code_of(e);
          loop.stop();
        }));
    loop.call_later(2ms, [&] { signal.emit(asio::cancellation_type::terminal); });
    loop.run_forever();
    CHECK(*ended == 1);
    CHECK(code == errc::cancelled);
  }

  TEST_CASE("on the user's context coroutines of both kinds run side by side") {
    asio::io_context context;
    event_loop loop(context);
    int sum = 0;
    asio::co_spawn(
        context,
        [](int& to) -> asio::awaitable<void> {
          to += co_await sleep_in_asio(1ms, 1);
          const auto text = co_await wait_for_text("ab");
          to += static_cast<int>(text.size());
        }(sum),
        asio::detached);
    auto ours = [](event_loop& on, int& to) -> future<> {
      to += co_await as_future(sleep_in_asio(2ms, 10), on);
    }(loop, sum);
    context.run();
    CHECK(ours.done());
    CHECK(sum == 13);
    loop.close();
  }

  // ---- other threads

  TEST_CASE("a coroutine of another thread runs work in the loop and waits for it") {
    event_loop loop;
    asio_thread other;
    std::atomic<bool> done{false};
    std::string text;
    std::thread::id there;
    std::thread::id back;
    const auto work = [&]() -> asio::awaitable<void> {
      text = co_await async_run(
          loop,
          [&] {
            there = std::this_thread::get_id();
            return slow_text("abc");
          },
          asio::use_awaitable);
      back = std::this_thread::get_id();
      try {
        co_await async_run(
            loop, [] { return fail_slowly(); }, asio::use_awaitable);
      } catch (const std::runtime_error& e) {
        text += e.what();
      }
      done = true;
    };
    asio::co_spawn(other.context(), work, asio::detached);
    loop.run_until_complete([&] { return pulsar::wait_until([&] { return done.load(); }, 1ms); });
    CHECK(text == "abcbroken");
    CHECK(there == std::this_thread::get_id());
    CHECK(back == other.id());
  }

  TEST_CASE("cancelling in the other thread cancels the work in the loop") {
    event_loop loop;
    asio_thread other;
    asio::cancellation_signal signal;
    std::atomic<bool> done{false};
    std::error_code code;
    auto ended = not_ended();
    asio::steady_timer timer(other.context());
    const auto work = [ended] { return endless(ended); };
    asio::post(other.context(), [&] {
      async_run(
          loop, work,
          asio::bind_executor(
              other.context().get_executor(),
              asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
                code = code_of(e);
                done = true;
              })));
      timer.expires_after(2ms);
      timer.async_wait([&](std::error_code) { signal.emit(asio::cancellation_type::total); });
    });
    loop.run_until_complete([&] { return pulsar::wait_until([&] { return done.load(); }, 1ms); });
    CHECK(code == errc::cancelled);
    CHECK(*ended == 1);
  }

  TEST_CASE("work for a loop that is closed, or closes, fails") {
    std::optional<event_loop> loop(std::in_place);
    asio_thread other;
    std::promise<std::error_code> told;
    async_run(
        *loop, [] { return slow_text("never"); },
        asio::bind_executor(other.context().get_executor(), [&](std::exception_ptr e, std::string) {
          told.set_value(code_of(e));
        }));
    loop->close();
    CHECK(told.get_future().get() == errc::loop_closed);
    std::promise<std::error_code> late;
    async_run(
        *loop, [] { return slow_text("late"); },
        asio::bind_executor(other.context().get_executor(), [&](std::exception_ptr e, std::string) {
          late.set_value(code_of(e));
        }));
    CHECK(late.get_future().get() == errc::loop_closed);
  }

  TEST_CASE("a coroutine of Asio may run in another thread while one of pulsar waits for it") {
    asio_thread other;
    event_loop loop;
    const auto ask = [](asio_thread& t, std::shared_ptr<std::atomic<int>> ended) -> future<> {
      const auto where = t.context().get_executor();
      const int value = co_await as_future(where, sleep_in_asio(1ms, 7));
      CHECK(value == 7);
      auto failed = co_await as_result(as_future(where, fail_in_asio()));
      CHECK(failed.message() == "broken in asio");
      auto late = co_await as_result(with_timeout(as_future(where, note_cancellation(ended)), 1ms));
      CHECK(late.code() == errc::timed_out);
      const auto has_ended = [ended] { return *ended != 0; };
      co_await pulsar::wait_until(has_ended, 1ms);
      CHECK(*ended == 1);
    };
    auto ended = not_ended();
    loop.run_until_complete([&] { return ask(other, ended); });
    // Dropped, and left behind by its loop.
    auto dropped = not_ended();
    auto left = not_ended();
    future<> kept;
    {
      event_loop second;
      loop.close();
      auto f = as_future(other.context().get_executor(), note_cancellation(dropped), second);
      kept = as_future(other.context().get_executor(), note_cancellation(left), second);
    }
    while (*dropped == 0) std::this_thread::yield();
    CHECK(*dropped == 1);
    kept = {};
    while (*left == 0) std::this_thread::yield();
  }

  TEST_CASE("who waits for a coroutine that goes with its context is told, and may be dropped") {
    for (const bool began : {false, true}) {
      event_loop loop;
      std::optional<asio::io_context> other;
      other.emplace(1);
      auto told = as_result(as_future(other->get_executor(), sleep_in_asio(1h, 7), loop));
      auto dropped = as_future(other->get_executor(), sleep_in_asio(1h, 7), loop);
      if (began) other->poll();
      CHECK_FALSE(told.done());
      other.reset();
      dropped = {};
      const auto ended = loop.run_until_complete(std::move(told));
      CHECK(ended.code() == errc::broken_promise);
    }
  }

  TEST_CASE("a future that is done refers to no executor any more") {
    event_loop loop;
    future<int> answer;
    {
      asio::thread_pool pool(1);
      answer = as_future(asio::make_strand(pool), sleep_in_asio(0ms, 7), loop);
      const auto wait = [](event_loop&, future<int>& f) -> future<int> { co_return co_await f; };
      CHECK(loop.run_until_complete(wait(loop, answer)) == 7);
      pool.join();
    }
    answer = {};  // the strand would have gone here, behind its pool
  }

  TEST_CASE("a user's context runs until a coroutine that runs elsewhere has ended") {
    asio_thread other;
    asio::io_context context;
    event_loop loop(context);
    auto answer = as_future(other.context().get_executor(), sleep_in_asio(20ms, 7), loop);
    context.run();
    CHECK(answer.done());
    CHECK(answer.result() == 7);
    loop.close();
  }
}
