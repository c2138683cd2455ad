// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/handle.hpp>

#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

using namespace std::chrono_literals;
using pulsar::clock_kind;
using pulsar::event_loop;
using pulsar::handle;

namespace {

// Runs what is ready, and every timer: virtual time jumps to each.
void run_all(event_loop& loop) { loop.context().run(); }

}  // namespace

TEST_SUITE("handle") {
  TEST_CASE("a cancelled callback is not called") {
    event_loop loop(clock_kind::virtual_time);
    int called = 0;
    handle soon = loop.call_soon([&] { ++called; });
    handle later = loop.call_later(5ms, [&] { ++called; });
    handle at = loop.call_at(loop.time() + 1h, [&] { ++called; });
    for (handle* h : {&soon, &later, &at}) {
      CHECK_FALSE(h->cancelled());
      h->cancel();
      CHECK(h->cancelled());
      h->cancel();
      CHECK(h->cancelled());
    }
    run_all(loop);
    CHECK(called == 0);
    CHECK(loop.time() == event_loop::time_point());  // no deadline was left to jump to
  }

  TEST_CASE("dropping a handle leaves the callback alone") {
    event_loop loop(clock_kind::virtual_time);
    int called = 0;
    { const handle dropped = loop.call_soon([&] { ++called; }); }
    loop.call_later(5ms, [&] { ++called; });
    run_all(loop);
    CHECK(called == 2);
  }

  TEST_CASE("an empty handle is harmless") {
    handle empty;
    CHECK_FALSE(empty.cancelled());
    empty.cancel();
    CHECK_FALSE(empty.cancelled());
    handle moved = std::move(empty);
    moved = handle();
    moved.cancel();
  }

  TEST_CASE("copies refer to one callback") {
    event_loop loop(clock_kind::virtual_time);
    int called = 0;
    handle first = loop.call_later(1ms, [&] { ++called; });
    handle second = first;
    handle third;
    third = second;
    handle fourth = std::move(second);
    third.cancel();
    CHECK(first.cancelled());
    CHECK(fourth.cancelled());
    run_all(loop);
    CHECK(called == 0);
  }

  TEST_CASE("cancelling frees what the callback holds at once, however long the handle is kept") {
    event_loop loop;
    const auto held = std::make_shared<int>(1);
    handle soon = loop.call_soon([held] {});
    handle later = loop.call_later(1h, [held] {});
    CHECK(held.use_count() == 3);
    soon.cancel();
    CHECK(held.use_count() == 2);
    later.cancel();
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("what a callback holds is freed once it was called, however long the handle is kept") {
    event_loop loop(clock_kind::virtual_time);
    const auto held = std::make_shared<int>(1);
    handle soon = loop.call_soon([held] {});
    handle later = loop.call_later(1h, [held] {});
    handle throwing = loop.call_soon([held] { throw std::runtime_error("on purpose"); });
    loop.set_exception_handler([](const pulsar::failure_report&) {});
    run_all(loop);
    CHECK(held.use_count() == 1);
    soon.cancel();
    later.cancel();
  }

  TEST_CASE("a callback may cancel itself while it runs and still use what it holds") {
    event_loop loop(clock_kind::virtual_time);
    handle soon;
    handle later;
    int sum = 0;
    soon = loop.call_soon([&soon, &sum, held = std::make_unique<int>(1)] {
      soon.cancel();
      sum += *held;
    });
    later = loop.call_later(1ms, [&later, &sum, held = std::make_unique<int>(10)] {
      later.cancel();
      later = handle();
      sum += *held;
    });
    run_all(loop);
    CHECK(sum == 11);
    CHECK(soon.cancelled());
  }

  TEST_CASE("a callback that holds its own handle is freed when called and when cancelled") {
    event_loop loop(clock_kind::virtual_time);
    const auto held = std::make_shared<int>(1);
    for (const bool cancel : {false, true}) {
      for (const auto delay : {0ms, 5ms}) {
        const auto own = std::make_shared<handle>();
        *own = delay == 0ms ? loop.call_soon([own, held] {})
                            : loop.call_later(delay, [own, held] {});
        if (cancel) own->cancel();
      }
    }
    run_all(loop);
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("a handle may outlive its loop") {
    const auto held = std::make_shared<int>(1);
    int called = 0;
    handle soon;
    handle later;
    handle done;
    {
      event_loop loop;
      done = loop.call_soon([&called, held] { ++called; });
      loop.context().run_one();
      soon = loop.call_soon([&called, held] { ++called; });
      later = loop.call_later(1h, [&called, held] { ++called; });
    }
    CHECK(called == 1);
    CHECK(held.use_count() == 1);
    for (handle* h : {&soon, &later, &done}) {
      h->cancel();
      CHECK(h->cancelled());
    }
  }

  TEST_CASE("what a callback holds may cancel it, and end its loop, while it is freed") {
    struct connection {
      handle own;
      ~connection() { own.cancel(); }
    };
    {
      event_loop loop;
      auto made = std::make_unique<connection>();
      handle& own = made->own;
      own = loop.call_soon([kept = std::shared_ptr<connection>(std::move(made))] {});
      loop.close();
    }
    const auto held = std::make_shared<int>(1);
    auto loop = std::make_shared<event_loop>();
    handle last = loop->call_soon([loop, held] {});
    loop.reset();
    last.cancel();
    CHECK(held.use_count() == 1);
  }

  TEST_CASE("a cancelled timer does not keep a user's context from ending") {
    asio::io_context context;
    event_loop loop(context);
    handle later = loop.call_later(1h, [] {});
    loop.call_soon([&] { later.cancel(); });
    context.run();
    CHECK(context.stopped());
  }
}
