// SPDX-License-Identifier: BSD-3-Clause
//
// What every raw_stream keeps, shown on the two that the core has.
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/socket_stream.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/raw_stream.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

using pulsar::event_loop;
using pulsar::raw_stream;

namespace {

using ends = std::pair<std::unique_ptr<raw_stream>, std::unique_ptr<raw_stream>>;

ends in_memory(event_loop& loop) { return pulsar::raw_memory_pair(1000, loop); }

ends on_sockets(event_loop& loop) {
  using pulsar::detail::descriptor_kind;
  auto fds = pulsar::socket_pair(SOCK_STREAM);
  return {
      pulsar::detail::new_descriptor_stream(loop, std::move(fds.first), descriptor_kind::socket),
      pulsar::detail::new_descriptor_stream(loop, std::move(fds.second), descriptor_kind::socket)};
}

constexpr std::array mediums{&in_memory, &on_sockets};

struct operation : raw_stream::operation {
  operation() : raw_stream::operation(&on_end) {}
  static void on_end(raw_stream::operation* op) {
    auto& self = static_cast<operation&>(*op);
    self.done = true;
    if (self.then) self.then();
  }
  bool done = false;
  std::function<void()> then{};
};

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

struct room {
  std::array<std::byte, 4096> bytes;
  std::string text(std::size_t n) const { return {reinterpret_cast<const char*>(bytes.data()), n}; }
};

// Runs what is ready, until `there()`.
template <class F>
void run_until(event_loop& loop, F there) {
  for (int i = 0; i < 1000 && !there(); ++i) {
    loop.context().restart();
    loop.context().run_one_for(std::chrono::milliseconds(10));
  }
  CHECK(there());
}

void run_some(event_loop& loop) {
  for (int i = 0; i < 5; ++i) {
    loop.context().restart();
    loop.context().poll();
  }
}

// Fills the way to the other side until a write waits.
void fill(raw_stream& to, operation& waits) {
  static const std::string much(100'000, 'x');
  while (to.write(bytes_of(much), waits)) {
    REQUIRE_FALSE(waits.failure);
  }
}

}  // namespace

TEST_SUITE("raw_stream") {
  TEST_CASE("a read that waits ends when something comes") {
    for (const auto medium : mediums) {
      event_loop loop;
      auto [a, b] = medium(loop);
      room into;
      operation read;
      operation write;
      CHECK_FALSE(a->read(into.bytes, read));
      CHECK(b->write(bytes_of("hello"), write));
      CHECK(write.count == 5);
      run_until(loop, [&] { return read.done; });
      CHECK(into.text(read.count) == "hello");
      CHECK_FALSE(read.failure);
    }
  }

  TEST_CASE("a write that waits ends when the other side has read") {
    for (const auto medium : mediums) {
      event_loop loop;
      auto [a, b] = medium(loop);
      operation write;
      fill(*a, write);
      std::error_code failure;
      CHECK(a->write_now(bytes_of("more"), failure) == 0);
      CHECK_FALSE(failure);
      run_some(loop);
      CHECK_FALSE(write.done);
      room into;
      while (b->read_now(into.bytes, failure) != 0) {
      }
      run_until(loop, [&] { return write.done; });
      CHECK(write.count > 0);
    }
  }

  TEST_CASE("read_now and write_now never wait") {
    for (const auto medium : mediums) {
      event_loop loop;
      auto [a, b] = medium(loop);
      room into;
      std::error_code failure;
      CHECK(a->read_now(into.bytes, failure) == 0);
      CHECK(b->write_now(bytes_of("now"), failure) == 3);
      CHECK(a->read_now(into.bytes, failure) == 3);
      CHECK(into.text(3) == "now");
      CHECK_FALSE(failure);
      b->close();
      CHECK(a->read_now(into.bytes, failure) == 0);
      CHECK_FALSE(failure);
      CHECK(a->write_now(bytes_of("x"), failure) == 0);
      CHECK(failure == std::errc::broken_pipe);
    }
  }

  TEST_CASE("close forgets what waits: nothing refers to it any more") {
    for (const auto medium : mediums) {
      for (const int turns : {0, 1}) {
        event_loop loop;
        auto [a, b] = medium(loop);
        {
          auto into = std::make_unique<room>();
          auto read = std::make_unique<operation>();
          auto write = std::make_unique<operation>();
          read->then = write->then = [] { FAIL("called after close"); };
          CHECK_FALSE(a->read(into->bytes, *read));
          fill(*a, *write);
          if (turns != 0) run_some(loop);
          operation more;
          CHECK(b->write(bytes_of("late"), more));
          a->close();
        }
        run_some(loop);
        a->close();
      }
    }
  }

  TEST_CASE("an operation that ends may destroy the stream, or begin the next") {
    for (const auto medium : mediums) {
      event_loop loop;
      auto both = medium(loop);
      room into;
      operation first;
      operation second;
      operation write;
      first.then = [&] { CHECK_FALSE(both.first->read(into.bytes, second)); };
      second.then = [&] { both.first.reset(); };
      CHECK_FALSE(both.first->read(into.bytes, first));
      CHECK(both.second->write(bytes_of("one"), write));
      run_until(loop, [&] { return first.done; });
      CHECK(both.second->write(bytes_of("two"), write));
      run_until(loop, [&] { return second.done; });
      CHECK(both.first == nullptr);
      run_some(loop);
    }
  }

  TEST_CASE("the end of one direction leaves the other") {
    for (const auto medium : mediums) {
      event_loop loop;
      auto [a, b] = medium(loop);
      room into;
      operation op;
      operation read;
      operation end;
      CHECK(a->shut_down(op));
      CHECK_FALSE(op.failure);
      CHECK(b->write(bytes_of("still"), op));
      if (!a->read(into.bytes, read)) run_until(loop, [&] { return read.done; });
      CHECK(into.text(read.count) == "still");
      if (!b->read(into.bytes, end)) run_until(loop, [&] { return end.done; });
      CHECK(end.count == 0);
      CHECK_FALSE(end.failure);
    }
  }

  TEST_CASE("what is under way when the loop closes never ends, and may go") {
    for (const auto medium : mediums) {
      operation read;
      operation write;
      ends left;
      {
        auto into = std::make_unique<room>();
        event_loop loop;
        left = medium(loop);
        CHECK_FALSE(left.first->read(into->bytes, read));
        fill(*left.first, write);
        run_some(loop);
      }
      CHECK_FALSE(read.done);
      CHECK_FALSE(write.done);
      left.first.reset();
      left.second.reset();
    }
  }
}
