// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/child.hpp>

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <sstream>

using pulsar::child;
using pulsar::exit_status;
using pulsar::spawn_child;
using pulsar::unique_fd;

namespace {

const std::string probe = std::string(PULSAR_TEST_PROGRAMS_DIR) + "/child_probe";

std::string read_all(int fd) {
  std::string text;
  char chunk[4096];
  for (;;) {
    const auto n = ::read(fd, chunk, sizeof chunk);
    if (n <= 0) return text;
    text.append(chunk, static_cast<std::size_t>(n));
  }
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Runs the probe to its end and returns what it printed, line by line.
std::vector<std::string> ask(std::vector<std::string> arguments,
                             pulsar::child_options options = {}) {
  arguments.insert(arguments.begin(), "probe");
  auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
  options.executable = probe;
  options.arguments = arguments;
  options.standard_output = theirs.get();
  child answering = spawn_child(options);
  theirs.reset();
  const auto text = read_all(mine.get());
  CHECK(to_string(answering.wait()) == "exit code 0");
  return lines_of(text);
}

child start(std::vector<std::string> arguments, int standard_input = pulsar::null_device) {
  arguments.insert(arguments.begin(), "probe");
  return spawn_child(
      {.executable = probe, .arguments = arguments, .standard_input = standard_input});
}

std::string identity(int fd) {
  struct stat what {};
  REQUIRE(::fstat(fd, &what) == 0);
  return std::to_string(what.st_dev) + ":" + std::to_string(what.st_ino);
}

bool has_ended(const child& one) {
  pollfd wanted{one.handle(), POLLIN, 0};
  return ::poll(&wanted, 1, 20'000) == 1;
}

std::vector<std::string> reported(const std::vector<int>& sources) {
  std::vector<std::string> expected{"0 " + identity(pulsar::open_null_device().get())};
  for (std::size_t i = 0; i < sources.size(); ++i) {
    expected.push_back(std::to_string(i + 3) + " " + identity(sources[i]));
  }
  return expected;
}

// What the probe has when it shall have `sources`; 1 and 2 are the test's own business.
std::vector<std::string> seen_with(const std::vector<int>& sources) {
  auto lines = ask({"descriptors"}, {.descriptors = sources});
  std::erase_if(lines, [](const std::string& line) {
    return line.starts_with("1 ") || line.starts_with("2 ");
  });
  return lines;
}

}  // namespace

TEST_SUITE("child") {
  TEST_CASE("a child that ends by itself reports its exit code") {
    for (const int code : {0, 3, 255}) {
      child one = start({"exit", std::to_string(code)});
      CHECK(one.pid() > 0);
      CHECK(one.wait() == exit_status{.code = code});
      CHECK(one.wait() == exit_status{.code = code});
      CHECK(one.try_wait() == exit_status{.code = code});
      CHECK_FALSE(one.running());
    }
  }

  TEST_CASE("a killed child reports the signal") {
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    child one = start({"until-end-of-input"}, theirs.get());
    CHECK(one.running());
    CHECK_FALSE(one.try_wait());
    pollfd handle{one.handle(), POLLIN, 0};
    CHECK(::poll(&handle, 1, 0) == 0);
    CHECK(one.signal(SIGKILL));
    REQUIRE(has_ended(one));
    CHECK(one.try_wait() == exit_status{.signal = SIGKILL});
    CHECK_FALSE(one.signal(SIGKILL));
  }

  TEST_CASE("a signal to a zombie is no error, and the zombie keeps its status") {
    child one = start({"exit", "4"});
    REQUIRE(has_ended(one));
    one.signal(SIGTERM);
    CHECK(one.wait() == exit_status{.code = 4});
  }

  TEST_CASE("a signal that does not exist is an error that names signal and process") {
    child one = start({"exit", "0"});
    try {
      one.signal(4711);
      FAIL("no error");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == std::errc::invalid_argument);
      CHECK(std::string(e.what()).find("signal 4711 to process " + std::to_string(one.pid())) !=
            std::string::npos);
    }
    one.wait();
  }

  TEST_CASE("a status reads as a person would say it") {
    CHECK(to_string(exit_status{.code = 3}) == "exit code 3");
    CHECK(to_string(exit_status{.signal = SIGKILL}) == "signal 9 (Killed)");
    CHECK(to_string(exit_status{.signal = SIGSEGV, .core = true}) ==
          "signal 11 (Segmentation fault), core dumped");
    CHECK(to_string(exit_status{.signal = 40}) == "signal 40");
    CHECK(exit_status{}.success());
    CHECK_FALSE(exit_status{.code = 1}.success());
    CHECK_FALSE(exit_status{.signal = SIGTERM}.success());
  }

  TEST_CASE("a child that dies by its own signal is told from one that exits") {
    child one = start({"kill", std::to_string(SIGTERM)});
    const auto status = one.wait();
    CHECK(status.signal == SIGTERM);
    CHECK(status.code == 0);
    CHECK(to_string(status) == "signal 15 (Terminated)");
  }

  TEST_CASE("moves of descriptors are right for every choice of sources") {
    // Simulates dup2 on a table of eight descriptors: every one of 9^4 choices of four sources.
    const int none = pulsar::null_device;
    for (int code = 0; code < 9 * 9 * 9 * 9; ++code) {
      std::vector<int> sources(4);
      for (int t = 0, rest = code; t < 4; ++t, rest /= 9) {
        sources[static_cast<std::size_t>(t)] = rest % 9 - 1;
      }
      std::map<int, int> table;
      for (int fd = 0; fd < 8; ++fd) table[fd] = fd;
      auto moved = sources;
      pulsar::detail::move_descriptors(moved, [&table](int from, int to) {
        REQUIRE(table.contains(from));
        table[to] = table[from];
      });
      for (int t = 0; t < 4; ++t) {
        const int source = sources[static_cast<std::size_t>(t)];
        if (source != none && table[t] != source) {
          FAIL("descriptor " << t << " is " << table[t] << " for choice " << code);
        }
      }
    }
  }

  TEST_CASE("a child has exactly the descriptors meant for it, in any permutation") {
    // Sources sit on the very numbers that the child shall have.
    std::vector<unique_fd> sockets;
    for (int i = 0; i < 4; ++i) {
      auto [a, b] = pulsar::socket_pair(SOCK_STREAM);
      sockets.push_back(std::move(a));
      sockets.push_back(std::move(b));
    }
    std::vector<int> saved;
    for (int number = 3; number <= 5; ++number)
      saved.push_back(::fcntl(number, F_DUPFD_CLOEXEC, 100));
    for (int number = 3; number <= 5; ++number) {
      REQUIRE(::dup2(sockets[static_cast<std::size_t>(number - 3)].get() > 5
                         ? sockets[static_cast<std::size_t>(number - 3)].get()
                         : sockets[static_cast<std::size_t>(number)].get(),
                     number) == number);
    }
    std::vector<int> order{3, 4, 5};
    do {
      CHECK(seen_with(order) == reported(order));
    } while (std::next_permutation(order.begin(), order.end()));

    const int high = ::fcntl(sockets[7].get(), F_DUPFD, 200);  // not even close-on-exec
    for (const auto& sources : std::vector<std::vector<int>>{
             {}, {5}, {3}, {high, 3}, {4, 3, high, 5}, {3, 3, 3}, {5, 5, 4, 3}, {high, high}}) {
      CHECK(seen_with(sources) == reported(sources));
    }
    ::close(high);
    for (int number = 3; number <= 5; ++number) {
      const int before = saved[static_cast<std::size_t>(number - 3)];
      if (before >= 0) {
        ::dup2(before, number);
        ::close(before);
      } else if (std::none_of(sockets.begin(), sockets.end(),
                              [&](const unique_fd& fd) { return fd.get() == number; })) {
        ::close(number);
      }
    }
  }

  TEST_CASE("descriptors of a child are not close-on-exec there and still are here") {
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    CHECK(seen_with({theirs.get()}) == reported({theirs.get()}));
    CHECK((::fcntl(theirs.get(), F_GETFD) & FD_CLOEXEC) != 0);
  }

  TEST_CASE("standard descriptors may be sources and may be given away") {
    const auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    // 0 and 2 of the child are one socket; what is 0 here becomes its 3.
    const std::vector<int> sources{STDOUT_FILENO};
    const auto lines = ask(
        {"descriptors"},
        {.descriptors = sources, .standard_input = theirs.get(), .standard_error = theirs.get()});
    REQUIRE(lines.size() == 4);
    CHECK(lines[0] == "0 " + identity(theirs.get()));
    CHECK(lines[2] == "2 " + identity(theirs.get()));
    CHECK(lines[3] == "3 " + identity(STDOUT_FILENO));
  }

  TEST_CASE("a standard descriptor that is closed here is the null device in the child") {
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    const std::vector<std::string> arguments{"probe", "descriptors"};
    const int kept = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
    REQUIRE(kept >= 0);
    ::close(STDERR_FILENO);
    child one =
        spawn_child({.executable = probe, .arguments = arguments, .standard_output = theirs.get()});
    REQUIRE(::dup2(kept, STDERR_FILENO) == STDERR_FILENO);
    ::close(kept);
    theirs.reset();
    const auto lines = lines_of(read_all(mine.get()));
    CHECK(one.wait().success());
    REQUIRE(lines.size() == 3);
    CHECK(lines[2] == "2 " + identity(pulsar::open_null_device().get()));
  }

  TEST_CASE("a source that is not open is refused before anything starts") {
    const std::vector<int> sources{987};
    try {
      static_cast<void>(spawn_child({.executable = probe, .descriptors = sources}));
      FAIL("no error");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == std::errc::bad_file_descriptor);
      CHECK(std::string(e.what()).find("descriptor 987") != std::string::npos);
      CHECK(std::string(e.what()).find("as 3") != std::string::npos);
    }
  }

  TEST_CASE("a child has the signal mask it was given and default actions, whatever is set here") {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    struct sigaction caught {};
    caught.sa_handler = [](int) {};
    struct sigaction pipe_before {};
    struct sigaction user_before {};
    ::sigaction(SIGPIPE, &ignore, &pipe_before);
    ::sigaction(SIGUSR1, &caught, &user_before);
    sigset_t blocked;
    sigset_t before;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGUSR2);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &before);

    const std::vector<int> mask{SIGINT, SIGHUP, SIGTERM, SIGQUIT};
    const auto with_mask = ask({"signals"}, {.blocked_signals = mask});
    const auto without = ask({"signals"});

    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::sigaction(SIGPIPE, &pipe_before, nullptr);
    ::sigaction(SIGUSR1, &user_before, nullptr);
    REQUIRE(with_mask.size() == 3);
    CHECK(with_mask[0] == "SigBlk 1 2 3 15");
    CHECK(with_mask[1] == "SigIgn");
    REQUIRE(without.size() == 3);
    CHECK(without[0] == "SigBlk");
    CHECK(without[1] == "SigIgn");
  }

  TEST_CASE("a child inherits the environment with the changes asked for") {
    ::setenv("PULSAR_TEST_KEPT", "kept", 1);
    ::setenv("PULSAR_TEST_CHANGED", "before", 1);
    ::setenv("PULSAR_TEST_REMOVED", "x", 1);
    const std::vector<pulsar::environment_change> changes{{"PULSAR_TEST_CHANGED", "after = yes"},
                                                          {"PULSAR_TEST_REMOVED", std::nullopt},
                                                          {"PULSAR_TEST_ADDED", "no"},
                                                          {"PULSAR_TEST_ADDED", ""}};
    auto lines = ask({"environment"}, {.environment = changes});
    std::erase_if(lines, [](const std::string& line) { return !line.starts_with("PULSAR_TEST_"); });
    std::sort(lines.begin(), lines.end());
    CHECK(lines == std::vector<std::string>{"PULSAR_TEST_ADDED=", "PULSAR_TEST_CHANGED=after = yes",
                                            "PULSAR_TEST_KEPT=kept"});
    CHECK(std::string(::getenv("PULSAR_TEST_CHANGED")) == "before");
    for (const char* name : {"PULSAR_TEST_KEPT", "PULSAR_TEST_CHANGED", "PULSAR_TEST_REMOVED"}) {
      ::unsetenv(name);
    }
  }

  TEST_CASE("a child has its arguments as they are, its directory and its process group") {
    CHECK(ask({"arguments", "", "two words", "*"}) ==
          std::vector<std::string>{"probe", "arguments", "", "two words", "*"});
    CHECK(ask({"place"}, {.working_directory = "/", .process_group = 0}) ==
          std::vector<std::string>{"/", "1"});
    CHECK(ask({"place"}).at(1) == "0");
  }

  TEST_CASE("a name without a slash is looked for in PATH") {
    CHECK(spawn_child({.executable = "true"}).wait().success());
  }

  TEST_CASE("what cannot be started is an error with path and reason, and leaves nothing") {
    const auto before = pulsar::open_descriptors();
    const auto failure = [](pulsar::child_options options) -> std::string {
      try {
        static_cast<void>(spawn_child(options));
        return "started";
      } catch (const pulsar::error& e) {
        return e.what();
      }
    };
    CHECK(failure({.executable = "/no/such/program"}) ==
          "cannot start '/no/such/program': No such file or directory");
    CHECK(failure({.executable = "/etc/passwd"}) ==
          "cannot start '/etc/passwd': Permission denied");
    CHECK(failure({.executable = "true", .working_directory = "/no/such/place"}) ==
          "cannot start 'true' in '/no/such/place': No such file or directory");
    CHECK(pulsar::open_descriptors() == before);
    siginfo_t info{};
    CHECK(::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1);
    CHECK(errno == ECHILD);
  }

  TEST_CASE("what no child can have is refused with a sentence") {
    using namespace std::string_literals;
    const std::string path = "/bin/tr\0ue"s;
    const std::vector<std::string> zero{"probe", "a\0b"s};
    const std::vector<pulsar::environment_change> no_name{{"", "x"}};
    const std::vector<pulsar::environment_change> equals{{"A=B", "x"}};
    const std::vector<pulsar::environment_change> value{{"A", "x\0y"s}};
    const std::vector<int> signals{4711};
    for (const auto& [options, words] : std::vector<std::pair<pulsar::child_options, std::string>>{
             {{.executable = probe, .arguments = zero}, "an argument"},
             {{.executable = path}, "the path"},
             {{.executable = probe, .environment = no_name}, "called ''"},
             {{.executable = probe, .environment = equals}, "called 'A=B'"},
             {{.executable = probe, .environment = value}, "a variable's value"},
             {{.executable = probe, .blocked_signals = signals}, "signal 4711"}}) {
      try {
        static_cast<void>(spawn_child(options));
        FAIL("no error where it should say: " << words);
      } catch (const pulsar::error& e) {
        CHECK(e.code() == std::errc::invalid_argument);
        CHECK_MESSAGE(std::string(e.what()).find(words) != std::string::npos, e.what());
      }
    }
  }

  TEST_CASE("without a descriptor for its handle a child is ended, reaped and reported") {
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    std::vector<unique_fd> filler;
    filler.push_back(pulsar::open_null_device());
    const rlimit tight{static_cast<rlim_t>(pulsar::open_descriptors().back()) + 1, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
    for (;;) {
      unique_fd next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (!next) break;
      filler.push_back(std::move(next));
    }
    std::string text = "started";
    std::error_code code;
    try {
      static_cast<void>(start({"exit", "0"}));
    } catch (const pulsar::error& e) {
      filler.clear();  // UBSan needs a descriptor to look at an exception's type
      text = e.what();
      code = e.code();
    }
    siginfo_t info{};
    const int left = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK(code == std::errc::too_many_files_open);
    CHECK(text.find("ulimit -n") != std::string::npos);
    CHECK(left == -1);
    CHECK(start({"exit", "5"}).wait() == exit_status{.code = 5});
  }

  TEST_CASE("a thousand children leave no descriptor and no zombie") {
    const auto before = pulsar::open_descriptors();
    for (int i = 0; i < 1'000; ++i) {
      child one = start({"exit", "0"});
      if (i % 3 == 0) {
        if (!one.wait().success()) FAIL("child " << i << " failed");
      } else if (i % 3 == 1) {
        if (!has_ended(one)) FAIL("child " << i << " never ended");
      }  // every third one is dropped while it runs
    }
    // The last ones dropped are collected by the next owners.
    siginfo_t info{};
    do {
      start({"exit", "0"}).wait();
    } while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    CHECK(errno == ECHILD);
    CHECK(pulsar::open_descriptors() == before);
  }

  TEST_CASE("moving a child moves the duty to reap it") {
    child none;
    CHECK(none.pid() == -1);
    CHECK(none.handle() == -1);
    CHECK_FALSE(none.running());
    CHECK_FALSE(none.try_wait());
    CHECK_FALSE(none.signal(SIGTERM));

    child first = start({"exit", "6"});
    const pid_t pid = first.pid();
    child second = std::move(first);
    CHECK(first.pid() == -1);
    CHECK_FALSE(first.running());
    CHECK(second.pid() == pid);
    none = std::move(second);
    CHECK(none.wait() == exit_status{.code = 6});
  }

  TEST_CASE("a status that somebody else took is 255 and a warning, not an endless wait") {
    static std::string logged;
    const auto sink =
        pulsar::log::set_sink([](pulsar::log_level, std::string_view line) { logged = line; });
    child one = start({"exit", "0"});
    REQUIRE(::waitpid(one.pid(), nullptr, 0) == one.pid());
    const auto status = one.wait();
    pulsar::log::set_sink(sink);
    CHECK(status == exit_status{.code = 255});
    CHECK(logged.find("process " + std::to_string(one.pid()) + " is lost") != std::string::npos);
  }

  TEST_CASE("a subreaper collects strangers and leaves its own children to their owners") {
    REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    child mine = start({"exit", "2"});
    REQUIRE(has_ended(mine));
    const pid_t orphan = std::stoi(ask({"leave-orphan"}).at(0));
    siginfo_t info{};  // the orphan is ours now; wait for its end without reaping it
    REQUIRE(::waitid(P_PID, static_cast<id_t>(orphan), &info, WEXITED | WNOWAIT) == 0);

    SUBCASE("once the end of the own child was seen, all strangers are found") {
      CHECK(mine.try_wait() == exit_status{.code = 2});
      const auto found = pulsar::reap_strangers();
      CHECK(found.count == 1);
      CHECK_FALSE(found.hidden);
    }
    SUBCASE("otherwise the sweep stops at the own child and finds the rest afterwards") {
      const auto first = pulsar::reap_strangers();
      CHECK(first.hidden);
      CHECK(mine.wait() == exit_status{.code = 2});
      const auto second = pulsar::reap_strangers();
      CHECK(first.count + second.count == 1);
      CHECK_FALSE(second.hidden);
    }
    SUBCASE("a child whose owner has let go of it is no stranger") {
      { const child gone = std::move(mine); }
      CHECK(pulsar::reap_strangers().count == 1);
    }
    CHECK(::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1);
    CHECK(pulsar::reap_strangers().count == 0);
    REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0);
  }

  TEST_CASE("children are watched, signalled and reaped where the kernel has no pidfds") {
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    child program =
        spawn_child({.executable = std::string(PULSAR_TEST_PROGRAMS_DIR) + "/child_without_pidfd",
                     .standard_output = theirs.get()});
    theirs.reset();
    const auto text = read_all(mine.get());
    CHECK(text == "");
    CHECK(to_string(program.wait()) == "exit code 0");
  }
}
