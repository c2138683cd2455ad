// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/detail/control_line.hpp>
#include <pulsar/core/timeout.hpp>

#include <actors/log_capture.hpp>
#include <actors/process_support.hpp>
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <memory>
#include <new>
#include <string>
#include <vector>

using process_test::until;
using pulsar::event_loop;
using pulsar::future;
using pulsar::unique_fd;
using pulsar::detail::control_ending;
using pulsar::detail::control_kind;
using pulsar::detail::control_line;
using pulsar::detail::control_message;
using pulsar::detail::control_packet;
using pulsar::detail::control_socket;
using pulsar::detail::transfer;
using namespace std::chrono_literals;

namespace {

template <class F>
void in_loop(F body) {
  event_loop loop;
  loop.run_until_complete([&] { return body(loop); });
}

// A line, what it has received, and the bare socket at its other end.
struct setting final : control_line::owner {
  explicit setting(event_loop& loop) {
    auto [here, there] = pulsar::socket_pair(SOCK_SEQPACKET);
    other = control_socket(std::move(there));
    line = pulsar::detail::counted_pointer<control_line>(new control_line(loop, std::move(here)));
    line->start(*this);
  }
  void on_packet(control_message&& m, std::vector<unique_fd>&& fds) override {
    received.push_back(std::move(m));
    if (received.back().text == "throw") throw std::bad_alloc();
    for (auto& fd : fds) descriptors.push_back(std::move(fd));
  }
  void on_control_end(control_ending how) override { endings.push_back(how); }
  ~setting() { line->close(); }

  control_socket other;
  pulsar::detail::counted_pointer<control_line> line;
  std::vector<control_message> received;
  std::vector<unique_fd> descriptors;
  std::vector<control_ending> endings;
};

control_message message(control_kind kind, std::uint64_t number, std::string text = {}) {
  control_message m;
  m.kind = kind;
  m.number = number;
  m.text = std::move(text);
  return m;
}

bool is_socket(const unique_fd& fd) {
  struct stat what {};
  return ::fstat(fd.get(), &what) == 0 && S_ISSOCK(what.st_mode);
}

}  // namespace

TEST_SUITE("control_line") {
  TEST_CASE("messages and a descriptor go both ways, in order") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      auto [mine, given] = pulsar::socket_pair(SOCK_STREAM);
      s.line->send(message(control_kind::down, 4, "signal 9 (Killed)"));
      s.line->send(message(control_kind::line, 5), std::move(given));
      control_packet p;
      REQUIRE(s.other.receive(p) == transfer::done);
      CHECK(pulsar::decode<control_message>(p.bytes).text == "signal 9 (Killed)");
      CHECK(p.descriptors.empty());
      REQUIRE(s.other.receive(p) == transfer::done);
      CHECK(pulsar::decode<control_message>(p.bytes).number == 5);
      REQUIRE(p.descriptors.size() == 1);
      CHECK(is_socket(p.descriptors[0]));

      const int fd = mine.get();
      s.other.send(pulsar::encode(message(control_kind::introduce, 1)).readable());
      s.other.send(pulsar::encode(message(control_kind::stop, 2)).readable(), {&fd, 1});
      co_await until(loop, [&] { return s.received.size() == 2; });
      CHECK(s.received[0].kind == control_kind::introduce);
      CHECK(s.received[1].kind == control_kind::stop);
      CHECK(s.received[1].number == 2);
      REQUIRE(s.descriptors.size() == 1);
      CHECK(is_socket(s.descriptors[0]));
      CHECK(s.endings.empty());
    });
  }

  TEST_CASE("all that was sent is received before the end, which is told once") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      for (std::uint64_t i = 0; i < 10; ++i) {
        s.other.send(pulsar::encode(message(control_kind::down, i)).readable());
      }
      s.other.close();
      co_await until(loop, [&] { return !s.endings.empty(); });
      CHECK(s.received.size() == 10);
      CHECK(s.endings == std::vector<control_ending>{control_ending::closed});
      CHECK_FALSE(s.line->open());
      s.line->send(message(control_kind::stop, 1));  // goes nowhere, and harms nobody
    });
  }

  TEST_CASE("what is no packet ends the line as broken, and its descriptors are closed") {
    for (const std::string garbage : {"x", "\xc1", "\x95\x01", "\x93\xff\xff\xff\xff"}) {
      in_loop([&](event_loop& loop) -> future<> {
        setting s(loop);
        const auto before = pulsar::open_descriptors();
        auto [mine, given] = pulsar::socket_pair(SOCK_STREAM);
        const int fd = given.get();
        s.other.send(pulsar::encode(message(control_kind::down, 1)).readable());
        s.other.send(std::as_bytes(std::span(garbage.data(), garbage.size())), {&fd, 1});
        s.other.send(pulsar::encode(message(control_kind::down, 2)).readable());
        mine.reset();
        given.reset();
        co_await until(loop, [&] { return !s.endings.empty(); });
        CHECK(s.endings == std::vector<control_ending>{control_ending::broken});
        CHECK(s.received.size() == 1);
        CHECK(pulsar::open_descriptors() == before);
      });
    }
  }

  TEST_CASE("a slow reader loses nothing") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      constexpr std::uint64_t count = 300;
      const std::string text(10'000, 't');
      for (std::uint64_t i = 0; i < count; ++i) s.line->send(message(control_kind::down, i, text));
      std::uint64_t got = 0;
      control_packet p;
      co_await until(loop, [&] {
        while (s.other.receive(p) == transfer::done) {
          const auto m = pulsar::decode<control_message>(p.bytes);
          if (m.number != got || m.text != text) FAIL("packet " << got << " is damaged");
          ++got;
        }
        return got == count;
      });
      CHECK(got == count);
    });
  }

  TEST_CASE("a message that does not fit into a packet is left out, and the line goes on") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      s.line->send(message(control_kind::down, 1, std::string(100'000, 'x')));
      s.line->send(message(control_kind::down, 2));
      control_packet p;
      REQUIRE(s.other.receive(p) == transfer::done);
      CHECK(pulsar::decode<control_message>(p.bytes).number == 2);
      CHECK(s.line->open());
      co_return;
    });
  }

  TEST_CASE("what its owner fails to do does not end the line") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      const log_capture log;
      s.other.send(pulsar::encode(message(control_kind::line, 1, "throw")).readable());
      s.other.send(pulsar::encode(message(control_kind::line, 2)).readable());
      co_await until(loop, [&] { return s.received.size() == 2; });
      CHECK(s.line->open());
      CHECK(s.endings.empty());
      CHECK(log.count("what a control packet asked for failed: std::bad_alloc") == 1);
    });
  }

  TEST_CASE("a packet whose descriptor finds no number here arrives without it") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      const log_capture log;
      auto [mine, given] = pulsar::socket_pair(SOCK_STREAM);
      const int fd = given.get();
      s.other.send(pulsar::encode(message(control_kind::line, 7)).readable(), {&fd, 1});
      rlimit limit{};
      ::getrlimit(RLIMIT_NOFILE, &limit);
      const rlimit none{0, limit.rlim_max};
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
      co_await until(loop, [&] { return s.received.size() == 1; });
      ::setrlimit(RLIMIT_NOFILE, &limit);
      CHECK(s.received[0].number == 7);
      CHECK(s.descriptors.empty());
      s.other.send(pulsar::encode(message(control_kind::line, 8)).readable(), {&fd, 1});
      co_await until(loop, [&] { return s.received.size() == 2; });
      CHECK(s.descriptors.size() == 1);
      CHECK(s.endings.empty());
      CHECK(log.count("the descriptors of a control packet are lost") == 1);
    });
  }

  TEST_CASE("who never reads is given up, and takes a bounded amount of memory") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      const log_capture log;
      const std::string text(10'000, 't');
      std::uint64_t sent = 0;
      while (s.line->open() && sent < 5'000) s.line->send(message(control_kind::down, ++sent, text));
      CHECK(sent > control_line::most_unsent);
      CHECK(sent < 2 * control_line::most_unsent);
      co_await until(loop, [&] { return !s.endings.empty(); });
      CHECK(s.endings == std::vector<control_ending>{control_ending::broken});
      CHECK(log.count("a control line is closed: 1000 packets wait for its other side") == 1);
    });
  }

  TEST_CASE("a line that was closed here tells nobody") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      s.line->close();
      s.other.send(pulsar::encode(message(control_kind::stop, 1)).readable());
      s.other.close();
      co_await pulsar::sleep(20ms, loop);
      CHECK(s.received.empty());
      CHECK(s.endings.empty());
    });
  }
}
