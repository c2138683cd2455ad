// Other programs: one that answers a question, a pipeline of the shell, and one that is too slow.
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/subprocess.hpp>
#include <pulsar/core/timeout.hpp>

#include <fmt/format.h>

#include <string>

using namespace std::chrono_literals;

constexpr pulsar::subprocess_options piped{.standard_input = pulsar::stdio::pipe,
                                           .standard_output = pulsar::stdio::pipe,
                                           .if_dropped = pulsar::dropped_process::killed};

pulsar::future<> run_programs(pulsar::event_loop& loop) {
  // [subprocess]
  auto sort = co_await loop.subprocess_exec("sort", "-n", piped);
  const auto sorted = co_await sort.communicate("10\n9\n8\n");  // all in, all out, no deadlock
  fmt::print("{}{}\n", sorted.output, to_string(sorted.status));

  auto shell = co_await loop.subprocess_shell("tr a-z A-Z | head -n 1; exit 3", piped);
  shell.standard_input().write("hello\nagain\n");
  shell.standard_input().write_eof();
  const std::string line = co_await shell.standard_output().read_line();
  fmt::print("{}", line);
  co_await shell.wait();
  fmt::print("return code {}\n", *shell.returncode());
  // [/subprocess]

  auto slow = co_await loop.subprocess_exec("sleep", "1000", piped);
  const auto late = co_await as_result(with_timeout(slow.wait(), 10ms));
  slow.terminate();
  const pulsar::exit_status ended = co_await slow.wait();
  fmt::print("{}, then {}\n", late.message(), to_string(ended));
}

int main() {
  pulsar::event_loop loop;
  loop.run_until_complete([&] { return run_programs(loop); });
}
// output:
// 8
// 9
// 10
// exit code 0
// HELLO
// return code 3
// not done within 10 ms: timed out, then signal 15 (Terminated)
