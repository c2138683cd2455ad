// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/transport.hpp>

#include <sys/socket.h>

#include "support/coro_test.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::attach_protocol;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::memory_pair;
using pulsar::stream;
using pulsar::transport;

namespace {

std::string_view text_of(std::span<const std::byte> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

/// Notes what it is told of.
struct recorder : pulsar::protocol {
  void connection_made(transport& by) override {
    line = by;
    notes += "made;";
  }
  void data_received(std::span<const std::byte> data) override {
    notes += text_of(data);
    notes += ';';
  }
  bool eof_received() override {
    notes += "eof;";
    return keeps_open;
  }
  void connection_lost(std::error_code why) override {
    notes += "lost;";
    reason = why;
  }
  void pause_writing() override { notes += "pause;"; }
  void resume_writing() override { notes += "resume;"; }

  transport line{};
  std::string notes{};
  std::error_code reason{};
  bool keeps_open = false;
};

const auto new_recorder = [] { return std::make_shared<recorder>(); };

/// Lets what is under way go on.
future<> turns() {
  for (int i = 0; i < 10; ++i) co_await pulsar::sleep(0ms);
}

}  // namespace

TEST_SUITE("transport") {
  CORO_TEST_CASE(
      "a protocol is told of the connection, the bytes, the end and the loss, in order") {
    auto [near_end, far_end] = memory_pair();
    stream far_side = std::move(far_end);
    auto attached = co_await attach_protocol(std::move(near_end), new_recorder);
    recorder& told = *attached.second;
    CHECK(told.notes == "made;");
    CHECK(told.line == attached.first);
    far_side.write("one");
    co_await turns();
    far_side.write("two");
    co_await turns();
    co_await far_side.close();
    co_await turns();
    CHECK(told.notes == "made;one;two;eof;lost;");
    CHECK_FALSE(told.reason);
    CHECK(told.line.is_closing());
    CHECK(told.line.get_protocol() == nullptr);
    told.line.write("nobody");
    told.line.close();
    told.line.abort();
  }

  CORO_TEST_CASE("E4: what is written arrives, two requests on one connection, then the end") {
    auto [near_end, far_end] = memory_pair();
    stream far_side = std::move(far_end);
    auto attached = co_await attach_protocol(std::move(near_end), new_recorder);
    transport line = attached.first;
    line.write("ping\n");
    const std::string first = co_await far_side.read_line();
    CHECK(first == "ping\n");
    far_side.write("pong");
    const std::vector<std::string_view> lines{"again", "\n"};
    line.writelines(lines);
    const std::string second = co_await far_side.read_line();
    CHECK(second == "again\n");
    CHECK(line.can_write_eof());
    line.write_eof();
    const std::string end = co_await far_side.read_line();
    CHECK(end.empty());
    CHECK_FALSE(line.is_closing());
    CHECK_THROWS_AS(line.write("late"), pulsar::error);
    far_side.write("still");
    co_await turns();
    CHECK(attached.second->notes == "made;pong;still;");
    line.close();
    co_await turns();
    CHECK(attached.second->notes == "made;pong;still;lost;");
  }

  CORO_TEST_CASE("a protocol that keeps the connection open writes on behind the other's end") {
    auto [near_end, far_end] = memory_pair();
    stream far_side = std::move(far_end);
    auto attached = co_await attach_protocol(std::move(near_end), [] {
      auto made = std::make_unique<recorder>();
      made->keeps_open = true;
      return made;
    });
    transport line = attached.first;
    far_side.write_eof();
    co_await turns();
    CHECK(attached.second->notes == "made;eof;");
    CHECK_FALSE(line.is_closing());
    CHECK_FALSE(line.is_reading());
    line.write("answer\n");
    const std::string answer = co_await far_side.read_line();
    CHECK(answer == "answer\n");
    line.close();
    CHECK(line.is_closing());
    const std::string end = co_await far_side.read_line();
    CHECK(end.empty());
    co_await turns();
    CHECK(attached.second->notes == "made;eof;lost;");
  }

  CORO_TEST_CASE("writing is paused above the high-water mark and resumed at the low one") {
    auto [near_end, far_end] = memory_pair();
    stream far_side = std::move(far_end);
    auto attached = co_await attach_protocol(std::move(near_end), new_recorder);
    recorder& told = *attached.second;
    transport line = attached.first;
    line.set_write_buffer_limits(1000, 200);
    while (line.get_write_buffer_size() <= 1000) line.write(std::string(500, 'x'));
    CHECK(told.notes == "made;pause;");
    co_await turns();  // what the pair holds has gone
    while (line.get_write_buffer_size() <= 1000) {
      line.write(std::string(500, 'x'));
      co_await turns();
    }
    const std::size_t before = told.notes.size();
    CHECK(told.notes.substr(before - 6) == "pause;");
    std::string got;
    while (line.get_write_buffer_size() > 200) got += co_await far_side.read(700);
    co_await turns();
    CHECK(told.notes.substr(before) == "resume;");
    line.set_write_buffer_limits(100);
    line.close();
    const std::string rest = co_await far_side.read_to_end();  // what waited is sent first
    CHECK((got + rest).find_first_not_of('x') == std::string::npos);
    co_await turns();
    CHECK(told.notes.ends_with("lost;"));
  }

  CORO_TEST_CASE("reading that is paused holds the other side back and loses nothing") {
    auto [near_end, far_end] = memory_pair();
    stream far_side = std::move(far_end);
    auto attached = co_await attach_protocol(std::move(near_end), new_recorder);
    recorder& told = *attached.second;
    told.line.pause_reading();
    CHECK_FALSE(told.line.is_reading());
    far_side.write("held");
    co_await turns();
    far_side.write("back");
    co_await turns();
    CHECK(told.notes == "made;");
    told.line.resume_reading();
    CHECK(told.line.is_reading());
    co_await turns();
    std::string text = told.notes;
    std::erase(text, ';');
    CHECK(text == "madeheldback");
    told.line.pause_reading();
    told.line.close();
    co_await turns();
    CHECK(told.notes.ends_with("lost;"));
  }

  CORO_TEST_CASE("an aborted connection is lost at once, and the other side sees a failure") {
    auto [near_end, far_end] = memory_pair();
    stream far_side = std::move(far_end);
    auto attached = co_await attach_protocol(std::move(near_end), new_recorder);
    transport line = attached.first;
    line.write(std::string(1 << 20, 'x'));
    line.close();  // waits for the other side to take it
    co_await turns();
    CHECK(attached.second->notes == "made;pause;");
    line.abort();
    co_await turns();
    CHECK(attached.second->notes == "made;pause;lost;");
    CHECK_FALSE(attached.second->reason);
    const auto failed = co_await as_result(far_side.read_to_end());
    CHECK(failed.code() == std::errc::connection_reset);
  }

  CORO_TEST_CASE("a peer that dies is a loss with its reason") {
    auto [near_end, far_end] = memory_pair();
    auto attached = co_await attach_protocol(std::move(near_end), new_recorder);
    attached.first.write("never read");
    co_await turns();
    far_end.abort();
    co_await turns();
    CHECK(attached.second->notes.ends_with("lost;"));
    CHECK(attached.second->reason == std::errc::connection_reset);
  }

  CORO_TEST_CASE("what a protocol writes when its connection was reset is of no effect") {
    struct late_writer : recorder {
      void connection_lost(std::error_code why) override {
        const std::vector<std::string_view> lines{"a", "b"};
        CHECK(line.is_closing());
        CHECK_NOTHROW(line.write("a"));
        CHECK_NOTHROW(line.writelines(lines));
        CHECK_NOTHROW(line.write_eof());
        recorder::connection_lost(why);
      }
    };
    auto [near_end, far_end] = memory_pair();
    auto attached = co_await attach_protocol(std::move(near_end),
                                             [] { return std::make_shared<late_writer>(); });
    far_end.abort();
    co_await turns();
    CHECK(attached.second->notes == "made;lost;");
    CHECK(attached.second->reason == std::errc::connection_reset);
    CHECK_NOTHROW(attached.first.write("a"));
  }

  TEST_CASE("a peer that dies is noticed by who only writes, too") {
    event_loop loop;
    const auto body = []() -> future<std::string> {
      auto [near_end, far_end] = pulsar::socket_pair(SOCK_STREAM);
      auto attached = co_await attach_protocol(stream(std::move(near_end)), new_recorder);
      attached.first.pause_reading();
      far_end.reset();
      while (!attached.first.is_closing()) {
        attached.first.write("x");
        co_await turns();
      }
      co_await turns();
      const bool broken = attached.second->reason == std::errc::broken_pipe;
      co_return attached.second->notes + (broken ? "broken" : "");
    };
    CHECK(loop.run_until_complete(body) == "made;lost;broken");
  }

  TEST_CASE("a protocol that throws is reported, and loses its connection") {
    event_loop loop(pulsar::clock_kind::virtual_time);
    std::string reported;
    loop.set_exception_handler([&](const pulsar::failure_report& report) {
      reported += pulsar::detail::describe(report.exception);
    });
    struct thrower : recorder {
      void data_received(std::span<const std::byte>) override { throw std::out_of_range("no"); }
    };
    const auto body = []() -> future<std::string> {
      auto [near_end, far_end] = memory_pair();
      stream far_side = std::move(far_end);
      auto attached =
          co_await attach_protocol(std::move(near_end), [] { return std::make_shared<thrower>(); });
      far_side.write("x");
      co_await turns();
      co_return attached.second->notes + attached.second->reason.message();
    };
    CHECK(loop.run_until_complete(body) ==
          "made;lost;" + std::make_error_code(std::errc::connection_aborted).message());
    CHECK(reported == "no");
  }

  CORO_TEST_CASE("a protocol may close, or abort, inside data_received and connection_made") {
    struct closer : recorder {
      void connection_made(transport& by) override {
        recorder::connection_made(by);
        if (how == 0) by.close();
        if (how == 1) by.abort();
      }
      void data_received(std::span<const std::byte> data) override {
        recorder::data_received(data);
        line.write("bye");
        if (how == 2) line.close();
        if (how == 3) line.abort();
      }
      int how = 0;
    };
    for (int how = 0; how < 4; ++how) {
      auto [near_end, far_end] = memory_pair();
      stream far_side = std::move(far_end);
      const auto made = std::make_shared<closer>();
      made->how = how;
      const auto factory = [](std::shared_ptr<closer> c) { return [c] { return c; }; }(made);
      auto attached = co_await attach_protocol(std::move(near_end), factory);
      far_side.write("x");
      co_await turns();
      CHECK(made->notes == (how < 2 ? "made;lost;" : "made;x;lost;"));
      CHECK_FALSE(made->reason);
      made->line = transport();
    }
  }

  CORO_TEST_CASE("another protocol may go on with a connection") {
    auto [near_end, far_end] = memory_pair();
    stream far_side = std::move(far_end);
    auto attached = co_await attach_protocol(std::move(near_end), new_recorder);
    const auto next = std::make_shared<recorder>();
    far_side.write("old");
    co_await turns();
    attached.first.set_protocol(next);
    far_side.write("new");
    co_await far_side.close();
    co_await turns();
    CHECK(attached.second->notes == "made;old;");
    CHECK(next->notes == "new;eof;lost;");
  }

  TEST_CASE("when its loop closes a connection is lost, and nothing is left") {
    const auto told = std::make_shared<recorder>();
    {
      event_loop loop;
      auto [near_end, far_end] = memory_pair(1024, {}, loop);
      const auto factory = [told] { return told; };
      loop.run_until_complete([&] { return attach_protocol(std::move(near_end), factory, loop); });
      CHECK(told->notes == "made;");
    }
    CHECK(told->notes == "made;lost;");
    CHECK(told->reason == errc::cancelled);
    told->line = transport();
    CHECK(told.use_count() == 1);
  }

  TEST_CASE("a transport of nothing does nothing") {
    transport none;
    CHECK_FALSE(static_cast<bool>(none));
    none.write("x");
    none.write_eof();
    none.pause_reading();
    none.resume_reading();
    none.set_write_buffer_limits(1);
    none.close();
    none.abort();
    CHECK(none.is_closing());
    CHECK_FALSE(none.is_reading());
    CHECK(none.get_write_buffer_size() == 0);
    CHECK(none.native_handle() == -1);
    CHECK(none.get_protocol() == nullptr);
  }
}
