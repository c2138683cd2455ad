// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Whom the code that runs in this thread works for: the actor a log line names. A coroutine keeps
// the context in which it was called and has it back whenever it goes on.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar::detail {

/// Counted, one thread: by its owner and by every coroutine that was called in it.
struct context {
  explicit context(std::string n) : name(std::move(n)) {}

  void take() noexcept { ++count; }
  void drop() noexcept {
    if (--count == 0) [[unlikely]] end();
  }

  std::uint64_t count = 1;
  std::string name;

 private:
  [[gnu::noinline]] void end() noexcept { delete this; }  // out of the way of every coroutine
};

inline constinit thread_local context* this_context = nullptr;

/// Works in `c` while it lives.
class context_scope {
 public:
  explicit context_scope(context* c) noexcept : before_(std::exchange(this_context, c)) {}
  context_scope(const context_scope&) = delete;
  context_scope& operator=(const context_scope&) = delete;
  ~context_scope() { this_context = before_; }

 private:
  context* before_;
};

}  // namespace pulsar::detail
