// SPDX-License-Identifier: BSD-3-Clause
// A program with worker processes for the tests of how such programs begin and end. What it does is
// its first argument; what tests wait for, it prints line by line.

#include <pulsar/pulsar.hpp>

#include <sys/prctl.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

using namespace pulsar::literals;
using namespace std::chrono_literals;
using pulsar::future;
using pulsar::spawn;

namespace {

std::string_view argument(int n) {
  const auto& all = pulsar::this_process().arguments();
  const auto at = static_cast<std::size_t>(n);
  return at < all.size() ? std::string_view(all[at]) : std::string_view();
}

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  fmt::print(format, std::forward<Args>(args)...);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

class clerk : public pulsar::actor<clerk> {
 public:
  int pid() { return ::getpid(); }
  int add(int a, int b) { return a + b; }
  std::string where() {
    if (pulsar::this_process().is_worker()) return "process";
    return ::gettid() == ::getpid() ? "coroutine" : "thread";
  }
  /// Never lets go of the loop.
  void spin() {
    say("spinning");
    for (volatile bool forever = true; forever;) {
#ifdef __SANITIZE_THREAD__
      ::usleep(1000);  // signals wait for such a call there
#endif
    }
  }
  /// Takes an hour, whatever anybody says.
  future<> ignore() {
    for (;;) {
      try {
        co_await pulsar::sleep(1h);
      } catch (const pulsar::error&) {
      }
    }
  }
  future<std::string> hire_by_default();

  using commands = pulsar::commands<&clerk::pid,
                                    &clerk::add,
                                    &clerk::where,
                                    &clerk::spin,
                                    &clerk::ignore,
                                    &clerk::hire_by_default>;
};

future<std::string> clerk::hire_by_default() {
  auto other = co_await spawn<clerk>();
  const auto info = co_await send(other, pulsar::cmd::info);
  co_return info.process_id == ::getpid() ? "local" : "process";
}

class slow : public pulsar::actor<slow> {
 public:
  future<> on_start() {
    say("{}", ::getpid());
    co_await pulsar::sleep(1h);
  }
  using commands = pulsar::commands<>;
};

// Keeps a worker of the program "hang" from its end.
struct hanging {
  ~hanging() {
    if (argument(1) != "hang" || !pulsar::this_process().is_worker()) return;
    say("hanging");
    for (;;) ::pause();
  }
} hanging_at_exit;

future<> forever() {
  for (;;) co_await pulsar::sleep(1h);
}

// -- programs ----------------------------------------------------------------------

future<> serve() {
  say("{}", ::getpid());
  auto a = co_await spawn<clerk, pulsar::concurrency::process>();
  auto b = co_await spawn<clerk, pulsar::concurrency::process>();
  const int first = co_await send(a, "pid"_cmd);
  const int second = co_await send(b, "pid"_cmd);
  say("{}", first);
  say("{}", second);
  if (argument(2) == "spin") tell(a, "spin"_cmd);
  if (argument(2) == "ignore") tell(a, "ignore"_cmd);
  say("ready");
  co_await forever();
}

future<> ignore_everything() {
  auto a = co_await spawn<clerk, pulsar::concurrency::process>();
  const int pid = co_await send(a, "pid"_cmd);
  say("{}", pid);
  say("ready");
  for (;;) {
    try {
      co_await pulsar::sleep(1h);
    } catch (const pulsar::error&) {
    }
  }
}

future<> spawn_slowly() {
  auto a = co_await spawn<slow, pulsar::concurrency::process>();
  say("born");
}

future<> fail() {
  auto a = co_await spawn<clerk, pulsar::concurrency::process>();
  const int pid = co_await send(a, "pid"_cmd);
  say("{}", pid);
  throw std::runtime_error("the safe is empty");
}

future<> add_up() {
  auto a = co_await spawn<clerk, pulsar::concurrency::process>();
  const int sum = co_await send(a, "add"_cmd, 20, 22);
  say("{}", sum);
}

future<> hang_at_the_end() {
  auto a = co_await spawn<clerk, pulsar::concurrency::process>();
  const int pid = co_await send(a, "pid"_cmd);
  say("{}", pid);
  co_await send(a, pulsar::cmd::stop);
}

future<> tell_where() {
  auto a = co_await spawn<clerk>();
  const auto where = co_await send(a, "where"_cmd);
  say("{}", where);
  auto b = co_await spawn<clerk, pulsar::concurrency::process>();
  const auto hired = co_await send(b, "hire_by_default"_cmd);
  say("{}", hired);
}

future<> nest() {
  try {
    pulsar::run(add_up);
  } catch (const pulsar::error& e) {
    say("{}", e.what());
  }
  co_await add_up();
}

future<> start_and_say() {
  auto outcome = co_await as_result(spawn<clerk, pulsar::concurrency::process>());
  say("{}", outcome.message());
  say("{} left", pulsar::arbiter::instance()->worker_pids().size());
}

// Its workers never come to `run`.
future<> wait_for_greeting() {
  pulsar::worker_options options;
  options.timeout = 200ms;
  auto started = pulsar::arbiter::instance()->start_worker(options, {}, {});
  auto outcome = co_await as_result(std::move(started));
  say("{}", outcome.message());
  say("{} left", pulsar::arbiter::instance()->worker_pids().size());
}

future<> start_and_stop_many() {
  const int count = std::stoi(std::string(argument(2)));
  const auto before = pulsar::open_descriptors();
  int born = 0;
  for (int i = 0; i < count; ++i) {
    auto a = co_await spawn<clerk, pulsar::concurrency::process>();
    const int sum = co_await send(a, "add"_cmd, i, 1);
    born += sum == i + 1 ? 1 : 0;
    co_await send(a, pulsar::cmd::stop);
  }
  while (!pulsar::arbiter::instance()->worker_pids().empty()) co_await pulsar::sleep(1ms);
  // The end of the last lines is told after the end of their processes.
  for (int i = 0; i < 1000 && pulsar::open_descriptors() != before; ++i) {
    co_await pulsar::sleep(1ms);
  }
  siginfo_t info{};
  const bool children = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
  say("{} born, descriptors {}, children {}", born,
      pulsar::open_descriptors() == before ? "as before" : "left", children ? "left" : "none");
}

// Leaves an orphan, which becomes a child of this process.
future<> inherit() {
  const std::vector<std::string> shell{"sh", "-c", "sleep 0.1 &"};
  pulsar::child parent = pulsar::spawn_child({.executable = "sh", .arguments = shell});
  parent.wait();
  siginfo_t info{};
  const bool inherited = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
  say("{}", inherited ? "an orphan" : "no child");
  while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0) co_await pulsar::sleep(10ms);
  say("reaped");
}

int spawn_without_run() {
  pulsar::event_loop loop;
  try {
    loop.run_until_complete([] { return spawn<clerk>(); });
  } catch (const pulsar::error& e) {
    say("{}", e.what());
    return e.code() == pulsar::errc::no_arbiter ? 0 : 1;
  }
  return 1;
}

// Spawns although it may be a worker that does not serve yet.
void spawn_early() {
  pulsar::event_loop loop;
  try {
    loop.create_task([] { return spawn<clerk, pulsar::concurrency::coroutine>(); }).detach();
  } catch (const pulsar::error& e) {
    say("early: {}", e.what());
  }
}

void loop_early() {
  pulsar::event_loop loop;
  loop.run_until_complete([] { return pulsar::sleep(1ms); });
  say("the loop ran");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argument(1);
  if (what == "serve") return pulsar::run(argc, argv, serve);
  if (what == "ignore") return pulsar::run(argc, argv, ignore_everything);
  if (what == "slow") return pulsar::run(argc, argv, spawn_slowly);
  if (what == "fail") return pulsar::run(argc, argv, fail);
  if (what == "add") return pulsar::run(argc, argv, add_up);
  if (what == "hang") return pulsar::run(argc, argv, hang_at_the_end);
  if (what == "where") return pulsar::run(argc, argv, tell_where);
  if (what == "nested") return pulsar::run(argc, argv, nest);
  if (what == "many") return pulsar::run(argc, argv, start_and_stop_many);
  if (what == "orphan") {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    return pulsar::run(argc, argv, inherit);
  }
  if (what == "no-run") return spawn_without_run();
  if (what == "twice") {
    const int first = pulsar::run(argc, argv, add_up);
    say("between");
    const int second = pulsar::run(argc, argv, add_up);
    say("after");
    return first + second;
  }
  if (what == "spawn-early") {
    spawn_early();
    return pulsar::run(argc, argv, start_and_say);
  }
  if (what == "loop-early") {
    loop_early();
    return pulsar::run(argc, argv, start_and_say);
  }
  if (what == "exit-early") {
    if (pulsar::this_process().is_worker()) return 9;
    return pulsar::run(argc, argv, start_and_say);
  }
  if (what == "never") {
    if (pulsar::this_process().is_worker()) {
      for (;;) ::pause();
    }
    return pulsar::run(argc, argv, wait_for_greeting);
  }
  return 64;
}
