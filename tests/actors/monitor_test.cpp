// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/monitor.hpp>

#include <actors/log_capture.hpp>
#include <doctest/doctest.h>
#include <support/coro_test.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::bytes;
using pulsar::concurrency_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::monitor;
using pulsar::program_exit;
using pulsar::unique_fd;
using pulsar::worker_body;
using pulsar::worker_plan;

namespace {

// What the workers of a test have done.
struct diary {
  int made = 0;
  int alive = 0;
  int started = 0;
  int stopped = 0;
  int fail_first = 0;                       // so many starts fail
  event_loop::duration start_takes{};
  event_loop::duration stop_takes{};
  std::vector<event_loop::time_point> tries;
  std::vector<ino_t> descriptors;           // the files of those it was given
  std::vector<std::string> settings;
  std::vector<event_loop::duration> graces;
};

class clerk final : public worker_body {
 public:
  explicit clerk(std::shared_ptr<diary> d) : diary_(std::move(d)) {
    ++diary_->made;
    ++diary_->alive;
  }
  ~clerk() override { --diary_->alive; }

  future<> start(std::vector<unique_fd> descriptors, bytes settings) override {
    return begin(*this, std::move(descriptors), std::move(settings));
  }
  future<> stop(event_loop::duration grace) override { return end(*this, grace); }

 private:
  static future<> begin(clerk& self, std::vector<unique_fd> descriptors, bytes settings) {
    diary& d = *self.diary_;
    d.tries.push_back(event_loop::current().time());
    if (d.start_takes > 0s) co_await pulsar::sleep(d.start_takes);
    if (d.fail_first > 0) {
      --d.fail_first;
      throw std::runtime_error("no paper");
    }
    for (const auto& fd : descriptors) {
      struct stat file {};
      REQUIRE(::fstat(fd.get(), &file) == 0);
      d.descriptors.push_back(file.st_ino);
    }
    d.settings.emplace_back(reinterpret_cast<const char*>(settings.data()), settings.size());
    ++d.started;
  }
  static future<> end(clerk& self, event_loop::duration grace) {
    self.diary_->graces.push_back(grace);
    if (self.diary_->stop_takes > 0s) co_await pulsar::sleep(self.diary_->stop_takes);
    ++self.diary_->stopped;
  }

  std::shared_ptr<diary> diary_;
};

worker_plan plan_of(const std::shared_ptr<diary>& d, unsigned workers) {
  worker_plan plan;
  plan.name = "clerks";
  plan.workers = workers;
  plan.concurrency = concurrency_kind::coroutine;
  plan.make = [d] { return std::make_unique<clerk>(d); };
  return plan;
}

}  // namespace

TEST_SUITE("monitor") {
  CORO_TEST_CASE("start is done when every worker is ready, stop when all have ended") {
    auto d = std::make_shared<diary>();
    d->start_takes = 2s;
    d->stop_takes = 3s;
    auto& loop = event_loop::current();
    monitor pool(plan_of(d, 3), loop);
    const auto before = loop.time();
    CHECK(pool.ready() == 0);
    co_await pool.start();
    CHECK(loop.time() - before == 2s);
    CHECK(pool.ready() == 3);
    CHECK(d->started == 3);
    co_await pool.stop(5s);
    CHECK(loop.time() - before == 5s);
    CHECK(d->stopped == 3);
    CHECK(d->alive == 0);
  }

  CORO_TEST_CASE("each worker gets the settings and descriptors of its own to what the master has") {
    auto d = std::make_shared<diary>();
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const unique_fd in(ends[0]);
    const unique_fd out(ends[1]);
    struct stat file {};
    REQUIRE(::fstat(in.get(), &file) == 0);

    worker_plan plan = plan_of(d, 2);
    plan.descriptors = {in.get()};
    const std::string settings = "three";
    plan.settings.assign(reinterpret_cast<const std::byte*>(settings.data()),
                         reinterpret_cast<const std::byte*>(settings.data() + settings.size()));
    plan.grace = 7s;
    monitor pool(std::move(plan));
    co_await pool.start();
    CHECK(d->descriptors == std::vector<ino_t>{file.st_ino, file.st_ino});
    CHECK(d->settings == std::vector<std::string>{"three", "three"});
    // The worker has closed its own by now; the master's stays.
    CHECK(::fcntl(in.get(), F_GETFD) != -1);
    co_await pool.stop(7s);
    CHECK(d->graces == std::vector<event_loop::duration>{7s, 7s});
  }

  CORO_TEST_CASE("a start that fails leaves no descriptor open") {
    const log_capture logged;
    const auto null = pulsar::open_null_device();
    const auto before = pulsar::open_descriptors();
    worker_plan plan = plan_of(std::make_shared<diary>(), 1);
    plan.descriptors = {null.get(), 1 << 20};
    monitor pool(std::move(plan));
    auto started = co_await as_result(pool.start());
    CHECK(started.message().find("cannot copy a listening descriptor") != std::string::npos);
    CHECK(pulsar::open_descriptors() == before);
  }

  CORO_TEST_CASE("a worker that does not start is tried again after delays that double") {
    const log_capture logged;
    auto d = std::make_shared<diary>();
    d->fail_first = 4;
    monitor pool(plan_of(d, 1));
    co_await pool.start();
    REQUIRE(d->tries.size() == 5);
    auto expected = event_loop::duration(monitor::first_delay);
    for (std::size_t i = 1; i < d->tries.size(); ++i) {
      const auto waited = d->tries[i] - d->tries[i - 1];
      CHECK(waited >= expected * 3 / 4);
      CHECK(waited <= expected * 5 / 4 + 1ms);
      expected *= 2;
    }
    CHECK(logged.count("a worker of 'clerks' did not start: no paper") == 4);
    co_await pool.stop(1s);
    CHECK(d->made == 5);
    CHECK(d->alive == 0);
  }

  CORO_TEST_CASE("workers that cannot start five times in a row end the program with code 3") {
    const log_capture logged;
    auto d = std::make_shared<diary>();
    d->fail_first = 100;
    monitor pool(plan_of(d, 2));
    int code = 0;
    std::string why;
    try {
      co_await pool.start();
    } catch (const program_exit& e) {
      code = e.code();
      why = e.what();
    }
    CHECK(code == 3);
    CHECK(why == "the workers of 'clerks' cannot start: no paper");
    CHECK(d->made <= 10);
    co_await pool.stop(1s);
    CHECK(d->alive == 0);
  }

  CORO_TEST_CASE("one worker that started ends the count of failures") {
    const log_capture logged;
    auto d = std::make_shared<diary>();
    d->fail_first = 4;
    monitor pool(plan_of(d, 1));
    co_await pool.start();
    CHECK(pool.ready() == 1);
    auto watching = pool.watch();
    co_await pulsar::sleep(1h);
    CHECK_FALSE(watching.done());
    watching.cancel();
    const auto ended = co_await as_result(std::move(watching));
    CHECK(ended.code() == errc::cancelled);
    co_await pool.stop(1s);
  }

  CORO_TEST_CASE("a stop while workers start leaves none") {
    auto d = std::make_shared<diary>();
    d->start_takes = 1h;
    monitor pool(plan_of(d, 2));
    auto starting = pool.start();
    co_await pulsar::sleep(1s);
    CHECK(d->alive == 2);
    starting.cancel();
    const auto started = co_await as_result(std::move(starting));
    CHECK(started.code() == errc::cancelled);
    co_await pool.stop(1s);
    CHECK(d->alive == 0);
    CHECK(d->started == 0);
  }

  CORO_TEST_CASE_REAL("workers may be threads") {
    auto made_in = std::make_shared<std::atomic<int>>(0);
    class quiet final : public worker_body {
     public:
      future<> start(std::vector<unique_fd>, bytes) override { return pulsar::make_ready_future(); }
      future<> stop(event_loop::duration) override { return pulsar::make_ready_future(); }
    };
    worker_plan plan;
    plan.workers = 2;
    plan.concurrency = concurrency_kind::thread;
    const auto here = ::gettid();
    plan.make = [made_in, here] {
      if (::gettid() != here) ++*made_in;
      return std::make_unique<quiet>();
    };
    monitor pool(std::move(plan));
    co_await pool.start();
    CHECK(pool.ready() == 2);
    CHECK(*made_in == 2);
    co_await pool.stop(1s);
  }
}
