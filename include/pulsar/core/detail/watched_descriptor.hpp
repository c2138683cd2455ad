// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How the machinery waits for descriptors: for readiness alone, with system calls of its own. One
// operation of Asio then serves the loop's timer, the lines, the control sockets and the ends of
// children; each other one costs a program a hundred functions.
//
//     while (co_await d.readable()) read_some(d.native_handle());

#include <pulsar/core/detail/state.hpp>

#include <asio/io_context.hpp>
#include <asio/posix/basic_descriptor.hpp>

#include <coroutine>
#include <system_error>
#include <type_traits>

namespace pulsar::detail {

/// What is told that a wait has ended; stays in place until then, or until the context is gone.
struct descriptor_wait {
  using function = void (*)(descriptor_wait*, std::error_code failure);

  explicit constexpr descriptor_wait(function f) noexcept : end(f) {}

  function end;
};

/// Owns its descriptor, unless it is told to `release` it.
class watched_descriptor : public asio::posix::basic_descriptor<asio::io_context::executor_type> {
 public:
  using basic_descriptor::basic_descriptor;

  void wait(wait_type what, descriptor_wait& w) { async_wait(what, handler{&w}); }

  /// Ends all waits.
  void cancel() noexcept {
    std::error_code ignored;
    basic_descriptor::cancel(ignored);
  }

  class awaiter;
  struct readiness {
    watched_descriptor& of;
    wait_type what;
    inline awaiter operator co_await() const noexcept;
  };
  /// Awaiting gives false if the wait was cancelled, be it with another one, or failed. Cancelling
  /// the coroutine cancels all waits; before it has begun to wait it throws `errc::cancelled`.
  readiness readable() noexcept { return {*this, wait_read}; }
  readiness writable() noexcept { return {*this, wait_write}; }

 private:
  struct handler {
    descriptor_wait* wait;
    void operator()(std::error_code ec) const { wait->end(wait, ec); }
  };
};

/// Lives in the frame of the coroutine that waits. The descriptor goes after the wait has ended.
class watched_descriptor::awaiter : cancellable, continuation, descriptor_wait {
 public:
  awaiter(watched_descriptor& d, wait_type w) noexcept
      : cancellable(&request_cancel, kind::operation),
        descriptor_wait(&resume_waiter),
        descriptor_(d),
        what_(w) {}

  bool await_ready() const noexcept { return false; }
  template <class P>
    requires std::is_base_of_v<frame, P>
  bool await_suspend(std::coroutine_handle<P> h) {
    return begin(h.promise());
  }
  inline bool await_resume();

 private:
  inline bool begin(frame& waiter);
  inline static cancellable* request_cancel(cancellable* self) noexcept;
  inline static void resume_waiter(descriptor_wait* self, std::error_code failure);

  watched_descriptor& descriptor_;
  const wait_type what_;
  frame* waiter_ = nullptr;
  bool ready_ = false;
  bool over_ = false;  // it has ended, or was told to: the descriptor may be gone
};

watched_descriptor::awaiter watched_descriptor::readiness::operator co_await() const noexcept {
  return awaiter(of, what);
}

}  // namespace pulsar::detail

// What waits for a descriptor belongs to a loop.
#include <pulsar/core/event_loop.hpp>
