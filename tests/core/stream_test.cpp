// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/stream.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include <doctest/doctest.h>
#include <support/coro_test.hpp>
#include <support/debug_mode.hpp>
#include <support/futures.hpp>

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::errc;
using pulsar::error;
using pulsar::event_loop;
using pulsar::future;
using pulsar::memory_pair;
using pulsar::stream;
using pulsar::stream_options;
using pulsar::unique_fd;
using pulsar::with_timeout;

namespace {

std::pair<stream, stream> socket_streams(stream_options options = {}) {
  auto ends = pulsar::socket_pair(SOCK_STREAM);
  return {stream(std::move(ends.first), options), stream(std::move(ends.second), options)};
}

// Writes `text` in pieces, a turn of the loop apart.
future<> write_pieces(stream& to, std::string text, std::size_t size) {
  for (std::size_t at = 0; at < text.size(); at += size) {
    to.write(std::string_view(text).substr(at, size));
    co_await pulsar::sleep(0s);
  }
}

// Sends all of it and closes.
future<> send(stream to, std::string text) {
  to.write(text);
  co_await to.close();
}

future<> echo(stream peer) {
  for (;;) {
    const bool more = co_await peer.fill();
    if (!more) break;
    peer.write(peer.buffered());
    peer.consume(peer.buffered().size());
    co_await peer.drain();
  }
  co_await peer.close();
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i % 23);
  return text;
}

template <class T>
std::error_code code_of(const pulsar::result<T>& r) {
  return r ? std::error_code() : future_test::code_of(r.exception());
}

// It has a descriptor whose addresses are none of the Internet, and fails.
struct over_netlink final : pulsar::raw_stream {
  bool read(std::span<std::byte>, operation& op) override { return fail(op); }
  bool write(std::span<const std::byte>, operation& op) override { return fail(op); }
  bool shut_down(operation& op) override { return fail(op); }
  void close() noexcept override {}
  int native_handle() const noexcept override { return socket.get(); }

  static bool fail(operation& op) {
    op.failure = std::make_error_code(std::errc::connection_reset);
    return true;
  }
  const unique_fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0)};
};

// A raw_stream that does what the test says.
struct scripted final : pulsar::raw_stream {
  struct script {
    int writes = 0;
    int writes_now = 0;
    int reads = 0;
    std::size_t written = 0;
    std::size_t room = ~std::size_t{0};  // of the next writes
    std::string input{};
    std::size_t least_room = ~std::size_t{0};
    bool closed = false;
    bool was_reset = false;
    std::error_code write_failure{};
    operation* reading = nullptr;
    operation* writing = nullptr;
  };

  explicit scripted(std::shared_ptr<script> s) : s_(std::move(s)) {}
  ~scripted() override { close(); }

  bool read(std::span<std::byte> into, operation& op) override {
    ++s_->reads;
    s_->least_room = std::min(s_->least_room, into.size());
    if (s_->input.empty()) {
      s_->reading = &op;
      return false;
    }
    op.count = std::min(into.size(), s_->input.size());
    std::memcpy(into.data(), s_->input.data(), op.count);
    s_->input.erase(0, op.count);
    return true;
  }
  bool write(std::span<const std::byte> from, operation& op) override {
    ++s_->writes;
    op.failure = s_->write_failure;
    op.count = op.failure ? 0 : put(from);
    if (op.count != 0 || op.failure) return true;
    s_->writing = &op;
    return false;
  }
  std::size_t write_now(std::span<const std::byte> from,
                        std::error_code& failure) noexcept override {
    ++s_->writes_now;
    failure = s_->write_failure;
    return failure ? 0 : put(from);
  }
  bool shut_down(operation& op) override {
    op.failure.clear();
    return true;
  }
  void close() noexcept override { s_->closed = true; }
  void reset() noexcept override { s_->was_reset = s_->closed = true; }

 private:
  std::size_t put(std::span<const std::byte> from) noexcept {
    const std::size_t n = std::min(from.size(), s_->room);
    s_->room -= n;
    s_->written += n;
    return n;
  }
  std::shared_ptr<script> s_;
};

}  // namespace

TEST_SUITE("stream") {
  // -- reading -------------------------------------------------------------------

  CORO_TEST_CASE("read_some gives what is there, and 0 at the end") {
    auto [a, b] = memory_pair();
    a.write("hello");
    std::array<char, 3> into{};
    std::size_t n = co_await b.read_some(into);
    CHECK(std::string(into.data(), n) == "hel");
    n = co_await b.read_some(into);
    CHECK(std::string(into.data(), n) == "lo");
    CHECK_FALSE(b.at_end());
    a.write_eof();
    n = co_await b.read_some(into);
    CHECK(n == 0);
    CHECK(b.at_end());
    n = co_await b.read_some(into);
    CHECK(n == 0);
    CHECK(b.bytes_read() == 5);
    CHECK(a.bytes_written() == 5);
  }

  CORO_TEST_CASE("read gives up to so many bytes as a string") {
    auto [a, b] = memory_pair();
    a.write("hello");
    std::string text = co_await b.read(4);
    CHECK(text == "hell");
    text = co_await b.read();
    CHECK(text == "o");
    text = co_await b.read(0);
    CHECK(text.empty());
    a.write_eof();
    text = co_await b.read();
    CHECK(text.empty());
  }

  CORO_TEST_CASE("read_exactly waits for all of them and leaves the rest") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair();
    const auto writing = write_pieces(a, "hello world", 3);
    std::string text = co_await b.read_exactly(7);
    CHECK(text == "hello w");
    text = co_await b.read_exactly(4);
    CHECK(text == "orld");
    text = co_await b.read_exactly(0);
    CHECK(text.empty());
  }

  CORO_TEST_CASE("an end in the middle of read_exactly says how much was there and keeps it") {
    auto [a, b] = memory_pair();
    send(std::move(a), "hello").detach();
    const auto r = co_await as_result(b.read_exactly(10));
    CHECK(code_of(r) == errc::truncated);
    CHECK(r.message().find("the stream ended after 5 of 10 bytes") == 0);
    CHECK(b.buffered_text() == "hello");
    const std::string text = co_await b.read_exactly(5);
    CHECK(text == "hello");
  }

  CORO_TEST_CASE("read_until finds a delimiter that comes in pieces, and none that only looks so") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair();
    const auto writing = write_pieces(a, "one\r\r\ntwo\r\n\r\nrest", 1);
    std::string text = co_await b.read_until("\r\n\r\n");
    CHECK(text == "one\r\r\ntwo\r\n\r\n");
    text = co_await b.read_exactly(4);
    CHECK(text == "rest");
    CHECK_THROWS_AS(b.read_until("").detach(), error);
  }

  CORO_TEST_CASE("an end before the delimiter says so and keeps what came") {
    auto [a, b] = memory_pair();
    send(std::move(a), "no end").detach();
    const auto r = co_await as_result(b.read_until(";"));
    CHECK(code_of(r) == errc::truncated);
    CHECK(r.message().find("after 6 bytes, before the delimiter") != std::string::npos);
    const std::string text = co_await b.read_to_end();
    CHECK(text == "no end");
  }

  CORO_TEST_CASE("read_line gives lines with their ends, then the rest, then nothing") {
    auto [a, b] = memory_pair();
    send(std::move(a), "one\n\ntwo\nrest").detach();
    std::string line = co_await b.read_line();
    CHECK(line == "one\n");
    line = co_await b.read_line();
    CHECK(line == "\n");
    line = co_await b.read_line();
    CHECK(line == "two\n");
    line = co_await b.read_line();
    CHECK(line == "rest");
    line = co_await b.read_line();
    CHECK(line.empty());
  }

  CORO_TEST_CASE("a line over the limit fails, and nothing of it is lost") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair(64, {.read_limit = 10});
    const auto writing = write_pieces(a, "0123456789\nshort\n", 4);
    const auto r = co_await as_result(b.read_line());
    if (code_of(r) == errc::cancelled) co_return;  // it is not told again
    CHECK(code_of(r) == errc::too_large);
    CHECK(r.message().find("a line is longer than 10 bytes: raise stream_options::read_limit") ==
          0);
    std::string text = co_await b.read_exactly(11);
    CHECK(text == "0123456789\n");
    text = co_await b.read_line();
    CHECK(text == "short\n");
  }

  CORO_TEST_CASE("a flood without a line end is not taken in beyond the limit") {
    auto [a, b] = memory_pair(1024, {.read_limit = 4096});
    a.write(pattern(1'000'000));
    const auto r = co_await as_result(b.read_line());
    CHECK(code_of(r) == errc::too_large);
    CHECK(b.buffered().size() <= 4096 + 16 * 1024);
    CHECK(a.unsent() > 900'000);
  }

  CORO_TEST_CASE("read_to_end reads up to the end, and no more than it is told") {
    auto [a, b] = memory_pair(100);
    const std::string text = pattern(1000);
    auto sending = send(std::move(a), text);
    const auto r = co_await as_result(b.read_to_end(999));
    CHECK(code_of(r) == errc::too_large);
    const std::string all = co_await b.read_to_end(1000);
    CHECK(all == text);
    co_await std::move(sending);
  }

  CORO_TEST_CASE("fill shows bytes where they lie, and tells of each only once") {
    auto [a, b] = memory_pair();
    a.write("one");
    bool more = co_await b.fill();
    CHECK(more);
    CHECK(b.buffered_text() == "one");
    b.consume(1);
    auto next = b.fill();
    co_await pulsar::sleep(1s);
    CHECK_FALSE(next.done());
    a.write("two");
    more = co_await std::move(next);
    CHECK(more);
    CHECK(b.buffered_text() == "netwo");
    a.write_eof();
    more = co_await b.fill();
    CHECK_FALSE(more);
    CHECK(b.buffered_text() == "netwo");
  }

  CORO_TEST_CASE("fill tells of what another read has left, and of what came meanwhile") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair();
    a.write("line\nrest");
    const std::string line = co_await b.read_line();
    CHECK(line == "line\n");
    bool more = co_await b.fill();
    CHECK(more);
    CHECK(b.buffered_text() == "rest");
    {
      auto given_up = b.fill();
      CHECK_FALSE(given_up.done());
    }
    a.write("!");
    co_await pulsar::sleep(1s);
    more = co_await b.fill();
    CHECK(more);
    CHECK(b.buffered_text() == "rest!");
  }

  CORO_TEST_CASE("fill refuses to keep more than the limit") {
    auto [a, b] = memory_pair(64, {.read_limit = 100});
    a.write(pattern(500));
    while (b.buffered().size() < 100) {
      const bool more = co_await b.fill();
      CHECK(more);
    }
    const auto r = co_await as_result(b.fill());
    CHECK(code_of(r) == errc::too_large);
    b.consume(b.buffered().size());
    const bool more = co_await b.fill();
    CHECK(more);
  }

  CORO_TEST_CASE("one read at a time: the second fails and the first goes on") {
    auto [a, b] = memory_pair();
    auto first = b.read_line();
    const auto second = co_await as_result(b.read(1));
    CHECK(code_of(second) == errc::already_called);
    CHECK(second.message().find("one at a time") != std::string::npos);
    a.write("x\n");
    const std::string line = co_await std::move(first);
    CHECK(line == "x\n");
  }

  CORO_TEST_CASE(
      "a read that is cancelled or dropped loses nothing, and the next may follow at once") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair();
    a.write("half a ");
    const auto r = co_await as_result(with_timeout(b.read_line(), 1s));
    CHECK(code_of(r) == errc::timed_out);
    static_cast<void>(b.read_exactly(100));
    a.write("line\n");
    const std::string line = co_await b.read_line();
    CHECK(line == "half a line\n");
  }

  CORO_TEST_CASE("bytes may be consumed while a read that was given up is still under way") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair();
    a.write("abc");
    bool more = co_await b.fill();
    static_cast<void>(b.fill());
    CHECK(b.buffered_text() == "abc");
    b.consume(2);
    CHECK(b.buffered_text() == "c");
    b.consume(1);
    CHECK(b.buffered().empty());
    a.write("def");
    more = co_await b.fill();
    CHECK(more);
    CHECK(b.buffered_text() == "def");
  }

  CORO_TEST_CASE("what is buffered stays in place while a read that was given up ends") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair();
    a.write("abc");
    static_cast<void>(co_await b.fill());
    static_cast<void>(b.fill());
    const std::string_view seen = b.buffered_text();
    a.write(std::string(60'000, 'x'));
    co_await a.drain();
    co_await pulsar::sleep(1ms);
    CHECK(seen == "abc");
    CHECK(b.buffered_text().substr(0, 4) == "abcx");
  }

  CORO_TEST_CASE("a reset is told behind what came before it") {
    auto [a, b] = memory_pair();
    a.write("last words");
    co_await a.drain();
    a.abort();
    std::string text = co_await b.read();
    CHECK(text == "last words");
    const auto r = co_await as_result(b.read());
    CHECK(code_of(r) == std::errc::connection_reset);
    CHECK(r.message().find("cannot read from the other side") == 0);
    CHECK_FALSE(b.at_end());
  }

  TEST_CASE("what waits has little room, what is read at once much") {
    event_loop loop(pulsar::clock_kind::virtual_time);
    const auto script = std::make_shared<scripted::script>();
    stream s(std::make_unique<scripted>(script), {}, loop);
    auto read = s.read();
    CHECK_FALSE(read.done());
    CHECK(script->reads == 1);
    CHECK(script->least_room <= 4096);
  }

  // -- writing -------------------------------------------------------------------

  TEST_CASE("what is written in one turn goes together, at its end") {
    event_loop loop(pulsar::clock_kind::virtual_time);
    const auto script = std::make_shared<scripted::script>();
    stream s(std::make_unique<scripted>(script), {}, loop);
    loop.call_soon([&] {
      for (int i = 0; i < 10; ++i) s.write("line\n");
      CHECK(s.unsent() == 50);
      CHECK(script->writes == 0);
    });
    loop.call_later(1s, [&] { loop.stop(); });
    loop.run_forever();
    CHECK(script->writes == 1);
    CHECK(script->written == 50);
    CHECK(s.unsent() == 0);
  }

  TEST_CASE("drain sends at once, and what is large goes without a copy") {
    event_loop loop(pulsar::clock_kind::virtual_time);
    const auto script = std::make_shared<scripted::script>();
    stream s(std::make_unique<scripted>(script), {}, loop);
    s.write("small");
    auto drained = s.drain();
    CHECK(drained.done());
    CHECK(script->writes == 1);
    s.write(pattern(100'000));
    CHECK(script->writes_now == 1);
    CHECK(s.unsent() == 0);
    CHECK(s.bytes_written() == 100'005);
  }

  CORO_TEST_CASE("drain waits above the high-water mark until the low one") {
    auto [a, b] = memory_pair(100, {.high_water = 1000, .low_water = 500});
    a.write(pattern(1100));
    auto drained = a.drain();
    CHECK(drained.done());  // 100 are with the other side
    a.write("1");
    auto waits = a.drain();
    auto also_waits = a.drain();
    CHECK_FALSE(waits.done());
    while (!waits.done()) {
      const std::string some = co_await b.read(50);
      CHECK(some.size() == 50);
      co_await pulsar::sleep(0s);
    }
    CHECK(a.unsent() <= 500);
    CHECK(a.unsent() > 300);
    co_await std::move(also_waits);
    const std::string rest = co_await b.read_exactly(100);
    CHECK(rest.size() == 100);
  }

  CORO_TEST_CASE("giving a drain up leaves the bytes to go") {
    auto [a, b] = memory_pair(10, {.high_water = 10, .low_water = 0});
    a.write(pattern(100));
    const auto r = co_await as_result(with_timeout(a.drain(), 1s));
    CHECK(code_of(r) == errc::timed_out);
    const std::string all = co_await b.read_exactly(100);
    CHECK(all == pattern(100));
  }

  CORO_TEST_CASE("a writer that never drains is refused in the end") {
    auto [a, b] = memory_pair(10, {.write_limit = 1000});
    a.write(pattern(1011));
    co_await a.drain();
    CHECK_THROWS_AS(a.write("more"), error);
    const std::string all = co_await b.read_exactly(1011);
    a.write("more");
    const std::string more = co_await b.read_exactly(4);
    CHECK(more == "more");
  }

  CORO_TEST_CASE(
      "a failure sticks to writes, and what the other side has sent is read all the same") {
    auto [a, b] = memory_pair();
    a.write("answer");
    co_await a.close();
    b.write("question");
    const auto drained = co_await as_result(b.drain());
    CHECK(code_of(drained) == std::errc::broken_pipe);
    CHECK(drained.message().find("cannot write to the other side") == 0);
    CHECK_THROWS_AS(b.write("more"), error);
    const auto again = co_await as_result(b.drain());
    CHECK(code_of(again) == std::errc::broken_pipe);
    const std::string answer = co_await b.read_to_end();
    CHECK(answer == "answer");
  }

  CORO_TEST_CASE("those who drain are told of a failure that comes while they wait") {
    auto [a, b] = memory_pair(10, {.high_water = 10});
    a.write(pattern(1000));
    auto drained = a.drain();
    b.abort();
    const auto r = co_await as_result(std::move(drained));
    CHECK(code_of(r) == std::errc::connection_reset);
    CHECK(a.unsent() == 0);
  }

  CORO_TEST_CASE("write_eof ends one direction behind all that was written") {
    auto [a, b] = memory_pair(10);
    a.write(pattern(100));
    a.write_eof();
    CHECK_THROWS_AS(a.write("more"), error);
    const std::string all = co_await b.read_to_end();
    CHECK(all == pattern(100));
    b.write("the other direction goes on");
    b.write_eof();
    const std::string answer = co_await a.read_to_end();
    CHECK(answer == "the other direction goes on");
    a.write_eof();  // does nothing more
  }

  // -- the end -------------------------------------------------------------------

  CORO_TEST_CASE("close sends all that is unsent first") {
    auto [a, b] = memory_pair(10);
    a.write(pattern(1000));
    auto closing = a.close();
    CHECK(a.is_closing());
    CHECK_FALSE(closing.done());
    CHECK_THROWS_AS(a.write("more"), error);
    const std::string all = co_await b.read_to_end();
    CHECK(all == pattern(1000));
    co_await std::move(closing);
    co_await a.close();  // does nothing more
    const auto r = co_await as_result(a.read());
    CHECK(code_of(r) == errc::closed);
  }

  CORO_TEST_CASE("close ends a read that waits") {
    auto [a, b] = memory_pair();
    auto read = a.read();
    co_await a.close();
    const auto r = co_await as_result(std::move(read));
    CHECK(code_of(r) == errc::closed);
  }

  CORO_TEST_CASE("a close that is cancelled aborts: the other side does not take it for the end") {
    auto [a, b] = memory_pair(10);
    a.write(pattern(1000));
    const auto closed = co_await as_result(with_timeout(a.close(), 1s));
    CHECK(code_of(closed) == errc::timed_out);
    const auto r = co_await as_result(b.read_to_end());
    CHECK(code_of(r) == std::errc::connection_reset);
    CHECK(b.buffered_text() == pattern(10));
  }

  CORO_TEST_CASE("a close that is detached goes on without its stream") {
    auto [a, b] = memory_pair(10);
    {
      stream mine = std::move(a);
      mine.write(pattern(100));
      mine.close().detach();
    }
    const std::string all = co_await b.read_to_end();
    CHECK(all == pattern(100));
  }

  CORO_TEST_CASE("close tells what kept bytes from going") {
    auto [a, b] = memory_pair(10);
    a.write(pattern(100));
    auto closing = a.close();
    b.abort();
    const auto r = co_await as_result(std::move(closing));
    CHECK(code_of(r) == std::errc::connection_reset);
    const auto later = co_await as_result(a.drain());
    CHECK(code_of(later) == std::errc::connection_reset);
  }

  CORO_TEST_CASE("a stream that goes sends what goes at once, in good order if that was all") {
    auto [a, b] = memory_pair(10);
    {
      stream mine = std::move(a);
      mine.write("1234567");
    }
    const std::string all = co_await b.read_to_end();
    CHECK(all == "1234567");
  }

  CORO_TEST_CASE("a stream that goes with bytes unsent resets") {
    auto [a, b] = memory_pair(10);
    {
      stream mine = std::move(a);
      mine.write(pattern(11));
    }
    const auto r = co_await as_result(b.read_to_end());
    CHECK(code_of(r) == std::errc::connection_reset);
  }

  CORO_TEST_CASE("the future of a read that waits fails when its stream goes") {
    auto [a, b] = memory_pair();
    future<std::string> read;
    future<> drained;
    {
      stream mine = std::move(b);
      read = mine.read();
    }
    const auto r = co_await as_result(std::move(read));
    CHECK(code_of(r) == errc::closed);
  }

  CORO_TEST_CASE("a stream may be assigned another one, and goes then") {
    auto [a, b] = memory_pair();
    auto [c, d] = memory_pair();
    a = std::move(c);
    const std::string end = co_await b.read();
    CHECK(end.empty());
    a.write("x");
    const std::string text = co_await d.read();
    CHECK(text == "x");
  }

  CORO_TEST_CASE("an echo through a small pair comes back whole, whatever the sizes") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair(37, {.high_water = 50, .low_water = 10});
    auto serving = echo(std::move(b));
    const std::string text = pattern(1000);
    auto writing = write_pieces(a, text, 90);
    std::string back = co_await a.read_exactly(text.size());
    CHECK(back == text);
    a.write_eof();
    back = co_await a.read();
    CHECK(back.empty());
    co_await std::move(serving);
  }

  TEST_CASE("a stream outlives its loop, and every member says that it is closed") {
    stream left;
    stream other;
    {
      event_loop loop;
      auto both = socket_streams();
      left = std::move(both.first);
      other = std::move(both.second);
      auto read = left.read();
      left.write("x");
      loop.close();
    }
    CHECK_THROWS_AS(left.read().detach(), error);
    CHECK_THROWS_AS(left.write("x"), error);
    CHECK_THROWS_AS(left.drain().detach(), error);
    CHECK_THROWS_AS(left.close().detach(), error);
    CHECK(left.native_handle() >= 0);
    left.abort();
    CHECK(left.native_handle() == -1);
  }

  TEST_CASE("a stream in memory outlives its loop too") {
    stream a;
    stream b;
    {
      event_loop loop;
      auto both = memory_pair();
      a = std::move(both.first);
      b = std::move(both.second);
      static_cast<void>(a.read());
      b.write("x");
    }
    b = stream();
    CHECK(a.unsent() == 0);
  }

  CORO_TEST_CASE("what is under a stream can be given to another layer, with what was read ahead") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto [a, b] = memory_pair();
    a.write("STARTTLS\nhello");
    const std::string line = co_await b.read_line();
    CHECK(line == "STARTTLS\n");
    b.write("go on\n");
    CHECK_THROWS_AS(static_cast<void>(b.release()), error);
    co_await b.drain();
    auto released = b.release();
    CHECK(released.second == "hello");
    stream above(std::move(released.first));
    above.write("from above\n");
    std::string text = co_await a.read_line();
    CHECK(text == "go on\n");
    text = co_await a.read_line();
    CHECK(text == "from above\n");
    static_cast<void>(a.read());
    CHECK_THROWS_AS(static_cast<void>(a.release()), error);
    CHECK(above.peer_name() == "the other side");
  }

  // -- sockets -------------------------------------------------------------------

  CORO_TEST_CASE_REAL("a socket carries both directions, much and little") {
    auto [a, b] = socket_streams();
    auto serving = echo(std::move(b));
    a.write("ping\n");
    const std::string line = co_await a.read_line();
    CHECK(line == "ping\n");
    const std::string text = pattern(1'000'000);
    a.write(text);
    a.write_eof();
    const std::string back = co_await a.read_to_end();
    CHECK(back == text);
    co_await std::move(serving);
    CHECK(a.bytes_read() == 1'000'005);
    CHECK(a.bytes_written() == 1'000'005);
  }

  CORO_TEST_CASE_REAL("a peer that stalls is waited for by drain, and nothing piles up") {
    auto [a, b] = socket_streams();
    std::size_t written = 0;
    const std::string chunk = pattern(10'000);
    for (;;) {
      a.write(chunk);
      written += chunk.size();
      const auto r = co_await as_result(with_timeout(a.drain(), 20ms));
      if (!r) break;
    }
    CHECK(a.unsent() <= a.options().high_water + chunk.size());
    a.write_eof();
    const std::string all = co_await b.read_to_end(written);
    CHECK(all.size() == written);
    co_await a.drain();
    CHECK(a.unsent() == 0);
  }

  CORO_TEST_CASE_REAL("a peer that dies is an end for who reads, and a failure for who writes") {
    auto [a, b] = socket_streams();
    b = stream();
    const std::string end = co_await a.read();
    CHECK(end.empty());
    a.write("x");
    const auto r = co_await as_result(a.drain());
    CHECK(code_of(r) == std::errc::broken_pipe);
  }

  CORO_TEST_CASE_REAL("a reset of a socket has the code that everybody knows") {
    auto [a, b] = socket_streams();
    a.write("unread");
    co_await a.drain();
    co_await b.fill();
    b.write("x");
    co_await b.drain();
    a = stream();  // with bytes unread
    const std::string text = co_await b.read();
    CHECK(text == "unread");
    const auto r = co_await as_result(b.read());
    CHECK(code_of(r) == std::errc::connection_reset);
    CHECK(r.message().find("Connection reset by peer") != std::string::npos);
  }

  CORO_TEST_CASE("a medium whose addresses are of another kind has none to tell") {
    stream s(std::make_unique<over_netlink>());
    CHECK(s.local_address().to_string() == "unix:");
    s.write("x");
    const auto r = co_await as_result(s.drain());
    CHECK(code_of(r) == std::errc::connection_reset);
    CHECK(r.message().find("cannot write to the other side") == 0);
  }

  TEST_CASE("what is no stream socket is refused") {
    event_loop loop;
    try {
      stream s(unique_fd(::open("/dev/null", O_RDWR | O_CLOEXEC)));
      FAIL("no error");
    } catch (const error& e) {
      CHECK(e.code() == std::errc::invalid_argument);
      CHECK(std::string(e.what()).find(" is no stream socket") != std::string::npos);
    }
  }

  CORO_TEST_CASE_REAL("a socket without a name is somewhere on this machine") {
    auto [a, b] = socket_streams();
    a.write("x\n");
    const std::string line = co_await b.read_line();
    CHECK(line == "x\n");
    CHECK(a.local_address().is_unix());
    CHECK(a.peer_address().to_string() == "unix:");
  }

  TEST_CASE("a stream on a user's context may go before and after its loop") {
    asio::io_context context;
    stream a;
    stream b;
    {
      event_loop loop(context);
      auto both = socket_streams();
      a = std::move(both.first);
      b = std::move(both.second);
      auto read = a.read();
      context.poll();
      a = stream();
      context.restart();
      context.poll();
      CHECK(future_test::code_of(read.exception()) == errc::closed);
      read = b.read();
      context.restart();
      context.poll();
      loop.close();
    }
    b.abort();
    context.restart();
    context.poll();
  }
}
