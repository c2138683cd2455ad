// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/listener.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <string_view>
#include <thread>

using pulsar::address;
using pulsar::listener;
using pulsar::unique_fd;

namespace {

namespace fs = std::filesystem;

struct directory {
  directory() {
    std::string name = (fs::temp_directory_path() / "pulsar_listener_XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  directory(const directory&) = delete;
  directory& operator=(const directory&) = delete;
  ~directory() { fs::remove_all(path); }

  address socket() const { return address("unix:" + (path / "socket").string()); }

  fs::path path;
};

unique_fd connect_to(const address& where) {
  const auto at = where.resolve();
  unique_fd fd(::socket(at.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  if (::connect(fd.get(), at.data(), static_cast<socklen_t>(at.size())) != 0) fd.reset();
  return fd;
}

template <class F>
pulsar::error failure_of(F f) {
  try {
    f();
  } catch (const pulsar::error& e) {
    return e;
  }
  FAIL("no error");
  return pulsar::error(pulsar::errc::not_ready);
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  REQUIRE(::getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

bool has_flags(int fd) {
  return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 && (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

}  // namespace

TEST_SUITE("listener") {
  TEST_CASE("port 0 becomes a free one, which its address names and clients reach") {
    const listener at(address("127.0.0.1:0"));
    CHECK(at.local().host() == "127.0.0.1");
    REQUIRE(at.local().port() != 0);
    CHECK(has_flags(at.fd()));

    std::error_code failure;
    CHECK_FALSE(at.accept(failure));
    CHECK(failure == std::errc::operation_would_block);

    const unique_fd client = connect_to(at.local());
    REQUIRE(client);
    const unique_fd accepted = at.accept(failure);
    REQUIRE(accepted);
    CHECK_FALSE(failure);
    CHECK(has_flags(accepted.get()));
    CHECK(option(accepted.get(), IPPROTO_TCP, TCP_NODELAY) == 1);
    REQUIRE(::write(client.get(), "x", 1) == 1);
    ::fcntl(accepted.get(), F_SETFL, 0);
    char byte = 0;
    CHECK(::read(accepted.get(), &byte, 1) == 1);
  }

  TEST_CASE("no connection takes the number of a standard descriptor that is closed") {
    const listener at(address("127.0.0.1:0"));
    const unique_fd client = connect_to(at.local());
    REQUIRE(client);
    const unique_fd input(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    ::close(STDIN_FILENO);
    std::error_code failure;
    const unique_fd taken = at.accept(failure);
    const bool above = taken.get() > STDERR_FILENO;
    ::dup2(input.get(), STDIN_FILENO);
    CHECK(above);
    CHECK_FALSE(failure);
  }

  TEST_CASE("a name is listened on by its IPv4 address") {
    const listener at(address("localhost:0"));
    CHECK(at.local().host() == "127.0.0.1");
  }

  TEST_CASE("a port that is taken is an error that names the address and the way out") {
    const listener first(address("127.0.0.1:0"));
    const auto e = failure_of([&] { listener second(first.local()); });
    CHECK(e.code() == std::errc::address_in_use);
    CHECK(contains(e.what(), first.local().to_string() +
                                 " is in use: stop the other program or choose another address"));
  }

  TEST_CASE("a port whose connections have just ended can be listened on again") {
    listener first(address("127.0.0.1:0"));
    const address where = first.local();
    unique_fd client = connect_to(where);
    std::error_code failure;
    unique_fd accepted = first.accept(failure);
    REQUIRE(accepted);
    accepted.reset();  // closes first: the connection stays in TIME_WAIT
    client.reset();
    first.close();
    CHECK(first.fd() == -1);
    const listener again(where);
    CHECK(again.local() == where);
  }

  TEST_CASE("an address of another machine is refused") {
    const auto e = failure_of([] { listener at(address("192.0.2.1:8060")); });
    CHECK(e.code() == std::errc::address_not_available);
    CHECK(contains(e.what(), "192.0.2.1:8060 is no address of this machine"));
  }

  TEST_CASE("[::] leaves the IPv4 port to others") {
    const listener first(address("0.0.0.0:0"));
    try {
      const listener second(address("[::]:" + std::to_string(first.local().port())));
      CHECK(second.local().to_string() == "[::]:" + std::to_string(first.local().port()));
    } catch (const pulsar::error& e) {
      // A machine without IPv6 says so.
      CHECK_MESSAGE((e.code() == std::errc::address_family_not_supported ||
                     e.code() == std::errc::address_not_available),
                    e.what());
    }
  }

  TEST_CASE("a Unix socket is made, reached, and removed by close") {
    const directory dir;
    listener at(dir.socket());
    CHECK(at.local() == dir.socket());
    CHECK(fs::is_socket(dir.socket().path()));
    const unique_fd client = connect_to(at.local());
    CHECK(client);
    std::error_code failure;
    CHECK(at.accept(failure));
    at.close();
    CHECK_FALSE(fs::exists(dir.socket().path()));
    at.close();
  }

  TEST_CASE("a Unix socket that somebody listens on is in use, and stays") {
    const directory dir;
    const listener first(dir.socket());
    const auto e = failure_of([&] { listener second(dir.socket()); });
    CHECK(e.code() == std::errc::address_in_use);
    CHECK(contains(e.what(), dir.socket().to_string() + " is in use"));
    CHECK(connect_to(dir.socket()));
  }

  TEST_CASE("a Unix socket that a dead server left behind is replaced") {
    const directory dir;
    {
      const unique_fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const auto at = dir.socket().resolve();
      REQUIRE(::bind(dead.get(), at.data(), static_cast<socklen_t>(at.size())) == 0);
    }
    REQUIRE(fs::is_socket(dir.socket().path()));
    const listener at(dir.socket());
    CHECK(connect_to(dir.socket()));
  }

  TEST_CASE("a Unix socket whose server is about to listen is waited for, not taken") {
    const directory dir;
    const unique_fd first(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    std::promise<void> bound;
    std::thread other([&] {
      // A listener that takes its time between bind and listen.
      const pulsar::detail::directory_lock lock(dir.socket().path());
      const auto at = dir.socket().resolve();
      ::bind(first.get(), at.data(), static_cast<socklen_t>(at.size()));
      bound.set_value();
      ::poll(nullptr, 0, 50);
      ::listen(first.get(), 1);
    });
    bound.get_future().wait();
    std::error_code failure;
    try {
      const listener second(dir.socket());
    } catch (const pulsar::error& e) {
      failure = e.code();
    }
    other.join();
    CHECK(failure == std::errc::address_in_use);
    CHECK(connect_to(dir.socket()));
  }

  TEST_CASE("a file that is no socket is neither replaced nor removed") {
    const directory dir;
    std::ofstream(dir.socket().path()) << "precious";
    const auto e = failure_of([&] { listener at(dir.socket()); });
    CHECK(e.code() == std::errc::file_exists);
    CHECK(contains(e.what(), "is a file of another kind"));
    CHECK(fs::file_size(dir.socket().path()) == 8);
  }

  TEST_CASE("what has taken the place of the socket's file meanwhile is not removed") {
    const directory dir;
    SUBCASE("another file") {
      listener at(dir.socket());
      fs::remove(dir.socket().path());
      std::ofstream(dir.socket().path()) << "precious";
      at.close();
      CHECK(fs::exists(dir.socket().path()));
    }
    SUBCASE("the socket of another server") {
      listener first(dir.socket());
      fs::rename(dir.socket().path(), dir.path / "moved");
      const listener second(dir.socket());
      first.close();
      CHECK(connect_to(dir.socket()));
    }
  }

  TEST_CASE("a child process that ends does not remove its parent's socket") {
    const directory dir;
    listener at(dir.socket());
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      at.close();
      ::_exit(0);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(fs::is_socket(dir.socket().path()));
  }

  TEST_CASE("a directory that is missing is named") {
    const auto e = failure_of([] { listener at(address("unix:/nowhere/at/all")); });
    CHECK(e.code() == std::errc::no_such_file_or_directory);
    CHECK(contains(e.what(), "unix:/nowhere/at/all lies in a directory that does not exist"));
  }

  TEST_CASE("an inherited descriptor is taken over with its address, and its file is left alone") {
    const directory dir;
    listener made(dir.socket());
    {
      const unique_fd duplicate(::fcntl(made.fd(), F_DUPFD, 0));
      REQUIRE((::fcntl(duplicate.get(), F_GETFD) & FD_CLOEXEC) == 0);
      const listener adopted = listener::adopt(unique_fd(::dup(duplicate.get())));
      CHECK(adopted.local() == made.local());
      CHECK(has_flags(adopted.fd()));
    }
    CHECK(fs::is_socket(dir.socket().path()));

    const listener tcp(address("127.0.0.1:0"));
    const listener same = listener::adopt(unique_fd(::dup(tcp.fd())));
    CHECK(same.local() == tcp.local());
    const unique_fd client = connect_to(tcp.local());
    std::error_code failure;
    CHECK(same.accept(failure));
  }

  TEST_CASE("a descriptor that does not listen is refused and closed") {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
      unique_fd socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
      const int number = socket.get();
      const auto e = failure_of([&] { listener::adopt(std::move(socket)); });
      CHECK(e.code() == std::errc::invalid_argument);
      CHECK(contains(e.what(), "descriptor " + std::to_string(number) + " is no listening stream"));
      CHECK(::fcntl(number, F_GETFD) == -1);
    }
    const auto e = failure_of([] { listener::adopt(unique_fd()); });
    CHECK(contains(e.what(), "descriptor -1"));
  }

  TEST_CASE("moving hands over the descriptor and the duty to remove the file") {
    const directory dir;
    listener first(dir.socket());
    listener second = std::move(first);
    CHECK(first.fd() == -1);
    first.close();
    CHECK(fs::exists(dir.socket().path()));
    listener third(address("127.0.0.1:0"));
    third = std::move(second);
    CHECK(fs::exists(dir.socket().path()));
    CHECK(third.local() == dir.socket());
    third.close();
    CHECK_FALSE(fs::exists(dir.socket().path()));
  }
}
