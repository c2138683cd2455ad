// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/application/application.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include "actors/process_support.hpp"

#include <algorithm>
#include <list>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

using process_test::contains;

namespace {

/// probe_app under test: what it prints, and how it ends.
class probe_app : public process_test::program {
 public:
  explicit probe_app(std::vector<std::string> arguments, const std::string& what_goes_wrong = {})
      : program(PULSAR_TEST_PROGRAMS_DIR "/probe_app",
                std::move(arguments),
                {{"PROBE", what_goes_wrong}, {"PULSAR_CONCURRENCY", ""}}) {}

  /// Reads its lines up to the first that is `last`, or the last of all.
  const std::vector<std::string>& read_until(std::string_view last) {
    for (;;) {
      const auto text = line();
      if (text.empty()) return lines;
      lines.push_back(text);
      if (text.starts_with(last)) return lines;
    }
  }

  const std::vector<std::string>& read_all() {
    std::istringstream all(rest());
    for (std::string text; std::getline(all, text);) lines.push_back(text);
    return lines;
  }

  std::size_t count(std::string_view beginning) const {
    return static_cast<std::size_t>(std::count_if(
        lines.begin(), lines.end(), [&](const auto& text) { return text.starts_with(beginning); }));
  }

  /// The processes that say `verb`.
  std::set<int> pids_of(const std::string& verb) const {
    std::set<int> found;
    for (const auto& text : lines) {
      std::istringstream words(text);
      std::string first;
      int pid = 0;
      if (words >> first >> pid && first == verb) found.insert(pid);
    }
    return found;
  }

  std::vector<std::string> lines;
};

const char* const kinds[] = {"process", "thread", "coroutine"};

}  // namespace

TEST_SUITE("application") {
  TEST_CASE("each worker is made once, where it works, and gets what the master has opened") {
    for (const std::string kind : kinds) {
      CAPTURE(kind);
      probe_app app({"--workers", "3", "--concurrency", kind});
      app.read_until("ready");
      CHECK(app.lines.front() == "open");
      CHECK(app.lines.back() == "ready");
      CHECK(app.count("make ") == 3);
      CHECK(app.count("start ") == 3);
      for (const auto& text : app.lines) {
        if (!text.starts_with("start ")) continue;
        CHECK(text.ends_with("with 1 descriptor, handed out"));
      }
      const auto pids = app.pids_of("make");
      CHECK(app.pids_of("start") == pids);
      if (kind == "process") {
        CHECK(pids.size() == 3);
        CHECK(pids.count(app.pid()) == 0);
      } else {
        CHECK(pids == std::set<int>{app.pid()});
      }
      app.signal(SIGTERM);
      CHECK(to_string(app.wait()) == "exit code 0");
      app.read_all();
      CHECK(app.count("make ") == 3);
      CHECK(app.pids_of("stop") == pids);
      CHECK(app.count("stop ") == 3);
      CHECK(app.count("close") == 1);
    }
  }

  TEST_CASE("workers see the settings of the command line, and of the program where it is silent") {
    for (const std::string kind : kinds) {
      CAPTURE(kind);
      {
        probe_app app({"--concurrency", kind});
        app.read_until("ready");
        CHECK(app.count("make ") == 2);
        for (const int pid : app.pids_of("make")) {
          CHECK(app.count(fmt::format("make {} 2 info 20", pid)) >= 1);
        }
        app.signal(SIGTERM);
        CHECK(app.wait().success());
        app.read_all();
        for (const int pid : app.pids_of("make")) {
          CHECK(app.count(fmt::format("stop {} within 20 s", pid)) >= 1);
        }
      }
      probe_app app({"--concurrency", kind, "--workers", "1", "--log-level", "warning",
                     "--graceful-timeout", "7"});
      app.read_until("ready");
      REQUIRE(app.pids_of("make").size() == 1);
      const int pid = *app.pids_of("make").begin();
      CHECK(app.count("make ") == 1);
      CHECK(app.count(fmt::format("make {} 1 warning 7", pid)) == 1);
      app.signal(SIGINT);
      CHECK(app.wait().success());
      app.read_all();
      CHECK(app.count(fmt::format("stop {} within 7 s", pid)) == 1);
      CHECK(app.errors().empty());
    }
  }

  TEST_CASE("a worker that is killed is made anew") {
    probe_app app({"--workers", "2"});
    app.read_until("ready");
    const auto before = app.pids_of("make");
    REQUIRE(before.size() == 2);
    REQUIRE(::kill(*before.begin(), SIGKILL) == 0);
    app.read_until("start ");
    CHECK(app.count("make ") == 3);
    CHECK(app.pids_of("start").size() == 3);
    app.signal(SIGTERM);
    CHECK(app.wait().success());
    app.read_all();
    CHECK(app.count("ready") == 1);
    CHECK(app.count("open") == 1);
    CHECK(app.count("stop ") == 2);
    CHECK(app.pids_of("stop").count(*before.begin()) == 0);
    CHECK(contains(app.errors(), "a worker of 'probe' has ended (signal 9 (Killed))"));
  }

  TEST_CASE("--help and --version are answered with exit code 0, and nothing is opened") {
    {
      probe_app app({"--help"});
      const auto text = app.rest();
      CHECK(to_string(app.wait()) == "exit code 0");
      CHECK(contains(text, "What a test looks at"));
      for (const char* option : {"--bind", "--workers", "--concurrency", "--log-level",
                                 "--graceful-timeout", "--help", "--version"}) {
        CAPTURE(option);
        CHECK(contains(text, option));
      }
      CHECK_FALSE(contains(text, "open\n"));
      CHECK(app.errors().empty());
    }
    probe_app app({"--version"});
    CHECK(app.rest() == fmt::format("probe {}\n", pulsar::version));
    CHECK(to_string(app.wait()) == "exit code 0");
    CHECK(app.errors().empty());
  }

  TEST_CASE("a mistake in the command line is one sentence and exit code 2, nothing is opened") {
    const std::vector<std::string> mistakes[] = {
        {"--workers", "0"},         {"--workers"},      {"--log-level", "loud"},
        {"--concurrency", "fibre"}, {"--no-such-flag"}, {"stray"},
        {"--bind", "a b"}};
    for (const auto& arguments : mistakes) {
      CAPTURE(arguments.front());
      probe_app app(arguments);
      CHECK(app.rest().empty());
      CHECK(to_string(app.wait()) == "exit code 2");
      const auto said = app.errors();
      CHECK(said.starts_with("probe: "));
      CHECK(contains(said, arguments.front()));
      CHECK(std::count(said.begin(), said.end(), '\n') == 1);
    }
  }

  TEST_CASE("a program that asks for no worker is told so, exit code 2, and nothing is opened") {
    probe_app app({}, "no worker");
    CHECK(app.rest().empty());
    CHECK(to_string(app.wait()) == "exit code 2");
    CHECK(contains(app.errors(), "settings::workers: \"0\" is not a number from 1 to 1024"));
  }

  TEST_CASE("what cannot be opened ends the program with exit code 1 before a worker is made") {
    for (const std::string kind : kinds) {
      CAPTURE(kind);
      probe_app app({"--concurrency", kind}, "open throws");
      app.read_all();
      CHECK(to_string(app.wait()) == "exit code 1");
      CHECK(app.lines == std::vector<std::string>{"open", "close"});
      CHECK(contains(app.errors(), "probe cannot start: the door is locked\n"));
    }
  }

  // UBSan needs descriptors of its own to look at a type.
  TEST_CASE("too few descriptors for a loop are exit code 1 and a sentence that says what to do" *
            doctest::skip(process_test::address_sanitizer)) {
    const std::string shell = "/bin/sh";
    process_test::program app(
        shell, {"-c", "ulimit -n 6; exec \"$0\"", PULSAR_TEST_PROGRAMS_DIR "/probe_app"});
    CHECK(app.rest().empty());
    CHECK(to_string(app.wait()) == "exit code 1");
    CHECK(contains(app.errors(),
                   "probe cannot run (this process has no descriptor left: raise `ulimit -n`)"));
  }

  TEST_CASE("a TERM that comes while the master opens what it needs leaves nothing open") {
    for (const std::string kind : kinds) {
      CAPTURE(kind);
      probe_app app({"--concurrency", kind}, "TERM in open");
      app.read_all();
      CHECK(to_string(app.wait()) == "exit code 0");
      CHECK(app.count("open") == 1);
      CHECK(app.count("close") == 1);
    }
  }

  TEST_CASE("workers that never start end the program with exit code 3 and the reason") {
    // All at the same time: each takes a second or two to give up.
    std::list<probe_app> apps;
    for (const std::string kind : kinds) {
      for (const std::string what : {"make throws", "start throws"}) {
        apps.emplace_back(std::vector<std::string>{"--concurrency", kind, "--workers", "1"}, what);
      }
    }
    for (auto& app : apps) {
      app.read_all();
      CHECK(to_string(app.wait()) == "exit code 3");
      CHECK(app.count("make ") == pulsar::monitor::most_failed_starts);
      CHECK(app.count("ready") == 0);
      CHECK(app.count("close") == 1);
      const auto said = app.errors();
      CAPTURE(said);
      CHECK(contains(said, "the workers of 'probe' cannot start: "));
      CHECK(contains(said, "there is no licence"));
    }
  }

  TEST_CASE("what fails once the workers are ready ends them and the program, exit code 1") {
    for (const std::string kind : kinds) {
      CAPTURE(kind);
      probe_app app({"--concurrency", kind}, "ready throws");
      app.read_all();
      CHECK(to_string(app.wait()) == "exit code 1");
      CHECK(app.count("stop ") == 2);
      CHECK(app.count("close") == 1);
      CHECK(contains(app.errors(), "nobody is there"));
    }
  }

  TEST_CASE("a worker process that does not stop in its time is killed, and the program ends") {
    probe_app app({"--workers", "1", "--graceful-timeout", "0"}, "stop hangs");
    app.read_until("ready");
    app.signal(SIGTERM);
    CHECK(to_string(app.wait()) == "exit code 0");
    CHECK(contains(app.errors(), "did not end in time and was killed"));
  }

  TEST_CASE("a second INT ends workers that do not stop") {
    for (const std::string kind : kinds) {
      CAPTURE(kind);
      probe_app app({"--concurrency", kind}, "stop hangs");
      app.read_until("ready");
      app.signal(SIGINT);
      app.read_until("stop ");
      app.signal(SIGINT);
      const auto status = app.wait();
      // Only what runs in another process can be ended from outside.
      CHECK(to_string(status) == (kind == "process" ? "exit code 0" : "exit code 1"));
      CHECK(contains(app.errors(), "ending at once"));
    }
  }

  TEST_CASE("process workers of a run that is not the first are refused with a sentence") {
    probe_app app({"--workers", "1"}, "second run");
    app.read_all();
    CHECK(to_string(app.wait()) == "exit code 3");
    CHECK(app.count("make ") == 0);
    CHECK(contains(app.errors(), "application workers belong to the first"));
  }
}
