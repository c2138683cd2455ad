// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/listener.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/sock.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include <asio/ip/udp.hpp>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"
#include "support/few_descriptors.hpp"
#include "support/futures.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace std::string_view_literals;
using future_test::code_of;
using pulsar::address;
using pulsar::as_result;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::listener;
using pulsar::unique_fd;

namespace {

unique_fd new_socket(int family, int type) {
  return unique_fd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

future<std::string> receive_all(event_loop& loop, int fd) {
  std::string all;
  for (;;) {
    const std::string more = co_await loop.sock_recv(fd, 64 * 1024);
    if (more.empty()) co_return all;
    all += more;
  }
}

address::endpoint where_is(int fd) {
  address::endpoint at;
  auto size = static_cast<socklen_t>(at.capacity());
  REQUIRE(::getsockname(fd, at.data(), &size) == 0);
  at.resize(size);
  return at;
}

}  // namespace

TEST_SUITE("sock") {
  CORO_TEST_CASE_REAL("what is sent arrives, and the end after it") {
    auto& loop = event_loop::current();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    auto answer = loop.sock_recv(mine.get(), 100);
    co_await loop.sock_sendall(theirs.get(), "hello");
    const auto greeting = co_await std::move(answer);
    CHECK(greeting == "hello");
    co_await loop.sock_sendall(theirs.get(), "good bye"sv);
    const auto head = co_await loop.sock_recv(mine.get(), 4);
    CHECK(head == "good");
    char rest[16] = {};
    const auto length = co_await loop.sock_recv_into(mine.get(), rest);
    CHECK(length == 4);
    CHECK(std::string_view(rest) == " bye");
    theirs.reset();
    const auto end = co_await loop.sock_recv(mine.get(), 100);
    CHECK(end == "");
    const auto end_again = co_await loop.sock_recv(mine.get(), 100);
    CHECK(end_again == "");
  }

  CORO_TEST_CASE_REAL("more than the socket holds is sent as the other side reads") {
    auto& loop = event_loop::current();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    std::string large(1 << 20, 'a');
    large.back() = 'z';
    auto sending = loop.sock_sendall(mine.get(), large);
    CHECK_FALSE(sending.done());
    const std::string expected = std::exchange(large, "");  // what has not gone was copied
    auto receiving = receive_all(loop, theirs.get());
    co_await std::move(sending);
    mine.reset();
    const std::string received = co_await std::move(receiving);
    CHECK(received == expected);
  }

  CORO_TEST_CASE_REAL("those who wait on one socket are served in their order") {
    auto& loop = event_loop::current();
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    auto first = loop.sock_recv(mine.get(), 1);
    auto cancelled = loop.sock_recv(mine.get(), 1);
    auto second = loop.sock_recv(mine.get(), 1);
    auto third = loop.sock_recv(mine.get(), 1);
    cancelled.cancel();
    co_await loop.sock_sendall(theirs.get(), "ab"sv);
    const auto by_second = co_await std::move(second);
    CHECK(by_second == "b");
    const auto by_first = co_await std::move(first);
    CHECK(by_first == "a");
    CHECK_FALSE(third.done());
    co_await loop.sock_sendall(theirs.get(), "c"sv);
    const auto by_third = co_await std::move(third);
    CHECK(by_third == "c");
  }

  CORO_TEST_CASE_REAL("what has to wait for its turn is copied, too") {
    auto& loop = event_loop::current();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    const std::string much(1 << 20, 'm');
    auto first = loop.sock_sendall(mine.get(), much);
    auto second = loop.sock_sendall(mine.get(), std::string(10'000, 's'));
    const std::string elsewhere(10'000, 'e');
    auto receiving = receive_all(loop, theirs.get());
    co_await std::move(first);
    co_await std::move(second);
    mine.reset();
    const std::string received = co_await std::move(receiving);
    CHECK(received.size() == much.size() + 10'000);
    CHECK(received.find_first_not_of('s', much.size()) == received.npos);
  }

  CORO_TEST_CASE_REAL("who is cancelled has taken nothing") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto& loop = event_loop::current();
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    const auto late = co_await as_result(with_timeout(loop.sock_recv(mine.get(), 10), 1ms));
    CHECK(late.code() == errc::timed_out);
    auto dropped = loop.sock_recv(mine.get(), 10);
    co_await loop.sock_sendall(theirs.get(), "kept"sv);
    dropped = {};
    const auto all = co_await loop.sock_recv(mine.get(), 10);
    CHECK(all == "kept");
  }

  CORO_TEST_CASE_REAL("a connection is made, accepted and used") {
    auto& loop = event_loop::current();
    const listener at(address("127.0.0.1:0"));
    auto accepting = loop.sock_accept(at.fd());
    const unique_fd client = new_socket(AF_INET, SOCK_STREAM);
    co_await loop.sock_connect(client.get(), at.local().resolve());
    const pulsar::accepted_socket server = co_await std::move(accepting);
    CHECK(server.peer == where_is(client.get()));
    CHECK((::fcntl(server.socket.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((::fcntl(server.socket.get(), F_GETFL) & O_NONBLOCK) != 0);
    auto echo = [](event_loop& l, int fd) -> future<> {
      const std::string text = co_await l.sock_recv(fd, 100);
      co_await l.sock_sendall(fd, text);
    };
    auto echoing = echo(loop, server.socket.get());
    co_await loop.sock_sendall(client.get(), "over the wire"sv);
    const auto echoed = co_await loop.sock_recv(client.get(), 100);
    CHECK(echoed == "over the wire");
    co_await std::move(echoing);
  }

  CORO_TEST_CASE_REAL("a connection that nobody takes is refused") {
    auto& loop = event_loop::current();
    address::endpoint nobody;
    {
      const listener at(address("127.0.0.1:0"));
      nobody = at.local().resolve();
    }
    const unique_fd client = new_socket(AF_INET, SOCK_STREAM);
    const auto refused = co_await as_result(loop.sock_connect(client.get(), nobody));
    CHECK(refused.code() == std::errc::connection_refused);
    CHECK(refused.message() ==
          "sock_connect on descriptor " + std::to_string(client.get()) + ": Connection refused");
  }

  CORO_TEST_CASE_REAL("a peer that is gone is a failure to the sender, and no signal") {
    auto& loop = event_loop::current();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    auto waiting = loop.sock_sendall(mine.get(), std::string(1 << 20, 'x'));
    CHECK_FALSE(waiting.done());
    theirs.reset();
    const auto failed = co_await as_result(std::move(waiting));
    CHECK(
        (failed.code() == std::errc::broken_pipe || failed.code() == std::errc::connection_reset));
    const auto again = co_await as_result(loop.sock_sendall(mine.get(), "x"sv));
    CHECK(again.code() == std::errc::broken_pipe);
    const unique_fd file_here(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    pulsar::set_non_blocking(mine.get());
    const auto file = co_await as_result(loop.sock_sendfile(mine.get(), file_here.get()));
    CHECK(file.code() == std::errc::broken_pipe);
  }

  CORO_TEST_CASE_REAL("what is no socket, or not open, or blocks, is refused") {
    auto& loop = event_loop::current();
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    const unique_fd read_end(ends[0]);
    const unique_fd write_end(ends[1]);
    const auto pipe = co_await as_result(loop.sock_recv(read_end.get(), 1));
    CHECK(pipe.code() == std::errc::not_a_socket);
    const auto closed = co_await as_result(loop.sock_recv(-1, 1));
    CHECK(closed.code() == std::errc::bad_file_descriptor);
    const unique_fd blocking(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto accepted = co_await as_result(loop.sock_accept(blocking.get()));
    CHECK(accepted.code() == std::errc::invalid_argument);
    CHECK(accepted.message().find("which blocks: call set_non_blocking first") !=
          std::string::npos);
    const auto connected =
        co_await as_result(loop.sock_connect(blocking.get(), address("127.0.0.1:9").resolve()));
    CHECK(connected.code() == std::errc::invalid_argument);
    const unique_fd idle = new_socket(AF_INET, SOCK_STREAM);
    const auto unbound = co_await as_result(loop.sock_accept(idle.get()));
    CHECK(unbound.code() == std::errc::invalid_argument);
  }

  CORO_TEST_CASE_REAL("a socket that blocks can be read and written without blocking") {
    auto& loop = event_loop::current();
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    CHECK((::fcntl(mine.get(), F_GETFL) & O_NONBLOCK) == 0);
    const auto nothing = co_await as_result(with_timeout(loop.sock_recv(mine.get(), 1), 1ms));
    CHECK(nothing.code() == errc::timed_out);
  }

  CORO_TEST_CASE_REAL("who always finds data lets the loop have its turn all the same") {
    auto& loop = event_loop::current();
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    co_await loop.sock_sendall(theirs.get(), std::string(1000, 'x'));
    const auto turns = std::make_shared<int>(0);
    const auto count = [](event_loop& l, std::shared_ptr<int> n) -> future<> {
      for (;;) {
        co_await pulsar::sleep(0ms, l);
        ++*n;
      }
    };
    auto counting = count(loop, turns);
    for (int i = 0; i < 1000; ++i) co_await loop.sock_recv(mine.get(), 1);
    CHECK(*turns >= 10);
    counting.cancel();
  }

  CORO_TEST_CASE_REAL("UDP echo: datagrams go there and back, each whole") {
    auto& loop = event_loop::current();
    const unique_fd server = new_socket(AF_INET, SOCK_DGRAM);
    const unique_fd client = new_socket(AF_INET, SOCK_DGRAM);
    const asio::ip::udp::endpoint any(asio::ip::address_v4::loopback(), 0);
    CHECK(::bind(server.get(), any.data(), static_cast<socklen_t>(any.size())) == 0);
    CHECK(::bind(client.get(), any.data(), static_cast<socklen_t>(any.size())) == 0);
    auto serve = [](event_loop& l, int fd) -> future<> {
      for (int i = 0; i < 2; ++i) {
        const pulsar::received_datagram came = co_await l.sock_recvfrom(fd, 1024);
        co_await l.sock_sendto(fd, "echo: " + came.data, came.from);
      }
    };
    auto serving = serve(loop, server.get());
    const auto to = where_is(server.get());
    const auto sent = co_await loop.sock_sendto(client.get(), "one"sv, to);
    CHECK(sent == 3);
    const pulsar::received_datagram first = co_await loop.sock_recvfrom(client.get(), 1024);
    CHECK(first.data == "echo: one");
    CHECK(first.from == to);
    co_await loop.sock_sendto(client.get(), ""sv, to);
    const pulsar::received_datagram second = co_await loop.sock_recvfrom(client.get(), 3);
    CHECK(second.data == "ech");
    co_await std::move(serving);
  }

  CORO_TEST_CASE_REAL("a file is sent by the system, from where and as much as is asked for") {
    auto& loop = event_loop::current();
    char name[] = "/tmp/pulsar-sendfile-XXXXXX";
    const unique_fd file(::mkostemp(name, O_CLOEXEC));
    ::unlink(name);
    std::string text(600'000, 'f');
    text[1] = 'g';
    CHECK(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    const auto blocking = co_await as_result(loop.sock_sendfile(mine.get(), file.get(), 1));
    CHECK(blocking.code() == std::errc::invalid_argument);
    pulsar::set_non_blocking(mine.get());
    auto receiving = receive_all(loop, theirs.get());
    const auto rest_of_file = co_await loop.sock_sendfile(mine.get(), file.get(), 1);
    CHECK(rest_of_file == 599'999);
    const auto beginning = co_await loop.sock_sendfile(mine.get(), file.get(), 0, 2);
    CHECK(beginning == 2);
    const auto behind_the_end = co_await loop.sock_sendfile(mine.get(), file.get(), 700'000, 2);
    CHECK(behind_the_end == 0);
    mine.reset();
    const std::string received = co_await std::move(receiving);
    CHECK(received == text.substr(1) + "fg");
  }

  CORO_TEST_CASE_REAL("a call whose socket was closed fails once its number is used again") {
    auto& loop = event_loop::current();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    const int number = mine.get();
    auto forgotten = loop.sock_recv(number, 1);
    mine.reset();
    auto [next, other] = pulsar::socket_pair(SOCK_STREAM);
    CHECK(next.get() == number);
    auto waiting = loop.sock_recv(number, 1);
    const auto failed = co_await as_result(std::move(forgotten));
    CHECK(failed.code() == std::errc::bad_file_descriptor);
    co_await loop.sock_sendall(other.get(), "n"sv);
    const auto of_the_new_one = co_await std::move(waiting);
    CHECK(of_the_new_one == "n");
  }

  TEST_CASE("where no descriptor is left to watch with a call fails, and the next one works") {
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    const unique_fd at = new_socket(AF_INET, SOCK_STREAM);
    REQUIRE(::listen(at.get(), 1) == 0);
    const auto codes = [](event_loop& loop, int socket, int listening) {
      const auto received = loop.sock_recv(socket, 1);
      const auto sent = loop.sock_sendall(socket, "gone"sv);
      const auto accepted = loop.sock_accept(listening);
      return std::array{code_of(received.exception()), code_of(sent.exception()),
                        code_of(accepted.exception())};
    };
    event_loop first;
    for (const auto& code : codes(first, -1, -1)) CHECK(code == std::errc::bad_file_descriptor);
    event_loop loop;
    const auto [received, sent, accepted] = [&] {
      const few_descriptors none(0);
      return codes(loop, mine.get(), at.get());
    }();
    CHECK(received == std::errc::too_many_files_open);
    CHECK(sent == std::errc::too_many_files_open);
    CHECK(accepted == std::errc::too_many_files_open);
    auto receiving = loop.sock_recv(mine.get(), 2);
    loop.run_until_complete(loop.sock_sendall(theirs.get(), "on"sv));
    CHECK(loop.run_until_complete(std::move(receiving)) == "on");
  }

  TEST_CASE("what waits when its loop closes is cancelled") {
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    future<std::string> kept;
    {
      event_loop loop;
      kept = loop.sock_recv(mine.get(), 1);
    }
    CHECK(kept.cancelled());
  }

  TEST_CASE("a closed loop takes no call") {
    event_loop loop;
    loop.close();
    CHECK_THROWS_AS(loop.sock_recv(0, 1).detach(), pulsar::error);
  }
}
