// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/arbiter.hpp>

#include <actors/process_support.hpp>
#include <doctest/doctest.h>

#include <string>
#include <vector>

using process_test::contains;
using process_test::end_watch;
using process_test::program;
using process_test::sanitized;
using namespace std::chrono_literals;

namespace {

const std::string probe = std::string(PULSAR_TEST_PROGRAMS_DIR) + "/process_probe";

// A program that serves, and its two workers.
struct server {
  explicit server(const std::string& mode = {}) : running(probe, {"serve", mode}) {
    running.line();  // its own number
    workers.emplace_back(running.number());
    workers.emplace_back(running.number());
    std::vector<std::string> wanted{"ready"};
    if (mode == "spin") wanted.emplace_back("spinning");
    while (!wanted.empty()) {
      const auto line = running.line();
      REQUIRE(std::erase(wanted, line) == 1);
    }
  }

  program running;
  std::vector<end_watch> workers;
};

}  // namespace

TEST_SUITE("arbiter") {
  TEST_CASE("when it is killed, its workers drain and end within five seconds") {
    // The second one has a command that ignores its end, the third never comes back to its loop.
    for (const std::string mode : {"", "ignore", "spin"}) {
      CAPTURE(mode);
      server s(mode);
      s.running.signal(SIGKILL);
      CHECK(to_string(s.running.wait()) == "signal 9 (Killed)");
      const auto start = std::chrono::steady_clock::now();
      for (const auto& w : s.workers) CHECK(w.ended_within(process_test::patience));
      CHECK(std::chrono::steady_clock::now() - start < 6s);
      CHECK(contains(s.running.errors(), "the arbiter has died: this worker drains and ends"));
    }
  }

  TEST_CASE("a worker that is stopped when it is killed ends as soon as it may go on") {
    server s;
    s.workers[0].signal(SIGSTOP);
    s.running.signal(SIGKILL);
    s.running.wait();
    CHECK(s.workers[1].ended_within(process_test::patience));
    s.workers[0].signal(SIGCONT);
    CHECK(s.workers[0].ended_within(process_test::patience));
  }

  TEST_CASE("it replaces nobody, and ends with a worker killed meanwhile") {
    server s;
    s.workers[0].signal(SIGKILL);
    CHECK(s.workers[0].ended_within(process_test::patience));
    s.running.signal(SIGTERM);
    CHECK(to_string(s.running.wait()) == "exit code 0");
    CHECK(s.workers[1].ended_within(0ms));
  }

  TEST_CASE("a worker that gets stuck at its end is killed") {
    program p(probe, {"hang"});
    const end_watch worker(p.number());
    CHECK(p.line() == "hanging");
    CHECK(to_string(p.wait()) == "exit code 0");
    CHECK(worker.ended_within(0ms));
    CHECK(contains(p.errors(), "was stuck at its end and was killed"));
  }

  TEST_CASE("many starts and stops leave no process, zombie or descriptor") {
    const std::string count = sanitized ? "50" : "200";
    program p(probe, {"many", count});
    CHECK(p.rest() == count + " born, descriptors as before, children none\n");
    CHECK(p.wait().success());
    CHECK(p.errors() == "");
  }

  TEST_CASE("a program with process actors works under valgrind" * doctest::skip(sanitized)) {
    const std::vector<std::string> arguments{"--quiet", "--error-exitcode=99",
                                             "--trace-children=no", probe, "add"};
    try {
      program p("valgrind", arguments);
      CHECK(p.rest() == "42\n");
      // Another one for what valgrind objects to; its own short-comings it only tells of.
      CHECK(to_string(p.wait()) == "exit code 0");
    } catch (const pulsar::error& e) {
      REQUIRE(e.code() == std::errc::no_such_file_or_directory);
      MESSAGE("valgrind is not installed");
    }
  }
}
