// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What a future points to, and how a chain of awaits is cancelled and taken down.
//
// A `state` is either made by hand (a promise, a timer, a combinator) or is the promise object of
// a coroutine frame (`frame`). The links between them run along the awaits: `frame::waiting_on`
// downward to what it waits for, `state::awaiter` upward to who waits. Both are followed in
// loops, never by recursion: a chain may be a million long.

#include <pulsar/core/detail/context.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/step.hpp>
#include <pulsar/core/detail/task_node.hpp>

#include <coroutine>
#include <cstdint>
#include <exception>
#include <source_location>
#include <utility>

namespace pulsar {
class event_loop;
}

namespace pulsar::detail {

/// What can be told to stop: a state, or an operation that a coroutine waits for directly.
struct cancellable {
  /// Requests cancellation here; returns what waits below and is to be asked next.
  using function = cancellable* (*)(cancellable*) noexcept;
  enum class kind : std::uint8_t { operation, state, frame };

  constexpr cancellable(function f, kind k) noexcept : on_cancel(f), what(k) {}
  cancellable(const cancellable&) = delete;
  cancellable& operator=(const cancellable&) = delete;

  function on_cancel;  // a frame has none: what it does is known
  kind what;

 protected:
  explicit cancellable(kind k) noexcept : what(k) {}
};

struct frame;
struct future_awaiter;

enum class status : std::uint8_t { pending, value, taken, failed };  // taken: the value moved out

/// How a future lets go of a state; or a loop, which closes, of one that others refer to.
enum class release_as : std::uint8_t { dropped, detached, loop_closed };

struct state : cancellable {
  using release_function = void (*)(state*, release_as) noexcept;

  /// Made by hand.
  state(event_loop* l, function f, release_function r) noexcept
      : cancellable(f, kind::state),
        listed(true),
        loop(l),
        release(r),
        callbacks(nullptr),
        failure() {}

  static constexpr std::uint8_t failure_seen = 1;
  static constexpr std::uint8_t end_seen = 2;

  bool done() const noexcept { return progress != status::pending; }
  bool observed() const noexcept { return (seen & failure_seen) != 0; }
  void observe() noexcept { seen |= failure_seen; }
  bool has_value() const noexcept {
    return progress == status::value || progress == status::taken;
  }

  bool flat = false;  // a frame whose parameters own no other frame
  status progress = status::pending;
  std::uint8_t seen = 0;          // what somebody knows of it; see below
  bool watched = false;           // it has callbacks, or was abandoned
  bool listed;                    // in a list of the loop; see frame
  bool cancel_requested = false;  // of a frame, as the next; here they cost no room
  bool abandoned = false;         // no future is left
  event_loop* loop;               // null once the loop is closed, if it is listed
  release_function release;       // not of a frame
  state* next;                    // in a list of the loop, as the next
  state** link;                   // what points here in that list
  void* value;                    // if it has one; see keep_context
  future_awaiter* awaiter = nullptr;

  // What is not listed has none of these.
  task_node* callbacks;  // the newest first
  union {
    std::exception_ptr failure;
  };

 protected:
  /// Of a frame.
  state(event_loop* l, bool f) noexcept
      : cancellable(kind::frame), flat(f), listed(false), loop(l) {}
  ~state() {}
};

/// Takes the callbacks out of a state, the oldest first.
inline task_node* take_callbacks(state& s) noexcept {
  task_node* oldest = nullptr;
  task_node* newest = std::exchange(s.callbacks, nullptr);
  while (newest != nullptr) {
    task_node* next = std::exchange(newest->next, oldest);
    oldest = std::exchange(newest, next);
  }
  return oldest;
}

[[gnu::noinline]] inline void free_callbacks(state& s) noexcept {
  for (task_node* node = take_callbacks(s); node != nullptr;) {
    task_node* next = node->next;
    node->call(node, true);
    node = next;
  }
}

/// The part of a coroutine's promise that does not depend on its type. Most coroutines end before
/// they have suspended once, and nobody but their caller knows them: they are `listed` in their
/// loop, and keep a context, from their first suspension on, or if they fail.
struct frame : state {
  frame(event_loop* l, bool is_flat) noexcept : state(l, is_flat) {}
  ~frame() {
    if (listed) leave();
  }

  /// To be called whenever the coroutine goes on.
  void resumed() noexcept {
    waiting_on = nullptr;
    this_context = works_for;
    if (this_step != nullptr) [[unlikely]] this_step->begin(step_watch::kind::coroutine, where);
  }

  cancellable* waiting_on;  // as the next, once it is listed
  context* works_for;
  std::coroutine_handle<> handle;
  std::source_location where;  // the function, at its last await
  std::uint64_t born;          // see loop_data::coarse_; once it is listed

 private:
  [[gnu::noinline]] inline void leave() noexcept;
};

inline cancellable* request_cancel(frame& f) noexcept {
  if (f.done()) return nullptr;
  f.cancel_requested = true;
  return f.waiting_on;
}

inline void cancel_chain(cancellable* target) noexcept {
  while (target != nullptr) {
    target = target->what == cancellable::kind::frame ? request_cancel(static_cast<frame&>(*target))
                                                      : target->on_cancel(target);
  }
}

/// Waits for one state on behalf of a coroutine; `handle` is set while it does. `slot` is the
/// pointer that owns the state: a future's, or `owned`. What is needed only for waiting is set
/// when that begins, and `call` when the ready queue gets it.
struct future_awaiter : continuation {
  future_awaiter() noexcept : continuation(unset{}) {}

  state** slot;  // while it waits
  state* owned = nullptr;
  frame* waiter;  // while it waits
};

void let_go_of_frame(frame* f, release_as how) noexcept;

/// What a future does with its state at its end.
inline void let_go(state& s, release_as how) noexcept {
  if (s.awaiter == nullptr) [[likely]] {
    if (s.what == cancellable::kind::frame) return let_go_of_frame(static_cast<frame*>(&s), how);
    return s.release(&s, how);
  }
  // A coroutine waits for it all the same: that one owns it from now on.
  s.awaiter->owned = &s;
  s.awaiter->slot = &s.awaiter->owned;
  if (how == release_as::dropped) cancel_chain(&s);
}

/// Some states of a loop, the newest first.
class state_list {
 public:
  state* first() const noexcept { return first_; }

  void insert(state& s) noexcept {
    s.next = first_;
    s.link = &first_;
    if (first_ != nullptr) first_->link = &s.next;
    first_ = &s;
  }

  static void remove(state& s) noexcept {
    *s.link = s.next;
    if (s.next != nullptr) s.next->link = s.link;
  }

  /// Takes the first out; it may be removed once more.
  state* pop() noexcept {
    state* s = first_;
    if (s != nullptr) {
      remove(*s);
      s->next = nullptr;
      s->link = &s->next;
    }
    return s;
  }

 private:
  state* first_ = nullptr;
};

/// A frame that a future still owns when its loop is gone keeps the context of that loop, if the
/// loop owned it: the I/O objects in the frame must go first. It stands where the value would.
inline void keep_context(frame& f, counted* context) noexcept {
  if (context != nullptr) context->take();
  f.value = context;
}
[[gnu::noinline]] inline counted_pointer<counted> take_context(frame& f) noexcept {
  return counted_pointer<counted>(static_cast<counted*>(std::exchange(f.value, nullptr)));
}

void frame::leave() noexcept {
  state_list::remove(*this);
  if (!done()) {
    if (loop == nullptr) take_context(*this);
    if (callbacks != nullptr) free_callbacks(*this);
  }
  if (works_for != nullptr) works_for->drop();
  std::destroy_at(&failure);
}

/// Frees a frame that does not run, and behind it the context that it keeps.
inline void destroy_frame(frame* f) noexcept {
  const auto context = !f->done() && f->loop == nullptr ? take_context(*f) : nullptr;
  f->handle.destroy();
}

/// The same for a coroutine that has ended, or a generator between two items. The parameters in it
/// may own the frames of other such ones, and so on: beyond a depth they are put aside for the
/// outermost call.
[[gnu::noinline]] inline void destroy_nested(frame* f) noexcept {
  struct todo {
    unsigned depth;
    frame* aside;
  };
  static constinit thread_local todo pending{0, nullptr};
  if (pending.depth >= 64) {
    f->waiting_on = pending.aside;  // it waits for nothing any more
    pending.aside = f;
    return;
  }
  ++pending.depth;
  destroy_frame(f);
  if (--pending.depth > 0) return;
  while (frame* next = pending.aside) {
    pending.aside = static_cast<frame*>(next->waiting_on);
    ++pending.depth;
    destroy_frame(next);
    --pending.depth;
  }
}

inline void destroy_done(frame* f) noexcept {
  if (f->flat) {
    f->handle.destroy();
  } else {
    destroy_nested(f);
  }
}

/// Frees a suspended coroutine and those it waits for, the innermost first, as unwinding would.
/// Only when nothing can resume them any more: their loop is closed.
inline void destroy_suspended(frame* root) noexcept {
  frame* leaf = root;
  while (leaf->waiting_on != nullptr && leaf->waiting_on->what == cancellable::kind::frame) {
    auto* below = static_cast<frame*>(leaf->waiting_on);
    if (below->done()) break;
    leaf = below;
  }
  while (leaf != nullptr) {
    frame* above = leaf == root ? nullptr : leaf->awaiter->waiter;
    if (leaf->awaiter != nullptr) *leaf->awaiter->slot = nullptr;
    if (above != nullptr) above->waiting_on = nullptr;
    leaf->handle.destroy();
    leaf = above;
  }
}

}  // namespace pulsar::detail
