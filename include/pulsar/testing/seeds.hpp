// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// One test, many orders: what is ready together goes on in an order that a seed decides.
///
///     pulsar::testing::run_under_seeds(200, [](pulsar::event_loop& loop) -> pulsar::future<> {
///       ...                                        // whatever the order, this must hold
///     });
///
/// A body that throws under seed 17 says so on standard error, and `PULSAR_SEED=17` in the
/// environment repeats exactly that run: `PULSAR_SEED=17 ./tests --test-case="..."`. An assertion
/// that fails names the seed too, in a program that includes <pulsar/testing/coro_test.hpp>
/// somewhere (doctest) or sets `seed_scope`. The environment has the last word:
///
///     PULSAR_SEED=17          that one alone
///     PULSAR_SEEDS=5000       as many instead of what the test says
///     PULSAR_FIRST_SEED=1000  where to begin, instead of 1
///     PULSAR_SEED_SECONDS=60  further ones until so much time has passed

#include <pulsar/testing/virtual_time.hpp>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace pulsar {

namespace detail {

inline std::optional<std::uint64_t> number_in_environment(const char* name) {
  const char* const set = std::getenv(name);
  if (set == nullptr || *set == '\0') return std::nullopt;
  const std::string_view text(set);
  std::uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure == std::errc{} && end == text.data() + text.size()) return value;
  throw std::invalid_argument(std::string(name) + " must be a number, and is \"" + set + "\"");
}

}  // namespace detail

namespace testing {

/// How the test framework of this program hears of a seed: it is called for each with what is to be
/// run under it, and calls that once. coro_test.hpp sets it for doctest; for GoogleTest:
///
///     pulsar::testing::seed_scope = [](std::uint64_t seed, const std::function<void()>& run) {
///       SCOPED_TRACE("PULSAR_SEED=" + std::to_string(seed));
///       run();
///     };
inline void (*seed_scope)(std::uint64_t seed, const std::function<void()>& run) = nullptr;

/// Calls `f(seed)` for `count` seeds, from 1, or for those that the environment names; returns how
/// many. What `f` throws passes by, when standard error has been told the seed.
template <class F>
std::size_t for_each_seed(std::size_t count, F&& f) {
  using pulsar::detail::number_in_environment;
  std::uint64_t seed = number_in_environment("PULSAR_FIRST_SEED").value_or(1);
  count = number_in_environment("PULSAR_SEEDS").value_or(count);
  auto until = std::chrono::steady_clock::time_point::min();
  if (const auto seconds = number_in_environment("PULSAR_SEED_SECONDS")) {
    until = std::chrono::steady_clock::now() + std::chrono::seconds(*seconds);
  }
  if (const auto only = number_in_environment("PULSAR_SEED")) {
    seed = *only;
    count = 1;
    until = std::chrono::steady_clock::time_point::min();
  }
  std::size_t tried = 0;
  while (tried < count || std::chrono::steady_clock::now() < until) {
    try {
      if (seed_scope != nullptr) {
        seed_scope(seed, [&] { f(seed); });
      } else {
        f(seed);
      }
    } catch (...) {
      std::fprintf(stderr, "failed under seed %llu; PULSAR_SEED=%llu repeats it\n",
                   static_cast<unsigned long long>(seed), static_cast<unsigned long long>(seed));
      throw;
    }
    ++tried;
    ++seed;
  }
  return tried;
}

/// `run(body)` under `count` seeds, or those that the environment names; returns how many. The body
/// is called once a seed, with a fresh loop each time, and gives a future of nothing.
template <class F>
std::size_t run_under_seeds(std::size_t count, F&& body) {
  return for_each_seed(count, [&body](std::uint64_t seed) { run(body, {.seed = seed}); });
}

}  // namespace testing
}  // namespace pulsar
