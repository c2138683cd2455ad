// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/worker_environment.hpp>
#include <pulsar/core/child.hpp>

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <sstream>

using pulsar::parse_worker_marker;
using pulsar::unique_fd;
using pulsar::worker_kind;
using pulsar::worker_marker;

namespace {

const std::string probe = std::string(PULSAR_TEST_PROGRAMS_DIR) + "/worker_probe";

// The descriptors and the marker that an arbiter gives a worker.
struct setting {
  std::pair<unique_fd, unique_fd> control = pulsar::socket_pair(SOCK_SEQPACKET);
  std::pair<unique_fd, unique_fd> stream = pulsar::socket_pair(SOCK_STREAM);
  worker_marker marker{.control = 3, .stream = 4, .serial = 7, .arbiter = ::getpid()};
};

struct answer {
  pulsar::exit_status status;
  std::string output;
  std::string errors;

  std::vector<std::string> lines() const {
    std::vector<std::string> result;
    std::istringstream stream(output);
    for (std::string line; std::getline(stream, line);) result.push_back(line);
    return result;
  }
  bool says(const std::string& line) const {
    const auto all = lines();
    return std::find(all.begin(), all.end(), line) != all.end();
  }
};

std::string read_all(int fd) {
  std::string text;
  char chunk[4096];
  for (ssize_t n = 0; (n = ::read(fd, chunk, sizeof chunk)) > 0;) {
    text.append(chunk, static_cast<std::size_t>(n));
  }
  return text;
}

answer ask(std::vector<std::string> arguments,
           const std::vector<pulsar::environment_change>& environment = {},
           const std::vector<int>& descriptors = {},
           std::string_view working_directory = {}) {
  arguments.insert(arguments.begin(), "/some/where/probe");
  auto output = pulsar::socket_pair(SOCK_STREAM);
  auto errors = pulsar::socket_pair(SOCK_STREAM);
  auto child = pulsar::spawn_child({.executable = probe,
                                    .arguments = arguments,
                                    .environment = environment,
                                    .descriptors = descriptors,
                                    .standard_output = output.second.get(),
                                    .standard_error = errors.second.get(),
                                    .working_directory = working_directory});
  output.second.reset();
  errors.second.reset();
  answer result;
  result.output = read_all(output.first.get());
  result.errors = read_all(errors.first.get());
  result.status = child.wait();
  return result;
}

answer ask_worker(const std::vector<std::string>& arguments,
                  const setting& given = {},
                  std::vector<pulsar::environment_change> environment = {}) {
  environment.push_back({pulsar::worker_variable, to_string(given.marker)});
  return ask(arguments, environment, {given.control.second.get(), given.stream.second.get()});
}

// Starts a worker whose variable is `value` and expects it to end with 70 and one sentence.
std::string refusal(const std::string& value, const std::vector<int>& descriptors = {}) {
  const auto refused = ask({"report"}, {{pulsar::worker_variable, value}}, descriptors);
  CHECK(to_string(refused.status) == "exit code 70");
  CHECK(refused.output == "");
  CHECK(std::count(refused.errors.begin(), refused.errors.end(), '\n') == 1);
  CHECK(refused.errors.starts_with("pulsar: PULSAR_WORKER "));
  CHECK(refused.errors.ends_with("any other program must unset it\n"));
  return refused.errors;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("worker_environment") {
  TEST_CASE("a marker reads back as it was written") {
    const worker_marker actor{.control = 3, .stream = 4, .serial = 7, .arbiter = 4711};
    CHECK(to_string(actor) == "1 control=3 stream=4 serial=7 kind=actor arbiter=4711");
    CHECK(parse_worker_marker(to_string(actor)) == actor);
    const worker_marker application{.control = 100,
                                    .stream = 5,
                                    .serial = 18446744073709551615ULL,
                                    .kind = worker_kind::application,
                                    .ordinal = 2,
                                    .arbiter = 1};
    CHECK(contains(to_string(application), " kind=application:2 "));
    CHECK(parse_worker_marker(to_string(application)) == application);
    worker_marker heir = actor;
    heir.inherited = 2;
    CHECK(to_string(heir) == "1 control=3 stream=4 serial=7 kind=actor arbiter=4711 inherited=2");
    CHECK(parse_worker_marker(to_string(heir)) == heir);
  }

  TEST_CASE("a marker is read to the letter") {
    const std::string good = "1 control=3 stream=4 serial=7 kind=actor arbiter=4711";
    REQUIRE(parse_worker_marker(good));
    for (std::size_t size = 0; size < good.size(); ++size) {
      // What is cut off within the last number is another number; all else is refused.
      const bool number_left = size > good.find("arbiter=") + 8;
      CHECK(parse_worker_marker(good.substr(0, size)).has_value() == number_left);
    }
    for (std::size_t at = 0; at < good.size(); ++at) {
      for (const char wrong : {' ', '-', 'x', '\0'}) {
        std::string text = good;
        if (text[at] == wrong) continue;
        text[at] = wrong;
        CHECK_MESSAGE(!parse_worker_marker(text), text);
      }
    }
    for (const char* wrong : {
             "2 control=3 stream=4 serial=7 kind=actor arbiter=4711",
             "1 control=3 stream=4 serial=7 kind=actor arbiter=4711 ",
             "1  control=3 stream=4 serial=7 kind=actor arbiter=4711",
             "1 control=03 stream=4 serial=7 kind=actor arbiter=4711",
             "1 control=+3 stream=4 serial=7 kind=actor arbiter=4711",
             "1 control=-3 stream=4 serial=7 kind=actor arbiter=4711",
             "1 control=3 stream=3 serial=7 kind=actor arbiter=4711",
             "1 control=0 stream=4 serial=7 kind=actor arbiter=4711",
             "1 control=3 stream=2 serial=7 kind=actor arbiter=4711",
             "1 control=99999999999 stream=4 serial=7 kind=actor arbiter=4711",
             "1 control=3 stream=4 serial=0 kind=actor arbiter=4711",
             "1 control=3 stream=4 serial=99999999999999999999 kind=actor arbiter=4711",
             "1 control=3 stream=4 serial=7 kind=actor arbiter=0",
             "1 control=3 stream=4 serial=7 kind=actor:1 arbiter=4711",
             "1 control=3 stream=4 serial=7 kind=application arbiter=4711",
             "1 control=3 stream=4 serial=7 kind=application:0 arbiter=4711",
             "1 control=3 stream=4 serial=7 kind=application:-1 arbiter=4711",
             "1 control=3 stream=4 serial=7 kind=monitor arbiter=4711",
             "1 control=3 stream=4 serial=7 kind=actor arbiter=4711 inherited=0",
             "1 control=3 stream=4 serial=7 kind=actor arbiter=4711 inherited=-1",
             "1 control=3 stream=4 serial=7 kind=actor arbiter=4711 inherited=4294967295",
             "1 control=3 stream=2147483647 serial=7 kind=actor arbiter=4711 inherited=1",
         }) {
      CHECK_MESSAGE(!parse_worker_marker(wrong), wrong);
    }
  }

  TEST_CASE("a process that no arbiter started is no worker and serves at once") {
    const auto plain = ask({"report", "two words", ""}, {}, {}, "/usr");
    CHECK(plain.status.success());
    CHECK(plain.errors == "");
    CHECK(plain.says("worker: 0"));
    CHECK(plain.says("serving: 1"));
    CHECK(plain.says("directory: /usr"));
    CHECK(plain.says("argument: /some/where/probe"));
    CHECK(plain.says("argument: two words"));
    CHECK(plain.says("argument: "));
    CHECK(plain.says("death signal: 0"));
    CHECK(ask({"require"}).output == "allowed\n");
  }

  TEST_CASE("the umask is noted and left as it was") {
    const auto before = ::umask(0137);
    const auto masked = ask({"report"});
    ::umask(before);
    CHECK(masked.says("umask: 137 137"));
    CHECK(pulsar::this_process().umask() == before);
  }

  TEST_CASE("a worker knows its marker, owns its sockets and hides the variable") {
    setting given;
    given.marker.kind = worker_kind::application;
    given.marker.ordinal = 1;
    const auto worker = ask_worker({"report"}, given);
    CHECK(worker.status.success());
    CHECK(worker.errors == "");
    CHECK(worker.says("worker: 1"));
    CHECK(worker.says("marker: " + to_string(given.marker)));
    CHECK(worker.says("sockets: 3 4, close-on-exec 1 1"));
    CHECK(worker.says("again: -1 -1"));
    CHECK(worker.says("inherited again: 0"));
    CHECK_FALSE(contains(worker.output, "inherited: "));
    CHECK(worker.says("variable: unset, early unset"));
    CHECK(worker.says("serving: 0"));
    CHECK(worker.says("name: probe"));
    CHECK(worker.says("death signal: " + std::to_string(SIGKILL)));
  }

  TEST_CASE("a worker inherits what its marker counts, and nothing else that is open") {
    setting given;
    given.marker.kind = worker_kind::application;
    given.marker.ordinal = 1;
    given.marker.inherited = 2;
    const auto null = pulsar::open_null_device();
    const int control = given.control.second.get();
    const int stream = given.stream.second.get();
    const std::string value = to_string(given.marker);
    const auto heir = ask({"report"}, {{pulsar::worker_variable, value}},
                          {control, stream, null.get(), null.get(), null.get()});
    CHECK(heir.status.success());
    CHECK(heir.says("inherited: 5, close-on-exec 1"));
    CHECK(heir.says("inherited: 6, close-on-exec 1"));
    CHECK_FALSE(contains(heir.output, "inherited: 7"));
    CHECK(heir.says("inherited again: 0"));
    CHECK(contains(refusal(value, {control, stream, null.get()}),
                   "descriptor 6 (inherited) is not open"));
  }

  TEST_CASE("a process that a worker starts is no worker") {
    const auto grandchild = ask_worker({"grandchild"});
    CHECK(grandchild.status.success());
    CHECK(grandchild.errors == "");
    CHECK(grandchild.says("worker: 0"));
    CHECK(grandchild.says("variable: unset, early unset"));
  }

  TEST_CASE("a value that no arbiter sets ends the program with a sentence") {
    CHECK(contains(refusal(""), "PULSAR_WORKER is '', which no arbiter"));
    CHECK(contains(refusal("yes"), "PULSAR_WORKER is 'yes', which no arbiter"));
    CHECK(contains(refusal("a\nb\x1b[2J"), "PULSAR_WORKER is 'a?b?[2J', which no arbiter"));
    CHECK(contains(refusal(std::string(5'000, 'x')), std::string(100, 'x') + "...'"));
  }

  TEST_CASE("a marker whose descriptors are not what it says ends the program with a sentence") {
    const setting given;
    const std::string value = to_string(given.marker);
    const int control = given.control.second.get();
    const int stream = given.stream.second.get();
    const auto null = pulsar::open_null_device();
    const unique_fd internet(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(contains(refusal(value, {}), "descriptor 3 (control) is not open"));
    CHECK(contains(refusal(value, {control}), "descriptor 4 (stream) is not open"));
    CHECK(contains(refusal(value, {null.get(), stream}), "descriptor 3 (control) is no Unix"));
    CHECK(contains(refusal(value, {control, internet.get()}), "descriptor 4 (stream) is no Unix"));
    CHECK(contains(refusal(value, {stream, control}),
                   "descriptor 3 (control) is a socket of another type"));
    CHECK(contains(refusal(value, {control, control}),
                   "descriptor 4 (stream) is a socket of another type"));
  }

  TEST_CASE("a marker of another parent, or a socket to another process, is refused") {
    setting given;
    const std::vector<int> descriptors{given.control.second.get(), given.stream.second.get()};
    given.marker.arbiter = ::getppid();
    CHECK(contains(refusal(to_string(given.marker), descriptors),
                   "its arbiter, process " + std::to_string(::getppid()) + ", is not this"));

    given.marker.arbiter = ::getpid();
    const unique_fd unconnected(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    CHECK(contains(refusal(to_string(given.marker), {unconnected.get(), descriptors[1]}),
                   "the control socket does not lead to process"));
  }

  TEST_CASE("a worker that acts before it serves ends with a sentence") {
    const auto looping = ask_worker({"require"});
    CHECK(to_string(looping.status) == "exit code 70");
    CHECK(looping.output == "");
    CHECK(looping.errors ==
          "pulsar: worker 7 cannot run an event loop before it serves: call pulsar::run first in "
          "main, or in a program with a main of its own pulsar::serve_if_worker(argc, argv)\n");

    const auto spawning = ask_worker({"report"}, {}, {{"PROBE_SPAWNS_EARLY", "1"}});
    CHECK(to_string(spawning.status) == "exit code 70");
    CHECK(contains(spawning.errors, "worker 7 cannot spawn an actor before it serves"));
  }

  TEST_CASE("a worker that serves may do all, and is asked to leave rather than killed") {
    CHECK(ask_worker({"serve"}).output ==
          "allowed, serving 1, death signal " + std::to_string(SIGCONT) + "\n");
  }

  TEST_CASE("a worker's arbiter dies: it is killed before it serves and woken afterwards") {
    REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    for (const std::string mode : {"rest", "serve-and-rest"}) {
      auto output = pulsar::socket_pair(SOCK_STREAM);
      const std::vector<std::string> arguments{"arbiter", "arbiter", mode};
      auto arbiter = pulsar::spawn_child(
          {.executable = probe, .arguments = arguments, .standard_output = output.second.get()});
      char text[32] = {};
      REQUIRE(::read(output.first.get(), text, sizeof text - 1) > 1);
      const pid_t worker = std::stoi(text);
      REQUIRE(::kill(worker, SIGSTOP) == 0);
      REQUIRE(arbiter.signal(SIGKILL));
      CHECK(arbiter.wait().signal == SIGKILL);
      siginfo_t info{};
      REQUIRE(::waitid(P_PID, static_cast<id_t>(worker), &info, WEXITED) == 0);
      CHECK(info.si_code == (mode == "rest" ? CLD_KILLED : CLD_EXITED));
      CHECK(info.si_status == (mode == "rest" ? SIGKILL : 75));
    }
    REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0);
  }

  TEST_CASE("a program that was started without standard descriptors has /dev/null there") {
    const std::vector<std::string> arguments{"sh", "-c", "exec \"$0\" standard <&- >&- 2>&-", probe};
    auto bare = pulsar::spawn_child({.executable = "/bin/sh", .arguments = arguments});
    CHECK(to_string(bare.wait()) == "exit code 0");
  }

  TEST_CASE("runs are counted, one after the other") {
    CHECK(ask({"run", "2"}).output == "run 1, active 1\nrun 2, active 1\nactive 0\n");
  }

  TEST_CASE("a run inside a run is an error that names the way out") {
    const auto nested = ask({"run-nested"});
    CHECK(nested.status.success());
    CHECK(contains(nested.output, "spawn an actor instead"));
    CHECK(nested.says("active 1"));
  }

  TEST_CASE("an application's worker serves the run of its master and no other") {
    setting given;
    given.marker.kind = worker_kind::application;
    given.marker.ordinal = 1;
    CHECK(contains(ask_worker({"run", "1"}, given).output, "run 1, active 1"));

    given.marker.ordinal = 2;
    const auto other = ask_worker({"run", "2"}, given);
    CHECK(to_string(other.status) == "exit code 70");
    CHECK(other.output == "");
    CHECK(
        other.errors ==
        "pulsar: worker 7 belongs to call number 2 of pulsar::run in its program, but call number "
        "1 came first: application workers belong to the first one\n");

    const auto actor = ask_worker({"run", "1"});  // for actors any run will do
    CHECK(actor.status.success());
  }

  TEST_CASE("this test program is described too") {
    const auto& process = pulsar::this_process();
    CHECK(&process == &pulsar::this_process());
    CHECK_FALSE(process.is_worker());
    CHECK(process.serving());
    CHECK_FALSE(process.arguments().empty());
    CHECK(process.working_directory().starts_with("/"));
    CHECK_FALSE(process.executable().empty());
  }
}
