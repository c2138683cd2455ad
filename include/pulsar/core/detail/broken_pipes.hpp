// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What every call that takes no MSG_NOSIGNAL needs before it writes to somebody who may have gone.

#include <signal.h>

namespace pulsar::detail {

/// Has the program told of a pipe or socket that nobody reads any more by an error, not by the
/// signal that would end it; unless it does something with that signal.
inline void ignore_broken_pipes() noexcept {
  struct sigaction now {};
  if (::sigaction(SIGPIPE, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
      now.sa_handler == SIG_DFL) {
    ::signal(SIGPIPE, SIG_IGN);
  }
}

}  // namespace pulsar::detail
