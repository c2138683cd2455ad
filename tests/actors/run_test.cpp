// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/run.hpp>

#include <actors/process_support.hpp>
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

using process_test::contains;
using process_test::end_watch;
using process_test::program;
using pulsar::exit_status;
using namespace std::chrono_literals;

namespace {

const std::string probe = std::string(PULSAR_TEST_PROGRAMS_DIR) + "/process_probe";

struct answer {
  exit_status status;
  std::string output;
  std::string errors;
};

answer run_probe(std::vector<std::string> arguments,
                 const std::vector<pulsar::environment_change>& environment = {}) {
  program p(probe, std::move(arguments), environment);
  answer a;
  a.output = p.rest();
  a.status = p.wait();
  a.errors = p.errors();
  return a;
}

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
  // All output ends only when the workers have let go of it too.
  void check_nothing_left() {
    running.rest();
    for (const auto& w : workers) CHECK(w.ended_within(0ms));
  }

  program running;
  std::vector<end_watch> workers;
};

int lines_in(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

TEST_SUITE("run") {
  TEST_CASE("the exit code is 0 when the function has ended, and its workers are gone") {
    const auto a = run_probe({"add"});
    CHECK(a.status.success());
    CHECK(a.output == "42\n");
    CHECK(a.errors == "");
  }

  TEST_CASE("the exit code is 1 when it threw, and the log says why") {
    program p(probe, {"fail"});
    const end_watch worker(p.number());
    CHECK(to_string(p.wait()) == "exit code 1");
    CHECK(worker.ended_within(0ms));
    CHECK(contains(p.errors(), "[critical] [arbiter] the program failed: the safe is empty"));
  }

  TEST_CASE("TERM and INT end it gracefully") {
    for (const int signal : {SIGTERM, SIGINT}) {
      server s;
      s.running.signal(signal);
      CHECK(to_string(s.running.wait()) == "exit code 0");
      s.check_nothing_left();
      CHECK(contains(s.running.errors(),
                     signal == SIGTERM ? "TERM received: stopping" : "INT received: stopping"));
    }
  }

  TEST_CASE("QUIT ends it at once, whatever its workers do") {
    for (const std::string mode : {"", "spin", "ignore"}) {
      server s(mode);
      const auto start = std::chrono::steady_clock::now();
      s.running.signal(SIGQUIT);
      CHECK(to_string(s.running.wait()) == "exit code 0");
      CHECK(std::chrono::steady_clock::now() - start < 4s);  // less than any grace
      s.check_nothing_left();
      CHECK(contains(s.running.errors(), "ending at once"));
    }
  }

  TEST_CASE("a second INT does not wait for the grace that the first one gave") {
    server s("ignore");
    const auto start = std::chrono::steady_clock::now();
    s.running.signal(SIGINT);
    // One worker has gone; the other has five seconds.
    CHECK(s.workers[1].ended_within(process_test::patience));
    CHECK_FALSE(s.workers[0].ended_within(0ms));
    s.running.signal(SIGINT);
    CHECK(to_string(s.running.wait()) == "exit code 0");
    CHECK(std::chrono::steady_clock::now() - start < 4s);
    s.check_nothing_left();
  }

  TEST_CASE("what ignores its cancellation does not keep the program from ending at once") {
    program p(probe, {"ignore"});
    const end_watch worker(p.number());
    CHECK(p.line() == "ready");
    p.signal(SIGTERM);
    p.signal(SIGQUIT);
    CHECK(to_string(p.wait()) == "exit code 1");
    CHECK(worker.ended_within(process_test::patience));
    CHECK(contains(p.errors(), "something ignores its cancellation"));
  }

  TEST_CASE("a signal while an actor is being born leaves no process") {
    for (const int signal : {SIGTERM, SIGQUIT}) {
      program p(probe, {"slow"});
      const end_watch worker(p.number());
      p.signal(signal);
      CHECK(to_string(p.wait()) == "exit code 0");
      CHECK(worker.ended_within(0ms));
      CHECK(p.rest() == "");
    }
  }

  TEST_CASE("a run inside a run is an error, and the outer one goes on") {
    const auto a = run_probe({"nested"});
    CHECK(a.status.success());
    CHECK(
        a.output.starts_with("pulsar::run was called inside pulsar::run: spawn an actor instead"));
    CHECK(a.output.ends_with("\n42\n"));
  }

  TEST_CASE("a subreaper reaps the orphans of others") {
    const auto a = run_probe({"orphan"});
    CHECK(a.status.success());
    CHECK(a.output == "an orphan\nreaped\n");
  }

  TEST_CASE("a program may run several times") {
    const auto a = run_probe({"twice"});
    CHECK(a.status.success());
    CHECK(a.output == "42\nbetween\n42\nafter\n");
    CHECK(a.errors == "");
  }

  // -- the policy of spawn

  TEST_CASE("an option or a variable says where actors live, the option first") {
    const std::vector<pulsar::environment_change> thread{{"PULSAR_CONCURRENCY", "thread"}};
    // The second line: where an actor in a worker process has its own.
    CHECK(run_probe({"where"}).output == "process\nprocess\n");
    CHECK(run_probe({"where", "--concurrency", "thread"}).output == "thread\nlocal\n");
    CHECK(run_probe({"where", "--concurrency=coroutine"}).output == "coroutine\nlocal\n");
    CHECK(run_probe({"where"}, thread).output == "thread\nlocal\n");
    CHECK(run_probe({"where", "--concurrency", "process"}, thread).output == "process\nprocess\n");
    CHECK(run_probe({"where", "--", "--concurrency=thread"}).output == "process\nprocess\n");
    CHECK(run_probe({"where"}, {{"PULSAR_CONCURRENCY", ""}}).output == "process\nprocess\n");
  }

  TEST_CASE("a bad policy ends the program with exit code 2 and one sentence") {
    const std::string rest = ", but must be process, thread or coroutine\n";
    for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{
             {"where", "--concurrency", "fork"}, {"where", "--concurrency=fork"}}) {
      const auto a = run_probe(bad);
      CHECK(to_string(a.status) == "exit code 2");
      CHECK(a.output == "");
      CHECK(a.errors == "--concurrency is 'fork'" + rest);
    }
    CHECK(run_probe({"where", "--concurrency"}).errors == "--concurrency is ''" + rest);
    CHECK(run_probe({"where", "--concurrency="}).errors == "--concurrency is ''" + rest);
    const auto variable = run_probe({"where"}, {{"PULSAR_CONCURRENCY", "two\nlines"}});
    CHECK(to_string(variable.status) == "exit code 2");
    CHECK(variable.errors == "PULSAR_CONCURRENCY is 'two?lines'" + rest);
  }

  // -- workers that do not come to `run`

  TEST_CASE("a process that is spawned without run is an error, and none is started") {
    const auto a = run_probe({"no-run"});
    CHECK(a.status.success());
    CHECK(a.output.starts_with("spawning a process needs pulsar::run: call it in main"));
  }

  TEST_CASE("a spawn or a loop before run ends a worker with one sentence, and starts no others") {
    const auto spawned = run_probe({"spawn-early"});
    CHECK(spawned.status.success());
    CHECK(contains(spawned.output, "a worker process ended before it was ready: exit code 70"));
    CHECK(spawned.output.ends_with("\n0 left\n"));
    CHECK(lines_in(spawned.errors) == 1);
    CHECK(contains(spawned.errors,
                   "cannot spawn an actor before it serves: call pulsar::run "
                   "first in main"));
    const auto looped = run_probe({"loop-early"});
    CHECK(looped.status.success());
    CHECK(
        looped.output.starts_with("the loop ran\na worker process ended before it was ready: "
                                  "exit code 70"));
    CHECK(lines_in(looped.output) == 3);
    CHECK(lines_in(looped.errors) == 1);
    CHECK(contains(looped.errors, "cannot run an event loop before it serves"));
  }

  TEST_CASE("a worker that ends before it serves is told of with its exit code") {
    const auto a = run_probe({"exit-early"});
    CHECK(a.status.success());
    CHECK(a.output.starts_with("a worker process ended before it was ready: exit code 9"));
    CHECK(a.output.ends_with("\n0 left\n"));
  }

  TEST_CASE("a worker that never comes to serve is killed when its time is up") {
    const auto a = run_probe({"never"});
    CHECK(a.status.success());
    CHECK(
        a.output.starts_with("a worker process did not answer: does main reach pulsar::run, or "
                             "pulsar::serve_if_worker, without waiting?"));
    CHECK(a.output.ends_with("\n0 left\n"));
  }
}
