// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What a program says when it ends itself.
///
///     const auto end = death_of([] { loop.close(); });
///     CHECK(end.aborted);
///     CHECK(end.text.find("close()") != std::string::npos);

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

struct death {
  bool aborted = false;  ///< By SIGABRT; else it returned, or died of something else.
  std::string text;      ///< What it wrote to standard error.
};

/// Calls `f()` in a forked process, in which no thread of this one lives.
template <class F>
death death_of(F f) {
  int ends[2];
  if (::pipe(ends) != 0) return {};
  const pid_t child = ::fork();
  if (child < 0) return {};
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    std::signal(SIGABRT, SIG_DFL);  // doctest has a handler
    f();
    ::_exit(0);
  }
  ::close(ends[1]);
  death result;
  char chunk[1024];
  for (;;) {
    const auto n = ::read(ends[0], chunk, sizeof chunk);
    if (n <= 0) break;
    result.text.append(chunk, static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  result.aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  return result;
}
