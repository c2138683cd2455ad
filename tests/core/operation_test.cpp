// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/operation.hpp>

#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>
#include <pulsar/core/when_any.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/bind_executor.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/dispatch.hpp>
#include <asio/experimental/channel.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>
#include <asio/read.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "support/coro_test.hpp"
#include "support/death.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::use_future;
using pulsar::use_result;

namespace {

using local_socket = asio::local::stream_protocol::socket;
using asio::ip::tcp;
using codes = std::vector<std::error_code>;

// Two ends of a stream. Operations keep theirs: what is cancelled must not have lost it.
struct wire {
  explicit wire(event_loop& loop)
      : a(std::make_shared<local_socket>(loop.context())),
        b(std::make_shared<local_socket>(loop.context())) {
    asio::local::connect_pair(*a, *b);
  }
  std::shared_ptr<local_socket> a;
  std::shared_ptr<local_socket> b;
};

void put(const std::shared_ptr<local_socket>& s, const std::string& text) {
  asio::write(*s, asio::buffer(text));
}

future<std::string> read_some(std::shared_ptr<local_socket> s) {
  std::string text(16, '\0');
  const std::size_t n = co_await s->async_read_some(asio::buffer(text), use_future);
  text.resize(n);
  co_return text;
}

template <class Signature, class Token, class Start, class... Args>
auto initiate(Token token, Start start, Args... args) {
  return asio::async_initiate<Token, Signature>(std::move(start), token, std::move(args)...);
}

// An operation that posts its completion, and knows nothing of cancellation.
template <class Signature, class Token, class... Results>
auto complete_later(event_loop& loop, Token token, Results... results) {
  return initiate<Signature>(
      token,
      [&loop](auto handler, auto... values) {
        asio::post(loop.context(),
                   [h = std::move(handler), v = std::tuple(std::move(values)...)]() mutable {
                     std::apply(std::move(h), std::move(v));
                   });
      },
      std::move(results)...);
}

// An operation that calls its handler before it returns, which Asio's own never do.
template <class Signature, class Token, class... Results>
auto complete_at_once(Token token, Results... results) {
  return initiate<Signature>(
      token, [](auto handler, auto... values) { std::move(handler)(std::move(values)...); },
      std::move(results)...);
}

// An operation that ends when it is cancelled, and notes with what.
struct cancellations {
  std::vector<asio::cancellation_type_t> types;
  std::function<void()> end;
};
template <class Signature, class Token, class... Results>
auto complete_when_cancelled(std::shared_ptr<cancellations> notes, Token token, Results... results) {
  return initiate<Signature>(
      token,
      [notes](auto handler, auto... values) {
        auto slot = asio::get_associated_cancellation_slot(handler);
        const auto executor = asio::get_associated_executor(handler);
        auto kept = std::make_shared<decltype(handler)>(std::move(handler));
        const std::weak_ptr<cancellations> seen = notes;
        slot.assign([=](asio::cancellation_type_t type) {
          if (const auto s = seen.lock()) s->types.push_back(type);
          asio::post(executor, [=]() mutable { std::move (*kept)(std::move(values)...); });
        });
      },
      std::move(results)...);
}

struct no_default {
  explicit no_default(int v) : value(std::make_unique<int>(v)) {}
  std::unique_ptr<int> value;
};

template <class T>
future<std::error_code> outcome(future<T> f) {
  auto r = co_await as_result(std::move(f));
  co_return r.code();
}

std::error_code code_of(const std::exception_ptr& failure) {
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::system_error& e) {
    return e.code();
  } catch (...) {
  }
  return {};
}

// Runs what is ready, and waits for nothing.
void turn(event_loop& loop) {
  loop.context().restart();
  loop.context().poll();
}

}  // namespace

TEST_SUITE("operation") {
  TEST_CASE("an operation that completes inside a callback goes on behind it, in its turn") {
    pulsar::event_loop loop;
    std::function<void()> settle;
    std::vector<std::string> order;
    const auto waits = [](std::function<void()>& out, std::vector<std::string>& o) -> future<> {
      auto start = asio::async_initiate<const pulsar::use_future_t, void()>(
          [&out](auto handler) {
            out = [h = std::make_shared<decltype(handler)>(std::move(handler))] { (*h)(); };
          },
          pulsar::use_future);
      co_await std::move(start);
      o.push_back("coroutine");
    };
    auto f = waits(settle, order);
    loop.call_soon([&] {
      loop.call_soon([&] { order.push_back("queued"); });
      asio::dispatch(loop.context(), [&] { settle(); });
      order.push_back("callback");
    });
    loop.run_until_complete(std::move(f));
    CHECK(order == std::vector<std::string>{"callback", "queued", "coroutine"});
  }

  // ---- results

  CORO_TEST_CASE_REAL("an operation gives what its handler would have got, or throws the failure") {
    auto& loop = event_loop::current();
    const wire p(loop);
    std::string text(8, '\0');
    put(p.b, "hello");
    const std::size_t n = co_await p.a->async_read_some(asio::buffer(text), use_future);
    CHECK(n == 5);
    CHECK(text.substr(0, 5) == "hello");
    const std::size_t m = co_await p.a->async_write_some(asio::buffer(text.data(), 3), use_future);
    CHECK(m == 3);
    const auto back = co_await read_some(p.b);
    CHECK(back == "hel");
    asio::steady_timer timer(loop.context(), 1ms);
    co_await timer.async_wait(use_future);
    co_await asio::post(loop.context(), use_future);
    p.b->close();
    const auto code = co_await outcome(read_some(p.a));
    CHECK(code == asio::error::eof);
  }

  CORO_TEST_CASE_REAL("with use_result the failure is a value beside the others") {
    auto& loop = event_loop::current();
    const wire p(loop);
    put(p.b, "hello");
    std::string text(8, '\0');
    auto got = co_await p.a->async_read_some(asio::buffer(text), use_result);
    static_assert(std::is_same_v<decltype(got), std::tuple<std::error_code, std::size_t>>);
    CHECK_FALSE(std::get<0>(got));
    CHECK(std::get<1>(got) == 5);
    put(p.b, "abc");
    p.b->close();
    auto rest = co_await asio::async_read(*p.a, asio::buffer(text), use_result);
    CHECK(std::get<0>(rest) == asio::error::eof);
    CHECK(std::get<1>(rest) == 3);
    asio::steady_timer timer(loop.context(), 1ms);
    auto waited = co_await timer.async_wait(use_result);
    CHECK_FALSE(std::get<0>(waited));
    static_cast<void>(co_await asio::post(loop.context(), use_result));
  }

  CORO_TEST_CASE("handlers of every shape are understood") {
    auto& loop = event_loop::current();
    using std::error_code;
    co_await complete_later<void()>(loop, use_future);
    co_await complete_later<void(error_code)>(loop, use_future, error_code());
    const int one = co_await complete_later<void(int)>(loop, use_future, 1);
    CHECK(one == 1);
    const int two = co_await complete_later<void(error_code, int)>(loop, use_future, error_code(), 2);
    CHECK(two == 2);
    const auto three = co_await complete_later<void(error_code, int, std::string)>(
        loop, use_future, error_code(), 3, std::string("c"));
    CHECK(three == std::tuple(3, std::string("c")));
    const auto four = co_await complete_later<void(int, std::string)>(loop, use_future, 4,
                                                                      std::string("d"));
    CHECK(four == std::tuple(4, std::string("d")));
    const int five = co_await complete_later<void(std::exception_ptr, int)>(
        loop, use_future, std::exception_ptr(), 5);
    CHECK(five == 5);
    const auto six = co_await complete_later<void(error_code, no_default)>(
        loop, use_future, error_code(), no_default(6));
    CHECK(*six.value == 6);
    auto all = co_await complete_later<void(error_code, no_default)>(loop, use_result, error_code(),
                                                                     no_default(7));
    CHECK(*std::get<1>(all).value == 7);
    // Nothing is taken for pending any more, so virtual time goes on.
    co_await pulsar::sleep(1h);
    CHECK(loop.time() == event_loop::time_point(1h));
  }

  TEST_CASE("after an operation a coroutine works for whom it did before") {
    event_loop loop;
    pulsar::detail::context ann("ann");
    ann.take();
    std::vector<const pulsar::detail::context*> seen;
    future<> f;
    {
      const pulsar::detail::context_scope scope(&ann);
      f = [](event_loop& l, std::vector<const pulsar::detail::context*>& s) -> future<> {
        co_await complete_later<void()>(l, use_future);
        s.push_back(pulsar::detail::this_context);
        static_cast<void>(co_await complete_later<void(int)>(l, use_result, 1));
        s.push_back(pulsar::detail::this_context);
      }(loop, seen);
    }
    loop.run_until_complete(std::move(f));
    CHECK(seen == std::vector<const pulsar::detail::context*>(2, &ann));
  }

  TEST_CASE("a coroutine that goes on behind an operation may be cancelled there") {
    event_loop loop;
    future<> f;
    std::function<void()> between = [&] { f.cancel(); };
    f = [](event_loop& l, std::function<void()>& b) -> future<> {
      co_await complete_later<void()>(l, use_future);
      b();
      co_await pulsar::sleep(1h, l);
    }(loop, between);
    turn(loop);
    CHECK(f.cancelled());
  }

  CORO_TEST_CASE("a failure may be a code or an exception") {
    auto& loop = event_loop::current();
    future<int> by_code = complete_later<void(std::error_code, int)>(
        loop, use_future, std::error_code(asio::error::connection_refused), 1);
    const auto refused = co_await outcome(std::move(by_code));
    CHECK(refused == asio::error::connection_refused);
    future<int> by_exception = complete_later<void(std::exception_ptr, int)>(
        loop, use_future, std::make_exception_ptr(std::runtime_error("the reason")), 1);
    auto failed = co_await as_result(std::move(by_exception));
    CHECK(failed.message() == "the reason");
  }

  CORO_TEST_CASE_REAL("an accepted socket is a result like any other") {
    auto& loop = event_loop::current();
    const auto acceptor = std::make_shared<tcp::acceptor>(
        loop.context(), tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    future<tcp::socket> accepted = acceptor->async_accept(use_future);
    const auto client = std::make_shared<tcp::socket>(loop.context());
    const auto where = acceptor->local_endpoint();
    co_await client->async_connect(where, use_future);
    tcp::socket server = co_await std::move(accepted);
    CHECK(server.remote_endpoint() == client->local_endpoint());
  }

#if defined(ASIO_HAS_CO_AWAIT)  // not with Clang, says Asio 1.22
  CORO_TEST_CASE_REAL("an asio::awaitable is an operation too, and is cancelled as one") {
    auto& loop = event_loop::current();
    const auto work = [](event_loop::duration time, int value) -> asio::awaitable<int> {
      asio::steady_timer timer(co_await asio::this_coro::executor, time);
      co_await timer.async_wait(asio::use_awaitable);
      if (value < 0) throw std::invalid_argument("negative");
      co_return value;
    };
    auto good = work(1ms, 4);
    const int four = co_await asio::co_spawn(loop.context(), std::move(good), use_future);
    CHECK(four == 4);
    auto bad = work(1ms, -1);
    future<int> fails = asio::co_spawn(loop.context(), std::move(bad), use_future);
    auto failed = co_await as_result(std::move(fails));
    if (failed.code() == errc::cancelled) co_return;  // it is not told again
    CHECK(failed.message() == "negative");
    auto endless = work(1h, 1);
    future<int> waits = asio::co_spawn(loop.context(), std::move(endless), use_future);
    co_await pulsar::sleep(1ms);
    const bool asked = waits.cancel();
    CHECK(asked);
    const auto code = co_await outcome(std::move(waits));
    CHECK(code == errc::cancelled);
  }
#endif

  // ---- in combinators

  CORO_TEST_CASE("combinators take an operation as they take a future") {
    auto& loop = event_loop::current();
    asio::steady_timer endless(loop.context(), asio::steady_timer::time_point::max());
    auto limited = pulsar::with_timeout(asio::post(loop.context(), use_future), 1s);
    co_await std::move(limited);
    auto ended = co_await as_result(asio::post(loop.context(), use_future));
    CHECK(ended.has_value());
    auto both = co_await pulsar::when_all(asio::post(loop.context(), use_future),
                                          pulsar::make_ready_future(3));
    CHECK(std::get<1>(both) == 3);
    auto settled = co_await pulsar::when_all_settled(asio::post(loop.context(), use_future));
    CHECK(std::get<0>(settled).has_value());
    auto first = co_await pulsar::when_any(endless.async_wait(use_future),
                                           asio::post(loop.context(), use_future));
    CHECK(first.index() == 1);
    CHECK(first.outcome<0>().code() == errc::cancelled);
    pulsar::task_group group;
    group.add(asio::post(loop.context(), use_future));
    group.add(pulsar::sleep(1ms));
    co_await group.join();
    CHECK(group.size() == 0);
  }

  // ---- when it starts

  TEST_CASE("an operation starts when it is awaited or made a future, not before") {
    event_loop loop;
    int started = 0;
    const auto begin = [&] {
      return initiate<void(int)>(use_future, [&](auto handler) {
        ++started;
        asio::post(loop.context(), [h = std::move(handler)]() mutable { std::move(h)(5); });
      });
    };
    auto waiting = begin();
    CHECK(started == 0);
    { [[maybe_unused]] auto never = begin(); }
    CHECK(started == 0);
    future<int> f = std::move(waiting);
    CHECK(started == 1);
    CHECK_FALSE(f.done());
    turn(loop);
    CHECK(f.result() == 5);
    CHECK(loop.run_until_complete([&]() -> future<int> { return begin(); }) == 5);
    CHECK(started == 2);
  }

  CORO_TEST_CASE_REAL("operations made futures run side by side") {
    auto& loop = event_loop::current();
    const wire p(loop);
    const auto kept = p.a;
    std::array<char, 4> room{};
    put(p.b, "ab");
    future<std::size_t> reading = p.a->async_read_some(asio::buffer(room), use_future);
    future<std::size_t> writing = p.b->async_write_some(asio::buffer("xyz", 3), use_future);
    auto both = co_await pulsar::when_all(std::move(reading), std::move(writing));
    CHECK(both == std::tuple(2U, 3U));
  }

  CORO_TEST_CASE("a handler that is called before the operation has begun is no trap") {
    for (int i = 0; i < 3; ++i) {
      const int value = co_await complete_at_once<void(int)>(use_future, i);
      CHECK(value == i);
    }
    auto failed = complete_at_once<void(std::error_code)>(
        use_future, std::error_code(asio::error::connection_refused));
    future<> f = std::move(failed);
    CHECK(f.done());
    const auto code = co_await outcome(std::move(f));
    CHECK(code == asio::error::connection_refused);
  }

  TEST_CASE("a long row of operations that are done at once needs no stack") {
    event_loop loop;
    const auto row = [](event_loop& l) -> future<int> {
      int sum = 0;
      for (int i = 0; i < 100'000; ++i) {
        co_await asio::dispatch(l.context(), use_future);
        sum += co_await complete_at_once<void(int)>(use_future, 1);
      }
      co_return sum;
    };
    CHECK(loop.run_until_complete([&] { return row(loop); }) == 100'000);
  }

  TEST_CASE("an operation that cannot begin throws where it is awaited, and is forgotten") {
    event_loop loop(clock_kind::virtual_time);
    const auto try_it = [](event_loop& l, std::vector<std::string>& texts,
                           std::function<void()>& between) -> future<> {
      co_await pulsar::sleep(0s, l);
      try {
        co_await initiate<void()>(use_future, [](auto) { throw std::runtime_error("no begin"); });
      } catch (const std::runtime_error& e) {
        texts.push_back(e.what());
      }
      between();
      // Virtual time would stand still if the operation were taken for pending.
      co_await pulsar::sleep(1h, l);
    };
    std::vector<std::string> texts;
    std::function<void()> between = [] {};
    auto f = try_it(loop, texts, between);
    loop.context().run();
    CHECK(f.done());
    CHECK(texts == std::vector<std::string>{"no begin"});

    future<> cancelled = try_it(loop, texts, between);
    between = [&] { cancelled.cancel(); };
    loop.context().restart();
    loop.context().run();
    CHECK(cancelled.cancelled());
    CHECK(texts.size() == 2);
  }

  // ---- cancelling

  CORO_TEST_CASE_REAL("cancelling reaches reads, timers, accepts and waits, and is told once") {
    auto& loop = event_loop::current();
    const wire p(loop);
    const auto acceptor = std::make_shared<tcp::acceptor>(
        loop.context(), tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    const auto timer = std::make_shared<asio::steady_timer>(loop.context(), 1h);
    const auto seen = std::make_shared<codes>();
    const auto note = [](auto start, std::shared_ptr<codes> s) -> future<> {
      try {
        co_await start();
      } catch (const pulsar::error& e) {
        s->push_back(e.code());
      }
      co_await pulsar::sleep(0s);  // was told: does not throw
      s->push_back({});
    };
    const auto room = std::make_shared<std::string>(16, '\0');
    std::vector<future<>> all;
    all.push_back(note(
        [=] { return p.a->async_read_some(asio::buffer(*room), use_future); }, seen));
    all.push_back(note([=] { return timer->async_wait(use_future); }, seen));
    all.push_back(note([=] { return acceptor->async_accept(use_future); }, seen));
    all.push_back(
        note([=] { return p.b->async_wait(local_socket::wait_read, use_future); }, seen));
    co_await pulsar::sleep(1ms);
    for (auto& f : all) {
      const bool asked = f.cancel();
      CHECK(asked);
      CHECK_FALSE(f.done());
    }
    for (auto& f : all) co_await f;
    CHECK(seen->size() == 8);
    CHECK(std::count(seen->begin(), seen->end(), errc::cancelled) == 4);
    // All of them are as good as before.
    put(p.b, "x");
    const auto text = co_await read_some(p.a);
    CHECK(text == "x");
    timer->expires_after(1ms);
    co_await timer->async_wait(use_future);
  }

  CORO_TEST_CASE_REAL("cancelling ends a composed read, which says how far it came") {
    auto& loop = event_loop::current();
    const wire p(loop);
    const auto read_all = [](std::shared_ptr<local_socket> s) -> future<std::size_t> {
      std::array<char, 8> room{};
      auto got = co_await asio::async_read(*s, asio::buffer(room), use_result);
      if (std::get<0>(got) != asio::error::operation_aborted) co_return 100;
      co_await pulsar::sleep(0s);  // was told: does not throw
      co_return std::get<1>(got);
    };
    auto f = read_all(p.a);
    put(p.b, "abc");
    co_await pulsar::sleep(1ms);
    CHECK(f.cancel());
    const std::size_t n = co_await std::move(f);
    CHECK(n == 3);
    const auto thrown = [](std::shared_ptr<local_socket> s) -> future<> {
      std::array<char, 8> room{};
      co_await asio::async_read(*s, asio::buffer(room), use_future);
    };
    auto g = thrown(p.a);
    co_await pulsar::sleep(1ms);
    g.cancel();
    const auto code = co_await outcome(std::move(g));
    CHECK(code == errc::cancelled);
  }

  CORO_TEST_CASE_REAL("cancelling ends a write that waits for room") {
    auto& loop = event_loop::current();
    const wire p(loop);
    const auto write_all = [](std::shared_ptr<local_socket> s) -> future<> {
      const std::string much(8'000'000, 'x');
      co_await asio::async_write(*s, asio::buffer(much), use_future);
    };
    auto f = write_all(p.a);
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(f.done());
    CHECK(f.cancel());
    const auto code = co_await outcome(std::move(f));
    CHECK(code == errc::cancelled);
  }

  TEST_CASE("the cancellation is of every type, and is emitted once") {
    event_loop loop;
    const auto notes = std::make_shared<cancellations>();
    auto f = [](std::shared_ptr<cancellations> n) -> future<> {
      co_await complete_when_cancelled<void(std::error_code)>(
          n, use_future, std::error_code(asio::error::operation_aborted));
    }(notes);
    turn(loop);
    CHECK_FALSE(f.done());
    CHECK(f.cancel());
    CHECK(f.cancel());
    turn(loop);
    CHECK(f.cancelled());
    CHECK(notes->types ==
          std::vector<asio::cancellation_type_t>{asio::cancellation_type::all});
  }

  TEST_CASE("an operation aborted by an exception is cancelled as well") {
    event_loop loop;
    const auto notes = std::make_shared<cancellations>();
    const auto aborted =
        std::make_exception_ptr(std::system_error(asio::error::operation_aborted));
    future<int> f = complete_when_cancelled<void(std::exception_ptr, int)>(notes, use_future,
                                                                           aborted, 1);
    CHECK(f.cancel());
    turn(loop);
    CHECK(f.cancelled());
    // But not if nobody asked: then it is what it is.
    future<int> g =
        complete_later<void(std::exception_ptr, int)>(loop, use_future, aborted, 1);
    turn(loop);
    CHECK(code_of(g.exception()) == asio::error::operation_aborted);
  }

  TEST_CASE("what succeeds in spite of a cancellation is given, and the next await is told") {
    event_loop loop(clock_kind::virtual_time);
    const auto notes = std::make_shared<cancellations>();
    std::vector<int> got;
    auto f = [](event_loop& l, std::shared_ptr<cancellations> n, std::vector<int>& g) -> future<> {
      g.push_back(co_await complete_when_cancelled<void(std::error_code, int)>(
          n, use_future, std::error_code(), 3));
      co_await pulsar::sleep(1ms, l);
      g.push_back(-1);
    }(loop, notes, got);
    CHECK(f.cancel());
    loop.context().run();
    CHECK(got == std::vector<int>{3});
    CHECK(f.cancelled());
  }

  TEST_CASE("whatever an operation fails with when it is cancelled, its coroutine was cancelled") {
    event_loop loop(clock_kind::virtual_time);
    const auto notes = std::make_shared<cancellations>();
    codes got;
    const auto work = [](event_loop& l, std::shared_ptr<cancellations> n, codes& g,
                         auto token) -> future<> {
      try {
        auto ended = complete_when_cancelled<void(std::error_code, int)>(
            n, token, std::error_code(asio::error::connection_reset), 1);
        if constexpr (std::is_same_v<decltype(token), pulsar::use_result_t>) {
          const auto values = co_await std::move(ended);
          g.push_back(std::get<0>(values));
        } else {
          static_cast<void>(co_await std::move(ended));
        }
      } catch (const std::system_error& e) {
        g.push_back(e.code());
      }
      co_await pulsar::sleep(1ms, l);  // was told: does not throw
      g.push_back({});
    };
    auto f = work(loop, notes, got, use_future);
    auto g = work(loop, notes, got, use_result);
    CHECK(f.cancel());
    CHECK(g.cancel());
    loop.context().run();
    CHECK(got == codes{errc::cancelled, asio::error::connection_reset, {}, {}});
    CHECK(f.exception() == nullptr);
    CHECK(g.exception() == nullptr);
  }

  TEST_CASE("a failure that was on its way is thrown, and the next await is told") {
    event_loop loop(clock_kind::virtual_time);
    codes got;
    std::function<void()> between;
    auto f = [](event_loop& l, std::function<void()>& b, codes& g) -> future<> {
      try {
        co_await initiate<void(std::error_code)>(use_future, [&](auto handler) {
          b = [h = std::make_shared<decltype(handler)>(std::move(handler))] {
            (*h)(asio::error::connection_reset);
          };
        });
      } catch (const std::system_error& e) {
        g.push_back(e.code());
      }
      co_await pulsar::sleep(1ms, l);
      g.push_back({});
    }(loop, between, got);
    loop.call_soon([&] {
      between();
      CHECK(f.cancel());
    });
    loop.context().run();
    CHECK(got == codes{asio::error::connection_reset});
    CHECK(f.cancelled());
  }

  CORO_TEST_CASE_REAL("a channel of Asio is cancelled like anything else, also by a time limit") {
    using channel = asio::experimental::channel<void(std::error_code, int)>;
    auto& loop = event_loop::current();
    const auto numbers = std::make_shared<channel>(loop.context());
    const auto receive = [](std::shared_ptr<channel> c, std::shared_ptr<codes> seen) -> future<> {
      try {
        static_cast<void>(co_await c->async_receive(use_future));
      } catch (const std::system_error& e) {
        seen->push_back(e.code());
      }
      co_await pulsar::sleep(0s);  // was told: does not throw
      seen->push_back({});
    };
    const auto seen = std::make_shared<codes>();
    auto f = receive(numbers, seen);
    const bool asked = f.cancel();
    CHECK(asked);
    co_await std::move(f);
    CHECK(*seen == codes{errc::cancelled, {}});
    future<int> waits = numbers->async_receive(use_future);
    const auto code = co_await outcome(pulsar::with_timeout(std::move(waits), 1ms));
    CHECK(code == errc::timed_out);
  }

  TEST_CASE("an operation that ends inside its cancellation resumes its coroutine in its turn") {
    // Also as the loop closes, which cancels coroutines whose frames go as soon as they end.
    event_loop loop;
    const auto wait = [](event_loop&) -> future<> {
      co_await initiate<void(std::error_code)>(use_future, [](auto handler) {
        auto slot = asio::get_associated_cancellation_slot(handler);
        auto kept = std::make_shared<decltype(handler)>(std::move(handler));
        slot.assign([kept](asio::cancellation_type_t) {
          const auto h = kept;
          (*h)(asio::error::operation_aborted);
        });
      });
    };
    auto f = wait(loop);
    CHECK(f.cancel());
    CHECK_FALSE(f.done());
    turn(loop);
    CHECK(f.cancelled());
    wait(loop).detach();
    { auto dropped = wait(loop); }
    wait(loop).detach();
    loop.close();
  }

  TEST_CASE("an operation that does not heed cancellation is waited for, its result not lost") {
    event_loop loop(clock_kind::virtual_time);
    int value = 0;
    auto f = [](event_loop& l, int& v) -> future<> {
      v = co_await complete_later<void(int)>(l, use_future, 4);
    }(loop, value);
    CHECK(f.cancel());
    CHECK_FALSE(f.done());
    loop.context().run();
    CHECK(value == 4);
    CHECK(f.exception() == nullptr);
  }

  TEST_CASE("after a cancellation nobody was told of no operation begins, with either token") {
    event_loop loop(clock_kind::virtual_time);
    int started = 0;
    codes got;
    const auto work = [](event_loop& l, future<> start, int& count, codes& g,
                         auto token) -> future<> {
      co_await std::move(start);
      for (int i = 0; i < 2; ++i) {
        try {
          auto next = initiate<void(std::error_code, int)>(token, [&](auto handler) {
            ++count;
            asio::post(l.context(), [h = std::move(handler)]() mutable {
              std::move(h)(std::error_code(), 1);
            });
          });
          static_cast<void>(co_await std::move(next));
          g.push_back({});
        } catch (const pulsar::error& e) {
          g.push_back(e.code());
        }
      }
    };
    for (int i = 0; i < 2; ++i) {
      pulsar::promise<> begin(loop);
      auto f = i == 0 ? work(loop, begin.get_future(), started, got, use_future)
                      : work(loop, begin.get_future(), started, got, use_result);
      begin.set_value();
      CHECK(f.cancel());
      loop.context().restart();
      loop.context().run();
      CHECK(f.done());
      CHECK(f.exception() == nullptr);
      CHECK(got == codes{errc::cancelled, {}});
      CHECK(started == i + 1);
      got.clear();
    }
  }

  CORO_TEST_CASE_REAL("a socket that others close is aborted, not cancelled") {
    auto& loop = event_loop::current();
    const wire p(loop);
    auto f = read_some(p.a);
    p.a->close();
    const auto code = co_await outcome(std::move(f));
    CHECK(code == asio::error::operation_aborted);
  }

  TEST_CASE("a socket may go between the cancellation and the end of the operation") {
    event_loop loop;
    auto p = std::make_optional<wire>(loop);
    std::string room(8, '\0');
    auto f = [](local_socket& s, std::string& r) -> future<> {
      co_await s.async_read_some(asio::buffer(r), use_future);
    }(*p->a, room);
    CHECK(f.cancel());
    p.reset();
    CHECK(f.cancel());
    turn(loop);
    CHECK(f.cancelled());
  }

  TEST_CASE("a value that is on its way is not lost to a cancellation") {
    event_loop loop;
    const wire p(loop);
    std::string got;
    auto f = [](std::shared_ptr<local_socket> s, std::string& g) -> future<> {
      g = co_await read_some(std::move(s));
      co_await pulsar::sleep(1h);
      g = "";
    }(p.a, got);
    put(p.b, "abc");
    // The read completes; then, before the coroutine goes on, it is cancelled.
    asio::post(loop.context(), [] {});
    while (got.empty()) {
      loop.context().restart();
      loop.context().run_one();
    }
    CHECK(f.cancel());
    turn(loop);
    CHECK(got == "abc");
    CHECK(f.cancelled());
  }

  // ---- dropped, closed

  TEST_CASE("the frame of a dropped coroutine lives until its operation has completed") {
    event_loop loop;
    const auto alive = std::make_shared<int>(1);
    const auto read = [](event_loop& l, std::shared_ptr<int>) -> future<> {
      const wire p(l);
      std::array<char, 8> room{};
      co_await p.a->async_read_some(asio::buffer(room), use_future);
    };
    { auto dropped = read(loop, alive); }
    CHECK(alive.use_count() == 2);
    turn(loop);
    CHECK(alive.use_count() == 1);
    {
      future<> dropped = complete_later<void()>(loop, use_future);
    }
    turn(loop);
  }

  TEST_CASE("closing the loop cancels what is pending, or frees it with its sockets") {
    for (const auto limit : {event_loop::duration(5s), event_loop::duration(0)}) {
      future<> reading;
      future<> deaf;
      int told = 0;
      {
        event_loop loop;
        reading = [](event_loop& l, int& t) -> future<> {
          const wire p(l);
          std::array<char, 8> room{};
          try {
            co_await asio::async_read(*p.a, asio::buffer(room), use_future);
          } catch (const pulsar::error& e) {
            if (e.code() == errc::cancelled) ++t;
          }
        }(loop, told);
        asio::steady_timer timer(loop.context(), 1h);
        deaf = timer.async_wait(use_future);
        loop.close(limit);
      }
      CHECK(reading.done() == (limit == 5s));
      CHECK(told == (limit == 5s ? 1 : 0));
      if (limit == 5s) CHECK(deaf.cancelled());
    }
  }

  // ---- given up

  CORO_TEST_CASE("an operation that destroys its handler has failed, at once or later") {
    auto& loop = event_loop::current();
    future<int> at_once = initiate<void(std::error_code, int)>(use_future, [](auto) {});
    CHECK(at_once.done());
    const auto now = co_await outcome(std::move(at_once));
    CHECK(now == errc::broken_promise);
    future<std::tuple<std::error_code, int>> later =
        initiate<void(std::error_code, int)>(use_result, [&loop](auto handler) {
          asio::post(loop.context(), [h = std::move(handler)] {});
        });
    CHECK_FALSE(later.done());
    const auto then = co_await outcome(std::move(later));
    CHECK(then == errc::broken_promise);
    // Nothing is taken for pending any more, so virtual time goes on.
    co_await pulsar::sleep(1h);
    CHECK(loop.time() == event_loop::time_point(1h));
  }

  TEST_CASE("who is cancelled and then given up was cancelled") {
    event_loop loop;
    const auto wait = [](event_loop&) -> future<> {
      co_await initiate<void(std::error_code)>(use_future, [](auto handler) {
        auto slot = asio::get_associated_cancellation_slot(handler);
        auto kept = std::make_shared<decltype(handler)>(std::move(handler));
        slot.assign([kept](asio::cancellation_type_t) mutable { kept = nullptr; });
      });
    };
    auto f = wait(loop);
    CHECK(f.cancel());
    turn(loop);
    CHECK(f.cancelled());
    { auto dropped = wait(loop); }
    turn(loop);
  }

  TEST_CASE("an operation ends with the context of its I/O object, and is not told to cancel then") {
    event_loop loop;
    auto other = std::make_optional<asio::io_context>();
    auto timer = std::make_optional<asio::steady_timer>(*other, 1h);
    auto f = [](event_loop&, asio::steady_timer& t) -> future<> {
      co_await t.async_wait(use_future);
    }(loop, *timer);
    timer.reset();
    other.reset();
    CHECK(f.cancel());
    turn(loop);
    CHECK(f.cancelled());
    other.emplace();
    timer.emplace(*other, 1h);
    auto g = [](event_loop&, asio::steady_timer& t) -> future<> {
      co_await t.async_wait(use_future);
    }(loop, *timer);
    timer.reset();
    other.reset();
    turn(loop);
    CHECK(g.done());
    CHECK(code_of(g.exception()) == errc::broken_promise);
  }

  TEST_CASE("another thread may give an operation up") {
    event_loop loop;
    const auto give_up = [](event_loop&) -> future<> {
      asio::thread_pool pool(1);
      for (int i = 0; i < 100; ++i) {
        auto start = initiate<void(std::error_code)>(use_future, [&pool](auto handler) {
          asio::post(pool, [h = std::move(handler)] {});
        });
        const auto code = co_await outcome(future<>(std::move(start)));
        CHECK(code == errc::broken_promise);
      }
    };
    loop.run_until_complete([&] { return give_up(loop); });
  }

  TEST_CASE("a handler may be kept longer than the loop lives, and is called in vain then") {
    std::function<void()> call;
    {
      event_loop loop;
      const auto wait = [](event_loop&, std::function<void()>& out) -> future<> {
        co_await initiate<void(std::error_code)>(use_future, [&](auto handler) {
          out = [h = std::make_shared<decltype(handler)>(std::move(handler))] {
            (*h)(std::error_code());
          };
        });
      };
      wait(loop, call).detach();
      loop.close(event_loop::duration(0));
    }
    call();
    call = nullptr;
  }

  // ---- as the default

  CORO_TEST_CASE_REAL("it may be the default of an I/O object") {
    auto& loop = event_loop::current();
    auto timer = use_future.as_default_on(asio::steady_timer(loop.context(), 1ms));
    co_await timer.async_wait();
    local_socket plain(loop.context());
    local_socket peer(loop.context());
    asio::local::connect_pair(plain, peer);
    auto socket = pulsar::use_future_t::as_default_on(std::move(plain));
    std::array<char, 4> room{};
    asio::write(peer, asio::buffer("abcdef", 6));
    const std::size_t n = co_await socket.async_read_some(asio::buffer(room, 2));
    CHECK(n == 2);
    const std::size_t m = co_await asio::async_read(socket, asio::buffer(room));
    CHECK(m == 4);
    auto told = pulsar::use_result_t::as_default_on(std::move(peer));
    socket.close();
    const auto got = co_await told.async_read_some(asio::buffer(room));
    CHECK(std::get<0>(got) == asio::error::eof);
  }

  // ---- other loops

  TEST_CASE("an operation on another loop's socket ends in the coroutine's own loop") {
    event_loop here;
    event_loop there;
    const wire p(there);
    std::string got;
    const event_loop* resumed_in = nullptr;
    auto f = [](event_loop&, std::shared_ptr<local_socket> s, std::string& g,
                const event_loop*& in) -> future<> {
      std::string text(8, '\0');
      const std::size_t n = co_await s->async_read_some(asio::buffer(text), use_future);
      g = text.substr(0, n);
      in = event_loop::running();
    }(here, p.a, got, resumed_in);
    put(p.b, "abc");
    turn(here);
    CHECK_FALSE(f.done());
    turn(there);
    CHECK_FALSE(f.done());
    turn(here);
    CHECK(f.done());
    CHECK(got == "abc");
    CHECK(resumed_in == &here);
  }

  TEST_CASE("an operation that another thread completes resumes in the loop's thread") {
    event_loop loop;
    asio::io_context elsewhere;
    const auto work = asio::make_work_guard(elsewhere);
    std::thread other([&] { elsewhere.run(); });
    const auto id = loop.run_until_complete([&]() -> future<std::thread::id> {
      return [](event_loop&, asio::io_context& context) -> future<std::thread::id> {
        for (int i = 0; i < 100; ++i) {
          asio::steady_timer timer(context, 0ms);
          co_await timer.async_wait(use_future);
        }
        co_return std::this_thread::get_id();
      }(loop, elsewhere);
    });
    CHECK(id == std::this_thread::get_id());
    elsewhere.stop();
    other.join();
  }

  TEST_CASE("an operation that is completed in another thread ends the program in debug mode") {
    const auto end = death_of([] {
      event_loop loop;
      loop.set_debug(true);
      asio::thread_pool pool(1);
      const auto wait = [](event_loop& l, asio::thread_pool& p) -> future<> {
        asio::steady_timer timer(l.context(), 1ms);
        co_await timer.async_wait(asio::bind_executor(p.get_executor(), use_future));
        l.call_soon_threadsafe([&l] { l.stop(); });
      };
      wait(loop, pool).detach();
      loop.run_forever();
      pool.join();
    });
    CHECK(end.aborted);
    CHECK(end.text.find("completing an operation was called from thread") != std::string::npos);
  }
}
