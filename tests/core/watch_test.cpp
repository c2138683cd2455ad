// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/watch.hpp>

#include <asio/steady_timer.hpp>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/coro_test.hpp"

#include <chrono>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::promise;
using pulsar::unique_fd;

namespace {

unique_fd new_event(unsigned value = 0) {
  return unique_fd(::eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK));
}

void raise(const unique_fd& event) {
  const std::uint64_t one = 1;
  REQUIRE(::write(event.get(), &one, sizeof one) == sizeof one);
}

void lower(const unique_fd& event) {
  std::uint64_t value = 0;
  static_cast<void>(::read(event.get(), &value, sizeof value));
}

std::error_code code_of_watching(event_loop& loop, int fd) {
  try {
    loop.add_reader(fd, [] {});
  } catch (const std::system_error& e) {
    return e.code();
  }
  return {};
}

// While it lives nobody gets a descriptor.
class no_more_descriptors {
 public:
  no_more_descriptors() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(new_event().get());  // the lowest that is free
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    REQUIRE_FALSE(new_event());
  }
  no_more_descriptors(const no_more_descriptors&) = delete;
  no_more_descriptors& operator=(const no_more_descriptors&) = delete;
  ~no_more_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

// How often the loop was woken in that time.
int handlers_within(event_loop& loop, event_loop::duration time) {
  bool over = false;
  int handlers = 0;
  loop.call_later(time, [&over] { over = true; });
  loop.context().restart();
  while (!over) {
    loop.context().run_one();
    ++handlers;
  }
  return handlers;
}

}  // namespace

TEST_SUITE("watch") {
  CORO_TEST_CASE_REAL("a reader is called in each turn in which there is something to read") {
    auto& loop = event_loop::current();
    const unique_fd event = new_event(1);
    promise<> thrice(loop);
    int calls = 0;
    loop.add_reader(event.get(), [&] {
      if (++calls == 3) thrice.set_value();
      if (calls == 3) loop.remove_reader(event.get());
    });
    co_await thrice.get_future();
    CHECK(calls == 3);
    CHECK_FALSE(loop.remove_reader(event.get()));
  }

  CORO_TEST_CASE_REAL("a reader whose descriptor is read to the end waits for more") {
    auto& loop = event_loop::current();
    const unique_fd event = new_event(1);
    std::optional<promise<>> read(loop);
    int calls = 0;
    loop.add_reader(event.get(), [&] {
      ++calls;
      lower(event);
      read->set_value();
    });
    co_await read->get_future();
    for (int turn = 0; turn < 3; ++turn) co_await pulsar::sleep(0ms);
    CHECK(calls == 1);
    read.emplace(loop);
    raise(event);
    co_await read->get_future();
    CHECK(calls == 2);
    CHECK(loop.remove_reader(event.get()));
  }

  CORO_TEST_CASE_REAL("a second reader takes the place of the first, which is freed") {
    auto& loop = event_loop::current();
    const unique_fd event = new_event();
    const auto held = std::make_shared<int>(0);
    promise<> called(loop);
    loop.add_reader(event.get(), [held] { ++*held; });
    loop.add_reader(event.get(), [&] {
      lower(event);
      called.set_value();
    });
    CHECK(held.use_count() == 1);
    raise(event);
    co_await called.get_future();
    CHECK(*held == 0);
    CHECK(loop.remove_reader(event.get()));
  }

  CORO_TEST_CASE_REAL("a descriptor has a reader and a writer, each with its own turn") {
    auto& loop = event_loop::current();
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    promise<> written(loop);
    promise<> read(loop);
    const int fd = mine.get();
    loop.add_reader(fd, [&] {
      loop.remove_reader(fd);
      read.set_value();
    });
    loop.add_writer(fd, [&] {
      CHECK(loop.remove_writer(fd));
      written.set_value();
    });
    co_await written.get_future();
    CHECK_FALSE(loop.remove_writer(fd));
    CHECK(::write(theirs.get(), "x", 1) == 1);
    co_await read.get_future();
    CHECK_FALSE(loop.remove_reader(fd));
  }

  CORO_TEST_CASE_REAL("the end of the other side wakes the reader, and the writer too") {
    auto& loop = event_loop::current();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    char noise[4096] = {};
    while (::send(mine.get(), noise, sizeof noise, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    promise<> read(loop);
    promise<> written(loop);
    const int fd = mine.get();
    loop.add_reader(fd, [&] {
      loop.remove_reader(fd);
      read.set_value();
    });
    loop.add_writer(fd, [&] {
      loop.remove_writer(fd);
      written.set_value();
    });
    theirs.reset();
    co_await read.get_future();
    co_await written.get_future();
  }

  CORO_TEST_CASE_REAL("a reader that is always ready starves neither callbacks nor other I/O") {
    auto& loop = event_loop::current();
    const unique_fd busy = new_event(1);
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    loop.add_reader(busy.get(), [] {});
    promise<> other(loop);
    loop.add_reader(mine.get(), [&] {
      loop.remove_reader(mine.get());
      other.set_value();
    });
    co_await pulsar::sleep(1ms);
    for (int turn = 0; turn < 3; ++turn) co_await pulsar::sleep(0ms);
    CHECK(::write(theirs.get(), "x", 1) == 1);
    co_await other.get_future();
    asio::steady_timer timer(loop.context(), 1ms);
    std::optional<promise<>> rang(loop);
    timer.async_wait([&rang](std::error_code ec) {
      if (!ec) rang->set_value();
    });
    co_await rang->get_future();
    loop.remove_reader(busy.get());
  }

  TEST_CASE("a callback that throws is reported and called again") {
    event_loop loop;
    const unique_fd event = new_event(1);
    int reports = 0;
    loop.set_exception_handler([&](const pulsar::failure_report& report) {
      CHECK(pulsar::detail::describe(report.exception) == "no good");
      if (++reports == 2) loop.stop();
    });
    loop.add_reader(event.get(), [] { throw std::runtime_error("no good"); });
    loop.run_forever();
    CHECK(reports == 2);
  }

  TEST_CASE("a callback that holds the loop up is named in debug mode") {
    event_loop loop;
    loop.set_debug(true);
    loop.set_slow_callback_duration(1ms);
    static std::string logged;
    logged.clear();
    const auto before = pulsar::log::set_sink(
        [](pulsar::log_level, std::string_view text) { logged.append(text).append("\n"); });
    const unique_fd event = new_event(1);
    const unsigned line = std::source_location::current().line() + 1;
    loop.add_reader(event.get(), [&] {
      const auto until = event_loop::clock::now() + 3ms;
      while (event_loop::clock::now() < until) {
      }
      loop.remove_reader(event.get());
      loop.stop();
    });
    loop.run_forever();
    pulsar::log::set_sink(before);
    CHECK(logged.find("held up") != std::string::npos);
    CHECK(logged.find("watch_test.cpp:" + std::to_string(line)) != std::string::npos);
  }

  TEST_CASE("what cannot be watched is refused with a sentence") {
    event_loop loop;
    char name[] = "/tmp/pulsar-watch-XXXXXX";
    const unique_fd file(::mkostemp(name, O_CLOEXEC));
    ::unlink(name);
    CHECK_THROWS_WITH_AS(
        loop.add_reader(file.get(), [] {}),
        ("cannot watch descriptor " + std::to_string(file.get()) +
         ", which is always ready, as files and directories are: Operation not permitted")
            .c_str(),
        pulsar::error);
    CHECK(code_of_watching(loop, file.get()) == std::errc::operation_not_permitted);
    const int closed = new_event().get();
    CHECK(code_of_watching(loop, closed) == std::errc::bad_file_descriptor);
    CHECK(code_of_watching(loop, -1) == std::errc::bad_file_descriptor);
    CHECK(code_of_watching(loop, INT_MAX) == std::errc::bad_file_descriptor);
    CHECK_FALSE(loop.remove_reader(closed));
    CHECK_FALSE(loop.remove_reader(-1));
    CHECK_FALSE(loop.remove_writer(1 << 20));
    loop.close();
    CHECK(code_of_watching(loop, 0) == errc::loop_closed);
    CHECK_FALSE(loop.remove_reader(0));
  }

  CORO_TEST_CASE_REAL("a descriptor may be closed first, and its number be another file then") {
    auto& loop = event_loop::current();
    unique_fd gone = new_event(1);
    const int number = gone.get();
    int late = 0;
    loop.add_reader(number, [&late] { ++late; });
    gone.reset();
    unique_fd next = new_event(1);
    CHECK(next.get() == number);
    promise<> called(loop);
    loop.add_reader(number, [&] {
      lower(next);
      called.set_value();
    });
    co_await called.get_future();
    CHECK(late == 0);
    next.reset();
    CHECK(loop.remove_reader(number));
    co_await pulsar::sleep(1ms);
  }

  CORO_TEST_CASE_REAL("a file that lives on under another number keeps nobody busy") {
    auto& loop = event_loop::current();
    unique_fd gone = new_event(1);
    const unique_fd copy(::fcntl(gone.get(), F_DUPFD_CLOEXEC, 0));
    const int number = gone.get();
    int late = 0;
    loop.add_reader(number, [&late] { ++late; });
    gone.reset();
    CHECK(loop.remove_reader(number));  // the kernel goes on telling of `copy`
    const unique_fd other = new_event();
    CHECK(other.get() == number);
    const unique_fd third = new_event();
    promise<> called(loop);
    loop.add_reader(number, [&late] { ++late; });
    loop.add_reader(third.get(), [&] {
      lower(third);
      called.set_value();
    });
    co_await pulsar::sleep(1ms);
    raise(third);
    co_await called.get_future();
    CHECK(late == 0);
    CHECK(loop.remove_reader(number));
    CHECK(loop.remove_reader(third.get()));
  }

  TEST_CASE("with no descriptor left for that it pauses, and goes on when there is one") {
    event_loop loop;
    const unique_fd third = new_event();
    int called = 0;
    int late = 0;
    // The kernel goes on telling of a file that nobody watches, until the loop has begun anew.
    const auto confuse = [&] {
      unique_fd gone = new_event(1);
      const int number = gone.get();
      unique_fd copy(::fcntl(number, F_DUPFD_CLOEXEC, 0));
      loop.add_reader(number, [&late] { ++late; });
      gone.reset();
      CHECK(loop.remove_reader(number));
      return copy;
    };
    loop.add_reader(third.get(), [&] {
      lower(third);
      ++called;
    });
    // Once with descriptors: the checks of a sanitizer need some of their own the first time.
    unique_fd copy = confuse();
    CHECK(handlers_within(loop, 20ms) < 100);
    copy = confuse();
    {
      const no_more_descriptors none;
      raise(third);
      CHECK(handlers_within(loop, 50ms) < 100);   // it does not ask again and again
      CHECK(handlers_within(loop, 200ms) < 200);  // nor when the pause is over
    }
    raise(third);
    const int before = called;
    while (called == before) loop.context().run_one();
    CHECK(handlers_within(loop, 200ms) < 200);
    CHECK(late == 0);
    CHECK(loop.remove_reader(third.get()));
  }

  CORO_TEST_CASE_REAL("a callback may remove another one that is ready in the same turn") {
    auto& loop = event_loop::current();
    const unique_fd one = new_event(1);
    const unique_fd two = new_event(1);
    int calls = 0;
    promise<> called(loop);
    const auto only = [&] {
      loop.remove_reader(one.get());
      loop.remove_reader(two.get());
      if (++calls == 1) called.set_value();
    };
    loop.add_reader(one.get(), only);
    loop.add_reader(two.get(), only);
    co_await called.get_future();
    for (int turn = 0; turn < 3; ++turn) co_await pulsar::sleep(0ms);
    CHECK(calls == 1);
  }

  CORO_TEST_CASE_REAL("what Asio knows by the same number is left alone") {
    auto& loop = event_loop::current();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    const int fd = mine.release();
    pulsar::detail::watched_descriptor known(loop.context(), fd);
    promise<> called(loop);
    loop.add_reader(fd, [&] {
      loop.remove_reader(fd);
      called.set_value();
    });
    CHECK(::write(theirs.get(), "x", 1) == 1);
    co_await called.get_future();
  }

  TEST_CASE("what a callback owns may come back to the loop as that closes") {
    const unique_fd event = new_event();
    struct guard {
      event_loop* loop;
      int fd;
      ~guard() { CHECK_FALSE(loop->remove_reader(fd)); }
    };
    event_loop loop;
    loop.add_reader(event.get(), [g = std::make_shared<guard>(&loop, event.get())] {});
    loop.close();
  }

  TEST_CASE("on a user's context it ends with the loop, and the context without a reader") {
    asio::io_context context;
    const unique_fd event = new_event(1);
    int calls = 0;
    {
      event_loop loop(context);
      loop.add_reader(event.get(), [&] {
        if (++calls == 2) CHECK(loop.remove_reader(event.get()));
      });
      context.run();  // until nobody waits
      CHECK(calls == 2);
      loop.add_reader(event.get(), [&] { ++calls; });
    }
    context.restart();
    context.run();
    CHECK(calls == 2);
  }

  TEST_CASE("virtual time does not overtake a descriptor") {
    event_loop loop(clock_kind::virtual_time);
    const unique_fd event = new_event(1);
    bool read = false;
    bool late = false;
    loop.add_reader(event.get(), [&] {
      read = loop.remove_reader(event.get());
      late = loop.time() != event_loop::time_point();
    });
    loop.run_until_complete([] { return pulsar::sleep(1h); });
    CHECK(read);
    CHECK_FALSE(late);
  }
}
