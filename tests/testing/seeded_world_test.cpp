// SPDX-License-Identifier: BSD-3-Clause
//
// A small world of coroutines that share, wait, give up and are cancelled, drawn from a seed and run
// in an order that the same seed decides. Whatever the seed, nothing is lost and nobody is left. The
// soak test runs it for minutes.
#include <pulsar/testing/seeds.hpp>

#include <pulsar/core/async_mutex.hpp>
#include <pulsar/core/async_queue.hpp>
#include <pulsar/core/async_semaphore.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/tasks.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>
#include <pulsar/core/when_any.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::event_loop;
using pulsar::future;
using pulsar::task_group;

namespace {

void require(bool holds, const char* sentence) {
  if (!holds) throw std::logic_error(sentence);
}

class world {
 public:
  world(event_loop& loop, std::uint64_t seed)
      : loop_(loop),
        random_(seed),
        letters_(at_most(5)),
        producers_(at_most(4)),
        permits_(at_most(3)),
        desks_(permits_) {}

  static future<> live(event_loop& loop, std::uint64_t seed) {
    world w(loop, seed);
    {
      task_group group(loop);
      for (std::size_t i = 0; i < w.producers_; ++i) group.add(produce(w));
      for (std::size_t i = w.at_most(4); i > 0; --i) group.add(consume(w));
      group.add(race(w));
      group.add(fail(w));
      group.add(change_minds(w));
      co_await group.join();
    }
    while (w.letters_.try_get()) ++w.taken_;
    require(w.taken_ == w.sent_, "a letter was lost, or came twice");
    require(w.inside_ == 0 && w.at_desks_ == 0, "somebody left without saying so");
    require(w.living_ == 0, "a child outlived its group");
    require(loop.tasks().size() <= 2, "a coroutine is left");  // this one, and who called it
  }

 private:
  std::size_t at_most(std::size_t n) { return 1 + random_() % n; }
  bool one_in(std::size_t n) { return random_() % n == 0; }
  std::chrono::milliseconds moment() { return std::chrono::milliseconds(random_() % 4); }

  // One more of those whom `count` counts, until it ends.
  struct visit {
    explicit visit(std::size_t& c) noexcept : count(c) { ++count; }
    visit(const visit&) = delete;
    visit& operator=(const visit&) = delete;
    ~visit() { --count; }
    std::size_t& count;
  };

  static future<> produce(world& w) {
    for (std::size_t left = w.at_most(12); left > 0; --left) {
      co_await pulsar::sleep(w.moment(), w.loop_);
      auto put = with_timeout(w.letters_.put(static_cast<int>(left), w.loop_), w.moment());
      const auto outcome = co_await as_result(std::move(put));
      if (outcome) {
        ++w.sent_;
      } else {
        require(outcome.code() == pulsar::errc::timed_out, "put failed otherwise than by time");
      }
    }
    if (--w.producers_ == 0) w.letters_.close();
  }

  static future<> consume(world& w) {
    for (;;) {
      auto get = with_timeout(w.letters_.get(w.loop_), w.moment());
      const auto letter = co_await as_result(std::move(get));
      if (letter) {
        ++w.taken_;
        co_await print(w);
        co_await sit(w);
      } else if (letter.code() == pulsar::errc::closed) {
        break;
      } else {
        require(letter.code() == pulsar::errc::timed_out, "get failed otherwise than by time");
      }
    }
  }

  static future<> print(world& w) {
    const auto lock = co_await w.printer_.lock(w.loop_);
    const visit here(w.inside_);
    require(w.inside_ == 1, "two print at once");
    co_await pulsar::sleep(w.moment(), w.loop_);
  }

  static future<> sit(world& w) {
    const auto permit = co_await w.desks_.acquire(w.loop_);
    const visit here(w.at_desks_);
    require(w.at_desks_ <= w.permits_, "more sit than there are desks");
    co_await pulsar::sleep(w.moment(), w.loop_);
  }

  // The first of some, and all of some, take as long as they should.
  static future<> race(world& w) {
    for (std::size_t left = w.at_most(5); left > 0; --left) {
      const auto a = w.moment();
      const auto b = w.moment();
      const auto c = w.moment();
      const auto start = w.loop_.time();
      auto first = when_any(pulsar::sleep(a, w.loop_), pulsar::sleep(b, w.loop_));
      auto both = when_all(std::move(first), pulsar::sleep(c, w.loop_));
      co_await std::move(both);
      require(w.loop_.time() - start == std::max(std::min(a, b), c), "time is out of joint");
    }
  }

  static future<> child(world& w, bool fails) {
    const visit self(w.living_);
    co_await pulsar::sleep(w.moment(), w.loop_);
    if (fails) throw std::runtime_error("a child fails");
    co_await pulsar::sleep(1h, w.loop_);
  }

  // The failure of one child ends them all.
  static future<> fail(world& w) {
    const auto start = w.loop_.time();
    const auto before = w.living_;
    task_group group(w.loop_);
    const std::size_t children = w.at_most(5);
    for (std::size_t i = 0; i < children; ++i) group.add(child(w, i == 0));
    const auto outcome = co_await as_result(group.join());
    require(!outcome && outcome.message() == "a child fails", "the failure of a child was lost");
    require(w.living_ == before, "join ended before the children did");
    require(w.loop_.time() - start < 1h, "the others were not cancelled");
  }

  // Some wait for a printer or a desk and do not want it any more.
  static future<> change_minds(world& w) {
    for (std::size_t left = w.at_most(8); left > 0; --left) {
      auto printing = print(w);
      auto sitting = sit(w);
      co_await pulsar::sleep(w.moment(), w.loop_);
      if (w.one_in(2)) printing.cancel();
      if (w.one_in(2)) sitting.cancel();
      static_cast<void>(co_await as_result(std::move(printing)));
      static_cast<void>(co_await as_result(std::move(sitting)));
    }
  }

  event_loop& loop_;
  std::mt19937_64 random_;
  pulsar::async_queue<int> letters_;
  std::size_t producers_;
  std::size_t permits_;
  pulsar::async_mutex printer_;
  pulsar::async_semaphore desks_;
  std::size_t sent_ = 0;
  std::size_t taken_ = 0;
  std::size_t inside_ = 0;
  std::size_t at_desks_ = 0;
  std::size_t living_ = 0;
};

}  // namespace

TEST_SUITE("seeded_world") {
  TEST_CASE("whatever the order, nothing is lost and nobody is left") {
    const auto tried = pulsar::testing::for_each_seed(200, [](std::uint64_t seed) {
      pulsar::testing::run([seed](event_loop& loop) { return world::live(loop, seed); },
                           {.seed = seed});
    });
    MESSAGE(tried << " seeds");
  }
}
