// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/concurrency.hpp>
#include <pulsar/actors/detail/peers.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/core/result.hpp>

#include <actors/log_capture.hpp>
#include <actors/process_support.hpp>
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

using process_test::until;
using pulsar::buffer;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::unique_fd;
using pulsar::detail::command_head;
using pulsar::detail::frame_reader;
using pulsar::detail::peers;
using pulsar::detail::wire_outcome;
using namespace std::chrono_literals;

namespace {

constexpr auto no_deadline = event_loop::time_point::max();

constexpr std::uint64_t actor_of(std::uint64_t process) { return process << 32 | 1; }

struct answer {
  std::shared_ptr<std::optional<wire_outcome>> outcome =
      std::make_shared<std::optional<wire_outcome>>();

  pulsar::detail::wire_sink sink() {
    struct note final : pulsar::detail::outcome_receiver {
      explicit note(std::shared_ptr<std::optional<wire_outcome>> o) : to(std::move(o)) {}
      void receive(std::uint64_t, wire_outcome&& came) override { *to = std::move(came); }
      std::shared_ptr<std::optional<wire_outcome>> to;
    };
    const pulsar::detail::counted_pointer<note> noted(new note(outcome));
    return {*noted, 0};
  }
  bool done() const { return outcome->has_value(); }
  std::string text() const { return done() ? (*outcome)->failure.text : "nothing yet"; }
  bool failed_as(errc code) const {
    return done() && (*outcome)->failure.value == static_cast<int>(code);
  }
};

buffer one_number(int n) {
  buffer out;
  encode(out, std::tuple(n));
  return out;
}

template <class F>
void in_loop(F body) {
  event_loop loop;
  loop.run_until_complete([&] { return body(loop); });
}

// The far end of a line: what arrives there.
struct far_end {
  explicit far_end(unique_fd fd) : socket(std::move(fd)) { pulsar::set_non_blocking(socket.get()); }

  // The numbers that the commands so far had as arguments.
  const std::vector<int>& numbers() {
    const auto room = in.prepare(1 << 16);
    const auto n = ::recv(socket.get(), room.data(), room.size(), 0);
    if (n > 0) in.commit(static_cast<std::size_t>(n));
    while (auto m = reader.next(in)) {
      command_head head;
      std::memcpy(&head, m->payload.data(), sizeof(head));
      std::tuple<int> arguments;
      const auto bad =
          pulsar::try_decode(m->payload.subspan(sizeof(head) + head.name_size), arguments);
      CHECK_FALSE(bad);
      seen.push_back(std::get<0>(arguments));
    }
    return seen;
  }

  unique_fd socket;
  buffer in;
  frame_reader reader;
  std::vector<int> seen;
};

struct asked {
  std::uint64_t process;
  std::uint64_t had;
  bool operator==(const asked&) const = default;
};

// A `peers` that notes which lines it asks for.
struct setting final : peers::introducer {
  explicit setting(event_loop& loop) : lines(loop) { lines.on_unknown(this); }
  void introduce(std::uint64_t process, std::uint64_t had) override {
    requests.push_back({process, had});
    if (exhausted) pulsar::detail::throw_system_error(EMFILE, "cannot make a pair of Unix sockets");
  }
  far_end connect(std::uint64_t process) {
    auto [here, there] = pulsar::socket_pair(SOCK_STREAM);
    lines.add(process, std::move(here));
    return far_end(std::move(there));
  }
  answer ask(std::uint64_t process, int n) {
    answer a;
    lines.post(actor_of(process), "add", one_number(n), no_deadline, a.sink());
    return a;
  }

  peers lines;
  std::vector<asked> requests;
  bool exhausted = false;
};

}  // namespace

TEST_SUITE("peers") {
  TEST_CASE("commands wait for their line in order, and it is asked for once") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      for (int i = 0; i < 5; ++i) s.ask(7, i);
      CHECK(s.requests == std::vector<asked>{{7, 0}});
      auto far = s.connect(7);
      for (int i = 5; i < 8; ++i) s.ask(7, i);
      co_await until(loop, [&] { return far.numbers().size() == 8; });
      CHECK(far.seen == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7});
      CHECK(s.requests.size() == 1);
      CHECK(s.lines.drained());
    });
  }

  TEST_CASE("a process that has ended before there was a line fails what waits for it") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      auto waiting = s.ask(7, 1);
      s.lines.down(7, "exit code 3");
      CHECK(waiting.failed_as(errc::actor_gone));
      CHECK(waiting.text() == "process 7 is gone: exit code 3");
      CHECK(s.ask(7, 2).text() == "process 7 is gone: exit code 3");
      CHECK(s.requests.size() == 1);
      auto far = s.connect(7);  // too late: refused
      CHECK(s.ask(7, 3).failed_as(errc::actor_gone));
      co_return;
    });
  }

  TEST_CASE("a line that cannot be asked for fails what waits for it, and is asked for again") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      s.exhausted = true;
      auto first = s.ask(7, 1);
      REQUIRE(first.done());
      CHECK((*first.outcome)->failure.category == "system");
      CHECK((*first.outcome)->failure.value == EMFILE);
      CHECK(first.text().starts_with(
          "there is no line to process 7: cannot make a pair of Unix sockets"));
      s.exhausted = false;
      auto second = s.ask(7, 2);
      CHECK(s.requests == std::vector<asked>{{7, 0}, {7, 0}});
      auto far = s.connect(7);
      co_await until(loop, [&] { return far.numbers().size() == 1; });
      CHECK(far.seen == std::vector<int>{2});
      CHECK_FALSE(second.done());
    });
  }

  TEST_CASE("a line that was lost on its way counts as one that was there") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      auto first = s.ask(7, 1);
      s.lines.unconnected(7, {"pulsar::error", "system", EMFILE, "it was lost"}, true);
      CHECK(first.text() == "there is no line to process 7: it was lost");
      s.ask(7, 2);
      CHECK(s.requests == std::vector<asked>{{7, 0}, {7, 1}});
      co_return;
    });
  }

  TEST_CASE("the log shows no more of a command's name than the beginning") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      s.lines.down(7, "exit code 3");
      const log_capture log;
      s.lines.post(actor_of(7), std::string(4'000, 'x'), one_number(1), no_deadline, {});
      CHECK(log.count("a tell of '" + std::string(100, 'x') + "' failed: ") == 1);
      co_return;
    });
  }

  TEST_CASE("where nobody can be asked, an unknown process is gone") {
    in_loop([](event_loop& loop) -> future<> {
      peers alone(loop);
      answer a;
      alone.post(actor_of(7), "add", one_number(1), no_deadline, a.sink());
      CHECK(a.failed_as(errc::actor_gone));
      co_return;
    });
  }

  TEST_CASE("after the end of a line its sends wait for the reason") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      auto far = s.connect(7);
      auto before = s.ask(7, 1);
      co_await until(loop, [&] { return far.numbers().size() == 1; });
      far.socket.reset();
      co_await pulsar::sleep(30ms, loop);
      auto after = s.ask(7, 2);
      CHECK_FALSE(before.done());
      CHECK_FALSE(after.done());
      s.lines.down(7, "signal 9 (Killed)");
      CHECK(before.text() == "process 7 is gone: signal 9 (Killed)");
      CHECK(after.text() == "process 7 is gone: signal 9 (Killed)");
      CHECK(s.requests.empty());
    });
  }

  TEST_CASE("without a reason they fail after a quarter of a second") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      auto far = s.connect(7);
      auto a = s.ask(7, 1);
      const auto start = loop.time();
      far.socket.reset();
      co_await until(loop, [&] { return a.done(); });
      CHECK(loop.time() - start >= 250ms);
      CHECK(a.failed_as(errc::actor_gone));
      CHECK(a.text() == "the link to process 7 has broken: it has closed its end");
      // The process may live: the next command asks for another line.
      s.ask(7, 2);
      CHECK(s.requests == std::vector<asked>{{7, 1}});
      auto again = s.connect(7);
      co_await until(loop, [&] { return again.numbers().size() == 1; });
      CHECK(again.seen == std::vector<int>{2});
    });
  }

  TEST_CASE("a line that broke fails its sends at once, and not those of its successor") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      auto far = s.connect(7);
      auto a = s.ask(7, 1);
      const std::string garbage(16, '\xff');
      REQUIRE(::send(far.socket.get(), garbage.data(), garbage.size(), 0) == 16);
      co_await until(loop, [&] { return a.done(); });
      CHECK(a.text().starts_with("the link to process 7 has broken: a frame of "));
      auto next = s.connect(7);
      auto b = s.ask(7, 2);
      co_await pulsar::sleep(peers::patience + 50ms, loop);
      CHECK_FALSE(b.done());
      CHECK(next.numbers() == std::vector<int>{2});
    });
  }

  TEST_CASE("a new line replaces the old one, whose end does it no harm") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      auto first = s.connect(7);
      auto old = s.ask(7, 1);
      auto second = s.connect(7);
      CHECK(old.failed_as(errc::actor_gone));
      auto fresh = s.ask(7, 2);
      first.socket.reset();
      co_await pulsar::sleep(peers::patience + 50ms, loop);
      CHECK_FALSE(fresh.done());
      CHECK(second.numbers() == std::vector<int>{2});
      CHECK(first.socket.get() == -1);
    });
  }

  TEST_CASE("a line that a stranger holds open does not outlive its process for long") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      auto far = s.connect(7);
      auto a = s.ask(7, 1);
      co_await until(loop, [&] { return far.numbers().size() == 1; });
      const auto start = loop.time();
      s.lines.down(7, "signal 6 (Aborted)");
      CHECK_FALSE(a.done());
      co_await until(loop, [&] { return a.done(); });
      CHECK(loop.time() - start >= peers::patience);
      CHECK(a.text() == "process 7 is gone: signal 6 (Aborted)");
    });
  }

  TEST_CASE("what waits for a line is bounded") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      const auto huge = [] {
        buffer b;
        b.prepare(std::size_t{60} << 20);
        b.commit(std::size_t{60} << 20);
        return b;
      };
      std::array<answer, 3> answers;
      for (auto& a : answers) s.lines.post(actor_of(7), "add", huge(), no_deadline, a.sink());
      CHECK_FALSE(answers[0].done());
      CHECK_FALSE(answers[1].done());
      CHECK(answers[2].failed_as(errc::mailbox_full));
      s.lines.down(7, "exit code 0");
      CHECK(answers[0].failed_as(errc::actor_gone));
      co_return;
    });
  }

  TEST_CASE("the dead are forgotten in time, and asked for again") {
    in_loop([](event_loop& loop) -> future<> {
      setting s(loop);
      for (std::uint64_t p = 10; p < 10 + peers::most_gone + 1; ++p) s.lines.down(p, "exit code 0");
      CHECK(s.ask(11, 1).failed_as(errc::actor_gone));
      CHECK(s.requests.empty());
      auto forgotten = s.ask(10, 1);
      CHECK(s.requests == std::vector<asked>{{10, 0}});
      s.lines.down(10, "it has ended");
      CHECK(forgotten.text() == "process 10 is gone: it has ended");
      co_return;
    });
  }

  TEST_CASE("what is under way fails when the lines of this process go") {
    answer waiting;
    answer sent;
    in_loop([&](event_loop& loop) -> future<> {
      auto s = std::make_unique<setting>(loop);
      auto far = s->connect(7);
      sent = s->ask(7, 1);
      waiting = s->ask(8, 1);
      s.reset();
      co_return;
    });
    CHECK(waiting.failed_as(errc::actor_gone));
    CHECK(sent.failed_as(errc::actor_gone));
  }

  TEST_CASE("a reference to an actor of this process that has ended, or of no process, says so") {
    in_loop([](event_loop&) -> future<> {
      const auto own = pulsar::detail::ref_access::make(
          pulsar::detail::cell_of(pulsar::registry::instance().process() << 32 | 0xffff, "old"));
      auto gone = co_await as_result(pulsar::send<int>(own, "add", 1));
      CHECK(gone.code() == errc::actor_gone);
      CHECK(gone.message().find("'old' has ended") != std::string::npos);
      const auto other =
          pulsar::detail::ref_access::make(pulsar::detail::cell_of(actor_of(99), "far"));
      auto alone = co_await as_result(pulsar::send<int>(other, "add", 1));
      CHECK(alone.code() == errc::actor_gone);
      CHECK(alone.message().find("'far' is in another process") != std::string::npos);
    });
  }
}
