// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What a loop can run, as links of intrusive lists: the ready queue of one thread and the queue
// by which other threads hand work over.

#include <atomic>
#include <coroutine>
#include <utility>

namespace pulsar::detail {

/// One thing to run once. `call(node, false)` runs it, `call(node, true)` frees it unrun, when the
/// loop closes; either way the node is the callee's again.
struct task_node {
  using function = void (*)(task_node*, bool drop);

  explicit constexpr task_node(function f) noexcept : call(f) {}
  task_node(const task_node&) = delete;
  task_node& operator=(const task_node&) = delete;

  task_node* next;  // set by the list it is in
  function call;

 protected:
  task_node() noexcept {}
};

/// A suspended coroutine, to be resumed.
struct continuation : task_node {
  constexpr continuation() noexcept : task_node(&resume) {}

  std::coroutine_handle<> handle;

  /// To be called before the ready queue gets one that was made `unset`.
  continuation* ready() noexcept {
    call = &resume;
    return this;
  }

  static void resume(task_node* node, bool drop) {
    if (!drop) static_cast<continuation*>(node)->handle.resume();
  }

 protected:
  struct unset {};
  explicit continuation(unset) noexcept {}
};

/// First in, first out; one thread.
class task_queue {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  task_node* front() const noexcept { return first_; }

  void push(task_node* node) noexcept {
    node->next = nullptr;
    *last_ = node;
    last_ = &node->next;
  }

  task_node* pop() noexcept {
    task_node* node = first_;
    if (node != nullptr) {
      first_ = node->next;
      if (first_ == nullptr) last_ = &first_;
    }
    return node;
  }

  /// Takes out what `link` points to, which is `first` or the `next` of one that is in here.
  task_node* take(task_node** link) noexcept {
    task_node* node = *link;
    *link = node->next;
    if (last_ == &node->next) last_ = link;
    return node;
  }
  task_node** first() noexcept { return &first_; }

 private:
  task_node* first_ = nullptr;
  task_node** last_ = &first_;
};

/// Many producers, one consumer who takes all at once. Lock-free; what is pushed after `close` is
/// refused. A consumer who has taken something is awake, and nobody wakes it, until it `rest`s.
class task_stack {
 public:
  enum class pushed { first, more, closed };

  /// `first` tells the producer that it has to wake the consumer.
  pushed push(task_node* node) noexcept {
    task_node* top = top_.load(std::memory_order_relaxed);
    do {
      if (top == &end_) return pushed::closed;
      node->next = top == &awake_ ? nullptr : top;
    } while (!top_.compare_exchange_weak(top, node, std::memory_order_release,
                                         std::memory_order_relaxed));
    return top == nullptr ? pushed::first : pushed::more;
  }

  /// Appends to `out` what was pushed, oldest first.
  void take(task_queue& out) noexcept { append(out, swap(&awake_)); }

  /// Has the consumer woken from now on; false if there is something to take again.
  bool rest() noexcept {
    task_node* top = &awake_;
    return top_.compare_exchange_strong(top, nullptr, std::memory_order_relaxed) || top == &end_;
  }

  /// Refuses all that comes later and appends the rest to `out`.
  void close(task_queue& out) noexcept { append(out, swap(&end_)); }

  bool empty() const noexcept {
    const task_node* top = top_.load(std::memory_order_relaxed);
    return top == nullptr || top == &awake_;
  }

 private:
  task_node* swap(task_node* top) noexcept {
    task_node* taken = top_.exchange(top, std::memory_order_acquire);
    return taken == &end_ || taken == &awake_ ? nullptr : taken;
  }

  static void append(task_queue& out, task_node* newest) noexcept {
    task_node* oldest = nullptr;
    while (newest != nullptr) {
      task_node* next = std::exchange(newest->next, oldest);
      oldest = std::exchange(newest, next);
    }
    while (oldest != nullptr) {
      task_node* next = oldest->next;
      out.push(oldest);
      oldest = next;
    }
  }

  std::atomic<task_node*> top_{nullptr};
  task_node end_{nullptr};
  task_node awake_{nullptr};
};

}  // namespace pulsar::detail
