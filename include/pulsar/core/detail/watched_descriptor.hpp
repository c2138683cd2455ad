// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How the machinery waits for descriptors: for readiness alone, with system calls of its own. One
// operation of Asio then serves the loop's timer, the lines, the control sockets and the ends of
// children; each other one costs a program a hundred functions.
//
//     d.wait(d.wait_read, told);

#include <asio/io_context.hpp>
#include <asio/posix/basic_descriptor.hpp>

#include <system_error>

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

  int native() const noexcept { return const_cast<watched_descriptor*>(this)->native_handle(); }

  struct readiness {
    watched_descriptor& of;
    wait_type what;
  };
  /// Awaiting gives false if the wait was cancelled, be it with another one, or failed. Cancelling
  /// the coroutine cancels all waits; before it has begun to wait it throws `errc::cancelled`. Needs
  /// readiness.hpp.
  readiness readable() noexcept { return {*this, wait_read}; }
  readiness writable() noexcept { return {*this, wait_write}; }

 private:
  struct handler {
    descriptor_wait* wait;
    void operator()(std::error_code ec) const { wait->end(wait, ec); }
  };
};

}  // namespace pulsar::detail
