// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What the copies of a shared_future share, and how coroutines wait for it.

#include <pulsar/core/future.hpp>

#include <coroutine>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace pulsar::detail {

struct shared_waiter;

/// One thread. Counted by the copies and by those who wait; the memory also by the future while it
/// is to tell that it is done.
class shared_source : task_node, public recycled {
 public:
  explicit shared_source(future_base& f) noexcept
      : task_node(&on_done), state_(std::exchange(future_access::slot(f), nullptr)) {
    if (state_->awaiter != nullptr) state_->awaiter->slot = &state_;
    if (state_->done()) return;
    ++memory_;
    add_callback(*state_, this);
  }

  void take() noexcept { ++users_; }
  void drop() noexcept {
    if (--users_ > 0) return;
    if (!state_->done()) let_go(*std::exchange(state_, nullptr), release_as::dropped);
    free();
  }

  state& what() const noexcept { return *state_; }

 private:
  friend struct shared_waiter;

  ~shared_source() {
    if (state_ != nullptr) let_go(*state_, release_as::dropped);
  }

  void free() noexcept {
    if (--memory_ == 0) delete this;
  }

  static inline void on_done(task_node* node, bool drop);

  std::uint32_t users_ = 1;
  std::uint32_t memory_ = 1;  // all users are one
  state* state_;
  shared_waiter* first_ = nullptr;
  shared_waiter** last_ = &first_;
};

/// Stands in the frame of a coroutine that waits.
struct shared_waiter : continuation, cancellable {
  explicit shared_waiter(shared_source* s)
      : cancellable(&request_cancel, kind::operation), source(s) {
    if (s == nullptr) throw error(errc::already_called, "co_await of an empty shared_future");
    s->take();
  }
  shared_waiter(shared_waiter&&) = delete;
  ~shared_waiter() {
    if (link != nullptr) leave();
    source->drop();
  }

  /// What is behind `c`, or null if that is something else.
  static const shared_waiter* from(const cancellable& c) noexcept {
    return c.on_cancel == &request_cancel ? static_cast<const shared_waiter*>(&c) : nullptr;
  }
  state& awaited() const noexcept { return source->what(); }

  bool await_ready() const noexcept { return source->what().done(); }
  template <class P>
  requires std::is_base_of_v<frame, P>
  void await_suspend(std::coroutine_handle<P> h) {
    enter(h.promise());
    this->handle = h;
  }

 protected:
  /// The future, which is done and has a value.
  state& ended() {
    if (waiter != nullptr) waiter->resumed();
    if (cancelled) {
      waiter->cancel_requested = false;
      throw error(errc::cancelled);
    }
    state& s = source->what();
    s.seen |= state::end_seen;
    if (s.progress != status::value) throw_no_value(s);
    return s;
  }

 private:
  friend class shared_source;

  [[gnu::noinline]] void enter(frame& f) {
    state& s = source->what();
    if (loop_of_state(s) == nullptr) throw error(errc::loop_closed, "co_await of a shared_future");
    if (f.loop != s.loop) throw_wrong_loop();
    if (std::exchange(f.cancel_requested, false)) throw error(errc::cancelled);
    if (!f.listed) enlist(f);
    f.waiting_on = this;
    waiter = &f;
    link = source->last_;
    *link = this;
    source->last_ = &behind;
  }

  void leave() noexcept {
    *link = behind;
    (behind != nullptr ? behind->link : source->last_) = link;
    link = nullptr;
  }

  static cancellable* request_cancel(cancellable* c) noexcept {
    auto* const self = static_cast<shared_waiter*>(c);
    if (self->link == nullptr) return nullptr;  // on its way already
    self->leave();
    self->cancelled = true;
    loop_access::push_ready(*self->waiter->loop, self);
    return nullptr;
  }

  shared_source* const source;
  frame* waiter = nullptr;
  shared_waiter* behind = nullptr;
  shared_waiter** link = nullptr;  // while it is in the line
  bool cancelled = false;
};

void shared_source::on_done(task_node* node, bool drop) {
  auto* const self = static_cast<shared_source*>(node);
  while (!drop && self->first_ != nullptr) {
    shared_waiter* const w = self->first_;
    w->leave();
    loop_access::push_ready(*w->waiter->loop, w);
  }
  self->free();
}

/// `const T&`, or what a future of a reference or of nothing gives.
template <class T>
using shared_result = std::conditional_t<std::is_void_v<T> || std::is_reference_v<T>,
                                         T,
                                         std::add_lvalue_reference_t<const T>>;

template <class T>
shared_result<T> value_of(state& s) {
  if constexpr (!std::is_void_v<T>) {
    return *static_cast<std::remove_reference_t<shared_result<T>>*>(s.value);
  }
}

template <class T>
struct shared_awaiter : shared_waiter {
  using shared_waiter::shared_waiter;
  shared_result<T> await_resume() { return value_of<T>(ended()); }
};

}  // namespace pulsar::detail
