// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/connect.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/server.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <support/coro_test.hpp>
#include <support/full_listener.hpp>
#include <support/futures.hpp>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using future_test::code_of;
using pulsar::address;
using pulsar::as_result;
using pulsar::connect;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::listener;
using pulsar::stream;
using pulsar::unique_fd;
using pulsar::with_timeout;

namespace {

future<> greet(stream peer) {
  peer.write("hello\n");
  co_await peer.close();
}

std::string scratch_path(const char* name) {
  return "/tmp/pulsar_connect_test_" + std::to_string(::getpid()) + "_" + name;
}

// A port of this machine that nobody listens on.
address unused_port() {
  const listener taken(address("127.0.0.1:0"));
  return taken.local();
}

}  // namespace

TEST_SUITE("connect") {
  CORO_TEST_CASE_REAL("a number is connected to, and both sides know where they are") {
    pulsar::server at = co_await pulsar::start_server(&greet, "127.0.0.1:0");
    stream s = co_await connect(at.addresses()[0]);
    CHECK(s.peer_address() == at.addresses()[0]);
    CHECK(s.local_address().host() == "127.0.0.1");
    const std::string line = co_await s.read_line();
    CHECK(line == "hello\n");
    int on = 0;
    socklen_t size = sizeof on;
    CHECK(::getsockopt(s.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0);
    CHECK(on != 0);
  }

  CORO_TEST_CASE_REAL("a name is looked up, and that of its addresses is used that answers") {
    pulsar::server at = co_await pulsar::start_server(&greet, "127.0.0.1:0");
    const std::string name = "localhost:" + std::to_string(at.addresses()[0].port());
    stream s = co_await connect(name);
    const std::string line = co_await s.read_line();
    CHECK(line == "hello\n");
  }

  CORO_TEST_CASE_REAL("a Unix socket is connected to") {
    const std::string path = "unix:" + scratch_path("socket");
    pulsar::server at = co_await pulsar::start_server(&greet, path);
    stream s = co_await connect(path);
    CHECK(s.peer_address().to_string() == path);
    const std::string line = co_await s.read_line();
    CHECK(line == "hello\n");
  }

  CORO_TEST_CASE_REAL("the local side may be chosen") {
    pulsar::server at = co_await pulsar::start_server(&greet, "127.0.0.1:0");
    pulsar::connect_options options;
    options.local = "127.0.0.2:0";
    options.stream.no_delay = false;
    options.stream.keep_alive = true;
    stream s = co_await connect(at.addresses()[0], options);
    CHECK(s.local_address().host() == "127.0.0.2");
    int on = 0;
    socklen_t size = sizeof on;
    CHECK(::getsockopt(s.native_handle(), SOL_SOCKET, SO_KEEPALIVE, &on, &size) == 0);
    CHECK(on != 0);
    options.local = "[::1]:0";
    const auto r = co_await as_result(connect(at.addresses()[0], options));
    CHECK(code_of(r) == std::errc::address_family_not_supported);
    CHECK(r.message().find("the local address is of another family") != std::string::npos);
  }

  CORO_TEST_CASE_REAL("a port that nobody listens on is named, with what to do") {
    const address nobody = unused_port();
    const auto r = co_await as_result(connect(nobody));
    CHECK(code_of(r) == std::errc::connection_refused);
    CHECK(r.message().find("cannot connect to " + nobody.to_string() +
                           ": nobody listens there; start the server") == 0);
  }

  CORO_TEST_CASE_REAL("a Unix socket that does not exist is named, with what to do") {
    const auto r = co_await as_result(connect("unix:/tmp/pulsar_no_such_socket"));
    CHECK(code_of(r) == std::errc::no_such_file_or_directory);
    CHECK(r.message().find("unix:/tmp/pulsar_no_such_socket: there is no such socket") !=
          std::string::npos);
  }

  CORO_TEST_CASE_REAL("a name that nobody knows is the resolver's failure") {
    const auto r = co_await as_result(connect("no-such-host.invalid:80"));
    CHECK_FALSE(r);
    CHECK(r.message().find("no-such-host.invalid") != std::string::npos);
  }

  TEST_CASE("text that is no address is refused at once") {
    event_loop loop;
    CHECK_THROWS_AS(connect("http://example.org", {}, loop).detach(), std::invalid_argument);
  }

  TEST_CASE("text without a port is refused at once with a sentence") {
    event_loop loop;
    CHECK_THROWS_WITH_AS(connect("localhost", {}, loop).detach(),
                         "localhost: connect needs a port, HOST:PORT", std::invalid_argument);
    CHECK_THROWS_WITH_AS(connect("10.0.0.7", {}, loop).detach(),
                         "10.0.0.7: connect needs a port, HOST:PORT", std::invalid_argument);
    CHECK_THROWS_WITH_AS(connect("[::1]", {}, loop).detach(),
                         "[::1]: connect needs a port, [IPv6]:PORT", std::invalid_argument);
    CHECK_THROWS_WITH_AS(connect("", {}, loop).detach(), doctest::Contains("is no address"),
                         std::invalid_argument);
  }

  CORO_TEST_CASE_REAL("one that does not answer can be given up, and leaves nothing behind") {
    const full_listener silent;
    const auto r = co_await as_result(with_timeout(connect(silent.at.local()), 30ms));
    CHECK(code_of(r) == errc::timed_out);
  }

  CORO_TEST_CASE_REAL("one that does not answer is given up when the time is up, and named") {
    CHECK(pulsar::connect_options().timeout == 30s);
    const full_listener silent;
    const auto r = co_await as_result(connect(silent.at.local(), {.timeout = 30ms}));
    CHECK(code_of(r) == errc::timed_out);
    CHECK(r.message().find("cannot connect to " + silent.at.local().to_string() +
                           ": it does not answer; is a firewall between?") == 0);
    const auto late =
        co_await as_result(with_timeout(connect(silent.at.local(), {.timeout = 0ms}), 30ms));
    CHECK(late.message().find("cannot connect") == std::string::npos);
    pulsar::server at = co_await pulsar::start_server(&greet, "127.0.0.1:0");
    stream s = co_await connect(at.addresses()[0], {.timeout = 0ms});
    const std::string line = co_await s.read_line();
    CHECK(line == "hello\n");
  }

  CORO_TEST_CASE_REAL("an address that stalls is overtaken by the next one") {
    const full_listener silent;
    pulsar::server at = co_await pulsar::start_server(&greet, "127.0.0.1:0");
    const pulsar::detail::endpoints both{silent.at.local().resolve(), at.addresses()[0].resolve()};
    unique_fd fd = co_await pulsar::detail::connect_any(event_loop::current(), address("name:1"),
                                                        both, {}, 5ms);
    stream s(std::move(fd));
    CHECK(s.peer_address() == at.addresses()[0]);
  }

  CORO_TEST_CASE_REAL("an address that refuses gives way to the next at once") {
    pulsar::server at = co_await pulsar::start_server(&greet, "127.0.0.1:0");
    const pulsar::detail::endpoints both{unused_port().resolve(), at.addresses()[0].resolve()};
    unique_fd fd = co_await pulsar::detail::connect_any(event_loop::current(), address("name:1"),
                                                        both, {}, 1h);
    CHECK(fd);
  }

  CORO_TEST_CASE_REAL("when all addresses fail in their own way, each is named") {
    const pulsar::detail::endpoints both{address("127.0.0.1:1").resolve(),
                                         address("unix:/tmp/pulsar_no_such_socket").resolve()};
    const auto r = co_await as_result(
        pulsar::detail::connect_any(event_loop::current(), address("name:1"), both, {}, 250ms));
    CHECK(r.message().find("cannot connect to name:1 (127.0.0.1:1: Connection refused; "
                           "unix:/tmp/pulsar_no_such_socket: No such file or directory)") == 0);
  }

  TEST_CASE("an attempt that gets no descriptor of its own is a failure") {
    event_loop loop;
    const listener at(address("127.0.0.1:0"));
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    // With standard input closed a socket gets its number, and is moved away from there.
    const unique_fd input(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    rlimit few = limit;
    few.rlim_cur = static_cast<rlim_t>(pulsar::open_descriptors().back() + 1);
    std::vector<unique_fd> others;
    ::close(STDIN_FILENO);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (unique_fd other{::fcntl(at.fd(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1)}) {
      others.push_back(std::move(other));
    }
    const auto r =
        loop.run_until_complete([&at] { return as_result(with_timeout(connect(at.local()), 5s)); });
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ::dup2(input.get(), STDIN_FILENO);
    CHECK(code_of(r) == std::errc::too_many_files_open);
  }

  TEST_CASE("the families of a name's addresses alternate, the first one's first") {
    std::vector<pulsar::resolved_address> found;
    for (const char* each : {"[::1]:1", "[::2]:1", "127.0.0.1:1", "[::3]:1"}) {
      auto& one = found.emplace_back();
      one.endpoint = address(each).resolve();
      one.family = one.endpoint.data()->sa_family;
    }
    std::string order;
    for (const auto& each : pulsar::detail::interleave(found)) {
      order += address::of(each).to_string() + " ";
    }
    CHECK(order == "[::1]:1 127.0.0.1:1 [::2]:1 [::3]:1 ");
  }
}
