// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/fixed_string.hpp>

#include <doctest/doctest.h>

#include <string_view>
#include <type_traits>

using pulsar::fixed_string;

namespace {

template <fixed_string Name>
struct tagged {
  static constexpr std::string_view name = Name.view();
};

}  // namespace

TEST_SUITE("fixed_string") {
  TEST_CASE("a literal passes through a template argument") {
    static_assert(tagged<"deposit">::name == "deposit");
    CHECK(tagged<"deposit">::name == "deposit");
  }

  TEST_CASE("the view has the characters without the final zero") {
    constexpr fixed_string text("abc");
    CHECK(text.view().size() == 3);
    CHECK(text.view() == "abc");
  }

  TEST_CASE("the empty literal is allowed") {
    constexpr fixed_string text("");
    CHECK(text.view().empty());
  }

  TEST_CASE("a zero inside the literal is a character like any other") {
    constexpr fixed_string text("a\0b");
    CHECK(text.view() == std::string_view("a\0b", 3));
  }

  TEST_CASE("equal literals name the same type, different ones do not") {
    CHECK(std::is_same_v<tagged<"a">, tagged<"a">>);
    CHECK_FALSE(std::is_same_v<tagged<"a">, tagged<"b">>);
    CHECK_FALSE(std::is_same_v<tagged<"a">, tagged<"aa">>);
  }

  TEST_CASE("strings of different length compare, and differ") {
    constexpr fixed_string a("a");
    constexpr fixed_string also_a("a");
    constexpr fixed_string b("b");
    constexpr fixed_string ab("ab");
    CHECK(a == also_a);
    CHECK(a != b);
    CHECK(a != ab);
  }
}
