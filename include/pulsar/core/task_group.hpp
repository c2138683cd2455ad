// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `task_group`: children that are waited for together.
///
///     task_group group;
///     for (auto& peer : peers) group.add(greet(peer));
///     co_await group.join();
///
/// The first failure cancels the others, and `join` rethrows it. Later ones, and one that nobody
/// joins, go to the loop's exception handler.
///
/// Who leaves without a `join`, by an exception say, leaves children behind: they are cancelled,
/// but end on their own, later, and must not use what went with the group. `with_task_group` waits
/// for them on every way out:
///
///     auto greet_all = [](task_group& group) -> future<> { ... group.add(greet(peer)); ... };
///     co_await with_task_group(greet_all);

#include <pulsar/core/future.hpp>
#include <pulsar/core/make.hpp>

#include <cstddef>
#include <exception>
#include <type_traits>
#include <utility>

namespace pulsar {

/// Belongs to one loop. Dropping a group that was not joined cancels its children and lets them end
/// on their own, detached, as dropping their futures would.
class task_group {
 public:
  explicit task_group(event_loop& loop = event_loop::current())
      : core_(new core(loop)) {}
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  ~task_group() {
    core_->given_up = true;
    core_->cancel();
    if (!core_->seen) core_->report(core_->failure);
  }

  /// Takes a child, a future or an operation; its result is dropped. After `cancel`, or a failure,
  /// it is cancelled at once. Throws `errc::loop_closed`.
  template <detail::future_like F>
  void add(F&& child) {
    watch(loop("add"), core_, detail::to_future(std::forward<F>(child))).detach();
  }

  /// How many children have not ended.
  std::size_t size() const noexcept { return core_->size; }

  /// Cancels all children, also those that come later; `join` waits for them.
  void cancel() noexcept { core_->cancel(); }

  /// Done when all children have ended, also those that are added while it waits. Throws the first
  /// failure, every time; `errc::already_called` while another `join` waits; `errc::loop_closed`.
  /// Cancelling it cancels the children and waits for them; then it throws `errc::cancelled`,
  /// unless one has failed.
  future<> join() { return wait(loop("join"), core_); }

 private:
  struct core;
  struct all_ended;

  /// A child in the list of its group, while its coroutine lives.
  struct member {
    member(core& g, detail::state** c) noexcept : group(g), child(c) { group.enter(*this); }
    member(const member&) = delete;
    member& operator=(const member&) = delete;
    ~member() { group.leave(*this); }

    core& group;
    detail::state** child;
    member* previous = nullptr;
    member* next = nullptr;
  };

  /// What `join` waits for, while it does.
  struct waiting_join {
    explicit waiting_join(core& g, event_loop& loop) : group(g), end(new all_ended(loop, g)) {
      end->handed_out = true;
      group.joining = this;
    }
    waiting_join(const waiting_join&) = delete;
    waiting_join& operator=(const waiting_join&) = delete;
    ~waiting_join() {
      group.joining = nullptr;
      end->drop();
    }
    future<> wait() noexcept {
      ++end->count;
      return detail::future_access::make<void>(end);
    }

    core& group;
    all_ended* end;
  };

  /// Done when no child is left.
  struct all_ended final : detail::shared_state<void> {
    all_ended(event_loop& l, const core& g) noexcept : shared_state(l), group(g) {}
    const char* name() const noexcept override { return "the children of a group"; }
    void each_awaited(void (*f)(void*, detail::state&), void* with) const noexcept override {
      for (const member* m = group.first; m != nullptr; m = m->next) {
        if (*m->child != nullptr) f(with, **m->child);
      }
    }
    const core& group;
  };

  struct core : detail::counted {
    explicit core(event_loop& l) : place(l) {}

    void enter(member& m) noexcept {
      m.next = first;
      if (first != nullptr) first->previous = &m;
      first = &m;
      ++size;
      if (cancelled && *m.child != nullptr) detail::cancel_chain(*m.child);
    }

    void leave(member& m) noexcept {
      if (m.next != nullptr) m.next->previous = m.previous;
      (m.previous != nullptr ? m.previous->next : first) = m.next;
      if (--size == 0 && joining != nullptr && !joining->end->done()) joining->end->succeed();
    }

    void cancel() noexcept {
      cancelled = true;
      for (member* m = first; m != nullptr; m = m->next) {
        if (*m->child != nullptr) detail::cancel_chain(*m->child);
      }
    }

    void on_failure(std::exception_ptr why) noexcept {
      if (detail::is_cancelled(why)) return;
      if (failure != nullptr || given_up) {
        report(std::move(why));
      } else {
        failure = std::move(why);
        // Once: what a cancelled child does to clean up must not be cancelled.
        if (!cancelled) cancel();
      }
    }

    void report(const std::exception_ptr& unseen) noexcept {
      if (unseen != nullptr) detail::report_unseen(place.loop, unseen, {});
    }

    detail::shared_state<void> place;  // its loop is null once that is closed
    member* first = nullptr;
    std::size_t size = 0;
    bool cancelled = false;
    bool given_up = false;  // the group was dropped
    bool seen = false;  // the failure, by `join`
    std::exception_ptr failure;
    waiting_join* joining = nullptr;
  };

  event_loop& loop(const char* what) const {
    if (core_->place.loop == nullptr) throw error(errc::loop_closed, what);
    return *core_->place.loop;
  }

  template <class T>
  static future<> watch(event_loop&, detail::counted_pointer<core> group, future<T> child) {
    const member self(*group, &detail::future_access::slot(child));
    try {
      co_await child;
    } catch (...) {
      group->on_failure(std::current_exception());
    }
  }

  // A template, like every coroutine of a header: g++ 12 emits the body of any other, used or not.
  template <class = void>
  static future<> wait(event_loop& loop, detail::counted_pointer<core> group) {
    if (group->joining != nullptr) throw error(errc::already_called, "join while another waits");
    bool interrupted = false;
    while (group->size > 0) {
      waiting_join here(*group, loop);
      try {
        co_await here.wait();
      } catch (const error&) {  // cancelled: nothing else fails it
        interrupted = true;
        group->cancel();
      }
    }
    if (group->failure != nullptr) {
      group->seen = true;
      std::rethrow_exception(group->failure);
    }
    if (interrupted) throw error(errc::cancelled);
  }

  detail::counted_pointer<core> core_;
};

namespace detail {

// Its failure is the group's, as a child's is, so that one cancels the other.
template <class F>
future<> body_of_group(F& body, task_group& group, std::exception_ptr& cancelled) {
  try {
    future<> running = body(group);
    co_await std::move(running);
  } catch (...) {
    if (!is_cancelled(std::current_exception())) throw;
    cancelled = std::current_exception();
    group.cancel();
  }
}

template <class F>
future<> group_with_body(F body) {
  task_group group;
  std::exception_ptr cancelled;
  group.add(body_of_group(body, group, cancelled));
  co_await group.join();
  if (cancelled != nullptr) std::rethrow_exception(cancelled);
}

}  // namespace detail

/// Calls `body(group)`, which returns a `future<>`, and is done when that and all children of the
/// group have ended; they may use what outlives this call. The first failure among them all cancels
/// the rest and is rethrown. Cancelling it cancels all and waits for them. With g++ 12 name a `body`
/// that captures more than references and numbers: see make.hpp.
template <class F>
  requires std::is_invocable_r_v<future<>, std::decay_t<F>&, task_group&>
future<> with_task_group(F&& body) {
  detail::refuse_temporaries<F>();
  return detail::group_with_body<std::decay_t<F>>(std::forward<F>(body));
}

}  // namespace pulsar
