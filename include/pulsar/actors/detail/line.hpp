// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What the lines between processes have in common: they read whenever something has come, and wait
// while the other side is slow.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/readiness.hpp>
#include <pulsar/core/future.hpp>

namespace pulsar::detail {

/// One end of a line. Belongs to its loop's thread; reading keeps it alive.
class line : public counted {
 public:
  bool open() const noexcept { return open_; }

 protected:
  line(event_loop& loop, int fd) : loop_(loop), descriptor_(loop.context(), fd) {}

  /// Takes what has come; false if there will be no more.
  virtual bool receive() = 0;
  /// Writes what is queued, as far as the other side takes it.
  virtual void flush() = 0;
  /// Called once, after the last `receive`; the line is not open any more.
  virtual void on_end() = 0;

  void begin_to_read() { read(loop_, share(*this)).detach(); }

  /// Calls `flush` when the other side takes something again; `waiting_` until then.
  void wait_writable() {
    waiting_ = true;
    flush_later(loop_, share(*this)).detach();
  }

  event_loop& loop_;
  watched_descriptor descriptor_;
  bool open_ = true;
  bool waiting_ = false;

 private:
  static future<> read(event_loop&, counted_pointer<line> self) {
    while (self->open_) {
      const bool readable = co_await self->descriptor_.readable();
      if (!readable || !self->open_ || !self->receive()) break;
    }
    self->open_ = false;
    self->on_end();
  }

  static future<> flush_later(event_loop&, counted_pointer<line> self) {
    const bool writable = co_await self->descriptor_.writable();
    self->waiting_ = false;
    if (writable) self->flush();
  }
};

}  // namespace pulsar::detail
