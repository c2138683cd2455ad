// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/operation.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <asio/steady_timer.hpp>

#include "support/coro_test.hpp"
#include "support/death.hpp"
#include "support/futures.hpp"

#include <any>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;
using future_test::run;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::promise;
using pulsar::result;

namespace {

template <class E>
std::exception_ptr failure(E e) {
  return std::make_exception_ptr(e);
}

struct no_default {
  explicit no_default(int v) : value(v) {}
  int value;
};

}  // namespace

TEST_SUITE("result") {
  // ---- result<T>

  TEST_CASE("a result of a value has it, and no failure") {
    result<std::string> r("text");
    CHECK(r.has_value());
    CHECK(static_cast<bool>(r));
    CHECK(r.value() == "text");
    CHECK(*r == "text");
    CHECK(r->size() == 4);
    r.value() += "!";
    const auto& same = r;
    CHECK(same.value() == "text!");
    CHECK(*same == "text!");
    CHECK(same->size() == 5);
    CHECK(r.exception() == nullptr);
    CHECK(r.code() == std::error_code());
    CHECK(std::move(r).value() == "text!");
  }

  TEST_CASE("a result of a failure throws it instead of a value, and tells code and text") {
    const result<int> r(failure(pulsar::error(errc::mailbox_full, "of the bank")));
    CHECK_FALSE(r.has_value());
    CHECK_FALSE(static_cast<bool>(r));
    CHECK_THROWS_AS(static_cast<void>(r.value()), pulsar::error);
    CHECK(r.exception() != nullptr);
    CHECK(r.code() == errc::mailbox_full);
    CHECK(r.message() == "of the bank: the mailbox is full");
    result<int> changing(r);
    CHECK_THROWS_AS(static_cast<void>(changing.value()), pulsar::error);
    CHECK_THROWS_AS(static_cast<void>(std::move(changing).value()), pulsar::error);
  }

  TEST_CASE("the code is that of any system_error, and command_failed for what has none") {
    const auto system = std::make_error_code(std::errc::connection_refused);
    CHECK(result<>(failure(std::system_error(system))).code() == system);
    CHECK(result<>(failure(std::logic_error("wrong"))).code() == errc::command_failed);
    CHECK(result<>(failure(std::logic_error("wrong"))).message() == "wrong");
    CHECK(result<>(failure(7)).code() == errc::command_failed);
    CHECK(result<>(failure(7)).message() == "an exception that is no std::exception");
    CHECK(result<>(std::monostate()).message() == "no exception");
  }

  TEST_CASE("a value may be nothing, a reference, move-only, without a default or convertible") {
    result<> nothing(std::monostate{});
    nothing.value();
    CHECK(nothing.has_value());

    int target = 1;
    result<int&> reference(target);
    reference.value() = 2;
    CHECK(target == 2);
    CHECK(&*reference == &target);
    const auto copy = reference;
    CHECK(&copy.value() == &target);
    CHECK(&std::move(reference).value() == &target);

    result<std::unique_ptr<int>> owner(std::make_unique<int>(3));
    CHECK(**owner == 3);
    const auto taken = std::move(owner).value();
    CHECK(*taken == 3);

    const result<no_default> strict(no_default(4));
    CHECK(strict->value == 4);
    const result<std::any> anything(std::any(5));
    CHECK(std::any_cast<int>(*anything) == 5);
    const result<std::optional<int>> none(std::nullopt);
    CHECK(none.has_value());
    CHECK_FALSE(none->has_value());
    const result<result<int>> nested(result<int>(6));
    CHECK(**nested == 6);
  }

  TEST_CASE("what is no value of the type is no result of it") {
    static_assert(std::is_constructible_v<result<int>, long>);
    static_assert(!std::is_constructible_v<result<int>, std::string>);
    static_assert(!std::is_constructible_v<result<std::string>, int*>);
    static_assert(!std::is_constructible_v<result<int&>, int>);
    static_assert(!std::is_convertible_v<std::vector<int>, result<>>);
    static_assert(!std::is_default_constructible_v<result<int>>);
    static_assert(std::is_copy_constructible_v<result<int>>);
    static_assert(!std::is_copy_constructible_v<result<std::unique_ptr<int>>>);
    static_assert(std::is_nothrow_move_constructible_v<result<std::string>>);
  }

#if !defined(__SANITIZE_THREAD__) && !defined(NDEBUG)
  TEST_CASE("the value of a failure, the failure of nothing and what was moved end the program") {
    const auto none = death_of([] {
      result<int> r(failure(1));
      ++*r;
    });
    CHECK(none.aborted);
    CHECK(none.text.find("this result is a failure: ask has_value() first") != std::string::npos);
    const auto null = death_of([] { static_cast<void>(result<int>(std::exception_ptr())); });
    CHECK(null.aborted);
    CHECK(null.text.find("a result needs a value or a failure") != std::string::npos);
    const auto moved = death_of([] {
      result<int> r(failure(1));
      const auto other = std::move(r);
      static_cast<void>(r.value());
    });
    CHECK(moved.aborted);
    CHECK(moved.text.find("this result was moved from") != std::string::npos);
  }
#endif

  // ---- as_result

  CORO_TEST_CASE("as_result gives the outcome of a future, and throws nothing") {
    auto value = co_await as_result(pulsar::sleep(1ms).then([] { return std::string("text"); }));
    CHECK(*value == "text");
    auto nothing = co_await as_result(pulsar::sleep(1ms));
    CHECK(nothing.has_value());
    auto failed = co_await as_result(
        pulsar::sleep(1ms).then([]() -> int { throw std::runtime_error("the reason"); }));
    CHECK(failed.message() == "the reason");
    auto odd = co_await as_result(pulsar::sleep(1ms).then([]() -> int { throw 7; }));
    CHECK_THROWS_AS(odd.value(), int);
    int target = 1;
    const auto refer = [](int& t) -> future<int&> {
      co_await pulsar::sleep(1ms);
      co_return t;
    };
    auto reference = co_await as_result(refer(target));
    CHECK(&reference.value() == &target);
    auto owner = co_await as_result(pulsar::make_ready_future(std::make_unique<int>(5)));
    CHECK(**owner == 5);
  }

  TEST_CASE("as_result of what is done is done") {
    event_loop loop;
    auto value = as_result(pulsar::make_ready_future(1));
    CHECK(value.done());
    CHECK(*value.result() == 1);
    auto failed = as_result(pulsar::make_exceptional_future<int>(failure(2)));
    CHECK(failed.done());
    CHECK_THROWS_AS(failed.result().value(), int);
  }

  TEST_CASE("a failure that as_result gave is seen: it is not reported") {
    event_loop loop(clock_kind::virtual_time);
    int reported = 0;
    loop.set_exception_handler([&](const failure_report&) { ++reported; });
    {
      auto f = as_result(pulsar::sleep(1ms).then([] { throw std::runtime_error("x"); }));
      run(loop);
      CHECK(f.result().message() == "x");
      as_result(pulsar::make_exceptional_future(failure(1))).detach();
    }
    CHECK(reported == 0);
  }

  TEST_CASE("cancelling as_result cancels its future, and the outcome is what becomes of that") {
    event_loop loop(clock_kind::virtual_time);
    promise<int> p(loop);
    auto f = as_result(p.get_future());
    CHECK(f.cancel());
    CHECK(p.cancelled());
    const auto stubborn = [](event_loop& l) -> future<int> {
      try {
        co_await pulsar::sleep(1h, l);
      } catch (const pulsar::error&) {
        co_return 5;
      }
      co_return -1;
    };
    auto g = as_result(stubborn(loop));
    CHECK(g.cancel());
    run(loop);
    CHECK(f.result().code() == errc::cancelled);
    CHECK(*g.result() == 5);
    CHECK(loop.time() == event_loop::time_point());
  }

  // ---- as_result and cancellation: who was cancelled is told once

  TEST_CASE("whoever is cancelled is told by the result: what it awaits next waits again") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::error_code> codes;
    auto f = [](event_loop& l, std::vector<std::error_code>& seen) -> future<> {
      for (int i = 0; i < 2; ++i) {
        auto r = co_await as_result(pulsar::sleep(1h, l));
        seen.push_back(r.code());
      }
    }(loop, codes);
    f.cancel();
    run(loop);
    CHECK(codes == std::vector<std::error_code>{errc::cancelled, {}});
    CHECK(f.done());
    CHECK_FALSE(f.cancelled());
    CHECK(loop.time() == event_loop::time_point(1h));
  }

  TEST_CASE("so it is when a result is kept, and when it is that of an operation of Asio") {
    event_loop loop;
    std::vector<std::error_code> codes;
    auto f = [](event_loop& l, std::vector<std::error_code>& seen) -> future<> {
      asio::steady_timer timer(l.context(), 1h);
      auto r = co_await as_result(timer.async_wait(pulsar::use_future));
      seen.push_back(r.code());
      timer.expires_after(0s);
      auto kept = as_result(timer.async_wait(pulsar::use_future));
      auto again = co_await kept;
      seen.push_back(again.code());
    }(loop, codes);
    f.cancel();
    loop.run_until_complete(std::move(f));
    CHECK(codes == std::vector<std::error_code>{errc::cancelled, {}});
  }

  TEST_CASE("so it is when what was awaited has waited on its way out") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::error_code> codes;
    const auto tidies_up = [](event_loop& l) -> future<> {
      std::exception_ptr why;
      try {
        co_await pulsar::sleep(1h, l);
      } catch (...) {
        why = std::current_exception();
      }
      co_await pulsar::sleep(1min, l);
      std::rethrow_exception(why);
    };
    auto f = [](event_loop& l, future<> child, std::vector<std::error_code>& seen) -> future<> {
      auto r = co_await as_result(std::move(child));
      seen.push_back(r.code());
      co_await pulsar::sleep(1s, l);
    }(loop, tidies_up(loop), codes);
    f.cancel();
    run(loop);
    CHECK(codes == std::vector<std::error_code>{errc::cancelled});
    CHECK_FALSE(f.cancelled());
    CHECK(loop.time() == event_loop::time_point(1min + 1s));
  }

  TEST_CASE("who is cancelled twice is told twice") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::error_code> codes;
    auto f = [](event_loop& l, std::vector<std::error_code>& seen) -> future<> {
      for (int i = 0; i < 3; ++i) {
        auto r = co_await as_result(pulsar::sleep(1h, l));
        seen.push_back(r.code());
      }
    }(loop, codes);
    f.cancel();
    loop.call_later(1min, [&] { f.cancel(); });
    run(loop);
    CHECK(codes == std::vector<std::error_code>{errc::cancelled, errc::cancelled, {}});
    CHECK(loop.time() == event_loop::time_point(1min + 1h));
  }

  TEST_CASE("a cancellation of another one, or of its own making, tells nobody else") {
    event_loop loop(clock_kind::virtual_time);
    std::vector<std::error_code> codes;
    promise<> others(loop);
    auto child = others.get_future();
    future<> f;
    f = [](event_loop& l, future<>& awaited, future<>& self,
           std::vector<std::error_code>& seen) -> future<> {
      auto given = co_await as_result(std::move(awaited));
      seen.push_back(given.code());
      co_await pulsar::sleep(1s, l);
      self.cancel();  // while nothing is pending
      auto own = co_await as_result(
          pulsar::make_exceptional_future(failure(pulsar::error(errc::cancelled))));
      seen.push_back(own.code());
      co_await pulsar::sleep(1h, l);
    }(loop, child, f, codes);
    others.set_exception(errc::cancelled);
    run(loop);
    CHECK(codes == std::vector<std::error_code>{errc::cancelled, errc::cancelled});
    CHECK(f.cancelled());
    CHECK(loop.time() == event_loop::time_point(1s));
  }

  TEST_CASE("who was cancelled and gets another failure, or a value, is told at the next await") {
    for (const bool fails : {false, true}) {
      event_loop loop(clock_kind::virtual_time);
      std::vector<std::error_code> codes;
      const auto stubborn = [](event_loop& l, bool throws) -> future<> {
        try {
          co_await pulsar::sleep(1h, l);
        } catch (const pulsar::error&) {
          if (throws) throw pulsar::error(errc::malformed);
        }
      };
      auto f = [](event_loop& l, future<> child, std::vector<std::error_code>& seen) -> future<> {
        auto r = co_await as_result(std::move(child));
        seen.push_back(r.code());
        co_await pulsar::sleep(1h, l);
      }(loop, stubborn(loop, fails), codes);
      f.cancel();
      run(loop);
      REQUIRE(codes.size() == 1);
      CHECK(codes[0] == (fails ? pulsar::make_error_code(errc::malformed) : std::error_code()));
      CHECK(f.cancelled());
      CHECK(loop.time() == event_loop::time_point());
    }
  }

  CORO_TEST_CASE("behind a loop that ended by cancellation a stream is closed in good order") {
    auto ends = pulsar::memory_pair(4);  // so that the end must be waited for
    auto f = [](pulsar::stream peer) -> future<> {
      for (;;) {
        auto line = co_await as_result(peer.read_line());
        if (!line) break;
      }
      peer.write("good bye");
      co_await peer.close();
    }(std::move(ends.first));
    co_await pulsar::sleep(1ms);
    f.cancel();
    co_await pulsar::sleep(1ms);
    const std::string last = co_await ends.second.read_to_end();
    CHECK(last == "good bye");
    co_await std::move(f);
  }

  TEST_CASE("dropping as_result cancels its future; closing the loop ends or frees it") {
    for (const auto limit : {event_loop::duration(1h), event_loop::duration(0)}) {
      std::optional<promise<>> p;
      std::optional<promise<>> q;
      future<result<>> f;
      {
        event_loop loop;
        p.emplace(loop);
        q.emplace(loop);
        { auto dropped = as_result(p->get_future()); }
        CHECK(p->cancelled());
        f = as_result(q->get_future());
        loop.close(limit);
        CHECK(f.done() == (limit == 1h));
        CHECK(q->cancelled());
      }
      if (f.done()) CHECK(f.result().code() == errc::cancelled);
    }
  }

  TEST_CASE("an empty future and one of another loop are failures to look at") {
    event_loop loop;
    event_loop other;
    auto empty = loop.create_task([] { return as_result(future<int>()); });
    CHECK(empty.result().code() == errc::already_called);
    auto strange = loop.create_task([&] { return as_result(pulsar::sleep(1h, other)); });
    CHECK(strange.result().code() == errc::wrong_loop);
  }
}
