// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What a user's context knows of the event loops on it: that none is left when it ends.

#include <pulsar/core/log.hpp>

#include <asio/execution_context.hpp>

#include <cstdlib>

namespace pulsar::detail {

/// Made later than the services that the loops use, it is told of the end before them.
class loop_service final : public asio::execution_context::service {
 public:
  using key_type = loop_service;
  static inline asio::execution_context::id id;

  explicit loop_service(asio::execution_context& context) : service(context) {}

  unsigned open = 0;  // loops

 private:
  void shutdown() override {
    if (open == 0) return;
    log::critical(
        "an io_context has ended before the event loop on it, whose coroutines and timers it still "
        "had: close() the loop before its context ends");
    std::abort();
  }
};

}  // namespace pulsar::detail
