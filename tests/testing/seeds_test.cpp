// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/testing/seeds.hpp>

#include <pulsar/core/async_event.hpp>
#include <pulsar/core/child.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

using pulsar::event_loop;
using pulsar::future;
namespace testing = pulsar::testing;

namespace {

// The environment of a test, back as it was when it ends.
class environment {
 public:
  environment() {
    for (const char* name : names) {
      if (const char* set = std::getenv(name)) before_[name] = set;
      ::unsetenv(name);
    }
  }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;
  ~environment() {
    for (const char* name : names) ::unsetenv(name);
    for (const auto& [name, value] : before_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  static void set(const char* name, const char* value) { ::setenv(name, value, 1); }

 private:
  static constexpr const char* names[] = {"PULSAR_SEED", "PULSAR_SEEDS", "PULSAR_FIRST_SEED",
                                          "PULSAR_SEED_SECONDS"};
  std::map<std::string, std::string> before_;
};

std::vector<std::uint64_t> seeds_of(std::size_t count) {
  std::vector<std::uint64_t> seeds;
  const auto tried =
      testing::for_each_seed(count, [&](std::uint64_t seed) { seeds.push_back(seed); });
  CHECK(tried == seeds.size());
  return seeds;
}

// What the test case of that name says in a program whose tests fail under some seeds.
std::string failing(const std::string& test_case) {
  const std::string only = "--test-case=" + test_case;
  const std::string arguments[] = {only, "--no-colors"};
  auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
  auto child = pulsar::spawn_child({.executable = PULSAR_TEST_PROGRAMS_DIR "/failing_seeds",
                                    .arguments = arguments,
                                    .standard_output = theirs.get(),
                                    .standard_error = theirs.get()});
  theirs.reset();
  std::string text;
  char block[4096];
  for (ssize_t n = 0; (n = ::read(mine.get(), block, sizeof block)) > 0;) {
    text.append(block, static_cast<std::size_t>(n));
  }
  const auto status = child.wait();
  if (status.code == 0) text += "it passed";
  return text;
}

// The number behind "PULSAR_SEED=" where it is said first.
std::string first_seed_in(const std::string& text) {
  const std::string before = "PULSAR_SEED=";
  const auto at = text.find(before);
  if (at == std::string::npos) return {};
  const auto begin = at + before.size();
  return text.substr(begin, text.find_first_not_of("0123456789", begin) - begin);
}

}  // namespace

TEST_SUITE("seeds") {
  TEST_CASE("for_each_seed counts from one, unless the environment says otherwise") {
    const environment scope;
    CHECK(seeds_of(3) == std::vector<std::uint64_t>{1, 2, 3});
    CHECK(seeds_of(0).empty());
    environment::set("PULSAR_SEEDS", "2");
    CHECK(seeds_of(3) == std::vector<std::uint64_t>{1, 2});
    environment::set("PULSAR_FIRST_SEED", "70");
    CHECK(seeds_of(3) == std::vector<std::uint64_t>{70, 71});
    environment::set("PULSAR_SEED", "17");
    CHECK(seeds_of(3) == std::vector<std::uint64_t>{17});
    environment::set("PULSAR_SEED", "");
    CHECK(seeds_of(3).size() == 2);
    environment::set("PULSAR_SEED", "seventeen");
    CHECK_THROWS_AS(seeds_of(3), std::invalid_argument);
  }

  TEST_CASE("with a number of seconds it goes on until they have passed") {
    const environment scope;
    environment::set("PULSAR_SEED_SECONDS", "1");
    CHECK(seeds_of(3).size() > 3);
    environment::set("PULSAR_SEED", "5");
    CHECK(seeds_of(3).size() == 1);
  }

  TEST_CASE("what a seed brings to light passes by, with no further seed") {
    const environment scope;
    std::uint64_t last = 0;
    CHECK_THROWS_AS(testing::for_each_seed(10,
                                           [&](std::uint64_t seed) {
                                             last = seed;
                                             if (seed == 4) throw std::runtime_error("found");
                                           }),
                    std::runtime_error);
    CHECK(last == 4);
  }

  TEST_CASE("a fault that only some orders show is found, and its seed shows it again") {
    const environment scope;
    // Whoever reads last before it writes loses what the other wrote.
    struct account {
      int balance = 0;
      static future<> deposit(event_loop& loop, account& a, pulsar::async_event& go) {
        co_await go.wait(loop);
        const int read = a.balance;
        co_await pulsar::sleep(std::chrono::seconds(read == 0 ? 0 : 1), loop);
        a.balance = read + 1;
      }
      static future<> two(event_loop& loop) {
        account a;
        pulsar::async_event go;
        auto first = deposit(loop, a, go);
        auto second = deposit(loop, a, go);
        go.set();
        co_await first;
        co_await second;
        if (a.balance != 2) throw std::runtime_error("lost a deposit");
      }
    };
    std::set<std::uint64_t> found;
    for (std::uint64_t seed = 1; seed < 40; ++seed) {
      try {
        testing::run(&account::two, {.seed = seed});
      } catch (const std::runtime_error&) {
        found.insert(seed);
      }
    }
    CHECK_FALSE(found.empty());
    for (const auto seed : found) {
      CHECK_THROWS_AS(testing::run(&account::two, {.seed = seed}), std::runtime_error);
    }
  }

  TEST_CASE("run_under_seeds has a fresh loop for each seed") {
    const environment scope;
    std::set<std::string> orders;
    const auto body = [&orders](event_loop& loop) -> future<> {
      CHECK(loop.time() == event_loop::time_point{});
      return [](event_loop& l, std::set<std::string>& all) -> future<> {
        std::string order;
        const auto each = [](event_loop& on, std::string& text, char name) -> future<> {
          co_await pulsar::sleep(std::chrono::seconds(1), on);
          text += name;
        };
        auto a = each(l, order, 'a');
        auto b = each(l, order, 'b');
        auto c = each(l, order, 'c');
        co_await a;
        co_await b;
        co_await c;
        all.insert(order);
      }(loop, orders);
    };
    CHECK(testing::run_under_seeds(100, body) == 100);
    CHECK(orders.size() == 6);
  }

  TEST_CASE("an assertion that fails names the seed, which repeats that run and no other") {
    for (const std::string test_case : {"check", "require", "throw", "case"}) {
      CAPTURE(test_case);
      const environment scope;
      const std::string text = failing(test_case);
      const std::string seed = first_seed_in(text);
      REQUIRE_MESSAGE(!seed.empty(), text);
      environment::set("PULSAR_SEED", seed.c_str());
      const std::string again = failing(test_case);
      CHECK_MESSAGE(first_seed_in(again) == seed, again);
      CHECK_MESSAGE(again.find("0 passed | 1 failed") != std::string::npos, again);
    }
  }
}
