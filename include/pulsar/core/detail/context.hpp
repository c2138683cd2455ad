// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Whom the code that runs in this thread works for: the actor a log line names. A coroutine keeps
// the context in which it was called and has it back whenever it goes on.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar::detail {

struct context;

/// What a context adds to another one.
struct context_addition {
  explicit inline context_addition(context* o);
  context_addition(const context_addition&) = delete;
  context_addition& operator=(const context_addition&) = delete;
  virtual inline ~context_addition();

  context* outer;              // may be null
  const void* key = nullptr;   // of `value`
  const void* value = nullptr;
  std::string fields;          // what a log line says beside the name
};

/// Counted, one thread: by its owner, by every coroutine that was called in it, and by those that
/// add something to it.
struct context {
  explicit context(std::string n) : name(std::move(n)) {}
  /// Owns `a`.
  explicit context(context_addition* a)
      : name(a->outer == nullptr ? std::string() : a->outer->name), addition(a) {}
  context(const context&) = delete;
  context& operator=(const context&) = delete;
  ~context() { delete addition; }

  void take() noexcept { ++count; }
  void drop() noexcept {
    if (--count == 0) [[unlikely]] end();
  }

  std::uint64_t count = 1;
  std::string name;
  context_addition* addition = nullptr;

 private:
  [[gnu::noinline]] inline void end() noexcept;  // out of the way of every coroutine
};

context_addition::context_addition(context* o) : outer(o) {
  if (o == nullptr) return;
  if (o->addition != nullptr) fields = o->addition->fields;
  o->take();
}
context_addition::~context_addition() {
  if (outer != nullptr) outer->drop();
}

// With it end those that only it has added to: a loop, for there is no limit to how many.
void context::end() noexcept {
  for (context* last = this; last != nullptr;) {
    context* const outer =
        last->addition == nullptr ? nullptr : std::exchange(last->addition->outer, nullptr);
    delete last;
    last = outer != nullptr && --outer->count == 0 ? outer : nullptr;
  }
}

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
