// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `task_group`: children that do not outlive it.
///
///     task_group group;
///     for (auto& peer : peers) group.add(greet(peer));
///     co_await group.join();
///
/// The first failure cancels the others, and `join` rethrows it.

#include <pulsar/core/future.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <utility>

namespace pulsar {

/// Belongs to one loop. Dropping a group that was not joined cancels its children and lets them
/// end on their own, as dropping their futures would.
class task_group {
 public:
  explicit task_group(event_loop& loop = event_loop::current())
      : loop_(loop), core_(std::make_shared<core>()) {}
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  ~task_group() { core_->cancel(); }

  /// Takes a child; its result is dropped. After `cancel`, or a failure, it is cancelled at once.
  template <class T>
  void add(future<T> child) {
    watch(loop_, core_, std::move(child)).detach();
  }

  /// How many children have not ended.
  std::size_t size() const noexcept { return core_->size; }

  /// Cancels all children, also those that come later; `join` waits for them.
  void cancel() noexcept { core_->cancel(); }

  /// Done when all children have ended. Throws the first failure. Cancelling it cancels the
  /// children and waits for them; then it throws `errc::cancelled`.
  future<> join() { return wait(loop_, core_); }

 private:
  struct member {
    explicit member(detail::state** c) noexcept : child(c) {}
    detail::state** child;
    member* previous = nullptr;
    member* next = nullptr;
  };

  struct core {
    void enter(member& m) noexcept {
      m.next = first;
      if (first != nullptr) first->previous = &m;
      first = &m;
      ++size;
      if (cancelled) detail::cancel_chain(*m.child);
    }

    void leave(member& m) noexcept {
      if (m.next != nullptr) m.next->previous = m.previous;
      (m.previous != nullptr ? m.previous->next : first) = m.next;
      --size;
    }

    void cancel() noexcept {
      cancelled = true;
      for (member* m = first; m != nullptr; m = m->next) {
        if (*m->child != nullptr) detail::cancel_chain(*m->child);
      }
    }

    member* first = nullptr;
    std::size_t size = 0;
    bool cancelled = false;
    std::exception_ptr failure;
    promise<>* waiting = nullptr;  // of `join`, while there are children
  };

  template <class T>
  static future<> watch(event_loop&, std::shared_ptr<core> group, future<T> child) {
    member self(&detail::future_access::slot(child));
    group->enter(self);
    try {
      co_await child;
    } catch (...) {
      auto why = std::current_exception();
      if (group->failure == nullptr && !detail::is_cancelled(why)) {
        group->failure = std::move(why);
        group->cancel();
      }
    }
    group->leave(self);
    if (group->size == 0 && group->waiting != nullptr) group->waiting->set_value();
  }

  static future<> wait(event_loop& loop, std::shared_ptr<core> group) {
    bool interrupted = false;
    while (group->size > 0) {
      promise<> all_ended(loop);
      group->waiting = &all_ended;
      try {
        co_await all_ended.get_future();
      } catch (const error&) {  // cancelled: nothing else fails it
        interrupted = true;
        group->cancel();
      }
      group->waiting = nullptr;
    }
    if (group->failure != nullptr) std::rethrow_exception(group->failure);
    if (interrupted) throw error(errc::cancelled);
  }

  event_loop& loop_;
  std::shared_ptr<core> core_;
};

}  // namespace pulsar
