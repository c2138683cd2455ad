// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/future.hpp>

#include <pulsar/core/async_mutex.hpp>
#include <pulsar/core/async_queue.hpp>
#include <pulsar/core/channel.hpp>
#include <pulsar/core/generator.hpp>
#include <pulsar/core/operation.hpp>
#include <pulsar/core/shared_future.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>
#include <pulsar/core/when_any.hpp>

#include <asio/buffer.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/steady_timer.hpp>
#include <fmt/format.h>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/death.hpp"
#include "support/futures.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::code_of;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::promise;

// ---- counting allocations

// Sanitizers have an allocator of their own, and their frames are never recycled.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS_ALLOCATIONS false
#else
#define COUNTS_ALLOCATIONS true
#endif
#else
#define COUNTS_ALLOCATIONS true
#endif

namespace {

constexpr bool counts_allocations = COUNTS_ALLOCATIONS;
#if COUNTS_ALLOCATIONS
thread_local std::size_t allocations = 0;
#else
constexpr std::size_t allocations = 0;
#endif

// Sanitizers make a long chain of frames expensive.
#if defined(__SANITIZE_THREAD__)
constexpr int chain_length = 100'000;
constexpr int throwing_length = 20'000;
#else
constexpr int chain_length = 1'000'000;
constexpr int throwing_length = 50'000;
#endif

}  // namespace

#if COUNTS_ALLOCATIONS
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void* malloc(std::size_t size) noexcept {
  ++allocations;
  return __libc_malloc(size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  ++allocations;
  return __libc_memalign(alignment, size);
}
}
void* operator new(std::size_t size) {
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace {

using local_socket = asio::local::stream_protocol::socket;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

template <class F>
std::error_code error_of(F&& f) {
  try {
    f();
  } catch (const pulsar::error& e) {
    return e.code();
  }
  return {};
}

// Runs the handlers that are ready.
void turn(event_loop& loop) {
  loop.context().restart();
  loop.context().poll();
}

future<int> immediate(event_loop&, int value) { co_return value; }

future<int> twice(event_loop&, future<int> f) { co_return 2 * co_await std::move(f); }

future<> fail_with(event_loop&, std::string text) {
  throw std::runtime_error(text);
  co_return;
}

// Fails after it was suspended once.
future<> fail_later(event_loop& loop, std::string text) {
  co_await pulsar::sleep(1ms, loop);
  throw std::runtime_error(text);
}

// What becomes of an await: its code, empty for a value.
future<std::error_code> outcome(event_loop&, future<> f) {
  try {
    co_await std::move(f);
  } catch (const pulsar::error& e) {
    co_return e.code();
  }
  co_return std::error_code{};
}

// Appends a number when it is destroyed.
struct mark {
  mark(std::vector<int>& o, int n) : order(&o), number(n) {}
  mark(mark&& other) noexcept : order(std::exchange(other.order, nullptr)), number(other.number) {}
  ~mark() {
    if (order != nullptr) order->push_back(number);
  }
  std::vector<int>* order;
  int number;
};

// No default, no copy, no assignment.
struct demanding {
  explicit demanding(int v) : value(v) {}
  demanding(demanding&& other) noexcept : value(std::exchange(other.value, -1)) {}
  demanding& operator=(demanding&&) = delete;
  int value;
};

struct reports {
  explicit reports(event_loop& loop) {
    loop.set_exception_handler([this](const failure_report& r) { all.push_back(r); });
  }
  std::vector<failure_report> all;
};

std::vector<std::string> logged;
void keep_log(pulsar::log_level, std::string_view line) { logged.emplace_back(line); }

}  // namespace

TEST_SUITE("future") {
  // ---- results

  TEST_CASE("a coroutine runs at once, up to its first await") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<int> order;
    auto f = [](event_loop& l, std::vector<int>& o) -> future<int> {
      o.push_back(1);
      co_await pulsar::sleep(1ms, l);
      o.push_back(3);
      co_return 7;
    }(loop, order);
    order.push_back(2);
    CHECK(f.valid());
    CHECK_FALSE(f.done());
    CHECK(error_of([&] { f.result(); }) == errc::not_ready);
    CHECK(error_of([&] { static_cast<void>(f.exception()); }) == errc::not_ready);
    loop.context().run();
    CHECK(order == std::vector<int>{1, 2, 3});
    CHECK(f.done());
    CHECK(f.exception() == nullptr);
    CHECK(f.result() == 7);
    CHECK(error_of([&] { f.result(); }) == errc::already_called);
    CHECK(&f.loop() == &loop);
  }

  TEST_CASE("a coroutine without an await is done when it returns") {
    event_loop loop;
    auto f = immediate(loop, 5);
    CHECK(f.done());
    CHECK(f.result() == 5);
    auto nothing = [](event_loop&) -> future<> { co_return; }(loop);
    CHECK(nothing.done());
    nothing.result();
  }

  TEST_CASE("an empty future is not valid") {
    event_loop loop;
    future<int> f;
    CHECK_FALSE(f.valid());
    CHECK_FALSE(f.cancel());
    f.detach();
    f = immediate(loop, 1);
    CHECK(f.valid());
    future<int> moved = std::move(f);
    CHECK_FALSE(f.valid());
    CHECK(moved.valid());
    auto& same = moved;
    moved = std::move(same);
    CHECK(moved.result() == 1);
    moved.detach();
    CHECK_FALSE(moved.valid());
    static_assert(!std::is_copy_constructible_v<future<int>>);
    static_assert(std::is_nothrow_move_assignable_v<future<int>>);
  }

  TEST_CASE("results may be move-only, without a default, or large") {
    event_loop loop;
    auto pointer = [](event_loop&) -> future<std::unique_ptr<int>> {
      co_return std::make_unique<int>(3);
    }(loop);
    CHECK(*pointer.result() == 3);
    auto strict = [](event_loop& l) -> future<demanding> {
      co_return co_await [](event_loop&) -> future<demanding> { co_return demanding(4); }(l);
    }(loop);
    CHECK(strict.result().value == 4);
    auto large = [](event_loop&) -> future<std::array<char, 10'000>> {
      std::array<char, 10'000> a{};
      a[9'999] = 'x';
      co_return a;
    }(loop);
    CHECK(large.result()[9'999] == 'x');
    auto p = loop.create_future<demanding>();
    auto f = p.get_future();
    p.set_value(9);
    CHECK(f.result().value == 9);
  }

  TEST_CASE("a result may be a reference, which is passed on and not copied") {
    event_loop loop;
    demanding target(1);
    const auto reach = [](event_loop&, demanding& d) -> future<demanding&> { co_return d; };
    auto f = [](event_loop& l, demanding& d, auto inner) -> future<demanding&> {
      demanding& reached = co_await inner(l, d);
      ++reached.value;
      co_return reached;
    }(loop, target, reach);
    CHECK(&f.result() == &target);
    CHECK(target.value == 2);

    promise<const demanding&> p(loop);
    auto by_hand = p.get_future();
    p.set_value(target);
    CHECK(&by_hand.result() == &target);

    auto chained = reach(loop, target).then([](demanding& d) -> demanding* { return &d; });
    CHECK(chained.result() == &target);
    auto outcome_of_it = pulsar::as_result(reach(loop, target)).result();
    CHECK(&outcome_of_it.value() == &target);
    CHECK(outcome_of_it->value == 2);
    auto both = pulsar::when_all(reach(loop, target), immediate(loop, 1)).result();
    CHECK(&std::get<0>(both) == &target);
  }

  TEST_CASE("C5: a failure of any type is rethrown as what it was") {
    event_loop loop;
    const auto run = [&](auto what) {
      return [](event_loop& l, auto thrown) -> future<int> {
        co_await pulsar::sleep(0s, l);
        throw thrown;
      }(loop, what);
    };
    CHECK_THROWS_AS(loop.run_until_complete(run(3)), int);
    CHECK_THROWS_AS(loop.run_until_complete(run(std::string("text"))), std::string);
    CHECK_THROWS_AS(loop.run_until_complete(run(std::logic_error("bad"))), std::logic_error);
    auto f = run(4);
    while (!f.done()) turn(loop);
    CHECK(f.exception() != nullptr);
    CHECK_FALSE(f.cancelled());
    CHECK_THROWS_AS(f.result(), int);
    CHECK_THROWS_AS(f.result(), int);  // a failure may be looked at again
  }

  TEST_CASE("an exception from the construction of the result fails the future") {
    struct fragile {
      explicit fragile(int) {}
      fragile(fragile&&) { throw std::runtime_error("no move"); }
    };
    event_loop loop;
    auto f = [](event_loop&) -> future<fragile> {
      fragile local(1);
      co_return std::move(local);
    }(loop);
    CHECK_THROWS_AS(f.result(), std::runtime_error);
  }

  CORO_TEST_CASE("awaiting an rvalue empties the future, awaiting an lvalue keeps it") {
    auto& loop = event_loop::current();
    auto kept = twice(loop, pulsar::make_ready_future(4));
    const int first = co_await kept;
    CHECK(first == 8);
    CHECK(kept.valid());
    CHECK(kept.done());
    CHECK(error_of([&] { kept.result(); }) == errc::already_called);
    auto given = twice(loop, pulsar::make_ready_future(5));
    const int second = co_await std::move(given);
    CHECK(second == 10);
    CHECK_FALSE(given.valid());
  }

  CORO_TEST_CASE("C19 F13: a plain value is a future that is done, and awaiting it does not suspend") {
    auto& loop = event_loop::current();
    bool ran = false;
    loop.call_soon([&] { ran = true; });
    for (int i = 0; i < 1000; ++i) co_await immediate(loop, i);
    CHECK_FALSE(ran);
    co_await pulsar::sleep(0s);
    CHECK(ran);
  }

  CORO_TEST_CASE("an empty future, or one that another coroutine awaits, is refused") {
    auto& loop = event_loop::current();
    std::vector<std::error_code> codes;
    codes.push_back(co_await outcome(loop, future<>()));

    auto p = loop.create_future();
    auto shared = p.get_future();
    const auto wait = [](event_loop&, future<>& f) -> future<std::error_code> {
      try {
        co_await f;
      } catch (const pulsar::error& e) {
        co_return e.code();
      }
      co_return std::error_code{};
    };
    auto first = wait(loop, shared);
    codes.push_back(co_await wait(loop, shared));
    // Moved in, it is refused too, and does not take the state with it.
    codes.push_back(co_await outcome(loop, std::move(shared)));
    CHECK_FALSE(first.done());
    p.set_value();
    const auto last = co_await std::move(first);
    CHECK(codes == std::vector<std::error_code>(3, errc::already_called));
    // The second refusal dropped the future, which cancelled it.
    CHECK(last == errc::cancelled);
  }

  TEST_CASE("a future of another loop is refused") {
    event_loop loop;
    event_loop other;
    auto f = outcome(loop, pulsar::sleep(1ms, other));
    CHECK(f.done());
    CHECK(f.result() == errc::wrong_loop);
  }

  CORO_TEST_CASE("a coroutine that ends resumes its awaiter before anything else is run") {
    auto& loop = event_loop::current();
    std::vector<int> order;
    auto inner = [](event_loop& l, std::vector<int>& o) -> future<> {
      co_await pulsar::sleep(0s, l);
      l.call_soon([&o] { o.push_back(3); });
      o.push_back(1);
    }(loop, order);
    auto outer = [](event_loop&, std::vector<int>& o, future<> f) -> future<> {
      co_await std::move(f);
      o.push_back(2);
    }(loop, order, std::move(inner));
    co_await std::move(outer);
    CHECK(order == std::vector<int>{1, 2});
    co_await pulsar::sleep(1ms);
    CHECK(order == std::vector<int>{1, 2, 3});
  }

  CORO_TEST_CASE("a coroutine keeps the context it was called in") {
    pulsar::detail::context ann("ann");
    pulsar::detail::context bob("bob");
    ann.take();
    bob.take();
    const auto name = [] {
      const auto* c = pulsar::detail::this_context;
      return c == nullptr ? std::string() : c->name;
    };
    const auto work = [](auto who, std::vector<std::string>& seen) -> future<> {
      seen.push_back(who());
      co_await pulsar::sleep(0s);
      seen.push_back(who());
      co_await pulsar::sleep(1ms);
      seen.push_back(who());
      auto ready = pulsar::make_ready_future();
      co_await std::move(ready);
      seen.push_back(who());
      co_await pulsar::when_all(pulsar::sleep(1ms), pulsar::sleep(2ms));
      seen.push_back(who());
    };
    std::vector<std::string> by_ann;
    std::vector<std::string> by_bob;
    std::vector<std::string> by_none;
    future<> a;
    future<> b;
    {
      const pulsar::detail::context_scope scope(&ann);
      a = work(name, by_ann);
    }
    {
      const pulsar::detail::context_scope scope(&bob);
      b = work(name, by_bob);
    }
    auto n = work(name, by_none);
    co_await pulsar::when_all(std::move(a), std::move(b), std::move(n));
    CHECK(by_ann == std::vector<std::string>(5, "ann"));
    CHECK(by_bob == std::vector<std::string>(5, "bob"));
    CHECK(by_none == std::vector<std::string>(5, ""));
    CHECK(name().empty());
  }

  // ---- promises

  TEST_CASE("settling a promise never resumes inside the call") {
    event_loop loop;
    auto p = loop.create_future<int>();
    auto f = twice(loop, p.get_future());
    int callbacks = 0;
    f.add_done_callback([&] { ++callbacks; });
    p.set_value(2);
    CHECK(p.done());
    CHECK_FALSE(f.done());
    turn(loop);
    CHECK(f.result() == 4);
    CHECK(callbacks == 1);
  }

  TEST_CASE("a promise is settled once, and gives its future once") {
    event_loop loop;
    promise<int> p(loop);
    auto f = p.get_future();
    CHECK(error_of([&] { p.get_future().detach(); }) == errc::already_called);
    CHECK_FALSE(p.done());
    p.set_value(1);
    CHECK(error_of([&] { p.set_value(2); }) == errc::already_called);
    CHECK(error_of([&] { p.set_exception(errc::timed_out); }) == errc::already_called);
    CHECK(f.result() == 1);
  }

  TEST_CASE("a promise may fail, with an exception or a code, but not with nothing") {
    event_loop loop;
    promise<int> p(loop);
    auto f = p.get_future();
    CHECK(error_of([&] { p.set_exception(std::exception_ptr()); }) ==
          std::errc::invalid_argument);
    CHECK_FALSE(f.done());
    p.set_exception(std::make_exception_ptr(7));
    CHECK_THROWS_AS(f.result(), int);
    promise<> q(loop);
    auto g = q.get_future();
    q.set_exception(errc::mailbox_full);
    CHECK(error_of([&] { g.result(); }) == errc::mailbox_full);
    auto h = pulsar::make_exceptional_future<int>(std::make_exception_ptr(7));
    CHECK_THROWS_AS(h.result(), int);
  }

  TEST_CASE("a value whose constructor throws leaves the promise unsettled") {
    struct fragile {
      explicit fragile(bool fail) {
        if (fail) throw std::runtime_error("no");
      }
    };
    event_loop loop;
    promise<fragile> p(loop);
    auto f = p.get_future();
    CHECK_THROWS_AS(p.set_value(true), std::runtime_error);
    CHECK_FALSE(f.done());
    p.set_value(false);
    CHECK(f.done());
  }

  TEST_CASE("a promise that is dropped breaks, also by assignment; a moved one does not") {
    event_loop loop;
    future<> f;
    future<> g;
    {
      promise<> p(loop);
      f = p.get_future();
      promise<> q = std::move(p);
      CHECK_FALSE(f.done());
      promise<> r(loop);
      g = r.get_future();
      q = std::move(r);
      CHECK(code_of(f.exception()) == errc::broken_promise);
      CHECK_FALSE(g.done());
    }
    CHECK(code_of(g.exception()) == errc::broken_promise);
  }

  TEST_CASE("a promise outlives its future, and is told that nobody wants the value") {
    event_loop loop;
    promise<int> p(loop);
    int told = 0;
    p.on_cancel([&] { ++told; });
    {
      auto f = p.get_future();
      CHECK_FALSE(p.cancelled());
    }
    CHECK(p.cancelled());
    CHECK(p.done());
    CHECK(told == 1);
    p.set_value(1);
    p.set_exception(errc::timed_out);
    p.set_value(2);

    promise<int> q(loop);
    q.on_cancel([&] { ++told; });
    auto g = q.get_future();
    CHECK(g.cancel());
    CHECK_FALSE(g.cancel());
    CHECK(g.cancelled());
    CHECK(q.cancelled());
    g = {};
    CHECK(told == 2);
  }

  TEST_CASE("a detached future does not cancel its promise") {
    event_loop loop;
    promise<int> p(loop);
    int told = 0;
    p.on_cancel([&] { ++told; });
    p.get_future().detach();
    CHECK_FALSE(p.cancelled());
    p.set_value(1);
    CHECK(told == 0);
  }

  TEST_CASE("on_cancel after the cancel is called at once, after settling never") {
    event_loop loop;
    int told = 0;
    pulsar::promise<int> late(loop);
    auto f = late.get_future();
    f.cancel();
    late.on_cancel([&] { ++told; });
    CHECK(told == 1);
    pulsar::promise<int> settled(loop);
    auto g = settled.get_future();
    settled.set_value(1);
    settled.on_cancel([&] { ++told; });
    g = {};
    CHECK(told == 1);
  }

  TEST_CASE("settling frees what on_cancel holds, though it be the promise itself") {
    event_loop loop;
    const auto watch = std::make_shared<int>(0);
    const auto hold = [&] {
      auto p = std::make_shared<pulsar::promise<int>>(loop);
      p->on_cancel([p, watch] {});
      return p.get();
    };
    auto* const first = hold();
    auto f = first->get_future();
    first->set_value(1);
    CHECK(watch.use_count() == 1);
    CHECK(f.result() == 1);
    auto* const second = hold();
    auto g = second->get_future();
    second->set_exception(make_error_code(errc::timed_out));
    CHECK(watch.use_count() == 1);
    CHECK(g.exception() != nullptr);
  }

  TEST_CASE("a value has the alignment it asks for, in a promise and in a callback") {
    struct alignas(64) wide {
      bool aligned() const { return reinterpret_cast<std::uintptr_t>(this) % 64 == 0; }
      double d[8] = {};
    };
    event_loop loop;
    std::vector<pulsar::promise<wide>> promises;
    for (int i = 0; i < 4; ++i) {
      auto f = promises.emplace_back(loop).get_future();
      promises.back().set_value();
      CHECK(f.result().d[0] == 0);
    }
    int right = 0;
    struct call {
      wide w;
      int& count;
      void operator()() const { count += w.aligned() ? 1 : 0; }
    };
    for (int i = 0; i < 4; ++i) loop.call_soon(call{wide(), right});
    loop.call_soon([&] { loop.stop(); });
    loop.run_forever();
    CHECK(right == 4);
  }

  TEST_CASE("a future of a reference takes what a reference wrapper refers to") {
    event_loop loop;
    int n = 1;
    pulsar::promise<int&> p(loop);
    auto f = p.get_future();
    p.set_value(std::ref(n));
    CHECK(&f.result() == &n);
    pulsar::promise<const int&> q(loop);
    auto g = q.get_future();
    q.set_value(n);
    CHECK(&g.result() == &n);
  }

  TEST_CASE("what on_cancel does may end the promise, settle it, or throw") {
    event_loop loop;
    reports seen(loop);
    auto ended = std::make_unique<promise<>>(loop);
    ended->on_cancel([&] { ended.reset(); });
    auto f = ended->get_future();
    CHECK(f.cancel());
    CHECK(ended == nullptr);
    CHECK(f.cancelled());

    promise<int> settled(loop);
    settled.on_cancel([&] { settled.set_value(1); });
    auto g = settled.get_future();
    g.cancel();
    CHECK(g.cancelled());

    promise<> throwing(loop);
    throwing.on_cancel([] { throw std::runtime_error("on purpose"); });
    auto h = throwing.get_future();
    h.cancel();
    CHECK(h.cancelled());
    CHECK(seen.all.size() == 1);
  }

  // ---- callbacks and then

  TEST_CASE("done callbacks are called from the loop, in the order they were added") {
    event_loop loop;
    auto p = loop.create_future();
    auto f = p.get_future();
    std::vector<int> order;
    for (int i = 0; i < 5; ++i) f.add_done_callback([&, i] { order.push_back(i); });
    turn(loop);
    CHECK(order.empty());
    p.set_value();
    CHECK(order.empty());
    f.add_done_callback([&, own = std::make_unique<int>(5)] { order.push_back(*own); });
    CHECK(order.empty());
    turn(loop);
    CHECK(order == std::vector<int>{0, 1, 2, 3, 4, 5});
  }

  TEST_CASE("done callbacks follow a coroutine, a failure and a cancellation too") {
    event_loop loop(clock_kind::virtual_time);
    int called = 0;
    auto a = fail_later(loop, "x");
    auto b = pulsar::sleep(1h, loop);
    auto c = [](event_loop& l) -> future<> { co_await pulsar::sleep(1h, l); }(loop);
    for (auto* f : {&a, &b, &c}) f->add_done_callback([&] { ++called; });
    b.cancel();
    c.cancel();
    CHECK(called == 0);
    loop.context().run();
    CHECK(called == 3);
    CHECK_THROWS_AS(a.result(), std::runtime_error);
    CHECK(loop.time() == event_loop::time_point() + 1ms);
  }

  TEST_CASE("a done callback that throws is reported; one may drop the future") {
    event_loop loop;
    reports seen(loop);
    auto p = loop.create_future();
    auto f = p.get_future();
    int called = 0;
    f.add_done_callback([] { throw std::runtime_error("in a callback"); });
    f.add_done_callback([&] { f = {}; });
    f.add_done_callback([&] { ++called; });
    p.set_value();
    turn(loop);
    CHECK(called == 1);
    CHECK_FALSE(f.valid());
    REQUIRE(seen.all.size() == 1);
    CHECK(pulsar::detail::describe(seen.all[0].exception) == "in a callback");
  }

  TEST_CASE("callbacks of a future that never ends are freed with it") {
    event_loop loop;
    const auto held = std::make_shared<int>(1);
    promise<> p(loop);
    auto f = p.get_future();
    f.add_done_callback([held] {});
    loop.close();
    CHECK(held.use_count() == 1);
    CHECK(error_of([&] { f.add_done_callback([held] {}); }) == errc::loop_closed);
    CHECK(held.use_count() == 1);
  }

  CORO_TEST_CASE("C4: then chains functions and functions that return futures") {
    auto& loop = event_loop::current();
    auto p = loop.create_future<int>();
    auto f = p.get_future()
                 .then([](int x) { return x + 1; })
                 .then([&loop](int x) { return twice(loop, pulsar::make_ready_future(x)); })
                 .then([](int x) { return std::make_unique<std::string>(std::to_string(x)); })
                 .then([](std::unique_ptr<std::string> s) { return *s + "!"; });
    CHECK_FALSE(f.done());
    p.set_value(20);
    const std::string text = co_await std::move(f);
    CHECK(text == "42!");
    int called = 0;
    auto nothing = pulsar::sleep(1ms).then([&] { ++called; }).then([&] {
      ++called;
      return pulsar::sleep(1ms);
    });
    co_await std::move(nothing);
    CHECK(called == 2);
  }

  CORO_TEST_CASE("a failure passes then by, and then may fail") {
    auto& loop = event_loop::current();
    bool called = false;
    auto failed = fail_later(loop, "early").then([&] { called = true; });
    std::string text;
    try {
      co_await std::move(failed);
    } catch (const std::runtime_error& e) {
      text = e.what();
    }
    CHECK(text == "early");
    CHECK_FALSE(called);
    auto fails = pulsar::sleep(1ms).then([]() -> int { throw std::runtime_error("late"); });
    try {
      co_await std::move(fails);
    } catch (const std::runtime_error& e) {
      text = e.what();
    }
    CHECK(text == "late");
  }

  CORO_TEST_CASE("C6: a function that returns a future holds the chain up until that is done") {
    auto& loop = event_loop::current();
    auto first = loop.create_future<std::string>();
    auto second = loop.create_future<std::string>();
    auto chained = first.get_future().then([f = second.get_future()](std::string name) mutable {
      return std::move(f).then([name](std::string later) { return name + " " + later; });
    });
    first.set_value("ciao");
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(chained.done());
    second.set_value("luca");
    const std::string text = co_await std::move(chained);
    CHECK(text == "ciao luca");
  }

  CORO_TEST_CASE("C7 C8: a coroutine that awaits a chain gets what that ends with") {
    for (const bool fails : {false, true}) {
      auto& loop = event_loop::current();
      auto first = loop.create_future<int>();
      auto second = loop.create_future<int>();
      const auto wait = [](future<int> f) -> future<std::string> {
        try {
          co_return std::to_string(co_await std::move(f));
        } catch (const std::runtime_error& e) {
          co_return e.what();
        }
      };
      auto waiting = wait(first.get_future().then(
          [f = second.get_future()](int) mutable { return std::move(f); }));
      first.set_value(1);
      co_await pulsar::sleep(1ms);
      CHECK_FALSE(waiting.done());
      if (fails) {
        second.set_exception(std::make_exception_ptr(std::runtime_error("broken")));
      } else {
        second.set_value(2);
      }
      const std::string text = co_await std::move(waiting);
      CHECK(text == (fails ? "broken" : "2"));
    }
  }

  CORO_TEST_CASE("C18: a guard around awaits sees an error that comes after them") {
    std::vector<std::string> seen;
    const auto guarded = [](std::vector<std::string>& to) -> future<> {
      struct guard {
        explicit guard(std::vector<std::string>& t) : list(t) { list.push_back("entered"); }
        ~guard() { list.push_back(std::uncaught_exceptions() > 0 ? "left by a throw" : "left"); }
        std::vector<std::string>& list;
      };
      try {
        const guard here(to);
        co_await pulsar::sleep(1ms);
        co_await pulsar::sleep(1ms);
        throw std::runtime_error("late");
      } catch (const std::runtime_error& e) {
        to.push_back(e.what());
      }
    };
    co_await guarded(seen);
    CHECK(seen == std::vector<std::string>{"entered", "left by a throw", "late"});
  }

  TEST_CASE("cancelling what then returned cancels what it waits for") {
    event_loop loop;
    promise<int> p(loop);
    auto f = p.get_future().then([](int x) { return x; });
    CHECK(f.cancel());
    CHECK(p.cancelled());
    turn(loop);
    CHECK(f.cancelled());
  }

  TEST_CASE("then belongs to the loop of its future") {
    event_loop loop;
    event_loop other;
    auto f = immediate(other, 1).then([](int x) { return x + 1; });
    CHECK(&f.loop() == &other);
    CHECK(f.result() == 2);
  }

  // ---- cancellation

  TEST_CASE("C9: cancel reaches the innermost await, and every one is told on the way out") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<int> told;
    const auto inner = [](event_loop& l, std::vector<int>& t) -> future<> {
      try {
        co_await pulsar::sleep(1h, l);
      } catch (const pulsar::error& e) {
        if (e.code() == errc::cancelled) t.push_back(1);
        throw;
      }
    };
    auto f = [](event_loop& l, std::vector<int>& t, auto in) -> future<> {
      try {
        co_await in(l, t);
      } catch (const pulsar::error& e) {
        if (e.code() == errc::cancelled) t.push_back(2);
        throw;
      }
    }(loop, told, inner);
    CHECK(f.cancel());
    CHECK_FALSE(f.done());
    CHECK(told.empty());
    loop.context().run();
    CHECK(told == std::vector<int>{1, 2});
    CHECK(f.cancelled());
    CHECK_FALSE(f.cancel());
    CHECK(loop.time() == event_loop::time_point());
  }

  TEST_CASE("a coroutine that is cancelled while it runs is told at its next await, once") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::error_code> codes;
    promise<> begin(loop);
    auto f = [](event_loop& l, future<> start, std::vector<std::error_code>& seen) -> future<> {
      co_await std::move(start);
      // Two requests before it can be told are one.
      for (int i = 0; i < 3; ++i) {
        std::error_code code;
        try {
          co_await pulsar::sleep(1ms, l);
        } catch (const pulsar::error& e) {
          code = e.code();
        }
        seen.push_back(code);
      }
    }(loop, begin.get_future(), codes);
    begin.set_value();
    // Its await is over, it only has not gone on: what it waited for is not lost.
    CHECK(f.cancel());
    CHECK(f.cancel());
    loop.context().run();
    CHECK(f.done());
    CHECK(f.exception() == nullptr);
    CHECK(codes == std::vector<std::error_code>{errc::cancelled, {}, {}});
  }

  TEST_CASE("what is refused because of a cancellation is cancelled itself") {
    event_loop loop(clock_kind::virtual_time);
    promise<> begin(loop);
    promise<> wanted(loop);
    auto f = [](event_loop&, future<> start, future<> next) -> future<> {
      co_await std::move(start);
      co_await std::move(next);
    }(loop, begin.get_future(), wanted.get_future());
    begin.set_value();
    f.cancel();
    CHECK_FALSE(wanted.cancelled());
    loop.context().run();
    CHECK(f.cancelled());
    CHECK(wanted.cancelled());
  }

  TEST_CASE("a result that is there is given, and the cancellation waits for the next await") {
    event_loop loop(clock_kind::virtual_time);
    promise<int> p(loop);
    std::vector<int> got;
    auto f = [](event_loop& l, future<int> wanted, std::vector<int>& g) -> future<> {
      g.push_back(co_await std::move(wanted));
      g.push_back(co_await pulsar::make_ready_future(8));  // does not suspend: no await
      co_await pulsar::sleep(1ms, l);
      g.push_back(9);
    }(loop, p.get_future(), got);
    p.set_value(7);
    CHECK(f.cancel());
    loop.context().run();
    CHECK(got == std::vector<int>{7, 8});
    CHECK(f.cancelled());
  }

  TEST_CASE("cancel is false for what is done, and the result stays") {
    event_loop loop;
    auto f = immediate(loop, 3);
    CHECK_FALSE(f.cancel());
    CHECK(f.result() == 3);
    promise<int> p(loop);
    auto g = p.get_future();
    p.set_value(4);
    CHECK_FALSE(g.cancel());
    CHECK(g.result() == 4);
    CHECK_FALSE(p.cancelled());
  }

  CORO_TEST_CASE("a cancelled coroutine may clean up by waiting, and may end with a result") {
    auto& loop = event_loop::current();
    // Shared: what is dropped cleans up later than this body.
    const auto steps = std::make_shared<std::vector<int>>();
    auto f = [](event_loop& l, std::shared_ptr<std::vector<int>> s) -> future<int> {
      try {
        co_await pulsar::sleep(1h, l);
      } catch (const pulsar::error&) {
        s->push_back(1);
      }
      co_await pulsar::sleep(5ms, l);
      s->push_back(2);
      co_await pulsar::when_all(pulsar::sleep(1ms, l), pulsar::sleep(2ms, l));
      s->push_back(3);
      co_return 6;
    }(loop, steps);
    co_await pulsar::sleep(1ms);
    f.cancel();
    const int result = co_await std::move(f);
    CHECK(result == 6);
    CHECK(*steps == std::vector<int>{1, 2, 3});
    CHECK(loop.time() == event_loop::time_point() + 8ms);
  }

  TEST_CASE("whoever awaits what swallowed the cancellation is told at its next await") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<int> steps;
    const auto inner = [](event_loop& l, std::vector<int>& s) -> future<int> {
      try {
        co_await pulsar::sleep(1h, l);
      } catch (const pulsar::error&) {
        s.push_back(1);
      }
      co_return 5;
    };
    auto f = [](event_loop& l, std::vector<int>& s, auto in) -> future<> {
      s.push_back(co_await in(l, s));
      co_await pulsar::sleep(1h, l);
      s.push_back(-1);
    }(loop, steps, inner);
    f.cancel();
    loop.context().run();
    CHECK(steps == std::vector<int>{1, 5});
    CHECK(f.cancelled());
  }

  TEST_CASE("cancelling from inside a callback of what is cancelled is safe") {
    event_loop loop;
    promise<> p(loop);
    future<> f;
    p.on_cancel([&] { f.cancel(); });
    f = [](event_loop&, future<> g) -> future<> { co_await std::move(g); }(loop, p.get_future());
    f.cancel();
    turn(loop);
    CHECK(f.cancelled());
  }

  // ---- dropping and detaching

  TEST_CASE("dropping a pending future cancels it, and its frame lives until it has ended") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<int> order;
    {
      auto f = [](event_loop& l, std::vector<int>& o) -> future<> {
        const mark frame(o, 9);
        try {
          co_await pulsar::sleep(1h, l);
        } catch (const pulsar::error& e) {
          if (e.code() == errc::cancelled) o.push_back(1);
        }
        co_await pulsar::sleep(1ms, l);
        o.push_back(2);
      }(loop, order);
    }
    CHECK(order.empty());
    loop.context().run();
    CHECK(order == std::vector<int>{1, 2, 9});
  }

  TEST_CASE("assigning to a pending future drops what it held") {
    event_loop loop;
    promise<> p(loop);
    auto f = p.get_future();
    f = pulsar::sleep(1ms, loop);
    CHECK(p.cancelled());
  }

  TEST_CASE("a detached coroutine runs to its end") {
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    bool ended = false;
    [](event_loop& l, bool& done) -> future<> {
      co_await pulsar::sleep(1h, l);
      done = true;
    }(loop, ended).detach();
    loop.context().run();
    CHECK(ended);
    CHECK(seen.all.empty());
  }

  TEST_CASE("the failure of a dropped or detached coroutine is reported with function and line") {
    const without_debug_mode scope;  // it drops futures on purpose
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    std::uint_least32_t line = 0;
    const auto fail = [](event_loop& l, std::uint_least32_t& where) -> future<> {
      try {
        co_await pulsar::sleep(1ms, l);
      } catch (const pulsar::error&) {
      }
      where = std::source_location::current().line() + 1;
      co_await pulsar::sleep(1ms, l);
      throw std::runtime_error("unseen");
    };
    fail(loop, line).detach();
    loop.context().run();
    { auto dropped = fail(loop, line); }
    loop.context().restart();
    loop.context().run();
    REQUIRE(seen.all.size() == 2);
    for (const auto& r : seen.all) {
      CHECK(r.message == "a future failed and nobody awaited it");
      CHECK(pulsar::detail::describe(r.exception) == "unseen");
      CHECK(contains(r.where.file_name(), "future_test.cpp"));
      CHECK(r.where.line() == line);
      CHECK(std::string(r.where.function_name()) != "");
    }
  }

  TEST_CASE("a failure that nobody looked at is reported when its future goes, and only then") {
    event_loop loop;
    reports seen(loop);
    {
      auto unseen = fail_with(loop, "one");
      auto looked_at = fail_with(loop, "two");
      CHECK(looked_at.exception() != nullptr);
      auto taken = fail_with(loop, "three");
      CHECK_THROWS_AS(taken.result(), std::runtime_error);
      promise<> p(loop);
      auto by_hand = p.get_future();
      p.set_exception(std::make_exception_ptr(std::runtime_error("four")));
      promise<> never_asked(loop);
      never_asked.set_exception(std::make_exception_ptr(std::runtime_error("five")));
      CHECK(seen.all.empty());
    }
    std::vector<std::string> texts;
    for (const auto& r : seen.all) texts.push_back(pulsar::detail::describe(r.exception));
    CHECK(texts == std::vector<std::string>{"four", "one"});
  }

  TEST_CASE("a cancellation that nobody looks at is no failure to report") {
    const without_debug_mode scope;  // it drops futures on purpose
    event_loop loop(clock_kind::virtual_time);
    reports seen(loop);
    { auto f = pulsar::sleep(1h, loop); }
    {
      auto f = [](event_loop& l) -> future<> { co_await pulsar::sleep(1h, l); }(loop);
      auto g = [](event_loop& l) -> future<> { co_await pulsar::sleep(1h, l); }(loop);
      g.cancel();
      loop.context().run();
    }
    loop.context().restart();
    loop.context().run();
    CHECK(seen.all.empty());
  }

  TEST_CASE("without an exception handler an unseen failure is logged with its place") {
    logged.clear();
    const auto before = pulsar::log::set_sink(&keep_log);
    {
      event_loop loop;
      { auto f = fail_with(loop, "the reason"); }
    }
    pulsar::log::set_sink(before);
    REQUIRE(logged.size() == 1);
    CHECK(contains(logged[0], "[error]"));
    CHECK(contains(logged[0], "nobody awaited it: the reason"));
    CHECK(contains(logged[0], "future_test.cpp:"));
    CHECK(contains(logged[0], ", fail_with)"));
  }

  CORO_TEST_CASE("a broken promise of a detached future is reported, one that is awaited thrown") {
    auto& loop = event_loop::current();
    std::optional<promise<>> p(loop);
    auto f = outcome(loop, p->get_future());
    p.reset();
    const auto code = co_await std::move(f);
    CHECK(code == errc::broken_promise);
  }

#ifndef NDEBUG
  TEST_CASE("asking a promise that was moved from ends the program with a sentence") {
    for (int what = 0; what < 5; ++what) {
      const auto end = death_of([what] {
        event_loop loop;
        promise<> p(loop);
        const promise<> kept(std::move(p));
        if (what == 0) static_cast<void>(p.done());
        if (what == 1) static_cast<void>(p.cancelled());
        if (what == 2) p.on_cancel([] {});
        if (what == 3) p.get_future().detach();
        if (what == 4) p.set_value();
      });
      CHECK(end.aborted);
      CHECK(contains(end.text, "this promise was moved from"));
    }
  }
#endif

  TEST_CASE("a future that is moved while a coroutine awaits it is found where it is") {
    event_loop loop;
    promise<int> p(loop);
    std::vector<future<int>> here;
    here.push_back(p.get_future());
    auto f = [](event_loop&, std::vector<future<int>>& v) -> future<int> {
      co_return co_await v[0];
    }(loop, here);
    auto elsewhere = std::make_unique<future<int>>(std::move(here[0]));
    here.clear();
    here.shrink_to_fit();
    future<int> again = std::move(*elsewhere);
    elsewhere.reset();
    p.set_value(5);
    turn(loop);
    CHECK(f.result() == 5);
    CHECK(again.done());
  }

  TEST_CASE("a future that is dropped while a coroutine awaits it is cancelled, and that is told") {
    event_loop loop(clock_kind::virtual_time);
    const auto wait = [](event_loop&, future<>& f) -> future<std::error_code> {
      try {
        co_await f;
      } catch (const pulsar::error& e) {
        co_return e.code();
      }
      co_return std::error_code{};
    };
    // Pending, settled and on its way, a coroutine that cleans up, detached.
    promise<> p(loop);
    auto pending = p.get_future();
    auto a = wait(loop, pending);
    pending = {};
    CHECK(p.cancelled());

    promise<> q(loop);
    auto settled = q.get_future();
    auto b = wait(loop, settled);
    q.set_value();
    settled = {};

    auto cleaning = [](event_loop& l) -> future<> {
      std::error_code code;
      try {
        co_await pulsar::sleep(1h, l);
      } catch (const pulsar::error& e) {
        code = e.code();
      }
      co_await pulsar::sleep(1ms, l);
      if (code == errc::cancelled) throw pulsar::error(errc::actor_gone);
    }(loop);
    auto c = wait(loop, cleaning);
    cleaning = {};

    auto detached = pulsar::sleep(2h, loop);
    auto d = wait(loop, detached);
    detached.detach();

    loop.context().run();
    CHECK(a.result() == errc::cancelled);
    CHECK(b.result() == std::error_code{});
    CHECK(c.result() == errc::actor_gone);
    CHECK(d.result() == std::error_code{});
  }

  // ---- long chains

  TEST_CASE("a chain of a million awaits completes") {
    for (const bool by_value : {false, true}) {
      event_loop loop;
      promise<int> p(loop);
      auto f = p.get_future();
      const auto moved = [](event_loop&, future<int> g) -> future<int> {
        co_return 1 + co_await std::move(g);
      };
      const auto kept = [](event_loop&, future<int> g) -> future<int> {
        co_return 1 + co_await g;
      };
      for (int i = 0; i < chain_length; ++i) {
        f = by_value ? moved(loop, std::move(f)) : kept(loop, std::move(f));
      }
      p.set_value(0);
      CHECK(loop.run_until_complete(std::move(f)) == chain_length);
    }
  }

  TEST_CASE("a long chain of awaits is cancelled, dropped and closed to its end") {
    for (int how = 0; how < 3; ++how) {
      event_loop loop;
      int unwound = 0;
      future<int> f = pulsar::sleep(1h, loop).then([] { return 0; });
      for (int i = 0; i < throwing_length; ++i) {
        f = [](event_loop&, future<int> g, int& count) -> future<int> {
          try {
            co_return 1 + co_await std::move(g);
          } catch (const pulsar::error&) {
            ++count;
            throw;
          }
        }(loop, std::move(f), unwound);
      }
      if (how == 0) CHECK(f.cancel());
      if (how == 1) f = {};
      if (how == 2) {
        loop.close(1h);
      } else {
        while (unwound < throwing_length) loop.context().run_one();
      }
      CHECK(unwound == throwing_length);
      if (how != 1) CHECK(f.cancelled());
    }
  }

  TEST_CASE("a chain of a million awaits is cancelled, dropped, closed and freed in pieces") {
    for (int how = 0; how < 4; ++how) {
      const bool by_value = how % 2 == 0;
      future<int> f;
      const auto alive = std::make_shared<int>(0);
      {
        event_loop loop;
        promise<int> p(loop);
        f = p.get_future();
        const auto moved = [](event_loop&, future<int> g, std::shared_ptr<int>) -> future<int> {
          co_return 1 + co_await std::move(g);
        };
        const auto kept = [](event_loop&, future<int> g, std::shared_ptr<int>) -> future<int> {
          co_return 1 + co_await g;
        };
        for (int i = 0; i < chain_length; ++i) {
          f = by_value ? moved(loop, std::move(f), alive) : kept(loop, std::move(f), alive);
        }
        CHECK(alive.use_count() == chain_length + 1);
        if (how == 0) CHECK(f.cancel());
        if (how == 1) f = {};
        if (how == 2) f.detach();
        // Too short for a million exceptions: the rest is freed as it is.
        loop.close(how == 3 ? 0ms : 20ms);
      }
      f = {};
      CHECK(alive.use_count() == 1);
    }
  }

  // ---- the end of a loop

  TEST_CASE("frames that are freed go one by one from the innermost, locals before parameters") {
    struct coroutine {
      static future<> level(event_loop& l, mark parameter, int number) {
        const mark local(*parameter.order, number);
        if (number < 3) {
          co_await level(l, mark(*parameter.order, 10 * (number + 1)), number + 1);
        } else {
          co_await pulsar::sleep(1h, l);
        }
      }
    };
    for (const bool detached : {true, false}) {
      std::vector<int> order;
      {
        event_loop loop;
        auto f = coroutine::level(loop, mark(order, 10), 1);
        if (detached) f.detach();
        loop.close(0s);
        CHECK(order.size() == (detached ? 6 : 0));
      }
      CHECK(order == std::vector<int>{3, 30, 2, 20, 1, 10});
    }
  }

  TEST_CASE("a coroutine that is freed may hold the promise another one waits for") {
    for (const bool holder_first : {true, false}) {
      event_loop loop;
      auto p = std::make_unique<promise<>>(loop);
      auto waited = p->get_future();
      const auto hold = [](event_loop& l, std::unique_ptr<promise<>> mine) -> future<> {
        co_await pulsar::sleep(1h, l);
        mine->set_value();
      };
      const auto wait = [](event_loop&, future<> f) -> future<> { co_await std::move(f); };
      if (holder_first) hold(loop, std::move(p)).detach();
      wait(loop, std::move(waited)).detach();
      if (!holder_first) hold(loop, std::move(p)).detach();
      loop.close(0s);
    }
  }

  TEST_CASE("a coroutine that is freed may call coroutines, sleep and settle promises") {
    struct last_words {
      explicit last_words(event_loop& l, promise<int>* q) : loop(l), p(q) {}
      last_words(last_words&&) = delete;
      ~last_words() {
        p->set_value(1);
        twice(loop, pulsar::make_ready_future(1)).detach();
        twice(loop, promise<int>(loop).get_future()).detach();
        pulsar::sleep(1ms, loop).detach();
        auto dropped = pulsar::sleep(1ms, loop).then([] {});
      }
      event_loop& loop;
      promise<int>* p;
    };
    event_loop loop;
    promise<int> told(loop);
    auto f = twice(loop, told.get_future());
    [](event_loop& l, promise<int>* p) -> future<> {
      const last_words here(l, p);
      co_await pulsar::sleep(1h, l);
    }(loop, &told).detach();
    loop.close(0s);
    CHECK(told.done());
    CHECK_FALSE(f.done());
  }

  TEST_CASE("a coroutine belongs to a parameter that is a loop, not to what converts to one") {
    struct session {
      event_loop* other;
      operator event_loop&() const { return *other; }
    };
    event_loop loop;
    event_loop other;
    const auto first = [](event_loop&, int) -> future<> { co_return; };
    const auto last = [](std::string, event_loop&) -> future<> { co_return; };
    const auto converts = [](session) -> future<> { co_return; };
    const auto wraps = [](std::reference_wrapper<event_loop>, int) -> future<> { co_return; };
    loop.call_soon([&] {
      CHECK(&first(other, 1).loop() == &other);
      CHECK(&last("text", other).loop() == &other);
      CHECK(&converts(session{&other}).loop() == &loop);
      CHECK(&wraps(other, 1).loop() == &loop);
    });
    turn(loop);
  }

  TEST_CASE("a coroutine that begins on a closed loop of the user's context may outlive it") {
    asio::io_context context;
    const auto held = std::make_shared<int>(1);
    {
      future<> left;
      {
        event_loop loop(context);
        loop.close();
        promise<> p(loop);
        const auto wait = [](event_loop&, future<> f, std::shared_ptr<int>) -> future<> {
          co_await std::move(f);
        };
        left = wait(loop, p.get_future(), held);
      }
      CHECK(left.valid());
    }
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("futures and promises may outlive their loop, whatever state they are in") {
    const auto held = std::make_shared<int>(1);
    promise<int> unsettled = [] {
      event_loop scratch;
      return promise<int>(scratch);
    }();
    std::optional<promise<int>> waited_for;
    std::optional<promise<int>> with_callback;
    std::optional<promise<int>> broken_later;
    future<int> value;
    future<> failed;
    future<> sleeping;
    future<int> waiting;
    future<int> called_back;
    future<int> unlucky;
    future<std::tuple<int, std::monostate>> gathered;
    {
      event_loop loop;
      value = immediate(loop, 3);
      failed = fail_with(loop, "unseen");
      sleeping = pulsar::sleep(1h, loop);
      waited_for.emplace(loop);
      waiting = twice(loop, waited_for->get_future());
      with_callback.emplace(loop);
      called_back = with_callback->get_future();
      called_back.add_done_callback([held] {});
      broken_later.emplace(loop);
      unlucky = broken_later->get_future();
      gathered = pulsar::when_all(twice(loop, promise<int>(loop).get_future()),
                                  pulsar::sleep(1h, loop));
      loop.close(0s);
    }
    CHECK(held.use_count() == 1);
    CHECK(value.result() == 3);
    CHECK_FALSE(sleeping.done());
    CHECK_FALSE(sleeping.cancel());
    CHECK_FALSE(waiting.cancel());
    waited_for->set_value(1);
    CHECK_FALSE(waiting.done());
    with_callback->set_value(2);
    CHECK(called_back.result() == 2);
    broken_later.reset();
    CHECK(code_of(unlucky.exception()) == errc::broken_promise);
    unsettled.set_value(4);
    CHECK(unsettled.get_future().result() == 4);
    // In another loop they are strangers.
    event_loop another;
    auto refused = outcome(another, std::move(sleeping));
    CHECK(refused.result() == errc::wrong_loop);
  }

  TEST_CASE("a coroutine that ended at once knows whether its loop is closed") {
    const auto added = [](future<int>& f) -> std::error_code {
      try {
        f.add_done_callback([] {});
      } catch (const pulsar::error& e) {
        return e.code();
      }
      return {};
    };
    future<int> value;
    {
      event_loop loop;
      value = immediate(loop, 3);
      CHECK(&value.loop() == &loop);
      CHECK(added(value) == std::error_code());
      loop.close();
      CHECK(added(value) == errc::loop_closed);
    }
    CHECK(added(value) == errc::loop_closed);
    CHECK(value.exception() == nullptr);
    CHECK(value.result() == 3);
  }

  CORO_TEST_CASE("what an awaited temporary owns is freed as soon as its value is there") {
    const auto keep = [](std::shared_ptr<int> held, bool first_waits) -> future<int> {
      if (first_waits) co_await pulsar::sleep(1ms);
      co_return *held;
    };
    const auto held = std::make_shared<int>(7);
    const long after_waiting = (co_await keep(held, true), held.use_count());
    CHECK(after_waiting == 1);
    const long at_once = (co_await keep(held, false), held.use_count());
    CHECK(at_once == 1);
  }

  TEST_CASE("what hangs on a future of a closed loop is refused or freed, not forgotten") {
    event_loop loop;
    promise<> p(loop);
    auto f = p.get_future();
    promise<int> q(loop);
    auto h = q.get_future();
    loop.close();
    auto g = [](event_loop&, future<> in) -> future<> { co_await std::move(in); }(loop, std::move(f));
    CHECK(code_of(g.exception()) == errc::wrong_loop);
    CHECK_THROWS_AS(static_cast<void>(std::move(h).then([](int) {})), pulsar::error);
    auto late = [](event_loop& l) -> future<> { co_await pulsar::sleep(1h, l); }(loop);
    CHECK_FALSE(late.done());
    twice(loop, promise<int>(loop).get_future()).detach();
  }

  CORO_TEST_CASE("every kind of await can be given up") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto& loop = event_loop::current();
    const auto work = [](int depth, auto self) -> future<int> {
      if (depth > 0) co_return 1 + co_await self(depth - 1, self);
      co_await pulsar::sleep(1ms);
      co_return 1;
    };
    auto p = loop.create_future<int>();
    auto by_hand = p.get_future();
    loop.call_later(3ms, [q = std::move(p)]() mutable { q.set_value(5); });

    const int nested = co_await work(5, work);
    CHECK(nested == 6);
    const int settled = co_await by_hand;
    CHECK(settled == 5);
    auto all = co_await pulsar::when_all(work(1, work), work(2, work), pulsar::sleep(2ms));
    CHECK(std::get<1>(all) == 3);
    auto first = co_await pulsar::when_any(work(1, work), pulsar::sleep(1h));
    CHECK(first.index() == 0);
    const int timed = co_await pulsar::with_timeout(work(3, work), 1h);
    CHECK(timed == 4);
    auto looked_at = co_await pulsar::as_result(work(1, work));
    CHECK(*looked_at == 2);
    pulsar::task_group group;
    for (int i = 0; i < 3; ++i) group.add(work(i, work));
    co_await group.join();
    auto chained = work(1, work).then([work](int) { return work(1, work); });
    co_await std::move(chained);
    work(2, work).detach();
    auto kept = work(3, work);
    co_await pulsar::sleep(0s);
  }

  CORO_TEST_CASE("a coroutine that swallows every cancellation can be given up") {
    const without_debug_mode scope;  // it drops futures on purpose
    const auto stubborn = []() -> future<int> {
      int swallowed = 0;
      for (int i = 0; i < 3; ++i) {
        try {
          co_await pulsar::sleep(1ms);
        } catch (const pulsar::error&) {
          ++swallowed;
        }
      }
      co_return swallowed;
    };
    auto a = stubborn();
    a.cancel();
    const int n = co_await std::move(a);
    CHECK(n == 1);
    auto b = stubborn();
    { auto dropped = stubborn(); }
    stubborn().detach();
    co_await std::move(b);
  }

  CORO_TEST_CASE_REAL("a coroutine that waits for a socket can be given up") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto& loop = event_loop::current();
    // Each operation keeps its socket: one that is cancelled must not have lost it.
    const auto a = std::make_shared<local_socket>(loop.context());
    const auto b = std::make_shared<local_socket>(loop.context());
    asio::local::connect_pair(*a, *b);
    const auto read = [](std::shared_ptr<local_socket> s) -> future<char> {
      std::array<char, 1> byte{};
      co_await s->async_read_some(asio::buffer(byte), pulsar::use_future);
      co_return byte[0];
    };
    auto pending = read(a);
    co_await pulsar::sleep(1ms);
    b->write_some(asio::buffer("x", 1));
    const char x = co_await std::move(pending);
    CHECK(x == 'x');
    auto both = pulsar::when_all(read(a), pulsar::sleep(1ms));
    b->write_some(asio::buffer("y", 1));
    auto results = co_await std::move(both);
    CHECK(std::get<0>(results) == 'y');
    read(a).detach();
    auto dropped = read(b);
    dropped = {};
    co_await pulsar::sleep(1ms);
  }

  TEST_CASE("a frame that keeps a socket may be dropped after its loop") {
    future<> kept;
    {
      event_loop loop;
      kept = [](event_loop& l) -> future<> {
        local_socket a(l.context());
        local_socket b(l.context());
        asio::local::connect_pair(a, b);
        asio::steady_timer timer(l.context(), 1h);
        std::array<char, 1> byte{};
        co_await a.async_read_some(asio::buffer(byte), pulsar::use_future);
      }(loop);
      loop.close(0s);
    }
    CHECK_FALSE(kept.done());
    kept = {};
  }

  // ---- cost

  TEST_CASE("a warm program allocates nothing for a coroutine, a promise, a callback or a sleep") {
    if (!counts_allocations) {
      MESSAGE("skipped: this build's sanitizer allocates every frame anew");
      return;
    }
    event_loop loop;
    struct work {
      static future<int> nested(event_loop& l, int depth) {
        if (depth > 0) co_return 1 + co_await nested(l, depth - 1);
        co_await pulsar::sleep(0s, l);
        promise<int> p(l);
        auto f = p.get_future();
        l.call_soon([q = std::move(p)]() mutable { q.set_value(1); });
        co_return co_await std::move(f);
      }
      static future<> all(event_loop& l, int rounds) {
        for (int i = 0; i < rounds; ++i) {
          co_await nested(l, 5);
          nested(l, 1).detach();
          const pulsar::handle later = l.call_later(1h, [&l] { l.stop(); });
          pulsar::handle(later).cancel();
          co_await pulsar::sleep(1us, l);
        }
      }
    };
    // Within one run: for each, Asio keeps memory anew.
    const auto made = [](event_loop& l) -> future<std::size_t> {
      co_await work::all(l, 3);
      const auto before = allocations;
      co_await work::all(l, 3);
      co_return allocations - before;
    };
    CHECK(loop.run_until_complete(made(loop)) == 0);
  }

  TEST_CASE("nor for an item of a generator, a wait for a shared future, or one at a channel") {
    if (!counts_allocations) {
      MESSAGE("skipped: this build's sanitizer allocates every frame anew");
      return;
    }
    event_loop loop;
    struct work {
      static pulsar::generator<int> items(event_loop& l) {
        for (int i = 0;; ++i) {
          if (i % 3 == 0) co_await pulsar::sleep(0s, l);
          co_yield i;
        }
      }
      static future<> wait_for(event_loop&, pulsar::shared_future<> shared) { co_await shared; }
      static future<> all(event_loop& l, pulsar::generator<int>& from, int rounds) {
        pulsar::channel<int> channel(4);
        for (int i = 0; i < rounds; ++i) {
          for (int n = 0; n < 10; ++n) static_cast<void>(co_await from.next());
          pulsar::shared_future<> shared(pulsar::sleep(0s, l));
          auto one = wait_for(l, shared);
          co_await wait_for(l, shared);
          co_await std::move(one);
          co_await channel.send(i);
          static_cast<void>(co_await channel.receive());
        }
      }
    };
    auto from = work::items(loop);
    std::size_t few = 0;
    std::size_t many = 0;
    for (const int rounds : {3, 3, 30}) {
      const auto before = allocations;
      loop.run_until_complete([&] { return work::all(loop, from, rounds); });
      few = std::exchange(many, allocations - before);
    }
    CHECK(few == many);  // the channel's own, however much goes through it
  }

  TEST_CASE("a warm program allocates nothing for an await of a queue, a mutex, a limit or a socket") {
    if (!counts_allocations) {
      MESSAGE("skipped: this build's sanitizer allocates every frame anew");
      return;
    }
    event_loop loop;
    struct work {
      pulsar::async_queue<int> waits{2};
      pulsar::async_queue<int> holds;
      pulsar::async_mutex mutex;
      local_socket mine;
      local_socket theirs;
      char byte = 'x';

      explicit work(event_loop& l) : mine(l.context()), theirs(l.context()) {
        asio::local::connect_pair(mine, theirs);
      }
      static future<> produce(event_loop& l, work& w, int rounds) {
        for (int i = 0; i < rounds; ++i) co_await w.waits.put(i, l);
      }
      static future<> locked(event_loop& l, work& w) {
        const auto lock = co_await w.mutex.lock(l);
        co_await pulsar::sleep(0s, l);
      }
      static future<int> one(event_loop& l) {
        co_await pulsar::sleep(0s, l);
        co_return 1;
      }
      static future<> all(event_loop& l, work& w, int rounds) {
        auto producer = produce(l, w, rounds);
        for (int i = 0; i < rounds; ++i) {
          co_await w.waits.get(l);
          for (int n = 0; n < 5; ++n) co_await w.holds.put(n, l);
          for (int n = 0; n < 5; ++n) co_await w.holds.get(l);
          auto first = locked(l, w);
          co_await locked(l, w);
          co_await std::move(first);
          co_await pulsar::with_timeout(one(l), 1h);
          auto asked = asio::buffer(&w.byte, 1);
          w.theirs.write_some(asked);
          co_await w.mine.async_read_some(asked, pulsar::use_future);
        }
        co_await std::move(producer);
      }
    };
    work w(loop);
    const auto made = [](event_loop& l, work& with) -> future<std::size_t> {
      co_await work::all(l, with, 100);
      const auto before = allocations;
      co_await work::all(l, with, 100);
      co_return allocations - before;
    };
    CHECK(loop.run_until_complete(made(loop, w)) == 0);
  }

  // ---- what g++ 12 is known to get wrong, and must not here

  CORO_TEST_CASE("the forms of co_await that the manual shows are right") {
    auto& loop = event_loop::current();
    struct options {
      std::string_view name = {};
      std::chrono::milliseconds limit = 5ms;
    };
    struct worker {
      std::string name;
      future<std::string> greet(std::string whom, options how = {}) const {
        co_await pulsar::sleep(how.limit);
        co_return name + " greets " + whom + std::string(how.name);
      }
    };
    const worker w{"a worker whose name is not short"};
    const auto text = [](std::string s) -> future<std::string> {
      co_await pulsar::sleep(0s);
      co_return s + ", a text that does not fit into the string itself";
    };

    const auto one = co_await w.greet("somebody with a long name");
    CHECK(one == "a worker whose name is not short greets somebody with a long name");
    const auto two = co_await w.greet("you", {.name = "!", .limit = 1ms});
    CHECK(two == "a worker whose name is not short greets you!");
    const auto three = fmt::format("[{}] [{}]", co_await text("x"), co_await text("y"));
    CHECK(three == "[x, a text that does not fit into the string itself] "
                   "[y, a text that does not fit into the string itself]");

    std::vector<future<std::string>> v;
    v.push_back(text("0"));
    v.push_back(text("1"));
    CHECK((co_await v[1]).front() == '1');
    auto pointer = std::make_unique<future<std::string>>(text("p"));
    const auto pointed = co_await *pointer;
    CHECK(pointed.front() == 'p');
    std::optional<future<std::string>> maybe = text("m");
    const auto optional = co_await std::move(*maybe);
    CHECK(optional.front() == 'm');
    const auto at_front = co_await std::move(v.front());
    CHECK(at_front.front() == '0');

    const auto inline_lambda = co_await [](int n) -> future<int> { co_return n + 1; }(41);
    CHECK(inline_lambda == 42);
    const auto nested = co_await text(co_await text("inner"));
    CHECK(nested.substr(0, 6) == "inner,");
    std::string sum;
    for (int i = 0; i < 3; ++i) sum += co_await text(std::to_string(i));
    CHECK(sum.size() == 3 * (co_await text("9")).size());
    if ((co_await text("yes")).front() == 'y') sum.clear();
    CHECK(sum.empty());
    switch (co_await [](int n) -> future<int> { co_return n; }(3)) {
      case 3: sum = "three"; break;
      default: sum = "other";
    }
    CHECK(sum == "three");
    const auto filled = [](std::string s) -> future<bool> { co_return !s.empty(); };
    while (co_await filled(sum)) sum.pop_back();
    CHECK(sum.empty());

    auto [a, b] = co_await pulsar::when_all(text("a"), text("b"));
    CHECK(a.front() == 'a');
    CHECK(b.front() == 'b');
    auto both = co_await pulsar::when_all(w.greet("a"), w.greet("b", {.limit = 1ms}));
    CHECK(std::get<1>(both).back() == 'b');
    auto late = co_await pulsar::as_result(pulsar::with_timeout(pulsar::sleep(1h), 1ms));
    CHECK(late.code() == errc::timed_out);
    auto first = co_await pulsar::when_any(text("first"), pulsar::sleep(1h));
    CHECK(first.get<0>().front() == 'f');
    std::vector<future<std::string>> many;
    for (int i = 0; i < 3; ++i) many.push_back(text(std::to_string(i)));
    const auto all = co_await pulsar::when_all(std::move(many));
    CHECK(all[2].front() == '2');
    try {
      co_await fail_later(loop, "it" + std::string(" was thrown"));
    } catch (const std::runtime_error& e) {
      sum = e.what();
    }
    CHECK(sum == "it was thrown");
    // Two steps where there is a choice.
    auto chosen = loop.time() == event_loop::time_point() ? text("zero") : text("later");
    CHECK((co_await std::move(chosen)).front() == 'l');
  }
}
