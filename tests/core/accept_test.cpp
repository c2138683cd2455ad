// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/accept.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>

#include "support/few_descriptors.hpp"

#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using pulsar::accept_each;
using pulsar::address;
using pulsar::event_loop;
using pulsar::listener;
using pulsar::unique_fd;

namespace {

unique_fd connect_to(const address& where) {
  const auto at = where.resolve();
  unique_fd fd(::socket(at.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  REQUIRE(::connect(fd.get(), at.data(), static_cast<socklen_t>(at.size())) == 0);
  return fd;
}

// Runs the loop until `done()`, for 5 s at most.
template <class F>
bool run_until(event_loop& loop, F done) {
  return loop.run_until_complete([&]() -> pulsar::future<bool> {
    const auto give_up = event_loop::clock::now() + 5s;
    while (!done()) {
      if (event_loop::clock::now() > give_up) co_return false;
      co_await pulsar::sleep(1ms);
    }
    co_return true;
  });
}

// Counts what is logged while it lives.
struct log_counter {
  log_counter() {
    before = pulsar::log::set_sink([](pulsar::log_level, std::string_view line) {
      ++lines;
      last = line;
    });
    // UBSan looks at a type it has not seen yet with the help of two descriptors.
    pulsar::log::error("{} {}", std::string(), last);
    lines = 0;
  }
  log_counter(const log_counter&) = delete;
  log_counter& operator=(const log_counter&) = delete;
  ~log_counter() { pulsar::log::set_sink(before); }

  static inline int lines = 0;
  static inline std::string last;
  pulsar::log_sink before;
};

}  // namespace

TEST_SUITE("accept") {
  TEST_CASE("every connection is handed on, those of a burst and later ones") {
    event_loop loop;
    listener at(address("127.0.0.1:0"));
    const address where = at.local();
    std::vector<unique_fd> clients;
    for (int i = 0; i < 50; ++i) clients.push_back(connect_to(where));
    std::vector<unique_fd> accepted;
    auto accepting = accept_each(loop, std::move(at), [&](unique_fd connection) {
      accepted.push_back(std::move(connection));
    });
    CHECK(run_until(loop, [&] { return accepted.size() == 50; }));
    for (int i = 0; i < 3; ++i) {
      clients.push_back(connect_to(where));
      CHECK(run_until(loop, [&] { return accepted.size() == clients.size(); }));
    }
    accepting.cancel();
    CHECK(run_until(loop, [&] { return accepting.done(); }));
    CHECK(accepting.cancelled());
  }

  TEST_CASE("cancelling stops accepting and closes the listener") {
    event_loop loop;
    listener at(address("127.0.0.1:0"));
    const address where = at.local();
    const int number = at.fd();
    auto accepting = accept_each(loop, std::move(at), [](unique_fd) {});
    CHECK(::fcntl(number, F_GETFD) >= 0);
    accepting.cancel();
    CHECK(run_until(loop, [&] { return accepting.done(); }));
    CHECK(::fcntl(number, F_GETFD) == -1);
    const listener again(where);
  }

  TEST_CASE("dropping its future while clients wait closes the listener") {
    event_loop loop;
    listener at(address("127.0.0.1:0"));
    const address where = at.local();
    const int number = at.fd();
    const unique_fd client = connect_to(where);
    static_cast<void>(
        accept_each(loop, std::move(at), [](unique_fd) { FAIL("cancelled before"); }));
    CHECK(run_until(loop, [&] { return ::fcntl(number, F_GETFD) == -1; }));
  }

  TEST_CASE("want of memory for a connection costs that one, is logged, and the next are taken") {
    const log_counter log;
    event_loop loop;
    listener at(address("127.0.0.1:0"));
    const address where = at.local();
    std::vector<unique_fd> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to(where));
    int offered = 0;
    std::vector<unique_fd> accepted;
    auto accepting = accept_each(loop, std::move(at), [&](unique_fd connection) {
      if (++offered == 1) throw std::bad_alloc();
      accepted.push_back(std::move(connection));
    });
    CHECK(run_until(loop, [&] { return accepted.size() == 2; }));
    CHECK_FALSE(accepting.done());
    CHECK(offered == 3);
    CHECK(log_counter::lines == 1);
    CHECK(log_counter::last.find("cannot accept connections: Cannot allocate memory") !=
          std::string::npos);
    char byte;
    CHECK(::recv(clients[0].get(), &byte, 1, MSG_DONTWAIT) == 0);  // closed
  }

  TEST_CASE("a loop that is closed while it accepts leaves no descriptor behind") {
    const auto before = pulsar::open_descriptors();
    {
      event_loop loop;
      listener at(address("127.0.0.1:0"));
      accept_each(loop, std::move(at), [](unique_fd) {}).detach();
      CHECK(run_until(loop, [] { return true; }));
    }
    CHECK(pulsar::open_descriptors() == before);
  }

  TEST_CASE("a client that gave up while it waited is no reason to stop") {
    event_loop loop;
    listener at(address("127.0.0.1:0"));
    const address where = at.local();
    for (int i = 0; i < 10; ++i) {
      const unique_fd client = connect_to(where);
      const linger abort{1, 0};
      ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    }
    const unique_fd last = connect_to(where);
    std::size_t accepted = 0;
    auto accepting = accept_each(loop, std::move(at), [&](unique_fd) { ++accepted; });
    CHECK(run_until(loop, [&] { return accepted == 11; }));
  }

  TEST_CASE("without a descriptor left it says so once, waits, and goes on when there is one") {
    event_loop loop;
    listener at(address("127.0.0.1:0"));
    const address where = at.local();
    std::vector<unique_fd> accepted;
    auto accepting = accept_each(loop, std::move(at), [&](unique_fd connection) {
      accepted.push_back(std::move(connection));
    });
    const unique_fd first = connect_to(where);
    CHECK(run_until(loop, [&] { return accepted.size() == 1; }));

    const log_counter log;
    const unique_fd waits(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    int wakes = 0;
    {
      const few_descriptors none(0);
      const auto to = where.resolve();
      REQUIRE(::connect(waits.get(), to.data(), static_cast<socklen_t>(to.size())) == 0);
      const auto began = event_loop::clock::now();
      CHECK(run_until(loop, [&] {
        ++wakes;
        return event_loop::clock::now() - began > 350ms;
      }));
      CHECK(accepted.size() == 1);
    }
    CHECK(log.lines == 1);
    CHECK_MESSAGE(
        log.last.find(where.to_string() + ": cannot accept connections") != std::string::npos,
        log.last);
    CHECK(log.last.find("ulimit -n") != std::string::npos);
    CHECK(run_until(loop, [&] { return accepted.size() == 2; }));
  }

  TEST_CASE("it does not spin while descriptors are missing") {
    event_loop loop;
    listener at(address("127.0.0.1:0"));
    const address where = at.local();
    const unique_fd client = connect_to(where);
    const log_counter log;
    auto accepting = accept_each(loop, std::move(at), [](unique_fd) {});
    const few_descriptors none(0);
    rusage before{};
    rusage after{};
    ::getrusage(RUSAGE_SELF, &before);
    CHECK(loop.run_until_complete([]() -> pulsar::future<bool> {
      co_await pulsar::sleep(500ms);
      co_return true;
    }));
    ::getrusage(RUSAGE_SELF, &after);
    const auto used = [](const rusage& u) {
      return std::chrono::seconds(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
             std::chrono::microseconds(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    };
    CHECK(used(after) - used(before) < 100ms);
  }

  TEST_CASE("two loops share one socket and lose no connection") {
    event_loop first;
    event_loop second;
    listener at(address("127.0.0.1:0"));
    const address where = at.local();
    listener same = listener::adopt(unique_fd(::dup(at.fd())));
    std::vector<unique_fd> mine;
    std::vector<unique_fd> theirs;
    auto one =
        accept_each(first, std::move(at), [&](unique_fd c) { mine.push_back(std::move(c)); });
    auto two =
        accept_each(second, std::move(same), [&](unique_fd c) { theirs.push_back(std::move(c)); });
    std::vector<unique_fd> clients;
    for (int i = 0; i < 20; ++i) clients.push_back(connect_to(where));
    const auto give_up = event_loop::clock::now() + 5s;
    while (mine.size() + theirs.size() < 20 && event_loop::clock::now() < give_up) {
      first.context().poll_one();
      second.context().poll_one();
    }
    CHECK(mine.size() + theirs.size() == 20);
    CHECK(mine.size() >= 5);
    CHECK(theirs.size() >= 5);
  }

  TEST_CASE("a socket that stops listening ends it with an error that names the address") {
    event_loop loop;
    listener at(address("127.0.0.1:0"));
    const std::string name = at.local().to_string();
    const unique_fd same(::dup(at.fd()));
    auto accepting = accept_each(loop, std::move(at), [](unique_fd) {});
    ::shutdown(same.get(), SHUT_RDWR);
    CHECK(run_until(loop, [&] { return accepting.done(); }));
    try {
      accepting.result();
      FAIL("no error");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == std::errc::invalid_argument);
      CHECK(std::string(e.what()).find("cannot accept connections on " + name) == 0);
    }
  }

  TEST_CASE("which failures of accept pass, which wait and which end it") {
    using pulsar::detail::accept_failure;
    using pulsar::detail::classify_accept_failure;
    for (const int code : {ECONNABORTED, EPROTO, EINTR, ENETDOWN, EPERM, ETIMEDOUT}) {
      CHECK(classify_accept_failure(code) == accept_failure::skipped);
    }
    for (const int code : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
      CHECK(classify_accept_failure(code) == accept_failure::exhausted);
    }
    for (const int code : {EBADF, EINVAL, ENOTSOCK, EFAULT}) {
      CHECK(classify_accept_failure(code) == accept_failure::fatal);
    }
    CHECK(classify_accept_failure(EAGAIN) == accept_failure::none_waits);
  }
}
