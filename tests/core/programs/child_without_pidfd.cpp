// SPDX-License-Identifier: BSD-3-Clause
// Starts, watches, signals and reaps children where the kernel has no pidfd_open, as under older
// valgrinds and in strict sandboxes. Prints the first thing that is wrong and returns 1.

#include <pulsar/core/child.hpp>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

void expect(bool condition, const char* sentence) {
  if (condition) return;
  std::printf("wrong: %s\n", sentence);
  std::exit(1);
}

void take_pidfd_open_away() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{sizeof program / sizeof *program, program};
  expect(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "prctl");
  expect(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0, "seccomp");
}

short ready(int fd, int milliseconds) {
  pollfd wanted{fd, POLLIN, 0};
  return ::poll(&wanted, 1, milliseconds) == 1 ? wanted.revents : short{0};
}

}  // namespace

int main() {
  take_pidfd_open_away();
  expect(::syscall(SYS_pidfd_open, ::getpid(), 0) < 0, "pidfd_open still works");
  const std::vector<std::string> idle{"cat"};
  auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);

  auto killed =
      pulsar::spawn_child({.executable = "cat", .arguments = idle, .standard_input = theirs.get()});
  expect(!killed.try_wait(), "a running child has a status");
  expect(ready(killed.handle(), 0) == 0, "the handle of a running child is readable");
  expect(killed.signal(SIGKILL), "the signal was not sent");
  expect(ready(killed.handle(), 10'000) == POLLIN, "the handle never became readable");
  expect(killed.try_wait() == pulsar::exit_status{.signal = SIGKILL}, "the status is wrong");
  expect(!killed.signal(SIGKILL), "a signal was sent to a reaped child");

  auto ended = pulsar::spawn_child({.executable = "true"});
  expect(ended.wait().success(), "wait() returned another status");
  expect(ready(ended.handle(), 10'000) == POLLIN, "the handle is not readable after wait()");

  for (int i = 0; i < 50; ++i) pulsar::spawn_child({.executable = "true"}).wait();
  return 0;
}
