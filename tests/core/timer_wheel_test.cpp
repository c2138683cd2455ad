// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/timer_wheel.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

using pulsar::timer_node;
using pulsar::timer_wheel;

namespace {

using tick = timer_wheel::tick;

/// A deadline that calls a function.
struct reminder : timer_node {
  explicit reminder(std::function<void()> f) : timer_node(&fire), call(std::move(f)) {}

  static void fire(timer_node* node, bool drop) {
    auto* self = static_cast<reminder*>(node);
    if (drop) {
      ++self->drops;
      return;
    }
    ++self->fires;
    // Where it lies must not matter while it runs: it may destroy its own node.
    const auto f = self->call;
    if (f) f();
  }

  std::function<void()> call;
  int fires = 0;
  int drops = 0;
};

/// The wheel beside a sorted map that must agree with it about everything.
class model {
 public:
  explicit model(tick start, unsigned seed) : wheel(start), random_(seed) {}

  /// Does one thing at random: arms, cancels, or moves on.
  void step() {
    const auto what = random_() % 10;
    if (what < 5) {
      arm(*nodes_[random_() % nodes_.size()]);
    } else if (what < 7) {
      cancel(*nodes_[random_() % nodes_.size()]);
    } else {
      advance(wheel.now() + distance());
    }
    check_next();
  }

  /// Up to 2^40, the small ones as likely as the large ones.
  tick distance() {
    const auto bits = random_() % 41;
    return random_() & ((tick{1} << bits) - 1);
  }

  void advance(tick to) {
    reaching_ = to;
    wheel.advance(to);
    reaching_ = timer_wheel::never;
    CHECK(wheel.now() == to);
    // Nothing is left that was due, but what was armed for the past meanwhile.
    CHECK((expected_.empty() || expected_.begin()->first >= (wheel.has_due() ? to : to + 1)));
  }

  void make_nodes(std::size_t count) {
    while (nodes_.size() < count) {
      nodes_.push_back(std::make_unique<node>(*this));
    }
  }

  timer_wheel wheel;
  std::size_t fired = 0;

 private:
  tick reaching_ = timer_wheel::never;  // while the wheel moves

  struct node : timer_node {
    explicit node(model& m) : timer_node(&fire), owner(m) {}
    static void fire(timer_node* n, bool drop) {
      if (!drop) static_cast<node*>(n)->owner.on_fire(*static_cast<node*>(n));
    }
    model& owner;
    std::multimap<tick, node*>::iterator place;
  };

  void arm(node& n) {
    forget(n);
    tick at = 0;
    if (random_() % 4 == 0) {
      const tick delay = distance();
      wheel.arm_after(n, delay);
      REQUIRE(wheel.has_fresh());
      wheel.settle(wheel.now() + 1);
      REQUIRE_FALSE(wheel.has_fresh());
      at = wheel.now() + 1 + delay;
    } else {
      // Some lie in the past.
      const tick back = random_() % 8 == 0 ? random_() % 50 : 0;
      at = wheel.now() + distance();
      at -= back < at ? back : at;
      wheel.arm_at(n, at);
    }
    REQUIRE(n.armed());
    // What lies in the past is due at once, or, armed by what is called, when this call ends.
    const bool waits = at <= wheel.now() && reaching_ != timer_wheel::never;
    n.place = expected_.emplace(waits ? reaching_ : std::max(at, wheel.now()), &n);
  }

  void cancel(node& n) {
    const bool was_armed = n.armed();
    CHECK(n.cancel() == was_armed);
    CHECK_FALSE(n.armed());
    CHECK_FALSE(n.cancel());
    if (was_armed) expected_.erase(n.place);
  }

  void forget(node& n) {
    if (n.armed()) expected_.erase(n.place);
  }

  void on_fire(node& n) {
    ++fired;
    CHECK_FALSE(n.armed());
    // The first of the map, or another of the same tick; and exactly then.
    const tick due = n.place->first;
    CHECK(due == expected_.begin()->first);
    CHECK(wheel.now() == due);
    expected_.erase(n.place);
    // It may arm and cancel whatever it likes, also itself.
    switch (random_() % 8) {
      case 0: arm(n); break;
      case 1: arm(*nodes_[random_() % nodes_.size()]); break;
      case 2: cancel(*nodes_[random_() % nodes_.size()]); break;
      default: break;
    }
  }

  void check_next() {
    const tick next = wheel.next();
    if (expected_.empty()) {
      CHECK(next == timer_wheel::never);
      CHECK(wheel.empty());
      return;
    }
    CHECK_FALSE(wheel.empty());
    CHECK(next >= wheel.now());
    CHECK(next <= (expected_.begin()->first > wheel.now() ? expected_.begin()->first : wheel.now()));
  }

  std::mt19937_64 random_;
  std::multimap<tick, node*> expected_;
  std::vector<std::unique_ptr<node>> nodes_;
};

}  // namespace

TEST_SUITE("timer_wheel") {
  TEST_CASE("a fresh wheel is empty and has nothing next") {
    timer_wheel wheel;
    CHECK(wheel.empty());
    CHECK(wheel.now() == 0);
    CHECK(wheel.next() == timer_wheel::never);
    wheel.advance(1'000'000'000);
    CHECK(wheel.now() == 1'000'000'000);
    wheel.advance(5);  // never back
    CHECK(wheel.now() == 1'000'000'000);
  }

  TEST_CASE("a deadline fires at its tick, not before, and once") {
    // Around every border between two levels.
    for (unsigned shift = 0; shift < 40; ++shift) {
      for (const tick offset : {tick{0}, tick{1}, ~tick{0}}) {
        const tick at = (tick{1} << shift) + offset;
        if (at == 0) continue;
        timer_wheel wheel;
        reminder a([] {});
        wheel.arm_at(a, at);
        wheel.advance(at - 1);
        CHECK(a.fires == 0);
        CHECK(wheel.next() == at);
        wheel.advance(at);
        CHECK(a.fires == 1);
        CHECK(wheel.empty());
        wheel.advance(at + 100'000);
        CHECK(a.fires == 1);
      }
    }
  }

  TEST_CASE("whoever advances to next() again and again meets every deadline in time") {
    // What a loop does: it sleeps until next(), which may lie before the deadline.
    for (const tick delay : {tick{1}, tick{63}, tick{64}, tick{65}, tick{4'095}, tick{262'145},
                             tick{1'000'000'007}, timer_wheel::horizon - 1, timer_wheel::horizon}) {
      timer_wheel wheel(12'345);
      reminder a([] {});
      wheel.arm_at(a, 12'345 + delay);
      int wakes = 0;
      while (!wheel.empty()) {
        const tick next = wheel.next();
        REQUIRE(next > wheel.now());
        REQUIRE(next <= 12'345 + delay);
        wheel.advance(next);
        ++wakes;
      }
      CHECK(a.fires == 1);
      CHECK(wheel.now() == 12'345 + delay);
      CHECK(wakes <= 8);
    }
  }

  TEST_CASE("deadlines of one tick that were armed alike fire in the order they were armed") {
    timer_wheel wheel;
    std::vector<int> order;
    std::vector<std::unique_ptr<reminder>> reminders;
    for (int i = 0; i < 100; ++i) {
      reminders.push_back(std::make_unique<reminder>([&order, i] { order.push_back(i); }));
      wheel.arm_at(*reminders.back(), 70'000);
    }
    wheel.advance(70'000);
    REQUIRE(order.size() == 100);
    for (int i = 0; i < 100; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
  }

  TEST_CASE("a deadline in the past is due at the next advance, which need not move") {
    timer_wheel wheel(1000);
    reminder a([] {});
    wheel.arm_at(a, 10);
    CHECK(wheel.next() == 1000);
    CHECK_FALSE(wheel.empty());
    wheel.advance(1000);
    CHECK(a.fires == 1);
  }

  TEST_CASE("a delay counts from the settle, and waits for it") {
    timer_wheel wheel(100);
    reminder a([] {});
    wheel.arm_after(a, 10);
    CHECK(wheel.has_fresh());
    CHECK_FALSE(wheel.empty());
    CHECK(wheel.next() == timer_wheel::never);
    wheel.advance(5000);
    CHECK(a.fires == 0);
    wheel.settle(5001);
    CHECK_FALSE(wheel.has_fresh());
    wheel.advance(5010);
    CHECK(a.fires == 0);
    wheel.advance(5011);
    CHECK(a.fires == 1);
  }

  TEST_CASE("a delay that is cancelled before the settle leaves nothing") {
    timer_wheel wheel;
    {
      reminder a([] {});
      wheel.arm_after(a, 10);
      CHECK(a.armed());
      CHECK(a.cancel());
      CHECK_FALSE(wheel.has_fresh());
      wheel.arm_after(a, 10);
    }
    CHECK_FALSE(wheel.has_fresh());
    CHECK(wheel.empty());
  }

  TEST_CASE("arming an armed deadline moves it") {
    timer_wheel wheel;
    reminder a([] {});
    wheel.arm_at(a, 10);
    wheel.arm_at(a, 20'000);
    wheel.advance(19'999);
    CHECK(a.fires == 0);
    wheel.arm_after(a, 5);
    wheel.settle(20'000);
    wheel.advance(20'004);
    CHECK(a.fires == 0);
    wheel.advance(20'005);
    CHECK(a.fires == 1);
  }

  TEST_CASE("destroying a deadline cancels it") {
    timer_wheel wheel;
    {
      reminder a([] {});
      wheel.arm_at(a, 10);
    }
    CHECK(wheel.empty());
    CHECK(wheel.next() == timer_wheel::never);
    wheel.advance(100);
  }

  TEST_CASE("a deadline may cancel, arm and destroy others and itself while it fires") {
    timer_wheel wheel;
    reminder victim([] {});
    auto doomed = std::make_unique<reminder>([] {});
    reminder late([] {});
    std::unique_ptr<reminder> itself;
    reminder again([] {});
    again.call = [&] {
      if (again.fires < 3) wheel.arm_at(again, wheel.now());  // in each of the next calls
    };
    itself = std::make_unique<reminder>([&] {
      victim.cancel();
      doomed.reset();
      wheel.arm_at(late, wheel.now() + 1);
      wheel.arm_at(again, wheel.now());
      itself.reset();
    });
    wheel.arm_at(*itself, 50);
    wheel.arm_at(victim, 50);
    wheel.arm_at(*doomed, 50);
    wheel.advance(50);
    CHECK(itself == nullptr);
    CHECK(victim.fires == 0);
    CHECK(late.fires == 0);
    CHECK(again.fires == 0);
    CHECK(wheel.has_due());
    CHECK(wheel.next() == 50);
    wheel.advance(50);
    CHECK(again.fires == 1);
    wheel.advance(51);
    CHECK(again.fires == 2);
    CHECK(late.fires == 1);
    wheel.advance(51);
    CHECK(again.fires == 3);
    CHECK(wheel.empty());
  }

  TEST_CASE("a deadline beyond the horizon is due at the horizon") {
    timer_wheel wheel(7);
    reminder a([] {});
    wheel.arm_at(a, std::numeric_limits<tick>::max() - 1);
    wheel.advance(7 + timer_wheel::horizon - 1);
    CHECK(a.fires == 0);
    wheel.advance(7 + timer_wheel::horizon);
    CHECK(a.fires == 1);
    wheel.arm_after(a, timer_wheel::never);
    wheel.settle(wheel.now());
    const tick from = wheel.now();
    wheel.advance(from + timer_wheel::horizon - 1);
    CHECK(a.fires == 1);
    wheel.advance(from + timer_wheel::horizon);
    CHECK(a.fires == 2);
  }

  TEST_CASE("time goes on beyond the width of all levels") {
    // 2^42 ticks are 139 years of milliseconds; a clock of nanoseconds ends after 292.
    for (const tick start : {(tick{1} << 41) - 1, (tick{1} << 42) - 2, (tick{1} << 42) - 100'000,
                             (tick{3} << 41) + 12'345, (tick{1} << 43) - 3}) {
      timer_wheel wheel(start);
      for (const tick delay : {tick{1}, tick{2}, tick{99}, tick{1'000'000}, tick{1} << 36,
                               timer_wheel::horizon - 1}) {
        const tick from = wheel.now();
        reminder a([] {});
        reminder nearer([] {});
        wheel.arm_at(a, from + delay);
        wheel.arm_at(nearer, from + 1);
        CHECK(wheel.next() > from);
        wheel.advance(from + delay - 1);
        CHECK(wheel.now() == from + delay - 1);
        CHECK(a.fires == 0);
        wheel.advance(from + delay);
        CHECK(a.fires == 1);
        CHECK(nearer.fires == 1);
      }
    }
  }

  TEST_CASE("closing takes every deadline off and tells it so") {
    timer_wheel wheel;
    reminder near([] {});
    reminder far([] {});
    reminder past([] {});
    reminder fresh([] {});
    wheel.arm_at(near, 3);
    wheel.arm_at(far, 1'000'000'000);
    wheel.arm_at(past, 0);
    wheel.arm_after(fresh, 3);
    wheel.close();
    for (const reminder* a : {&near, &far, &past, &fresh}) {
      CHECK_FALSE(a->armed());
      CHECK(a->drops == 1);
      CHECK(a->fires == 0);
    }
    CHECK(wheel.empty());
    CHECK(wheel.next() == timer_wheel::never);
    wheel.close();
    CHECK(near.drops == 1);
  }

  TEST_CASE("the wheel agrees with a sorted map, whatever is armed, cancelled and moved") {
    std::size_t fired = 0;
    for (unsigned seed = 1; seed <= 20; ++seed) {
      const tick start = seed % 4 == 0 ? tick{seed} << 37 : seed;
      model m(start, seed);
      m.make_nodes(seed % 2 == 0 ? 5 : 200);
      for (int i = 0; i < 1'000; ++i) m.step();
      fired += m.fired;
    }
    CHECK(fired > 3'000);
  }

  TEST_CASE("the wheel agrees with a sorted map over a million single ticks") {
    timer_wheel wheel(1'000'000);
    std::mt19937 random(7);
    std::multimap<tick, reminder*> expected;
    std::vector<std::unique_ptr<reminder>> reminders;
    for (int i = 0; i < 100; ++i) reminders.push_back(std::make_unique<reminder>(nullptr));
    std::size_t wrong = 0;
    std::size_t fired = 0;
    for (auto& a : reminders) {
      reminder* self = a.get();
      self->call = [&, self] {
        ++fired;
        if (expected.empty() || expected.begin()->first != wheel.now()) ++wrong;
        for (auto i = expected.begin(); i != expected.end(); ++i) {
          if (i->second != self) continue;
          if (i->first != wheel.now()) ++wrong;
          expected.erase(i);
          break;
        }
        const tick at = wheel.now() + 1 + random() % (1U << (random() % 20));
        wheel.arm_at(*self, at);
        expected.emplace(at, self);
      };
      wheel.arm_at(*a, wheel.now() + 1);
      expected.emplace(wheel.now() + 1, self);
    }
    for (int i = 0; i < 1'000'000; ++i) {
      wheel.advance(wheel.now() + 1);
      if (expected.begin()->first <= wheel.now()) ++wrong;
      if (wheel.next() > expected.begin()->first) ++wrong;
    }
    CHECK(wrong == 0);
    CHECK(fired > 1'000);
  }
}
