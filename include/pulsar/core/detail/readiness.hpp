// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Coroutines that wait for a descriptor:
//
//     while (co_await d.readable()) read_some(d.native_handle());

#include <pulsar/core/detail/watched_descriptor.hpp>
#include <pulsar/core/event_loop.hpp>

#include <coroutine>
#include <system_error>
#include <type_traits>
#include <utility>

namespace pulsar::detail {

/// Lives in the frame of the coroutine that waits. The descriptor goes after the wait has ended.
class readiness_awaiter : cancellable, continuation, descriptor_wait {
 public:
  readiness_awaiter(watched_descriptor& d, watched_descriptor::wait_type w) noexcept
      : cancellable(&request_cancel, kind::operation),
        descriptor_wait(&resume_waiter),
        descriptor_(d),
        what_(w) {}

  bool await_ready() const noexcept { return false; }
  template <class P>
  requires std::is_base_of_v<frame, P>
  bool await_suspend(std::coroutine_handle<P> h) { return begin(h.promise()); }
  bool await_resume();

  /// What is behind `c`, or null if that is something else.
  static const readiness_awaiter* from(const cancellable& c) noexcept {
    return c.on_cancel == &request_cancel ? static_cast<const readiness_awaiter*>(&c) : nullptr;
  }
  watched_descriptor::wait_type what() const noexcept { return what_; }
  int fd() const noexcept { return over_ ? -1 : descriptor_.native(); }

 private:
  bool begin(frame& waiter);
  static cancellable* request_cancel(cancellable* self) noexcept;
  static void resume_waiter(descriptor_wait* self, std::error_code failure);

  watched_descriptor& descriptor_;
  const watched_descriptor::wait_type what_;
  frame* waiter_ = nullptr;
  bool ready_ = false;
  bool over_ = false;  // it has ended, or was told to: the descriptor may be gone
};

inline bool readiness_awaiter::begin(frame& waiter) {
  if (waiter.cancel_requested) {
    waiter.cancel_requested = false;
    return false;
  }
  descriptor_.wait(what_, *this);
  waiter_ = &waiter;
  waiter.waiting_on = this;
  loop_access::io_started(*waiter.loop);
  return true;
}

inline bool readiness_awaiter::await_resume() {
  if (waiter_ == nullptr) throw error(errc::cancelled);
  waiter_->resumed();
  if (!ready_) waiter_->cancel_requested = false;
  return ready_;
}

inline cancellable* readiness_awaiter::request_cancel(cancellable* self) noexcept {
  auto& wait = static_cast<readiness_awaiter&>(*self);
  if (!std::exchange(wait.over_, true)) wait.descriptor_.cancel();
  return nullptr;
}

inline void readiness_awaiter::resume_waiter(descriptor_wait* self, std::error_code failure) {
  auto& wait = static_cast<readiness_awaiter&>(*self);
  wait.over_ = true;
  event_loop& loop = *wait.waiter_->loop;
  wait.ready_ = !failure;
  wait.handle = wait.waiter_->handle;
  loop_access::io_ended(loop);
  loop_access::resume_from_io(loop, wait);
}

inline readiness_awaiter operator co_await(watched_descriptor::readiness r) noexcept {
  return readiness_awaiter(r.of, r.what);
}

}  // namespace pulsar::detail
