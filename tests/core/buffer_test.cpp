// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/buffer.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace {

// Fills `in` through prepare and commit, as a socket does.
void receive(pulsar::buffer& in, std::string_view text) {
  const auto space = in.prepare(text.size());
  REQUIRE(space.size() >= text.size());
  std::memcpy(space.data(), text.data(), text.size());
  in.commit(text.size());
}

}  // namespace

TEST_SUITE("buffer") {
  TEST_CASE("a new buffer is empty and owns no memory") {
    const pulsar::buffer b;
    CHECK(b.empty());
    CHECK(b.size() == 0);
    CHECK(b.capacity() == 0);
    CHECK(b.readable().empty());
    CHECK(b.text().empty());
    CHECK(b.begin() == b.end());
  }

  TEST_CASE("what is committed can be read, what is only prepared cannot") {
    pulsar::buffer b;
    auto space = b.prepare(10);
    CHECK(space.size() >= 10);
    CHECK(b.empty());
    std::memcpy(space.data(), "abcdef", 6);
    b.commit(3);
    CHECK(b.text() == "abc");
    receive(b, "xyz");
    CHECK(b.text() == "abcxyz");
    CHECK(b.readable().size() == 6);
    CHECK(b.readable()[5] == std::byte{'z'});
  }

  TEST_CASE("consuming drops from the front without moving the rest") {
    pulsar::buffer b;
    b.append("hello world");
    const std::byte* const at = b.data();
    b.consume(6);
    CHECK(b.text() == "world");
    CHECK(b.data() == at + 6);
    b.consume(0);
    CHECK(b.text() == "world");
  }

  TEST_CASE("an emptied buffer starts again at its first byte") {
    pulsar::buffer b(64);
    const std::byte* const at = b.data();
    b.append("hello");
    b.consume(5);
    CHECK(b.empty());
    CHECK(b.data() == at);
    CHECK(b.prepare(1).size() == b.capacity());
    b.append("again");
    b.truncate(0);
    CHECK(b.data() == at);
  }

  TEST_CASE("truncating drops what was appended last") {
    pulsar::buffer b;
    b.append("head");
    const auto mark = b.size();
    b.append("half of a message");
    b.truncate(mark);
    CHECK(b.text() == "head");
    b.append("er");
    CHECK(b.text() == "header");
  }

  TEST_CASE("growing keeps the unread bytes in their order") {
    pulsar::buffer b;
    std::string expected;
    for (int i = 0; i < 2000; ++i) {
      const auto piece = std::to_string(i);
      b.append(piece);
      expected += piece;
      if (i % 3 == 1) {
        b.consume(2);
        expected.erase(0, 2);
      }
    }
    CHECK(b.text() == expected);
  }

  TEST_CASE("a queue that is consumed as fast as it is filled does not grow") {
    pulsar::buffer b(1024);
    const auto capacity = b.capacity();
    std::string expected;
    receive(b, std::string(100, 'a'));
    for (int i = 0; i < 10'000; ++i) {
      receive(b, std::string(100, static_cast<char>('a' + i % 26)));
      CHECK(b.data()[0] == b.data()[99]);
      b.consume(100);
    }
    CHECK(b.size() == 100);
    CHECK(b.capacity() == capacity);
  }

  TEST_CASE("room in front is won back only when half of the bytes are gone") {
    pulsar::buffer b(256);
    b.append(std::string(200, 'x'));
    const std::byte* const at = b.data();
    b.consume(199);
    b.prepare(200);
    CHECK(b.capacity() == 256);
    CHECK(b.data() == at);
    CHECK(b.text() == "x");

    b.append(std::string(199, 'y'));
    b.consume(50);
    b.prepare(100);
    CHECK(b.capacity() > 256);
    CHECK(b.text() == std::string(150, 'y'));
  }

  TEST_CASE("a header is patched after the body is known") {
    pulsar::buffer b;
    b.append("older bytes");
    b.consume(6);
    const auto mark = b.size();
    b.append("????");
    b.append(std::string(5000, 'b'));
    std::memcpy(b.data() + mark, "5000", 4);
    CHECK(b.text() == "bytes5000" + std::string(5000, 'b'));
  }

  TEST_CASE("a buffer can be appended to itself") {
    pulsar::buffer b;
    b.append("0123456789");
    b.consume(2);
    while (b.size() < 4096) b.append(b.readable());
    CHECK(b.size() == 4096);
    CHECK(b.text().substr(4088) == "23456789");
    b.append(b.readable().subspan(8, 4));
    CHECK(b.text().substr(4096) == "2345");
  }

  TEST_CASE("single bytes are appended one by one") {
    pulsar::buffer b;
    for (int i = 0; i < 1000; ++i) b.push_back(static_cast<std::byte>(i % 256));
    CHECK(b.size() == 1000);
    CHECK(b.data()[999] == std::byte{999 % 256});
  }

  TEST_CASE("reserved room is not exceeded by what fits in it") {
    pulsar::buffer b;
    b.append("abc");
    b.reserve(5000);
    const auto capacity = b.capacity();
    const std::byte* const at = b.data();
    CHECK(capacity >= 5000);
    b.append(std::string(4997, 'z'));
    CHECK(b.capacity() == capacity);
    CHECK(b.data() == at);
    b.reserve(10);
    CHECK(b.capacity() == capacity);
  }

  TEST_CASE("memory is given back on demand, but never from under unread bytes") {
    pulsar::buffer b;
    b.append(std::string(5000, 'z'));
    b.release();
    CHECK(b.size() == 5000);
    b.clear();
    CHECK(b.capacity() >= 5000);
    b.release();
    CHECK(b.capacity() == 0);
    b.append("fresh");
    CHECK(b.text() == "fresh");
  }

  TEST_CASE("moving takes the bytes and leaves an empty buffer that can be used again") {
    CHECK_FALSE(std::is_copy_constructible_v<pulsar::buffer>);
    CHECK(std::is_nothrow_move_constructible_v<pulsar::buffer>);
    pulsar::buffer a;
    a.append("first");
    pulsar::buffer b(std::move(a));
    CHECK(b.text() == "first");
    a = pulsar::buffer();
    CHECK(a.empty());
    a.append("second");
    b = std::move(a);
    CHECK(b.text() == "second");
    swap(a, b);
    CHECK(a.text() == "second");
  }

  TEST_CASE("a size that no memory can hold throws and changes nothing") {
    pulsar::buffer b;
    b.append("kept");
    CHECK_THROWS_AS(b.prepare(static_cast<std::size_t>(-1) - 2), std::bad_alloc);
    CHECK(b.text() == "kept");
  }
}
