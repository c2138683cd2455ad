// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/pipe.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "support/coro_test.hpp"
#include "support/scratch_directory.hpp"

#include <chrono>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::stream;
using pulsar::unique_fd;

namespace {

struct ends {
  unique_fd out;  // to read from
  unique_fd in;
};

ends new_pipe() {
  int both[2];
  REQUIRE(::pipe2(both, O_CLOEXEC) == 0);
  return {unique_fd(both[0]), unique_fd(both[1])};
}

bool blocks(int fd) { return (::fcntl(fd, F_GETFL) & O_NONBLOCK) == 0; }

unique_fd new_file(std::string_view text) {
  char name[] = "/tmp/pulsar-pipe-XXXXXX";
  unique_fd file(::mkostemp(name, O_CLOEXEC));
  ::unlink(name);
  REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  ::lseek(file.get(), 0, SEEK_SET);
  return file;
}

}  // namespace

TEST_SUITE("pipe") {
  CORO_TEST_CASE_REAL("what is written into a pipe is read out of it, up to the end") {
    auto& loop = event_loop::current();
    ends pipe = new_pipe();
    stream out = co_await loop.connect_read_pipe(std::move(pipe.out));
    stream in = co_await loop.connect_write_pipe(std::move(pipe.in));
    auto line = out.read_line();
    CHECK_FALSE(line.done());
    in.write("one\ntwo");
    const std::string first = co_await std::move(line);
    CHECK(first == "one\n");
    in.write_eof();
    const std::string rest = co_await out.read_to_end();
    CHECK(rest == "two");
  }

  CORO_TEST_CASE_REAL("a full pipe is waited for") {
    auto& loop = event_loop::current();
    ends pipe = new_pipe();
    stream out = co_await loop.connect_read_pipe(std::move(pipe.out));
    stream in = co_await loop.connect_write_pipe(std::move(pipe.in));
    const std::string much(1 << 20, 'm');
    in.write(much);
    auto drained = in.drain();
    CHECK_FALSE(drained.done());
    auto reading = out.read_exactly(much.size());
    const std::string all = co_await std::move(reading);
    CHECK(all == much);
    co_await std::move(drained);
  }

  CORO_TEST_CASE_REAL("a pipe that nobody reads any more is a failure, and no signal") {
    auto& loop = event_loop::current();
    ends pipe = new_pipe();
    stream in = co_await loop.connect_write_pipe(std::move(pipe.in));
    pipe.out.reset();
    in.write("nobody");
    const auto failed = co_await as_result(in.drain());
    CHECK(failed.code() == std::errc::broken_pipe);
  }

  CORO_TEST_CASE_REAL("a descriptor given by number stays the caller's, and blocking for him") {
    auto& loop = event_loop::current();
    const ends pipe = new_pipe();
    CHECK(::write(pipe.in.get(), "mine", 4) == 4);
    {
      stream out = co_await loop.connect_read_pipe(pipe.out.get());
      stream in = co_await loop.connect_write_pipe(pipe.in.get());
      const std::string text = co_await out.read(2);
      CHECK(text == "mi");
      in.write("!");
      co_await in.close();
      CHECK(blocks(pipe.out.get()));
      CHECK(blocks(pipe.in.get()));
    }
    char rest[8] = {};
    CHECK(::read(pipe.out.get(), rest, sizeof rest) == 1);  // the stream had read "ne"
    CHECK(rest[0] == '!');
  }

  CORO_TEST_CASE_REAL("what cannot be opened again is given back as it was") {
    auto& loop = event_loop::current();
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    CHECK(blocks(mine.get()));
    {
      stream out = co_await loop.connect_read_pipe(mine.get());
      CHECK_FALSE(blocks(mine.get()));
      CHECK(::write(theirs.get(), "x\n", 2) == 2);
      const std::string line = co_await out.read_line();
      CHECK(line == "x\n");
    }
    CHECK(blocks(mine.get()));
  }

  CORO_TEST_CASE_REAL("what two streams share is given back when both have gone") {
    auto& loop = event_loop::current();
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    stream out = co_await loop.connect_write_pipe(mine.get());
    stream in = co_await loop.connect_read_pipe(mine.get());
    out = stream();
    CHECK_FALSE(blocks(mine.get()));  // or the next read keeps the loop
    in = stream();
    CHECK(blocks(mine.get()));
  }

  CORO_TEST_CASE_REAL("a socket given by number can be used by others when its streams have gone") {
    auto& loop = event_loop::current();
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    {
      stream in = co_await loop.connect_read_pipe(mine.get());
      CHECK(::write(theirs.get(), "ask\n", 4) == 4);
      const std::string asked = co_await in.read_line();
      CHECK(asked == "ask\n");
    }
    {
      stream out = co_await loop.connect_write_pipe(mine.get());
      out.write("told");
      co_await out.close();
    }
    { stream dropped = co_await loop.connect_write_pipe(mine.get()); }
    CHECK(::send(mine.get(), " more", 5, MSG_NOSIGNAL) == 5);
    char text[16] = {};
    CHECK(::recv(theirs.get(), text, 9, MSG_WAITALL) == 9);
    CHECK(std::string_view(text) == "told more");
  }

  CORO_TEST_CASE_REAL("a stream that reads from a socket does not end what is written to it") {
    auto& loop = event_loop::current();
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    unique_fd copy(::fcntl(mine.get(), F_DUPFD_CLOEXEC, 3));
    { stream in = co_await loop.connect_read_pipe(std::move(copy)); }
    CHECK(::send(mine.get(), "x", 1, MSG_NOSIGNAL) == 1);
    // One that writes does, if it is its own.
    copy.reset(::fcntl(mine.get(), F_DUPFD_CLOEXEC, 3));
    { stream out = co_await loop.connect_write_pipe(std::move(copy)); }
    char text[4] = {};
    CHECK(::recv(theirs.get(), text, 4, MSG_WAITALL) == 1);
  }

  CORO_TEST_CASE_REAL("aborting a stream leaves the socket that was given by number as it was") {
    auto& loop = event_loop::current();
    const unique_fd mine(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    for (const bool reads : {true, false}) {
      const auto linger_of = [&] {
        linger value{};
        socklen_t size = sizeof value;
        ::getsockopt(mine.get(), SOL_SOCKET, SO_LINGER, &value, &size);
        return value.l_onoff;
      };
      stream s;
      if (reads) {
        s = co_await loop.connect_read_pipe(mine.get());
      } else {
        s = co_await loop.connect_write_pipe(mine.get());
      }
      s.abort();
      CHECK(linger_of() == 0);
    }
  }

  CORO_TEST_CASE_REAL("a file is read as a pipe would be, from where it stands") {
    auto& loop = event_loop::current();
    const unique_fd file = new_file("one\ntwo\n");
    ::lseek(file.get(), 4, SEEK_SET);
    stream in = co_await loop.connect_read_pipe(file.get());
    const std::string line = co_await in.read_line();
    CHECK(line == "two\n");
    const std::string end = co_await in.read_line();
    CHECK(end.empty());
  }

  CORO_TEST_CASE_REAL("a file is written, and the null device read and written") {
    auto& loop = event_loop::current();
    const unique_fd file = new_file("");
    stream out = co_await loop.connect_write_pipe(file.get());
    out.write("text");
    co_await out.close();
    char text[8] = {};
    CHECK(::pread(file.get(), text, sizeof text, 0) == 4);
    CHECK(std::string_view(text) == "text");
    stream nothing = co_await loop.connect_read_pipe(pulsar::open_null_device());
    const std::string end = co_await nothing.read_to_end();
    CHECK(end.empty());
    stream nowhere = co_await loop.connect_write_pipe(pulsar::open_null_device());
    nowhere.write(std::string(100'000, 'x'));
    co_await nowhere.close();
  }

  CORO_TEST_CASE_REAL("a terminal is read line by line, and stays blocking for others") {
    auto& loop = event_loop::current();
    const unique_fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    CHECK(::grantpt(master.get()) == 0);
    CHECK(::unlockpt(master.get()) == 0);
    char name[64];
    CHECK(::ptsname_r(master.get(), name, sizeof name) == 0);
    const unique_fd terminal(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    stream keys = co_await loop.connect_read_pipe(terminal.get());
    stream screen = co_await loop.connect_write_pipe(terminal.get());
    CHECK(blocks(terminal.get()));
    auto typed = keys.read_line();
    CHECK(::write(master.get(), "hello\n", 6) == 6);
    const std::string line = co_await std::move(typed);
    CHECK(line == "hello\n");
    stream display = co_await loop.connect_read_pipe(master.get());
    const std::string echo = co_await display.read_line();
    CHECK(echo == "hello\r\n");
    screen.write("shown\n");
    const std::string shown = co_await display.read_line();
    CHECK(shown == "shown\r\n");
    CHECK(::write(master.get(), "\x04", 1) == 1);  // Ctrl-D
    const std::string end = co_await keys.read_line();
    CHECK(end.empty());
  }

  CORO_TEST_CASE_REAL("a FIFO is read until all who write have gone") {
    auto& loop = event_loop::current();
    const scratch_directory directory;
    const std::string path = directory.path("fifo");
    CHECK(::mkfifo(path.c_str(), 0600) == 0);
    unique_fd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    unique_fd one(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    unique_fd two(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    stream out = co_await loop.connect_read_pipe(std::move(reader));
    auto all = out.read_to_end();
    CHECK(::write(one.get(), "1", 1) == 1);
    one.reset();
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(all.done());
    CHECK(::write(two.get(), "2", 1) == 1);
    two.reset();
    const std::string text = co_await std::move(all);
    CHECK(text == "12");
  }

  CORO_TEST_CASE_REAL("a FIFO that nobody has opened to write yet is waited for") {
    auto& loop = event_loop::current();
    const scratch_directory directory;
    const std::string path = directory.path("fifo");
    CHECK(::mkfifo(path.c_str(), 0600) == 0);
    unique_fd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    stream out = co_await loop.connect_read_pipe(std::move(reader));
    auto given_up = out.read();
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(given_up.done());
    given_up.cancel();
    auto all = out.read_to_end();
    co_await pulsar::sleep(1ms);
    CHECK_FALSE(all.done());
    unique_fd writer(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    CHECK(::write(writer.get(), "late", 4) == 4);
    writer.reset();
    const std::string text = co_await std::move(all);
    CHECK(text == "late");
  }

  CORO_TEST_CASE_REAL("a FIFO whose writer came and went has ended, opened anew or not") {
    auto& loop = event_loop::current();
    const scratch_directory directory;
    const std::string path = directory.path("fifo");
    CHECK(::mkfifo(path.c_str(), 0600) == 0);
    for (const bool blocking : {false, true}) {
      unique_fd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
      CHECK(unique_fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC)));
      if (blocking) CHECK(::fcntl(reader.get(), F_SETFL, 0) == 0);
      stream out = co_await loop.connect_read_pipe(std::move(reader));
      const std::string text = co_await out.read();
      CHECK(text.empty());
    }
  }

  CORO_TEST_CASE_REAL("who writes next to a pipe is not cut short by who reads it slowly") {
    auto& loop = event_loop::current();
    ends pipe = new_pipe();
    stream in = co_await loop.connect_write_pipe(std::move(pipe.in));
    in.write(std::string(200'000, 'x'));
    const auto late = co_await as_result(with_timeout(in.drain(), 1ms));
    CHECK(late.code() == errc::timed_out);
    stream out = co_await loop.connect_read_pipe(std::move(pipe.out));
    auto all = out.read_to_end();
    in.write("!");
    co_await in.close();
    const std::string text = co_await std::move(all);
    CHECK(text.size() == 200'001);
    CHECK(text.back() == '!');
  }

  CORO_TEST_CASE_REAL("what cannot be a pipe is refused with a sentence") {
    auto& loop = event_loop::current();
    const ends pipe = new_pipe();
    const auto backwards = co_await as_result(loop.connect_read_pipe(pipe.in.get()));
    CHECK(backwards.code() == std::errc::invalid_argument);
    CHECK(backwards.message() == "descriptor " + std::to_string(pipe.in.get()) +
                                     " is open for writing alone: Invalid argument");
    const auto forwards = co_await as_result(loop.connect_write_pipe(pipe.out.get()));
    CHECK(forwards.code() == std::errc::invalid_argument);
    const auto closed = co_await as_result(loop.connect_read_pipe(-1));
    CHECK(closed.code() == std::errc::bad_file_descriptor);
    const auto directory = co_await as_result(
        loop.connect_read_pipe(unique_fd(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC))));
    CHECK(directory.code() == std::errc::invalid_argument);
  }
}
