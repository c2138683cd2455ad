// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/datagram.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>
#include <support/coro_test.hpp>
#include <support/debug_mode.hpp>
#include <support/death.hpp>
#include <support/few_descriptors.hpp>
#include <support/futures.hpp>
#include <support/scratch_directory.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::datagram;
using pulsar::datagram_endpoint_options;
using pulsar::datagram_socket;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::open_datagram_socket;
using pulsar::with_timeout;

namespace {

template <class T>
std::error_code code_of(const pulsar::result<T>& r) {
  return r ? std::error_code() : future_test::code_of(r.exception());
}

future<datagram_socket> bound(std::string where = "127.0.0.1:0") {
  datagram_endpoint_options options;
  options.local = where;
  return open_datagram_socket(options);
}

future<datagram_socket> connected_to(const datagram_socket& other,
                                     datagram_endpoint_options options = {}) {
  const std::string where = other.local_address().to_string();
  options.remote = where;
  return open_datagram_socket(options);
}

}  // namespace

TEST_SUITE("datagram") {
  CORO_TEST_CASE_REAL("a datagram arrives whole, with who sent it, and can be answered") {
    datagram_socket at = co_await bound();
    datagram_socket client = co_await connected_to(at);
    co_await client.send("ping");
    const datagram d = co_await at.receive_from();
    CHECK(d.data == "ping");
    CHECK_FALSE(d.truncated());
    CHECK(pulsar::address::of(d.from) == client.local_address());
    co_await at.send_to("pong", d.from);
    const datagram answer = co_await client.receive_from();
    CHECK(answer.data == "pong");
    CHECK(client.peer_address() == at.local_address());
  }

  CORO_TEST_CASE_REAL("an empty datagram is one too") {
    datagram_socket at = co_await bound();
    datagram_socket client = co_await connected_to(at);
    co_await client.send("");
    const datagram d = co_await at.receive_from();
    CHECK(d.data.empty());
    CHECK(d.size == 0);
  }

  CORO_TEST_CASE_REAL("an address that is no name may be sent to") {
    datagram_socket at = co_await bound();
    datagram_socket client = co_await bound();
    co_await client.send_to("x", at.local_address());
    const datagram d = co_await at.receive_from();
    CHECK(d.data == "x");
  }

  CORO_TEST_CASE_REAL("one that is cut says how long it was, and the next one is whole") {
    datagram_socket at = co_await bound();
    datagram_socket client = co_await connected_to(at);
    co_await client.send(std::string(5000, 'x'));
    co_await client.send("next");
    datagram d = co_await at.receive_from(100);
    CHECK(d.data.size() == 100);
    CHECK(d.size == 5000);
    CHECK(d.truncated());
    d = co_await at.receive_from();
    CHECK(d.data == "next");
    const std::string longest(65'507, 'y');
    co_await client.send(longest);
    d = co_await at.receive_from();
    CHECK(d.data == longest);
  }

  CORO_TEST_CASE_REAL("one that is too long is refused, and the socket goes on") {
    datagram_socket at = co_await bound();
    datagram_socket client = co_await connected_to(at);
    const auto r = co_await as_result(client.send(std::string(70'000, 'x')));
    CHECK(code_of(r) == std::errc::message_size);
    co_await client.send("x");
    const datagram d = co_await at.receive_from();
    CHECK(d.data == "x");
  }

  CORO_TEST_CASE_REAL("a receive that is cancelled loses nothing; several are served in order") {
    datagram_socket at = co_await bound();
    datagram_socket client = co_await connected_to(at);
    const auto r = co_await as_result(with_timeout(at.receive_from(), 5ms));
    CHECK(code_of(r) == errc::timed_out);
    auto first = at.receive_from();
    auto second = at.receive_from();
    co_await client.send("1");
    co_await client.send("2");
    const datagram two = co_await std::move(second);
    const datagram one = co_await std::move(first);
    CHECK(one.data == "1");
    CHECK(two.data == "2");
  }

  CORO_TEST_CASE_REAL("a peer that is not there is told of, and the socket goes on") {
    const without_debug_mode scope;  // it drops futures on purpose
    datagram_socket client;
    {
      datagram_socket gone = co_await bound();
      client = co_await connected_to(gone);
    }
    co_await client.send("anybody?");
    const auto r = co_await as_result(client.receive_from());
    CHECK(code_of(r) == std::errc::connection_refused);
    auto again = client.receive_from();
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(again.done());
  }

  CORO_TEST_CASE_REAL("closing fails those who wait, and later calls") {
    datagram_socket at = co_await bound();
    auto waits = at.receive_from();
    at.close();
    const auto r = co_await as_result(std::move(waits));
    CHECK(code_of(r) == errc::closed);
    CHECK_THROWS_AS(at.receive_from().detach(), pulsar::error);
    CHECK(at.native_handle() == -1);
  }

  CORO_TEST_CASE_REAL("a flood does not keep the loop from its other work") {
    datagram_socket at = co_await bound();
    datagram_socket client = co_await connected_to(at);
    bool had_its_turn = false;
    event_loop::current().call_soon([&] { had_its_turn = true; });
    int turns = 0;
    for (; turns < 1000 && !had_its_turn; ++turns) {
      co_await client.send("x");
      const datagram d = co_await at.receive_from();
      CHECK(d.data == "x");
    }
    CHECK(had_its_turn);
  }

  CORO_TEST_CASE_REAL("Unix datagram sockets wait when the other side does not read") {
    const without_debug_mode scope;  // it drops futures on purpose
    const scratch_directory directory;
    datagram_socket at = co_await bound(directory.unix_socket());
    datagram_socket client = co_await connected_to(at);
    std::vector<future<>> sends;
    while (sends.empty() || sends.back().done()) {
      REQUIRE(sends.size() < 100'000);
      sends.push_back(client.send("number " + std::to_string(sends.size())));
    }
    // Who stands behind another one has a copy, too.
    for (int i = 0; i < 3; ++i) {
      sends.push_back(client.send("number " + std::to_string(sends.size())));
    }
    const std::size_t count = sends.size();
    for (std::size_t i = 0; i < count; ++i) {
      const datagram d = co_await at.receive_from();
      CHECK(d.data == "number " + std::to_string(i));
    }
    co_await std::move(sends.back());
  }

  CORO_TEST_CASE_REAL("sends that nobody awaits are kept up to a limit, and fail beyond it") {
    const without_debug_mode scope;  // it drops futures on purpose
    const scratch_directory directory;
    datagram_socket at = co_await bound(directory.unix_socket());
    datagram_socket client =
        co_await connected_to(at, {.write_limit = 10'000});
    std::vector<future<>> sends;
    while (sends.empty() || sends.back().done()) {
      REQUIRE(sends.size() < 100'000);
      sends.push_back(client.send(std::string(1000, 'x')));
    }
    std::size_t waiting = 0;
    for (; !sends.back().done(); ++waiting) sends.push_back(client.send(std::string(1000, 'x')));
    CHECK(waiting > 1);
    CHECK(waiting < 10);
    const auto refused = co_await as_result(std::move(sends.back()));
    CHECK(code_of(refused) == std::errc::no_buffer_space);
    CHECK(refused.message().find("await each send before the next") != std::string::npos);
    // One that is given up makes room.
    sends.pop_back();
    sends.pop_back();
    sends.push_back(client.send(std::string(1000, 'y')));
    CHECK_FALSE(sends.back().done());
    datagram d;
    while (!d.data.starts_with('y')) d = co_await at.receive_from();
    co_await std::move(sends.back());
    co_await client.send("z");
  }

  CORO_TEST_CASE_REAL("what cannot be opened is told") {
    const auto none = co_await as_result(open_datagram_socket({}));
    CHECK(code_of(none) == std::errc::invalid_argument);
    datagram_socket at = co_await bound();
    const auto taken = co_await as_result(bound(at.local_address().to_string()));
    CHECK(code_of(taken) == std::errc::address_in_use);
    auto ends = pulsar::socket_pair(SOCK_STREAM);
    CHECK_THROWS_AS(datagram_socket(std::move(ends.first)), pulsar::error);
  }

  TEST_CASE("where no descriptor is left to watch with a receive fails, and the next one works") {
    auto ends = pulsar::socket_pair(SOCK_DGRAM);
    event_loop first;
    datagram_socket(pulsar::socket_pair(SOCK_DGRAM).first, first).receive_from().cancel();
    event_loop loop;
    datagram_socket receiver(std::move(ends.first), loop);
    datagram_socket sender(std::move(ends.second), loop);
    const auto failed = [&] {
      const few_descriptors none(0);
      return receiver.receive_from();
    }();
    CHECK(future_test::code_of(failed.exception()) == std::errc::too_many_files_open);
    loop.run_until_complete(sender.send("on"));
    CHECK(loop.run_until_complete(receiver.receive_from()).data == "on");
  }

#ifndef NDEBUG
  TEST_CASE("asking a socket that is none ends the program with a sentence") {
    for (const bool sends : {true, false}) {
      const auto end = death_of([sends] {
        event_loop loop;
        datagram_socket none;
        (sends ? none.send("x") : none.send_to("x", none.local_address())).detach();
      });
      CHECK(end.aborted);
      CHECK(end.text.find("never made") != std::string::npos);
    }
  }
#endif

  TEST_CASE("a socket outlives its loop") {
    datagram_socket left;
    {
      event_loop loop;
      auto ends = pulsar::socket_pair(SOCK_DGRAM);
      left = datagram_socket(std::move(ends.first), loop);
      left.receive_from().detach();
    }
    CHECK_THROWS_AS(left.receive_from().detach(), pulsar::error);
    left.close();
  }
}
