// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/concurrency.hpp>
#include <pulsar/actors/detail/link.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <actors/process_support.hpp>
#include <doctest/doctest.h>
#include <poll.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

using process_test::contains;
using process_test::until;
using pulsar::buffer;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::unique_fd;
using pulsar::detail::command_head;
using pulsar::detail::frame_head;
using pulsar::detail::frame_kind;
using pulsar::detail::frame_reader;
using pulsar::detail::largest_frame;
using pulsar::detail::largest_message;
using line_end = pulsar::detail::link;
using pulsar::detail::wire_outcome;
using namespace pulsar::literals;
using namespace std::chrono_literals;

namespace {

void put(
    buffer& out, std::uint8_t kind, std::uint8_t more, std::uint64_t id, std::string_view payload) {
  frame_head head;
  head.size = static_cast<std::uint32_t>(payload.size());
  head.kind = kind;
  head.more = more;
  head.id = id;
  out.append(std::as_bytes(std::span(&head, 1)));
  out.append(payload);
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::error_code failure_of(frame_reader& reader, buffer& in) {
  try {
    while (reader.next(in)) {
    }
  } catch (const pulsar::error& e) {
    return e.code();
  }
  return {};
}

class counter : public pulsar::actor<counter> {
 public:
  int add(int n) { return sum_ += n; }
  std::string repeat(std::string text, std::uint64_t times) {
    std::string all;
    all.reserve(text.size() * times);
    for (std::uint64_t i = 0; i < times; ++i) all += text;
    return all;
  }
  int fail(std::uint64_t size) { throw std::runtime_error(std::string(size, 'x')); }
  future<int> never() {
    pulsar::promise<int> p;
    auto f = p.get_future();
    co_return co_await f;
  }
  using commands = pulsar::commands<&counter::add, &counter::repeat, &counter::fail, &counter::never>;

 private:
  int sum_ = 0;
};

future<pulsar::actor_ref<counter>> born() {
  return pulsar::concurrency::coroutine::spawn<counter>(pulsar::spawn_options(), std::tuple<>());
}

// What became of one command; its sink may outlive it.
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
  bool failed_as(errc code) const {
    return done() && (*outcome)->failure.category == "pulsar" &&
           (*outcome)->failure.value == static_cast<int>(code);
  }
  const std::string& text() const { return (*outcome)->failure.text; }
  template <class T>
  T value() const {
    REQUIRE(done());
    CHECK(text() == "");
    return pulsar::decode<T>((*outcome)->value.readable());
  }
};

template <class... Args>
buffer arguments(Args... args) {
  buffer out;
  encode(out, std::tuple<Args...>(std::move(args)...));
  return out;
}

constexpr auto no_deadline = event_loop::time_point::max();

using line_pointer = pulsar::detail::counted_pointer<line_end>;

line_pointer make_line(event_loop& loop, unique_fd fd, std::uint64_t peer,
                       line_end::owner* owner = nullptr) {
  return line_pointer(new line_end(loop, std::move(fd), peer, owner));
}

// A link, and the bare other end of its line.
struct half final : line_end::owner {
  explicit half(event_loop& loop, int type = SOCK_STREAM) {
    auto [here, there] = pulsar::socket_pair(type);
    other = std::move(there);
    line = make_line(loop, std::move(here), 7, this);
    line->start();
  }
  void on_closed(line_end&, line_end::ending h, const std::string& why) override {
    how = h;
    reason = why;
  }
  ~half() { line->close(); }

  void write(std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const auto n = ::send(other.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      REQUIRE(n > 0);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void write(std::string_view text) const { write(std::as_bytes(std::span(text))); }

  // Appends what has arrived, with SOCK_SEQPACKET what one write has brought; how much that was.
  std::size_t read(buffer& in) const {
    const auto room = in.prepare(1 << 18);
    const auto n = ::recv(other.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (n <= 0) return 0;
    in.commit(static_cast<std::size_t>(n));
    return static_cast<std::size_t>(n);
  }

  unique_fd other;
  line_pointer line;
  std::optional<line_end::ending> how;
  std::string reason;
};

template <class F>
void in_loop(F body) {
  event_loop loop;
  loop.run_until_complete([&] { return body(loop); });
}

buffer command_frame(frame_kind kind,
                     std::uint64_t id,
                     std::uint64_t target,
                     std::string_view name,
                     const buffer& args) {
  command_head head;
  head.target = target;
  head.deadline = no_deadline.time_since_epoch().count();
  head.name_size = static_cast<std::uint32_t>(name.size());
  std::string payload = text_of(std::as_bytes(std::span(&head, 1)));
  payload += name;
  payload += args.text();
  buffer out;
  put(out, static_cast<std::uint8_t>(kind), 0, id, payload);
  return out;
}

}  // namespace

TEST_SUITE("frame_reader") {
  TEST_CASE("a frame is a message, and what follows stays in the buffer") {
    frame_reader reader;
    buffer in;
    put(in, 1, 0, 5, "ask");
    put(in, 3, 0, 6, "");
    in.append("rest");
    auto first = reader.next(in);
    REQUIRE(first);
    CHECK(first->kind == frame_kind::ask);
    CHECK(first->id == 5);
    CHECK(text_of(first->payload) == "ask");
    auto second = reader.next(in);
    REQUIRE(second);
    CHECK(second->kind == frame_kind::reply);
    CHECK(second->id == 6);
    CHECK(second->payload.empty());
    CHECK_FALSE(reader.next(in));
    CHECK(in.text() == "rest");
  }

  TEST_CASE("pieces are joined by kind and number, whatever comes between them") {
    frame_reader reader;
    buffer in;
    put(in, 1, 1, 1, "one ");
    put(in, 1, 1, 2, "two ");
    put(in, 3, 1, 1, "reply ");
    put(in, 2, 0, 9, "whole");
    put(in, 1, 0, 2, "ends");
    put(in, 3, 0, 1, "ends");
    put(in, 1, 1, 1, "goes on ");
    put(in, 1, 0, 1, "");
    std::vector<std::string> seen;
    while (auto m = reader.next(in)) {
      seen.push_back(std::to_string(static_cast<int>(m->kind)) + ":" + std::to_string(m->id) + ":" +
                     text_of(m->payload));
    }
    CHECK(seen == std::vector<std::string>{"2:9:whole", "1:2:two ends", "3:1:reply ends",
                                           "1:1:one goes on "});
  }

  TEST_CASE("a stream may be cut anywhere, and the reader knows what is missing") {
    buffer whole;
    put(whole, 1, 1, 4, "abc");
    put(whole, 2, 0, 8, "other");
    put(whole, 1, 0, 4, "def");
    const auto bytes = whole.readable();
    frame_reader reader;
    buffer in;
    std::vector<std::string> seen;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const auto missing = reader.missing(in);
      if (in.size() < sizeof(frame_head)) CHECK(missing == 0);
      in.append(bytes.subspan(i, 1));
      while (auto m = reader.next(in)) seen.push_back(text_of(m->payload));
    }
    CHECK(seen == std::vector<std::string>{"other", "abcdef"});
    buffer head;
    put(head, 1, 0, 1, "12345");
    head.truncate(sizeof(frame_head) + 2);
    frame_reader fresh;
    CHECK_FALSE(fresh.next(head));
    CHECK(fresh.missing(head) == 3);
  }

  TEST_CASE("any messages, cut and mixed at random, come out as they went in") {
    std::mt19937 random(4711);
    const auto below = [&](std::size_t n) { return random() % n; };
    for (int round = 0; round < 50; ++round) {
      struct outgoing {
        std::uint8_t kind;
        std::uint64_t id;
        std::string text;
        std::size_t sent = 0;
        bool ended = false;
      };
      std::vector<outgoing> messages(1 + below(20));
      for (std::size_t i = 0; i < messages.size(); ++i) {
        messages[i].kind = static_cast<std::uint8_t>(1 + below(3));
        messages[i].id = i;
        messages[i].text.assign(below(300), static_cast<char>('a' + i));
      }
      buffer stream;
      std::size_t left = messages.size();
      std::vector<std::string> expected;
      while (left > 0) {
        auto& m = messages[below(messages.size())];
        if (m.ended) continue;
        const std::size_t n = std::min(1 + below(100), m.text.size() - m.sent);
        const bool more = n > 0 && below(3) != 0;
        if (!more && m.sent + n < m.text.size()) continue;
        put(stream, m.kind, more ? 1 : 0, m.id, m.text.substr(m.sent, n));
        m.sent += n;
        if (more) continue;
        m.ended = true;
        --left;
        expected.push_back(m.text);
      }
      frame_reader reader;
      buffer in;
      std::vector<std::string> seen;
      for (auto rest = stream.readable(); !rest.empty();) {
        const std::size_t n = std::min(1 + below(700), rest.size());
        in.append(rest.first(n));
        rest = rest.subspan(n);
        while (auto m = reader.next(in)) seen.push_back(text_of(m->payload));
      }
      CHECK(seen == expected);
    }
  }

  TEST_CASE("what is no frame is refused") {
    const auto refusal = [](std::uint8_t kind, std::uint8_t more, std::string_view payload,
                            std::uint16_t reserved = 0) {
      buffer in;
      put(in, kind, more, 1, payload);
      std::memcpy(in.data() + offsetof(frame_head, reserved), &reserved, sizeof(reserved));
      frame_reader reader;
      return failure_of(reader, in);
    };
    CHECK(refusal(1, 0, "x") == std::error_code());
    CHECK(refusal(0, 0, "x") == errc::malformed);
    CHECK(refusal(4, 0, "x") == errc::malformed);
    CHECK(refusal(255, 0, "x") == errc::malformed);
    CHECK(refusal(1, 2, "x") == errc::malformed);
    CHECK(refusal(1, 1, "") == errc::malformed);
    CHECK(refusal(1, 0, "x", 1) == errc::malformed);
  }

  TEST_CASE("a frame over its limit is refused as soon as its head is there") {
    for (const std::uint32_t size : {std::uint32_t{largest_frame + 1}, ~std::uint32_t{0}}) {
      frame_head head;
      head.size = size;
      head.kind = 1;
      buffer in;
      in.append(std::as_bytes(std::span(&head, 1)));
      frame_reader reader;
      CHECK(failure_of(reader, in) == errc::too_large);
    }
    buffer fits;
    put(fits, 1, 0, 1, std::string(largest_frame, 'x'));
    frame_reader reader;
    const auto m = reader.next(fits);
    REQUIRE(m);
    CHECK(m->payload.size() == largest_frame);
  }

  TEST_CASE("pieces never take more than 64 MiB in all, nor more than 1024 messages") {
    const std::string piece(largest_frame, 'x');
    for (const bool one_message : {true, false}) {
      frame_reader reader;
      std::size_t pieces = 0;
      std::error_code failure;
      while (!failure) {
        buffer in;
        put(in, 2, 1, one_message ? 1 : pieces % 1000, piece);
        failure = failure_of(reader, in);
        ++pieces;
      }
      CHECK(failure == errc::too_large);
      CHECK(pieces == largest_message / largest_frame + 1);
    }
    frame_reader reader;
    std::uint64_t begun = 0;
    std::error_code failure;
    while (!failure) {
      buffer in;
      put(in, 2, 1, begun++, "x");
      failure = failure_of(reader, in);
    }
    CHECK(failure == errc::too_large);
    CHECK(begun == 1025);
  }
}

TEST_SUITE("link") {
  TEST_CASE("commands go over the line and their outcomes come back") {
    in_loop([](event_loop& loop) -> future<> {
      auto a = co_await born();
      auto [one, two] = pulsar::socket_pair(SOCK_STREAM);
      auto left = make_line(loop, std::move(one), 2);
      auto right = make_line(loop, std::move(two), 3);
      left->start();
      right->start();
      answer sum;
      answer text;
      left->post(a.id(), "add", arguments(20), no_deadline, sum.sink());
      right->post(a.id(), "repeat", arguments(std::string("ab"), std::uint64_t{3}), no_deadline,
                  text.sink());
      co_await until(loop, [&] { return sum.done() && text.done(); });
      CHECK(sum.value<int>() == 20);
      CHECK(text.value<std::string>() == "ababab");
      left->post(a.id(), "add", arguments(2), no_deadline, {});  // a tell
      answer later;
      left->post(a.id(), "add", arguments(0), no_deadline, later.sink());
      co_await until(loop, [&] { return later.done(); });
      CHECK(later.value<int>() == 22);
      CHECK(left->drained());
      left->close();
      right->close();
    });
  }

  TEST_CASE("what one turn of the loop sends goes out in one write") {
    in_loop([](event_loop& loop) -> future<> {
      half h(loop, SOCK_SEQPACKET);
      std::array<answer, 20> answers;
      for (auto& each : answers) h.line->post(1, "add", arguments(1), no_deadline, each.sink());
      buffer in;
      CHECK(h.read(in) == 0);
      co_await until(loop, [&] { return h.line->drained(); });
      h.read(in);
      frame_reader reader;
      int frames = 0;
      while (reader.next(in)) ++frames;
      CHECK(frames == 20);
      CHECK(h.read(in) == 0);
    });
  }

  TEST_CASE("large messages take turns, and small ones go between their pieces") {
    in_loop([](event_loop& loop) -> future<> {
      half h(loop);
      const std::string large(300'000, 'x');
      h.line->post(1, "first", arguments(large), no_deadline, {});
      h.line->post(1, "second", arguments(large), no_deadline, {});
      h.line->post(1, "small", arguments(1), no_deadline, {});
      buffer in;
      frame_reader reader;
      std::vector<std::string> order;
      co_await until(loop, [&] {
        h.read(in);
        while (auto m = reader.next(in)) {
          command_head head;
          std::memcpy(&head, m->payload.data(), sizeof(head));
          order.push_back(text_of(m->payload.subspan(sizeof(head), head.name_size)));
        }
        return order.size() == 3;
      });
      CHECK(order == std::vector<std::string>{"small", "first", "second"});
    });
  }

  TEST_CASE("large messages under way never exceed what the reader puts together" *
            doctest::skip(process_test::thread_sanitizer)) {
    in_loop([](event_loop& loop) -> future<> {
      half h(loop);
      buffer in;
      frame_reader reader;  // throws for more than 64 MiB in pieces
      std::size_t messages = 0;
      // The second one begins when half of the first is out.
      h.line->post(1, "x", arguments(pulsar::bytes(60'000'000)), no_deadline, {});
      std::size_t arrived = 0;
      bool second = false;
      co_await until(loop, [&] {
        while (const auto n = h.read(in)) {
          arrived += n;
          while (reader.next(in)) ++messages;
        }
        if (arrived > 30'000'000 && !second) {
          second = true;
          h.line->post(1, "x", arguments(pulsar::bytes(30'000'000)), no_deadline, {});
        }
        return messages == 2;
      });
      CHECK(messages == 2);
    });
  }

  TEST_CASE("every complete frame is delivered before the end is told, and then the rest fails") {
    in_loop([](event_loop& loop) -> future<> {
      half h(loop);
      std::array<answer, 4> answers;
      for (auto& each : answers) h.line->post(1, "add", arguments(1), no_deadline, each.sink());
      co_await until(loop, [&] { return h.line->drained(); });
      buffer out;
      for (std::uint64_t id = 1; id <= 3; ++id) {
        buffer value;
        encode(value, static_cast<int>(10 * id));
        put(out, 3, 0, id, std::string(1, '\0') + std::string(value.text()));
      }
      put(out, 3, 0, 4, "cut off");
      h.write(out.readable().first(out.size() - 1));
      h.other.reset();
      co_await until(loop, [&] { return h.how.has_value(); });
      CHECK(*h.how == line_end::ending::closed);
      CHECK(answers[0].value<int>() == 10);
      CHECK(answers[1].value<int>() == 20);
      CHECK(answers[2].value<int>() == 30);
      CHECK_FALSE(answers[3].done());
      CHECK_FALSE(h.line->open());
      h.line->fail_pending("process 7 is gone: signal 9 (Killed)");
      CHECK(answers[3].failed_as(errc::actor_gone));
      CHECK(answers[3].text() == "process 7 is gone: signal 9 (Killed)");
      answer late;
      h.line->post(1, "add", arguments(1), no_deadline, late.sink());
      CHECK(late.failed_as(errc::actor_gone));
    });
  }

  TEST_CASE("what is no message closes the line with a reason") {
    const auto reason_for = [](const buffer& bytes) {
      std::string reason;
      in_loop([&](event_loop& loop) -> future<> {
        half h(loop);
        answer pending;
        h.line->post(1, "add", arguments(1), no_deadline, pending.sink());
        co_await until(loop, [&] { return h.line->drained(); });
        h.write(bytes.readable());
        co_await until(loop, [&] { return h.how.has_value(); });
        CHECK(*h.how == line_end::ending::broken);
        reason = h.reason;
        // The other side is told.
        buffer in;
        h.read(in);
        pollfd there{h.other.get(), POLLIN, 0};
        CHECK(::poll(&there, 1, 10'000) == 1);
        CHECK(h.read(in) == 0);
      });
      return reason;
    };
    buffer bad;
    put(bad, 9, 0, 1, "x");
    CHECK(contains(reason_for(bad), "a frame of kind 9"));

    bad.clear();
    frame_head head;
    head.size = 70'000;
    head.kind = 1;
    bad.append(std::as_bytes(std::span(&head, 1)));
    CHECK(contains(reason_for(bad), "a frame of 70000 bytes; at most 65536 are allowed"));

    bad.clear();
    put(bad, 1, 0, 1, "short");
    CHECK(contains(reason_for(bad), "a command without a head"));

    bad = command_frame(frame_kind::ask, 1, 1, "add", arguments(1));
    constexpr std::size_t name_size = sizeof(frame_head) + offsetof(command_head, name_size);
    for (const std::uint32_t claimed : {std::uint32_t{2000}, std::uint32_t{5000}, ~0U}) {
      std::memcpy(bad.data() + name_size, &claimed, sizeof(claimed));
      CHECK(contains(reason_for(bad), "a command without its name"));
    }

    bad.clear();
    put(bad, 3, 0, 1, "");  // the answer to the pending ask
    CHECK(contains(reason_for(bad), "an empty outcome"));
    bad.clear();
    put(bad, 3, 0, 1, "\x01nonsense");
    CHECK(contains(reason_for(bad), "malformed"));
  }

  TEST_CASE("an outcome that nobody waits for is dropped, one that does not fit fails its send") {
    in_loop([](event_loop& loop) -> future<> {
      half h(loop);
      buffer late;
      put(late, 3, 0, 77, std::string("\0\x05", 2));
      h.write(late.readable());
      answer a;
      h.line->post(1, "add", arguments(1), no_deadline, a.sink());
      buffer good;
      put(good, 3, 0, 1, std::string("\0\x05", 2));
      h.write(good.readable());
      co_await until(loop, [&] { return a.done(); });
      CHECK(a.value<int>() == 5);
      CHECK(h.line->open());
    });
  }

  TEST_CASE("whoever cannot be reached, or does not understand, says so to the sender alone") {
    in_loop([](event_loop& loop) -> future<> {
      auto a = co_await born();
      auto [one, two] = pulsar::socket_pair(SOCK_STREAM);
      auto left = make_line(loop, std::move(one), 2);
      auto right = make_line(loop, std::move(two), 3);
      left->start();
      right->start();
      answer nobody;
      answer unknown;
      answer arity;
      answer type;
      answer good;
      left->post(0xffff, "add", arguments(1), no_deadline, nobody.sink());
      left->post(a.id(), "subtract", arguments(1), no_deadline, unknown.sink());
      left->post(a.id(), "add", arguments(1, 2), no_deadline, arity.sink());
      left->post(a.id(), "add", arguments(std::string("one")), no_deadline, type.sink());
      left->post(a.id(), "add", arguments(5), no_deadline, good.sink());
      co_await until(loop, [&] { return good.done(); });
      CHECK(nobody.failed_as(errc::actor_gone));
      CHECK(unknown.failed_as(errc::unknown_command));
      CHECK(contains(unknown.text(), "has no command 'subtract'; it has: add repeat fail never"));
      CHECK(arity.failed_as(errc::malformed));
      CHECK(type.failed_as(errc::malformed));
      CHECK(good.value<int>() == 5);
      left->close();
      right->close();
    });
  }

  TEST_CASE("what exceeds the limits is refused at the sender, and the line goes on") {
    in_loop([](event_loop& loop) -> future<> {
      auto a = co_await born();
      auto [one, two] = pulsar::socket_pair(SOCK_STREAM);
      auto left = make_line(loop, std::move(one), 2);
      auto right = make_line(loop, std::move(two), 3);
      left->start();
      right->start();
      answer name;
      left->post(a.id(), std::string(5000, 'n'), {}, no_deadline, name.sink());
      CHECK(name.failed_as(errc::unknown_command));
      answer large;
      left->post(a.id(), "add", arguments(pulsar::bytes(largest_message)), no_deadline,
                 large.sink());
      CHECK(large.failed_as(errc::too_large));
      answer result;
      left->post(a.id(), "repeat", arguments(std::string(1024, 'x'), std::uint64_t{64 * 1024}),
                 no_deadline, result.sink());
      answer good;
      left->post(a.id(), "add", arguments(5), no_deadline, good.sink());
      co_await until(loop, [&] { return good.done() && result.done(); });
      CHECK(result.failed_as(errc::too_large));
      CHECK(good.value<int>() == 5);
      left->close();
      right->close();
    });
  }

  TEST_CASE("results that the sender does not read take a bounded amount of memory" *
            doctest::skip(process_test::thread_sanitizer)) {
    in_loop([](event_loop& loop) -> future<> {
      auto a = co_await born();
      half h(loop);
      constexpr std::uint64_t count = 200;
      const auto megabyte = arguments(std::string(100, 'x'), std::uint64_t{10'000});
      for (std::uint64_t id = 1; id <= count; ++id) {
        h.write(command_frame(frame_kind::ask, id, a.id(), "repeat", megabyte).readable());
      }
      for (std::uint64_t handled = 0; handled < count;) {
        const auto info = co_await send(a, pulsar::cmd::info);
        handled = info.handled;
        co_await pulsar::sleep(1ms, loop);
      }
      buffer in;
      frame_reader reader;
      std::size_t values = 0;
      std::size_t failures = 0;
      co_await until(loop, [&] {
        while (h.read(in) > 0) {
          while (const auto m = reader.next(in)) {
            if (m->payload[0] == std::byte{0}) {
              ++values;
            } else {
              pulsar::detail::remote_failure why;
              CHECK_FALSE(pulsar::try_decode(m->payload.subspan(1), why));
              CHECK(why.value == static_cast<int>(errc::mailbox_full));
              ++failures;
            }
          }
        }
        return values + failures == count;
      });
      CHECK(values >= 100);
      CHECK(failures >= 50);
    });
  }

  TEST_CASE("a peer that asks for failures and reads none is given up" *
            doctest::skip(process_test::thread_sanitizer)) {
    in_loop([](event_loop& loop) -> future<> {
      auto a = co_await born();
      half h(loop);
      constexpr std::uint64_t count = 180;
      const auto megabyte = arguments(std::uint64_t{1} << 20);
      for (std::uint64_t id = 1; id <= count; ++id) {
        h.write(command_frame(frame_kind::ask, id, a.id(), "fail", megabyte).readable());
      }
      co_await until(loop, [&] { return h.how.has_value(); });
      CHECK(*h.how == line_end::ending::broken);
      CHECK(contains(h.reason, "it has not read "));
      CHECK_FALSE(h.line->open());
    });
  }

  TEST_CASE("a command that is dropped with its link fails") {
    answer a;
    in_loop([&](event_loop& loop) -> future<> {
      auto dropped = std::make_unique<half>(loop);
      dropped->line->post(1, "add", arguments(1), no_deadline, a.sink());
      dropped.reset();
      co_await until(loop, [&] { return a.done(); });
    });
    CHECK(a.failed_as(errc::actor_gone));
  }
}
