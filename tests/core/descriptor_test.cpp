// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/descriptor.hpp>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <set>
#include <type_traits>

using pulsar::unique_fd;

namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// Puts the soft limit back when the test ends.
struct limit_guard {
  limit_guard() { ::getrlimit(RLIMIT_NOFILE, &before); }
  limit_guard(const limit_guard&) = delete;
  limit_guard& operator=(const limit_guard&) = delete;
  ~limit_guard() { ::setrlimit(RLIMIT_NOFILE, &before); }

  void set_soft(rlim_t soft) const {
    const rlimit wanted{soft, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &wanted) == 0);
  }

  rlimit before{};
};

}  // namespace

TEST_SUITE("descriptor") {
  TEST_CASE("a unique_fd closes what it owns, once") {
    int number = -1;
    {
      unique_fd owner = pulsar::open_null_device();
      number = owner.get();
      REQUIRE(is_open(number));
      unique_fd other = std::move(owner);
      CHECK(owner.get() == -1);
      CHECK_FALSE(owner);
      CHECK(other.get() == number);
      CHECK(is_open(number));
    }
    CHECK_FALSE(is_open(number));
    static_assert(!std::is_copy_constructible_v<unique_fd>);
    static_assert(std::is_nothrow_move_assignable_v<unique_fd>);
  }

  TEST_CASE("assigning to a unique_fd closes the one before, and assigning it to itself does not") {
    unique_fd owner = pulsar::open_null_device();
    const int first = owner.get();
    unique_fd next = pulsar::open_null_device();
    const int second = next.get();
    owner = std::move(next);
    CHECK_FALSE(is_open(first));
    CHECK(owner.get() == second);
    unique_fd& same = owner;
    owner = std::move(same);
    CHECK(owner.get() == second);
    CHECK(is_open(second));
    owner.reset(second);
    CHECK(is_open(second));
  }

  TEST_CASE("a released descriptor stays open and belongs to the caller") {
    unique_fd owner = pulsar::open_null_device();
    const int number = owner.release();
    CHECK_FALSE(owner);
    owner.reset();
    CHECK(is_open(number));
    ::close(number);
  }

  TEST_CASE("closing leaves errno alone, so that an error can be reported afterwards") {
    unique_fd wrong(1'000'000);
    errno = ENOENT;
    wrong.reset();
    CHECK(errno == ENOENT);
  }

  TEST_CASE("flags are added, not replaced") {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const unique_fd reader(ends[0]);
    const unique_fd writer(ends[1]);
    CHECK((::fcntl(reader.get(), F_GETFD) & FD_CLOEXEC) == 0);
    pulsar::set_close_on_exec(reader.get());
    CHECK((::fcntl(reader.get(), F_GETFD) & FD_CLOEXEC) != 0);

    REQUIRE(::fcntl(writer.get(), F_SETFL, O_APPEND) == 0);
    pulsar::set_non_blocking(writer.get());
    pulsar::set_non_blocking(writer.get());
    CHECK((::fcntl(writer.get(), F_GETFL) & (O_NONBLOCK | O_APPEND)) == (O_NONBLOCK | O_APPEND));
  }

  TEST_CASE("flags of a closed descriptor are an error that names it") {
    for (const auto change : {&pulsar::set_close_on_exec, &pulsar::set_non_blocking}) {
      try {
        change(987);
        FAIL("no error");
      } catch (const pulsar::error& e) {
        CHECK(e.code() == std::errc::bad_file_descriptor);
        CHECK(std::string(e.what()).find("descriptor 987") != std::string::npos);
      }
    }
  }

  TEST_CASE("a socket pair is connected, of the type asked for, and close-on-exec") {
    for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
      const auto [mine, theirs] = pulsar::socket_pair(type);
      for (const int fd : {mine.get(), theirs.get()}) {
        int actual = -1;
        socklen_t size = sizeof actual;
        REQUIRE(::getsockopt(fd, SOL_SOCKET, SO_TYPE, &actual, &size) == 0);
        CHECK(actual == type);
        CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
      }
      REQUIRE(::write(mine.get(), "x", 1) == 1);
      char byte = 0;
      CHECK(::read(theirs.get(), &byte, 1) == 1);
      CHECK(byte == 'x');
    }
  }

  TEST_CASE("the null device swallows and gives nothing") {
    const unique_fd null = pulsar::open_null_device();
    struct stat what {};
    REQUIRE(::fstat(null.get(), &what) == 0);
    CHECK(major(what.st_rdev) == 1);
    CHECK(minor(what.st_rdev) == 3);
    CHECK((::fcntl(null.get(), F_GETFD) & FD_CLOEXEC) != 0);
    char byte = 0;
    CHECK(::write(null.get(), &byte, 1) == 1);
    CHECK(::read(null.get(), &byte, 1) == 0);
  }

  TEST_CASE("the soft limit is raised up to the ceiling and never lowered") {
    const limit_guard limit;
    REQUIRE(limit.before.rlim_max > 300);
    limit.set_soft(200);
    CHECK(pulsar::raise_descriptor_limit(256) == 256);
    CHECK(pulsar::raise_descriptor_limit(100) == 256);
    const rlim_t raised = pulsar::raise_descriptor_limit();
    CHECK(raised == std::min(limit.before.rlim_max, rlim_t{1} << 20));
    rlimit now{};
    ::getrlimit(RLIMIT_NOFILE, &now);
    CHECK(now.rlim_cur == raised);
    CHECK(now.rlim_max == limit.before.rlim_max);
  }

  TEST_CASE("open descriptors are listed in order, without the list's own") {
    const auto before = pulsar::open_descriptors();
    CHECK(std::is_sorted(before.begin(), before.end()));
    for (const int fd : before) CHECK(is_open(fd));
    {
      const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
      const auto during = pulsar::open_descriptors();
      std::set<int> more(during.begin(), during.end());
      for (const int fd : before) more.erase(fd);
      CHECK(more == std::set<int>{mine.get(), theirs.get()});
    }
    CHECK(pulsar::open_descriptors() == before);
  }

  TEST_CASE("nothing made here takes the place of a closed standard descriptor") {
    const int kept = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 100);
    REQUIRE(kept >= 0);
    ::close(STDIN_FILENO);
    {
      const unique_fd null = pulsar::open_null_device();
      const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
      CHECK_FALSE(is_open(STDIN_FILENO));
      for (const int fd : {null.get(), mine.get(), theirs.get()}) {
        CHECK(fd > STDERR_FILENO);
        CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
      }
    }
    ::dup2(kept, STDIN_FILENO);
    ::close(kept);
  }

  TEST_CASE("running out of descriptors says so and how to mend it") {
    const limit_guard limit;
    limit.set_soft(static_cast<rlim_t>(pulsar::open_descriptors().back()) + 1);
    std::vector<unique_fd> taken;
    try {
      for (int i = 0; i < 10'000; ++i) taken.push_back(pulsar::open_null_device());
      FAIL("no error");
    } catch (const pulsar::error& e) {
      taken.clear();  // UBSan needs a descriptor to look at an exception's type
      CHECK(e.code() == std::errc::too_many_files_open);
      CHECK(std::string(e.what()).find("/dev/null") != std::string::npos);
      CHECK(std::string(e.what()).find("ulimit -n") != std::string::npos);
    }
  }
}
