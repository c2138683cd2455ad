// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/detail/number_map.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

using pulsar::detail::number_map;

TEST_SUITE("number_map") {
  TEST_CASE("what was inserted is found, and only that") {
    number_map<int> map;
    int one = 1;
    int two = 2;
    CHECK(map.find(0) == nullptr);
    CHECK(map.erase(7) == nullptr);
    CHECK(map.insert(0, &one));
    CHECK_FALSE(map.insert(0, &two));
    CHECK(map.insert(~std::uint64_t{0}, &two));
    CHECK(map.find(0) == &one);
    CHECK(map.find(~std::uint64_t{0}) == &two);
    CHECK(map.find(1) == nullptr);
    CHECK(map.erase(0) == &one);
    CHECK(map.find(0) == nullptr);
    CHECK(map.size() == 1);
    map.clear();
    CHECK(map.empty());
    CHECK(map.find(~std::uint64_t{0}) == nullptr);
  }

  TEST_CASE("it agrees with a map of the standard library after any insertions and erasures") {
    number_map<int> map;
    std::map<std::uint64_t, int*> expected;
    std::vector<int> values(64);
    std::uint64_t random = 1;
    for (int i = 0; i < 20'000; ++i) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      // Few numbers that share their low bits, and so meet in the table.
      const std::uint64_t number = (random >> 60) << 32 | (random >> 40) % 24;
      int* value = &values[(random >> 20) % values.size()];
      if ((random >> 33) % 2 == 0) {
        CHECK(map.insert(number, value) == expected.emplace(number, value).second);
      } else {
        const auto at = expected.find(number);
        CHECK(map.erase(number) == (at == expected.end() ? nullptr : at->second));
        if (at != expected.end()) expected.erase(at);
      }
      REQUIRE(map.size() == expected.size());
    }
    for (const auto& [number, value] : expected) CHECK(map.find(number) == value);
    std::size_t at = 0;
    std::size_t seen = 0;
    while (map.next(at) != nullptr) ++seen;
    CHECK(seen == expected.size());
  }
}
