// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Somebody who listens and never accepts: who comes late is not answered.
///
///     const full_listener silent;
///     connect(silent.at.local());   // waits

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/listener.hpp>

#include <sys/socket.h>

#include <utility>
#include <vector>

struct full_listener {
  full_listener() : at(pulsar::address("127.0.0.1:0"), {.backlog = 0}) {
    const auto to = at.local().resolve();
    for (int i = 0; i < 3; ++i) {
      pulsar::unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      static_cast<void>(::connect(fd.get(), to.data(), static_cast<socklen_t>(to.size())));
      waiting.push_back(std::move(fd));
    }
  }
  pulsar::listener at;
  std::vector<pulsar::unique_fd> waiting;
};
