// SPDX-License-Identifier: BSD-3-Clause
// A worker for the tests: reports what it learnt about itself, or breaks a rule on purpose.

#include <pulsar/actors/worker_environment.hpp>
#include <pulsar/core/child.hpp>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

// Runs before every static variable of ordinary priority.
bool marker_was_gone = false;
[[gnu::constructor(200)]] void look_early() {
  marker_was_gone = ::getenv(pulsar::worker_variable) == nullptr;
}

// A static variable that does what a worker may only do once it serves.
const bool spawns_early = [] {
  if (::getenv("PROBE_SPAWNS_EARLY") == nullptr) return false;
  pulsar::this_process().require_serving("spawn an actor");
  return true;
}();

int death_signal() {
  int signal = 0;
  ::prctl(PR_GET_PDEATHSIG, &signal, 0UL, 0UL, 0UL);
  return signal;
}

bool close_on_exec(int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

void report() {
  auto& process = pulsar::this_process();
  char name[16] = {};
  ::prctl(PR_GET_NAME, name, 0UL, 0UL, 0UL);
  std::printf("worker: %d\n", process.is_worker());
  if (process.is_worker()) {
    const auto control = process.take_control_socket();
    const auto stream = process.take_stream();
    std::printf("marker: %s\n", to_string(process.marker()).c_str());
    std::printf("sockets: %d %d, close-on-exec %d %d\n", control.get(), stream.get(),
                close_on_exec(control.get()), close_on_exec(stream.get()));
    const auto inherited = process.take_inherited();
    for (const auto& fd : inherited) {
      std::printf("inherited: %d, close-on-exec %d\n", fd.get(), close_on_exec(fd.get()));
    }
    std::printf("inherited again: %zu\n", process.take_inherited().size());
    std::printf("again: %d %d\n", process.take_control_socket().get(), process.take_stream().get());
    std::printf("name: %s\n", name);
  }
  std::printf("variable: %s, early %s\n", ::getenv(pulsar::worker_variable) ? "set" : "unset",
              marker_was_gone ? "unset" : "set");
  std::printf("serving: %d\n", process.serving());
  std::printf("directory: %s\n", process.working_directory().c_str());
  std::printf("umask: %03o %03o\n", process.umask(), [] {
    const auto mask = ::umask(0);
    ::umask(mask);
    return mask;
  }());
  for (const auto& argument : process.arguments()) std::printf("argument: %s\n", argument.c_str());
  std::printf("death signal: %d\n", death_signal());
}

int start_self(const std::vector<std::string>& arguments,
               const std::vector<pulsar::environment_change>& environment = {},
               const std::vector<int>& descriptors = {}) {
  const auto& executable = pulsar::this_process().executable();
  auto child = pulsar::spawn_child({.executable = executable,
                                    .arguments = arguments,
                                    .environment = environment,
                                    .descriptors = descriptors});
  return child.wait().code;
}

// An arbiter that starts one worker and waits to be killed; prints the worker's pid.
int be_arbiter(const char* worker) {
  auto control = pulsar::socket_pair(SOCK_SEQPACKET);
  auto stream = pulsar::socket_pair(SOCK_STREAM);
  const std::vector<std::string> arguments{"worker", worker};
  const std::vector<pulsar::environment_change> environment{
      {pulsar::worker_variable,
       to_string(
           pulsar::worker_marker{.control = 3, .stream = 4, .serial = 1, .arbiter = ::getpid()})}};
  const std::vector<int> descriptors{control.second.get(), stream.second.get()};
  const auto child = pulsar::spawn_child({.executable = pulsar::this_process().executable(),
                                          .arguments = arguments,
                                          .environment = environment,
                                          .descriptors = descriptors});
  // The worker writes a byte when it has come to its rest.
  char byte = 0;
  if (::read(stream.first.get(), &byte, 1) != 1) return 1;
  std::printf("%d\n", child.pid());
  std::fflush(stdout);
  for (;;) ::pause();
}

int rest(bool serving) {
  if (serving) {
    ::signal(SIGCONT, [](int) { ::_exit(75); });
    pulsar::this_process().mark_serving();
  }
  const auto stream = pulsar::this_process().take_stream();
  if (::write(stream.get(), "x", 1) != 1) return 1;
  for (;;) ::pause();
}

// How many standard descriptors are something else than the null device.
int not_null() {
  struct stat null {};
  if (::stat("/dev/null", &null) != 0) return 64;
  int others = 0;
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    struct stat found {};
    if (::fstat(fd, &found) != 0 || found.st_rdev != null.st_rdev || close_on_exec(fd)) ++others;
  }
  return others;
}

int run_times(int times) {
  for (int i = 0; i < times; ++i) {
    const pulsar::run_scope run;
    std::printf("run %d, active %d\n", static_cast<int>(run.ordinal()),
                pulsar::run_scope::active());
    std::fflush(stdout);
  }
  std::printf("active %d\n", pulsar::run_scope::active());
  return 0;
}

int run_nested() {
  const pulsar::run_scope outer;
  try {
    const pulsar::run_scope inner;
  } catch (const pulsar::error& e) {
    std::printf("%s\nactive %d\n", e.what(), pulsar::run_scope::active());
    return e.code() == pulsar::errc::already_running ? 0 : 1;
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  auto& process = pulsar::this_process();
  if (what == "report") {
    report();
  } else if (what == "require") {
    process.require_serving("run an event loop");
    std::printf("allowed\n");
  } else if (what == "serve") {
    process.mark_serving();
    process.require_serving("run an event loop");
    std::printf("allowed, serving %d, death signal %d\n", process.serving(), death_signal());
  } else if (what == "grandchild") {
    return start_self({"grandchild", "report"});
  } else if (what == "arbiter") {
    return be_arbiter(argv[2]);
  } else if (what == "rest") {
    return rest(false);
  } else if (what == "serve-and-rest") {
    return rest(true);
  } else if (what == "run") {
    return run_times(std::atoi(argv[2]));
  } else if (what == "standard") {
    return not_null();
  } else if (what == "run-nested") {
    return run_nested();
  } else {
    return 64;
  }
  return spawns_early ? 65 : 0;
}
