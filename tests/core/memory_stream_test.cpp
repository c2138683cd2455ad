// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>
#include <support/coro_test.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

using namespace std::chrono_literals;
using pulsar::event_loop;
using pulsar::raw_memory_pair;
using pulsar::raw_stream;

namespace {

struct operation : raw_stream::operation {
  operation() : raw_stream::operation(&on_end) {}
  static void on_end(raw_stream::operation* op) { static_cast<operation*>(op)->is_done = true; }
  bool is_done = false;
};

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

struct pair {
  explicit pair(std::size_t capacity) {
    auto made = raw_memory_pair(capacity, loop);
    a = std::move(made.first);
    b = std::move(made.second);
  }

  void turn() {
    loop.context().restart();
    loop.context().run();
  }
  std::string text(std::size_t n) const { return {reinterpret_cast<const char*>(room), n}; }

  event_loop loop{pulsar::clock_kind::virtual_time};
  std::unique_ptr<raw_stream> a;
  std::unique_ptr<raw_stream> b;
  std::byte room[16];
};

}  // namespace

TEST_SUITE("memory_stream") {
  TEST_CASE("what fits goes at once, and is read at once") {
    pair p(8);
    operation w;
    operation r;
    CHECK(p.a->write(bytes_of("hello"), w));
    CHECK(w.count == 5);
    CHECK(p.b->read(p.room, r));
    CHECK(p.text(r.count) == "hello");
    CHECK(p.a->native_handle() == -1);
  }

  TEST_CASE("a full direction makes the writer wait until something is read") {
    pair p(4);
    operation w;
    operation waits;
    operation r;
    CHECK(p.a->write(bytes_of("hello"), w));
    CHECK(w.count == 4);
    std::error_code failure;
    CHECK(p.a->write_now(bytes_of("o"), failure) == 0);
    CHECK_FALSE(p.a->write(bytes_of("o wor"), waits));
    CHECK(p.b->read(std::span(p.room).first(3), r));
    CHECK(p.text(3) == "hel");
    CHECK_FALSE(waits.is_done);  // never inside a member
    p.turn();
    CHECK(waits.is_done);
    CHECK(waits.count == 3);
    CHECK(p.b->read_now(p.room, failure) == 4);
    CHECK(p.text(4) == "lo w");
    CHECK(p.b->read_now(p.room, failure) == 0);
  }

  TEST_CASE("who reads first is told when something comes") {
    pair p(4);
    operation r;
    operation w;
    CHECK_FALSE(p.b->read(p.room, r));
    CHECK(p.a->write(bytes_of("hello"), w));
    p.turn();
    CHECK(r.is_done);
    CHECK(p.text(r.count) == "hell");
  }

  TEST_CASE("each direction ends by itself, behind its bytes") {
    pair p(8);
    operation op;
    CHECK(p.a->write(bytes_of("x"), op));
    CHECK(p.a->shut_down(op));
    CHECK(p.b->read(p.room, op));
    CHECK(op.count == 1);
    CHECK(p.b->read(p.room, op));
    CHECK(op.count == 0);
    CHECK_FALSE(op.failure);
    CHECK(p.b->write(bytes_of("y"), op));
    CHECK(p.a->read(p.room, op));
    CHECK(p.text(op.count) == "y");
  }

  TEST_CASE("closing is an end to who reads and a broken pipe to who writes") {
    pair p(8);
    operation r;
    operation w;
    CHECK(p.a->write(bytes_of("x"), w));
    CHECK_FALSE(p.a->read(p.room, r));
    p.a->close();
    CHECK(p.b->write(bytes_of("y"), w));
    CHECK(w.failure == std::errc::broken_pipe);
    operation end;
    CHECK(p.b->read(p.room, end));
    CHECK(end.count == 1);
    CHECK(p.b->read(p.room, end));
    CHECK(end.count == 0);
    CHECK_FALSE(end.failure);
    p.turn();
    CHECK_FALSE(r.is_done);  // forgotten
  }

  TEST_CASE("who closes with bytes unread, or resets, resets the other side") {
    for (const bool unread : {false, true}) {
      pair p(4);
      operation r;
      operation w;
      if (unread) CHECK(p.b->write(bytes_of("1234"), w));
      CHECK_FALSE(p.b->read(p.room, r));
      if (unread) {
        operation waits;
        CHECK_FALSE(p.b->write(bytes_of("5"), waits));
        p.a->close();
        p.turn();
        CHECK(waits.failure == std::errc::connection_reset);
      } else {
        p.a->reset();
        p.turn();
      }
      CHECK(r.is_done);
      CHECK(r.failure == std::errc::connection_reset);
      CHECK(p.b->write(bytes_of("y"), w));
      CHECK(w.failure == std::errc::connection_reset);
    }
  }

  TEST_CASE("what waits is forgotten with its end, and with its loop") {
    operation r;
    std::unique_ptr<raw_stream> left;
    {
      pair p(4);
      CHECK_FALSE(p.b->read(p.room, r));
      operation w;
      CHECK(p.a->write(bytes_of("x"), w));
      left = std::move(p.a);
    }
    CHECK_FALSE(r.is_done);
    left->close();
  }

  TEST_CASE("a pair without room is refused") {
    event_loop loop;
    CHECK_THROWS_AS(raw_memory_pair(0, loop), pulsar::error);
  }

  CORO_TEST_CASE("a virtual clock jumps while streams in memory wait") {
    auto [a, b] = pulsar::memory_pair();
    auto& loop = event_loop::current();
    const auto start = loop.time();
    auto read = b.read_line();
    co_await pulsar::sleep(24h);
    a.write("late\n");
    const std::string line = co_await std::move(read);
    CHECK(line == "late\n");
    CHECK(loop.time() - start == 24h);
  }
}
