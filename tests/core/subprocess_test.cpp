// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/result.hpp>
#include <pulsar/core/subprocess.hpp>
#include <pulsar/core/timeout.hpp>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/coro_test.hpp"
#include "support/debug_mode.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using pulsar::as_result;
using pulsar::dropped_process;
using pulsar::environment_change;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::exit_status;
using pulsar::future;
using pulsar::process;
using pulsar::process_output;
using pulsar::stdio;
using pulsar::subprocess_options;
using pulsar::unique_fd;

namespace {

constexpr subprocess_options piped{
    .standard_input = stdio::pipe, .standard_output = stdio::pipe, .standard_error = stdio::pipe};
constexpr subprocess_options with_output{.standard_input = stdio::null,
                                         .standard_output = stdio::pipe};
constexpr subprocess_options quiet{.standard_input = stdio::null};

// A test that is abandoned leaves nobody behind.
constexpr subprocess_options killed{.standard_input = stdio::null,
                                    .standard_output = stdio::pipe,
                                    .if_dropped = dropped_process::killed};

constexpr subprocess_options fed{.standard_input = stdio::pipe,
                                 .standard_output = stdio::pipe,
                                 .if_dropped = dropped_process::killed};

bool exists(pid_t pid) { return ::kill(pid, 0) == 0; }

}  // namespace

TEST_SUITE("subprocess") {
  CORO_TEST_CASE_REAL("a program is given its input, and its output and end are waited for") {
    auto& loop = event_loop::current();
    process sort = co_await loop.subprocess_exec("sort", "-n", piped);
    CHECK_FALSE(sort.returncode());
    const process_output sorted = co_await sort.communicate("10\n9\n");
    CHECK(sorted.output == "9\n10\n");
    CHECK(sorted.errors.empty());
    CHECK(sorted.status.success());
    CHECK(sort.returncode() == 0);
    const exit_status again = co_await sort.wait();
    CHECK(again.success());
  }

  CORO_TEST_CASE_REAL("arguments that are known at run time alone come in a vector") {
    auto& loop = event_loop::current();
    std::vector<std::string> command{"echo"};
    for (int i = 0; i < 3; ++i) command.push_back("a  " + std::to_string(i));
    process all = co_await loop.subprocess_exec(command, with_output);
    process_output said = co_await all.communicate();
    CHECK(said.output == "a  0 a  1 a  2\n");
    command.erase(command.begin());
    process some = co_await loop.subprocess_exec("printf", "%s,", command, "end", with_output);
    said = co_await some.communicate();
    CHECK(said.output == "a  0,a  1,a  2,end,");
    const std::vector<std::string> nothing;
    const auto refused = co_await as_result(loop.subprocess_exec(nothing, quiet));
    CHECK(refused.code() == std::errc::invalid_argument);
    CHECK(refused.message().starts_with("subprocess_exec needs the name of a program"));
  }

  CORO_TEST_CASE_REAL("a shell's line is run, its output and errors are told apart") {
    auto& loop = event_loop::current();
    process shell = co_await loop.subprocess_shell("echo out | cat; echo err >&2; exit 3", piped);
    const process_output said = co_await shell.communicate();
    CHECK(said.output == "out\n");
    CHECK(said.errors == "err\n");
    CHECK(said.status == exit_status{.code = 3});
    CHECK(shell.returncode() == 3);
  }

  CORO_TEST_CASE_REAL("standard error goes where standard output does") {
    auto& loop = event_loop::current();
    const subprocess_options both{.standard_input = stdio::null,
                                  .standard_output = stdio::pipe,
                                  .standard_error = stdio::output};
    process shell = co_await loop.subprocess_shell("echo a; echo b >&2; echo c", both);
    const process_output said = co_await shell.communicate();
    CHECK(said.output == "a\nb\nc\n");
  }

  TEST_CASE("megabytes go both ways at once") {
    event_loop loop;
    const auto body = [](event_loop& l) -> future<> {
      process cat = co_await l.subprocess_exec("cat", piped);
      std::string much(8 << 20, 'x');
      for (std::size_t i = 0; i < much.size(); i += 1000) much[i] = '\n';
      const process_output back = co_await cat.communicate(much);
      CHECK(back.output == much);
      CHECK(back.status.success());
    };
    loop.run_until_complete([&] { return body(loop); });
  }

  CORO_TEST_CASE_REAL("a dialogue: what is written is answered before more is written") {
    auto& loop = event_loop::current();
    process cat = co_await loop.subprocess_exec("cat", piped);
    cat.standard_input().write("one\n");
    co_await cat.standard_input().drain();
    const std::string first = co_await cat.standard_output().read_line();
    CHECK(first == "one\n");
    cat.standard_input().write("two\n");
    const std::string second = co_await cat.standard_output().read_line();
    CHECK(second == "two\n");
    cat.standard_input().write_eof();
    const std::string end = co_await cat.standard_output().read_line();
    CHECK(end.empty());
    const exit_status ended = co_await cat.wait();
    CHECK(ended.success());
  }

  CORO_TEST_CASE_REAL("who does not want its input, or ends early, is no failure") {
    auto& loop = event_loop::current();
    process head = co_await loop.subprocess_exec("head", "-c", "1", piped);
    const process_output first = co_await head.communicate(std::string(300'000, 'h'));
    CHECK(first.output == "h");
    CHECK(first.status.success());
    process none = co_await loop.subprocess_exec("true", piped);
    const process_output nothing = co_await none.communicate(std::string(300'000, 'h'));
    CHECK(nothing.status.success());
    process closes = co_await loop.subprocess_shell("exec <&- >&- 2>&-; exit 5", piped);
    const process_output silent = co_await closes.communicate(std::string(300'000, 'h'));
    CHECK(silent.status.code == 5);
  }

  CORO_TEST_CASE_REAL("a program that floods is bounded") {
    auto& loop = event_loop::current();
    process yes = co_await loop.subprocess_exec("yes", with_output);
    const auto flood = co_await as_result(yes.communicate("", 100'000));
    if (flood.code() == errc::cancelled) co_return;  // it is not told again
    CHECK(flood.code() == errc::too_large);
    CHECK(yes.kill());
    const exit_status ended = co_await yes.wait();
    CHECK(ended.signal == SIGKILL);
  }

  CORO_TEST_CASE_REAL("signals end it, and the end says which") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto& loop = event_loop::current();
    process one = co_await loop.subprocess_exec("sleep", "1000", killed);
    CHECK(one.terminate());
    const exit_status terminated = co_await one.wait();
    CHECK(terminated.signal == SIGTERM);
    CHECK(one.returncode() == -SIGTERM);
    CHECK_FALSE(one.kill());
    CHECK_FALSE(one.send_signal(SIGTERM));
    process two = co_await loop.subprocess_exec("sleep", "1000", killed);
    CHECK(two.send_signal(SIGSTOP));
    const auto late = co_await as_result(with_timeout(two.wait(), 1ms));
    if (late.code() == errc::cancelled) co_return;  // it is not told again
    CHECK(late.code() == errc::timed_out);
    CHECK(two.kill());
    const exit_status killed = co_await two.wait();
    CHECK(killed.signal == SIGKILL);
  }

  CORO_TEST_CASE_REAL("any number may wait, and who gives it up takes nothing from the rest") {
    auto& loop = event_loop::current();
    process cat = co_await loop.subprocess_exec("cat", piped);
    auto one = cat.wait();
    auto two = cat.wait();
    auto three = cat.wait();
    CHECK(two.cancel());
    cat.standard_input().write_eof();
    const exit_status first = co_await std::move(one);
    const exit_status third = co_await std::move(three);
    CHECK(first.success());
    CHECK(third.success());
    CHECK(two.cancelled());
  }

  CORO_TEST_CASE_REAL("what was read is not lost when communicate is given up") {
    const without_debug_mode scope;  // it drops futures on purpose
    auto& loop = event_loop::current();
    const subprocess_options both{.standard_input = stdio::null,
                                  .standard_output = stdio::pipe,
                                  .standard_error = stdio::pipe,
                                  .if_dropped = dropped_process::killed};
    process shell =
        co_await loop.subprocess_shell("echo early; echo said >&2; exec sleep 1000", both);
    const std::string line = co_await shell.standard_error().read_line();
    CHECK(line == "said\n");
    const auto late = co_await as_result(with_timeout(shell.communicate(), 5ms));
    if (late.code() == errc::cancelled) co_return;  // it is not told again
    CHECK(late.code() == errc::timed_out);
    CHECK(shell.kill());
    const process_output rest = co_await shell.communicate();
    CHECK(rest.output == "early\n");
    CHECK(rest.status.signal == SIGKILL);
  }

  CORO_TEST_CASE_REAL("input that is under way when communicate is given up is not cut off") {
    auto& loop = event_loop::current();
    const std::string input(1'000'000, 'w');
    process counter = co_await loop.subprocess_exec("wc", "-c", fed);
    CHECK(counter.send_signal(SIGSTOP));
    const auto late = co_await as_result(with_timeout(counter.communicate(input), 5ms));
    if (late.code() == errc::cancelled) co_return;  // it is not told again
    CHECK(late.code() == errc::timed_out);
    CHECK(counter.send_signal(SIGCONT));
    const process_output rest = co_await counter.communicate();
    CHECK(rest.output == "1000000\n");
    // Nor if nobody calls it again.
    counter = co_await loop.subprocess_exec("wc", "-c", fed);
    CHECK(counter.send_signal(SIGSTOP));
    counter.communicate(input).cancel();
    CHECK(counter.send_signal(SIGCONT));
    const std::string count = co_await counter.standard_output().read_to_end();
    CHECK(count == "1000000\n");
    const auto more = co_await as_result(counter.communicate("more"));
    CHECK(more.code() == errc::closed);
  }

  CORO_TEST_CASE_REAL("a program that dies with its input under way is no failure") {
    auto& loop = event_loop::current();
    process idle = co_await loop.subprocess_exec("sleep", "1000", fed);
    const std::string input(1'000'000, 'w');
    const auto late = co_await as_result(with_timeout(idle.communicate(input), 5ms));
    if (late.code() == errc::cancelled) co_return;  // it is not told again
    CHECK(late.code() == errc::timed_out);
    CHECK(idle.kill());
    const process_output rest = co_await idle.communicate();
    CHECK(rest.status.signal == SIGKILL);
  }

  CORO_TEST_CASE_REAL("a grandchild may keep a pipe, not the wait") {
    auto& loop = event_loop::current();
    process shell = co_await loop.subprocess_shell("exec 3<&0; cat <&3 & echo on", piped);
    const exit_status ended = co_await shell.wait();
    CHECK(ended.success());
    const std::string line = co_await shell.standard_output().read_line();
    CHECK(line == "on\n");
    const auto late = co_await as_result(with_timeout(shell.standard_output().read_line(), 1ms));
    CHECK(late.code() == errc::timed_out);
    shell.standard_input().write_eof();
    const std::string end = co_await shell.standard_output().read_line();
    CHECK(end.empty());
  }

  CORO_TEST_CASE_REAL("a signal to its group reaches what it has started") {
    auto& loop = event_loop::current();
    const subprocess_options group{
        .standard_input = stdio::pipe, .standard_output = stdio::pipe, .process_group = 0};
    process shell = co_await loop.subprocess_shell("exec 3<&0; cat <&3 & echo on; wait", group);
    const std::string line = co_await shell.standard_output().read_line();
    CHECK(line == "on\n");
    CHECK(shell.signal_group(SIGKILL));
    const std::string end = co_await shell.standard_output().read_to_end();  // both have closed it
    CHECK(end.empty());
    const exit_status ended = co_await shell.wait();
    CHECK(ended.signal == SIGKILL);
    CHECK_FALSE(shell.signal_group(SIGKILL));
    process alone = co_await loop.subprocess_exec("true", quiet);
    CHECK_THROWS_WITH_AS(alone.signal_group(SIGTERM),
                         "signal_group of a process that has no group of its own: start it with "
                         ".process_group = 0: Invalid argument",
                         pulsar::error);
    co_await alone.wait();
  }

  CORO_TEST_CASE_REAL("environment, directory and descriptors are what was asked for") {
    auto& loop = event_loop::current();
    const std::vector<environment_change> changes{{"PULSAR_TEST", "set"}, {"HOME", std::nullopt}};
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    const unique_fd read_end(ends[0]);
    unique_fd write_end(ends[1]);
    const int passed[] = {write_end.get()};
    const subprocess_options options{.standard_input = stdio::null,
                                     .standard_output = stdio::pipe,
                                     .environment = changes,
                                     .working_directory = "/",
                                     .descriptors = passed};
    process shell = co_await loop.subprocess_shell(
        "echo \"$PULSAR_TEST ${HOME-none} $(pwd)\"; echo three >&3; "
        "for fd in /proc/self/fd/*; do echo ${fd##*/}; done",
        options);
    const process_output said = co_await shell.communicate();
    CHECK(said.output.starts_with("set none /\n0\n1\n2\n3\n"));
    write_end.reset();
    char text[16] = {};
    CHECK(::read(read_end.get(), text, sizeof text) == 6);
    CHECK(std::string_view(text) == "three\n");
  }

  CORO_TEST_CASE_REAL("its output goes to a descriptor that is given") {
    auto& loop = event_loop::current();
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    const unique_fd read_end(ends[0]);
    const unique_fd write_end(ends[1]);
    const subprocess_options options{.standard_input = stdio::null,
                                     .standard_output = stdio::descriptor(write_end.get())};
    process echo = co_await loop.subprocess_exec("echo", "there", options);
    co_await echo.wait();
    char text[16] = {};
    CHECK(::read(read_end.get(), text, sizeof text) == 6);
    CHECK(std::string_view(text) == "there\n");
  }

  CORO_TEST_CASE_REAL("what cannot be started fails with its name and the reason") {
    auto& loop = event_loop::current();
    auto missing = co_await as_result(loop.subprocess_exec("/no/such/program", piped));
    const std::size_t before = pulsar::open_descriptors().size();
    missing = co_await as_result(loop.subprocess_exec("/no/such/program", piped));
    CHECK(missing.code() == std::errc::no_such_file_or_directory);
    CHECK(missing.message().starts_with("cannot start '/no/such/program': "));
    const auto directory = co_await as_result(loop.subprocess_exec("/tmp", piped));
    CHECK(directory.code() == std::errc::permission_denied);
    const subprocess_options nowhere{.working_directory = "/no/such/directory"};
    const auto lost = co_await as_result(loop.subprocess_exec("true", nowhere));
    CHECK(lost.code() == std::errc::no_such_file_or_directory);
    const subprocess_options odd{.standard_output = stdio::output};
    const auto refused = co_await as_result(loop.subprocess_exec("true", odd));
    CHECK(refused.code() == std::errc::invalid_argument);
    CHECK(pulsar::open_descriptors().size() <= before);  // those of children dropped earlier go
    process shell = co_await loop.subprocess_shell("no-such-program-at-all 2>&1", with_output);
    const exit_status not_found = co_await shell.wait();
    CHECK(not_found.code == 127);
  }

  TEST_CASE("too few descriptors are a failure that leaves none open") {
    event_loop loop;
    loop.run_until_complete(
        loop.create_task([&loop] { return loop.subprocess_exec("true", piped); })
            .then([](process p) { return p.wait(); }));
    const std::vector<int> before = pulsar::open_descriptors();
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlimit few = limit;
    for (int spare = 1; spare < 7; ++spare) {
      few.rlim_cur = static_cast<rlim_t>(before.back() + 1 + spare);
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
      auto started = loop.subprocess_exec("true", piped);
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
      CHECK(started.done());
      if (started.exception() == nullptr) {
        const process p = started.result();
        loop.run_until_complete(p.wait());
      }
    }
    CHECK(pulsar::open_descriptors() == before);
  }

  TEST_CASE("what cannot be watched for want of a descriptor does not run") {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlimit few = limit;
    int failures = 0;
    for (int spare = 0; spare < 10; ++spare) {
      event_loop loop;
      int ends[2];
      REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
      const unique_fd read_end(ends[0]);
      unique_fd write_end(ends[1]);
      const int passed[] = {write_end.get()};
      const subprocess_options options{
          .standard_input = stdio::null, .standard_output = stdio::pipe, .descriptors = passed};
      few.rlim_cur = static_cast<rlim_t>(pulsar::open_descriptors().back() + 1 + spare);
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
      std::vector<unique_fd> others;
      while (unique_fd other{::fcntl(read_end.get(), F_DUPFD_CLOEXEC, 0)}) {
        others.push_back(std::move(other));
      }
      others.resize(others.size() - static_cast<std::size_t>(spare));
      auto started = loop.subprocess_exec("sleep", "1000", options);
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
      write_end.reset();
      REQUIRE(started.done());
      if (started.exception() == nullptr) {
        const process p = started.result();
        CHECK(p.kill());
        loop.run_until_complete(p.wait());
      } else {
        ++failures;
      }
      char byte = 0;
      CHECK(::read(read_end.get(), &byte, 1) == 0);  // nobody has the other end
    }
    CHECK(failures > 2);
  }

  CORO_TEST_CASE_REAL("a descriptor that is none is no other choice of stdio") {
    auto& loop = event_loop::current();
    for (const int none : {-1, -2, -3, -5}) {
      const subprocess_options options{.standard_input = stdio::descriptor(none)};
      const auto refused = co_await as_result(loop.subprocess_exec("true", options));
      CHECK(refused.code() == std::errc::bad_file_descriptor);
    }
  }

  CORO_TEST_CASE_REAL("a stream that is no pipe is refused with what to do") {
    auto& loop = event_loop::current();
    process quiet_one = co_await loop.subprocess_exec("true", quiet);
    CHECK_THROWS_WITH_AS(quiet_one.standard_output(),
                         "standard_output() of a process that was started without a pipe there: "
                         "set subprocess_options::standard_output to stdio::pipe: Invalid argument",
                         pulsar::error);
    const auto deaf = co_await as_result(quiet_one.communicate("text"));
    CHECK(deaf.code() == std::errc::invalid_argument);
    co_await quiet_one.wait();
  }

  CORO_TEST_CASE_REAL("one that ends unwatched leaves no zombie") {
    auto& loop = event_loop::current();
    pid_t pid = -1;
    {
      process cat = co_await loop.subprocess_exec("cat", piped);
      pid = cat.pid();
      CHECK(exists(pid));
    }  // its input ends
    while (exists(pid)) co_await pulsar::sleep(1ms);
  }

  CORO_TEST_CASE_REAL("one that is dropped is killed if that was asked for") {
    auto& loop = event_loop::current();
    process sleeping = co_await loop.subprocess_exec("sleep", "1000", killed);
    const pid_t pid = sleeping.pid();
    auto ended = sleeping.wait();
    sleeping = process();
    const exit_status how = co_await std::move(ended);
    CHECK(how.signal == SIGKILL);
    CHECK_FALSE(exists(pid));
  }

  CORO_TEST_CASE_REAL("communicate ends when its process is dropped") {
    auto& loop = event_loop::current();
    process cat = co_await loop.subprocess_exec("cat", piped);
    auto said = cat.communicate(std::string(300'000, 'c'));
    cat = process();
    const auto dropped = co_await as_result(std::move(said));
    CHECK(dropped.code() == errc::closed);
  }

  TEST_CASE("children that others have started are left to them") {
    const pid_t stranger = ::fork();
    if (stranger == 0) ::_exit(7);
    event_loop loop;
    loop.run_until_complete(
        loop.create_task([&loop] { return loop.subprocess_exec("true", quiet); })
            .then([](process p) { return p.wait(); }));
    int status = 0;
    CHECK(::waitpid(stranger, &status, 0) == stranger);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 7);
  }

  TEST_CASE("when its loop closes who waits is cancelled, and the process can still be killed") {
    process left;
    future<exit_status> waiting;
    {
      event_loop loop;
      left = loop.run_until_complete(
          loop.create_task([&loop] { return loop.subprocess_exec("sleep", "1000", piped); }));
      waiting = left.wait();
    }
    CHECK(waiting.cancelled());
    CHECK_THROWS_AS(left.wait().detach(), pulsar::error);
    CHECK(left.kill());
  }

  TEST_CASE("on a user's context") {
    asio::io_context context;
    std::optional<exit_status> ended;
    {
      event_loop loop(context);
      const auto body = [](event_loop& l) -> future<exit_status> {
        process shell = co_await l.subprocess_shell("exit 4", quiet);
        const exit_status how = co_await shell.wait();
        co_return how;
      };
      auto running = body(loop);
      context.run();
      ended = running.result();
    }
    CHECK(ended == exit_status{.code = 4});
  }

  TEST_CASE("a closed loop starts nothing") {
    event_loop loop;
    loop.close();
    CHECK_THROWS_AS(loop.subprocess_exec("true").detach(), pulsar::error);
  }
}
