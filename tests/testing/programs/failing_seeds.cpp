// SPDX-License-Identifier: BSD-3-Clause
//
// Tests that fail under some seeds, for seeds_test, which reads what they say.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <pulsar/core/timeout.hpp>
#include <pulsar/testing/coro_test.hpp>

#include <chrono>
#include <stdexcept>
#include <string>

using pulsar::future;

namespace {

std::string names;

// Two sleepers wake together, and the seed says who is the first.
future<std::string> order() {
  names.clear();
  const auto each = [](char name) -> future<> {
    co_await pulsar::sleep(std::chrono::seconds(1));
    names += name;
  };
  auto a = each('a');
  auto b = each('b');
  co_await a;
  co_await b;
  co_return names;
}

future<> checks() {
  const std::string first = co_await order();
  CHECK(first == "ab");
}

future<> requires_it() {
  const std::string first = co_await order();
  REQUIRE(first == "ab");
}

future<> throws() {
  const std::string first = co_await order();
  if (first != "ab") throw std::runtime_error("b came first");
}

}  // namespace

TEST_CASE("check") { pulsar::testing::run_under_seeds(20, &checks); }
TEST_CASE("require") { pulsar::testing::run_under_seeds(20, &requires_it); }
TEST_CASE("throw") { pulsar::testing::run_under_seeds(20, &throws); }
CORO_TEST_CASE_SEEDS(20, "case") {
  const std::string first = co_await order();
  CHECK(first == "ab");
}
