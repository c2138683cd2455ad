// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/detail/control_socket.hpp>
#include <pulsar/core/child.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <string_view>

using pulsar::unique_fd;
using pulsar::detail::control_packet;
using pulsar::detail::control_socket;
using pulsar::detail::transfer;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string text_of(const control_packet& packet) {
  return {reinterpret_cast<const char*>(packet.bytes.data()), packet.bytes.size()};
}

ino_t inode_of(int fd) {
  struct stat what {};
  REQUIRE(::fstat(fd, &what) == 0);
  return what.st_ino;
}

bool is_ready(int fd, short events) {
  pollfd wanted{fd, events, 0};
  return ::poll(&wanted, 1, 0) == 1 && (wanted.revents & events) != 0;
}

struct two_ends {
  two_ends() {
    auto [first, second] = pulsar::socket_pair(SOCK_SEQPACKET);
    arbiter = control_socket(std::move(first));
    worker = control_socket(std::move(second));
  }
  control_socket arbiter;
  control_socket worker;
};

std::error_code failure_of(auto&& action) {
  try {
    action();
  } catch (const pulsar::error& e) {
    return e.code();
  }
  return {};
}

// Sends more descriptors than a control_socket would.
void send_raw(int socket, std::span<const int> descriptors, std::string_view text) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  std::vector<char> area(CMSG_SPACE(descriptors.size_bytes()) + alignof(cmsghdr));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = area.data();
  message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  REQUIRE(::sendmsg(socket, &message, 0) == static_cast<ssize_t>(text.size()));
}

}  // namespace

TEST_SUITE("control_socket") {
  TEST_CASE("packets arrive whole and in order") {
    two_ends ends;
    CHECK(ends.arbiter.send(bytes_of("one")) == transfer::done);
    CHECK(ends.arbiter.send(bytes_of("second")) == transfer::done);
    control_packet packet;
    CHECK(ends.worker.receive(packet) == transfer::done);
    CHECK(text_of(packet) == "one");
    CHECK(packet.descriptors.empty());
    CHECK(ends.worker.receive(packet) == transfer::done);
    CHECK(text_of(packet) == "second");
  }

  TEST_CASE("an empty queue is told from the end, and neither blocks") {
    two_ends ends;
    control_packet packet;
    CHECK_FALSE(is_ready(ends.worker.handle(), POLLIN));
    CHECK(ends.worker.receive(packet) == transfer::would_block);
    ends.arbiter.send(bytes_of("last"));
    ends.arbiter.close();
    CHECK(ends.arbiter.handle() == -1);
    CHECK(is_ready(ends.worker.handle(), POLLIN));
    CHECK(ends.worker.receive(packet) == transfer::done);
    CHECK(text_of(packet) == "last");
    CHECK(ends.worker.receive(packet) == transfer::closed);
    CHECK(packet.bytes.empty());
    CHECK(ends.worker.receive(packet) == transfer::closed);
  }

  TEST_CASE("sending to a closed end is told and raises no signal") {
    two_ends ends;
    ends.worker.close();
    CHECK(ends.arbiter.send(bytes_of("x")) == transfer::closed);
  }

  TEST_CASE("what a dying peer sent is received although it never read ours") {
    two_ends ends;
    REQUIRE(ends.arbiter.send(bytes_of("never read")) == transfer::done);
    REQUIRE(ends.worker.send(bytes_of("farewell")) == transfer::done);
    ends.worker.close();
    control_packet packet;
    CHECK(ends.arbiter.receive(packet) == transfer::done);
    CHECK(text_of(packet) == "farewell");
    CHECK(ends.arbiter.receive(packet) == transfer::closed);
  }

  TEST_CASE("a peer that does not read makes the sender wait, and nothing is lost or cut") {
    two_ends ends;
    const std::string large(control_socket::max_bytes, 'l');
    int sent = 0;
    while (ends.arbiter.send(bytes_of(large)) == transfer::done) {
      ++sent;
      REQUIRE(sent < 10'000);
    }
    CHECK(sent > 0);
    CHECK_FALSE(is_ready(ends.arbiter.handle(), POLLOUT));
    control_packet packet;
    int received = 0;
    while (ends.worker.receive(packet) == transfer::done) {
      if (text_of(packet) != large) FAIL("packet " << received << " is damaged");
      ++received;
    }
    CHECK(received == sent);
    CHECK(is_ready(ends.arbiter.handle(), POLLOUT));
    CHECK(ends.arbiter.send(bytes_of("more")) == transfer::done);
  }

  TEST_CASE("the limits of a packet hold for the sender") {
    two_ends ends;
    const std::string large(control_socket::max_bytes + 1, 'x');
    CHECK(failure_of([&] { ends.arbiter.send(bytes_of(large)); }) == pulsar::errc::too_large);
    CHECK(failure_of([&] { ends.arbiter.send({}); }) == std::errc::invalid_argument);
    const std::vector<int> many(17, ends.arbiter.handle());
    CHECK(failure_of([&] { ends.arbiter.send(bytes_of("x"), many); }) == pulsar::errc::too_large);
    const std::vector<int> closed{987};
    CHECK(failure_of([&] { ends.arbiter.send(bytes_of("x"), closed); }) ==
          std::errc::bad_file_descriptor);
    control_packet packet;
    CHECK(ends.worker.receive(packet) == transfer::would_block);
  }

  TEST_CASE("descriptors travel in order, stay open here and are close-on-exec there") {
    two_ends ends;
    std::vector<unique_fd> files;
    std::vector<int> numbers;
    for (std::size_t i = 0; i < control_socket::max_descriptors; ++i) {
      files.push_back(pulsar::socket_pair(SOCK_STREAM).first);
      numbers.push_back(files.back().get());
    }
    for (const std::size_t count : {std::size_t{1}, std::size_t{3}, numbers.size()}) {
      REQUIRE(ends.arbiter.send(bytes_of("take"), std::span(numbers).first(count)) ==
              transfer::done);
      control_packet packet;
      REQUIRE(ends.worker.receive(packet) == transfer::done);
      CHECK(text_of(packet) == "take");
      REQUIRE(packet.descriptors.size() == count);
      for (std::size_t i = 0; i < count; ++i) {
        CHECK(packet.descriptors[i].get() != numbers[i]);
        CHECK(inode_of(packet.descriptors[i].get()) == inode_of(numbers[i]));
        CHECK((::fcntl(packet.descriptors[i].get(), F_GETFD) & FD_CLOEXEC) != 0);
      }
    }
  }

  TEST_CASE("a received descriptor works after the sender's is closed") {
    two_ends ends;
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    const int number = theirs.get();
    REQUIRE(ends.arbiter.send(bytes_of("x"), {&number, 1}) == transfer::done);
    theirs.reset();
    control_packet packet;
    REQUIRE(ends.worker.receive(packet) == transfer::done);
    REQUIRE(packet.descriptors.size() == 1);
    REQUIRE(::write(mine.get(), "!", 1) == 1);
    char byte = 0;
    CHECK(::read(packet.descriptors[0].get(), &byte, 1) == 1);
    CHECK(byte == '!');
  }

  TEST_CASE(
      "a packet that is too large is an error, costs no descriptor and leaves the next alone") {
    two_ends ends;
    const auto before = pulsar::open_descriptors();
    const std::vector<int> numbers{ends.arbiter.handle()};
    send_raw(ends.arbiter.handle(), numbers, std::string(control_socket::max_bytes + 1, 'x'));
    REQUIRE(ends.arbiter.send(bytes_of("next")) == transfer::done);
    control_packet packet;
    packet.bytes.resize(5);
    try {
      ends.worker.receive(packet);
      FAIL("no error");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == pulsar::errc::too_large);
      CHECK(std::string_view(e.what()).find("65537 bytes") != std::string_view::npos);
    }
    CHECK(packet.bytes.empty());
    CHECK(pulsar::open_descriptors() == before);
    CHECK(ends.worker.receive(packet) == transfer::done);
    CHECK(text_of(packet) == "next");
  }

  TEST_CASE("more descriptors than allowed are an error and are all closed") {
    two_ends ends;
    const auto before = pulsar::open_descriptors();
    for (const std::size_t count : {std::size_t{17}, std::size_t{18}, std::size_t{200}}) {
      const std::vector<int> numbers(count, ends.arbiter.handle());
      send_raw(ends.arbiter.handle(), numbers, "x");
      control_packet packet;
      CHECK(failure_of([&] { ends.worker.receive(packet); }) == pulsar::errc::too_large);
      CHECK(packet.descriptors.empty());
      CHECK(pulsar::open_descriptors() == before);
    }
  }

  TEST_CASE("descriptors that find no number here are all closed, and their packet says so") {
    two_ends ends;
    const auto before = pulsar::open_descriptors();
    const std::vector<int> numbers(3, ends.arbiter.handle());
    REQUIRE(ends.arbiter.send(bytes_of("x"), numbers) == transfer::done);
    REQUIRE(ends.arbiter.send(bytes_of("next")) == transfer::done);

    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit tight{static_cast<rlim_t>(before.back()) + 1, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
    std::vector<unique_fd> filler;
    for (;;) {
      unique_fd next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (!next) break;
      filler.push_back(std::move(next));
    }
    if (filler.empty()) {
      // No gap below the limit: room for one of three is made above it.
      const rlimit wider{tight.rlim_cur + 1, limit.rlim_max};
      ::setrlimit(RLIMIT_NOFILE, &wider);
    } else {
      filler.pop_back();
    }
    control_packet packet;
    const auto got = ends.worker.receive(packet);
    ::setrlimit(RLIMIT_NOFILE, &limit);
    CHECK(got == transfer::done);
    CHECK(text_of(packet) == "x");
    CHECK(packet.descriptors_lost);
    CHECK(packet.descriptors.empty());
    filler.clear();
    CHECK(pulsar::open_descriptors() == before);
    CHECK(ends.worker.receive(packet) == transfer::done);
    CHECK(text_of(packet) == "next");
    CHECK_FALSE(packet.descriptors_lost);
  }

  TEST_CASE("descriptors of packets that nobody receives are closed with the socket") {
    const auto before = pulsar::open_descriptors();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    {
      two_ends ends;
      const int number = theirs.get();
      REQUIRE(ends.arbiter.send(bytes_of("x"), {&number, 1}) == transfer::done);
      theirs.reset();
      CHECK_FALSE(is_ready(mine.get(), POLLIN));
    }
    CHECK(is_ready(mine.get(), POLLIN));  // the end of file
    mine.reset();
    CHECK(pulsar::open_descriptors() == before);
  }

  TEST_CASE("the peer of a pair is the process that made it") {
    two_ends ends;
    const auto peer = pulsar::detail::peer_credentials(ends.worker.handle());
    CHECK(peer.pid == ::getpid());
    CHECK(peer.uid == ::geteuid());
    CHECK(peer.gid == ::getegid());
  }

  TEST_CASE("a socket without a peer on this machine is an error that names it") {
    const unique_fd alone(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const unique_fd internet(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto null = pulsar::open_null_device();
    for (const int fd : {alone.get(), internet.get(), null.get()}) {
      try {
        pulsar::detail::peer_credentials(fd);
        FAIL("no error");
      } catch (const pulsar::error& e) {
        CHECK(std::string(e.what()).find("descriptor " + std::to_string(fd)) != std::string::npos);
      }
    }
  }

  TEST_CASE("a killed process closes its end") {
    two_ends ends;
    const std::vector<int> given{ends.worker.handle()};
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    auto process = pulsar::spawn_child(
        {.executable = "cat", .descriptors = given, .standard_input = theirs.get()});
    ends.worker.close();
    control_packet packet;
    CHECK(ends.arbiter.receive(packet) == transfer::would_block);
    CHECK(ends.arbiter.send(bytes_of("x")) == transfer::done);
    process.signal(SIGKILL);
    process.wait();
    CHECK(ends.arbiter.receive(packet) == transfer::closed);
    CHECK(ends.arbiter.send(bytes_of("x")) == transfer::closed);
  }
}
