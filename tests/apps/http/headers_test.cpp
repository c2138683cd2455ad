// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/headers.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <iterator>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

namespace http = pulsar::http;

namespace {

template <class Headers>
std::vector<std::string> lines_of(const Headers& headers) {
  std::vector<std::string> lines;
  for (const auto [name, value] : headers) {
    lines.push_back(std::string(name) + "|" + std::string(value));
  }
  return lines;
}

std::string refusal_of(std::string_view name, std::string_view value, http::errc expected) {
  http::header_block block;
  block.add("Before", "1");
  std::string text;
  try {
    block.add(name, value);
    FAIL("taken");
  } catch (const pulsar::error& e) {
    CHECK(e.code() == expected);
    text = e.what();
  }
  CHECK_THROWS_AS(block.set(name, value), pulsar::error);
  CHECK(block.text() == "Before: 1\r\n");
  return text;
}

}  // namespace

TEST_SUITE("http::headers") {
  TEST_CASE("names are equal in any case") {
    CHECK(http::iequals("Content-Type", "cONTENT-tYPE"));
    CHECK(http::iequals("", ""));
    CHECK_FALSE(http::iequals("a", "ab"));
    CHECK_FALSE(http::iequals("a", "b"));
    // Pairs of marks that differ by the bit that makes a small letter.
    CHECK_FALSE(http::iequals("@", "`"));
    CHECK_FALSE(http::iequals("[", "{"));
    CHECK_FALSE(http::iequals("\xc1", "\xe1"));
  }

  TEST_CASE("a token is found in a list whole and in any case") {
    CHECK(http::has_token("close", "close"));
    CHECK(http::has_token("a ,\tCLOSE , b", "close"));
    CHECK(http::has_token("a,,close", "close"));
    CHECK_FALSE(http::has_token("closed, unclose", "close"));
    CHECK_FALSE(http::has_token("", "close"));
  }

  TEST_CASE("a list of views finds, counts and iterates") {
    const std::string text = "AbcX1YZ";
    const http::detail::field_span spans[] = {{0, 3, 3, 1}, {3, 1, 4, 1}, {0, 3, 5, 2}};
    const http::header_list list(text.data(), spans, 3);
    CHECK(list.size() == 3);
    CHECK(lines_of(list) == std::vector<std::string>{"Abc|X", "X|1", "Abc|YZ"});
    CHECK(list.find("ABC") == "X");
    CHECK(list.find("x") == "1");
    CHECK_FALSE(list.find("ab").has_value());
    CHECK(list.contains("abc"));
    CHECK(list.count("abc") == 2);
    CHECK(list.count("nothing") == 0);
    CHECK(list[2].value == "YZ");
    CHECK(http::header_list().empty());
    CHECK(lines_of(http::header_list()).empty());
  }

  TEST_CASE("headers are ranges") {
    static_assert(std::forward_iterator<http::header_list::iterator>);
    static_assert(std::forward_iterator<http::header_block::iterator>);
    http::header_block block;
    block.add("A", "1");
    block.add("B", "2");
    CHECK(std::ranges::distance(block) == 2);
    auto it = block.begin();
    CHECK((*it++).name == "A");
    CHECK((*it).name == "B");
  }

  TEST_CASE("a block is the text of its lines, in order") {
    http::header_block block;
    CHECK(block.empty());
    block.add("Set-Cookie", "a=1; Path=/");
    block.add("X-Empty", "");
    block.add("set-cookie", " \tb=2: c \t");
    CHECK(block.text() == "Set-Cookie: a=1; Path=/\r\nX-Empty: \r\nset-cookie: b=2: c\r\n");
    CHECK(lines_of(block) ==
          std::vector<std::string>{"Set-Cookie|a=1; Path=/", "X-Empty|", "set-cookie|b=2: c"});
    CHECK(block.find("SET-COOKIE") == "a=1; Path=/");
    CHECK(block.find("x-empty") == "");
    CHECK_FALSE(block.contains("Set"));
    block.clear();
    CHECK(block.empty());
  }

  TEST_CASE("setting replaces every line of that name, erasing removes them") {
    http::header_block block;
    block.add("A", "1");
    block.add("B", "2");
    block.add("a", "3");
    block.set("A", "4");
    CHECK(block.text() == "B: 2\r\nA: 4\r\n");
    block.set("C", "5");
    CHECK(block.text() == "B: 2\r\nA: 4\r\nC: 5\r\n");
    CHECK(block.erase("a") == 1);
    CHECK(block.erase("a") == 0);
    CHECK(block.text() == "B: 2\r\nC: 5\r\n");
  }

  TEST_CASE("a value may come from the block itself") {
    for (std::size_t size : {1U, 10U, 100U, 1000U}) {
      http::header_block block;
      block.add("A", std::string(size, 'x'));
      for (int i = 0; i < 10; ++i) block.add(block.begin().operator*().name, *block.find("a"));
      const auto value = std::string(size, 'x');
      for (const auto [name, text] : block) {
        REQUIRE(name == "A");
        REQUIRE(text == value);
      }
      block.set("A", *block.find("a"));
      CHECK(block.text() == "A: " + value + "\r\n");
    }
  }

  TEST_CASE("a value cannot bring a line of its own") {
    using namespace std::string_literals;
    for (const auto& value :
         {"a\r\nSet-Cookie: x"s, "a\nb"s, "a\rb"s, "a\0b"s, "\x7f"s, "\x1b[2J"s}) {
      refusal_of("X", value, http::errc::bad_header_value);
    }
    CHECK(refusal_of("X-User", "a\r\nb", http::errc::bad_header_value) ==
          "cannot send the header 'X-User' with the value 'a\\x0d\\x0ab': remove the control "
          "characters or encode them: a header value has a control character");
  }

  TEST_CASE("a name that is no token is refused") {
    using namespace std::string_literals;
    for (const auto& name : {""s, "a b"s, "a:"s, "a\r\nb"s, "a\0"s, "\xc3\xa9"s, "a(b"s}) {
      refusal_of(name, "v", http::errc::bad_header_name);
    }
    CHECK(refusal_of("a b", "v", http::errc::bad_header_name)
              .starts_with("cannot send a header named 'a b': use letters, digits and '-' alone"));
    CHECK(refusal_of(std::string(5000, '('), "v", http::errc::bad_header_name).size() < 250);
  }

  TEST_CASE("tabs and bytes over 127 are sent as they are") {
    http::header_block block;
    block.add("X", "a\tb \xc3\xa9");
    CHECK(block.text() == "X: a\tb \xc3\xa9\r\n");
  }
}
