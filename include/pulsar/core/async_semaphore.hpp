// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `async_semaphore`: at most so many coroutines at a time (asyncio.Semaphore).
///
///     async_semaphore connections(10);
///     ...
///     const auto permit = co_await connections.acquire();   // given back at the end of the block

#include <pulsar/core/detail/waiters.hpp>

#include <cstddef>
#include <exception>
#include <utility>

namespace pulsar {

/// Belongs to one thread. Fair: who comes later does not overtake. Those who wait when it ends fail
/// with `errc::broken_promise`; permits may outlive it.
class async_semaphore {
  struct core;

 public:
  /// One of the permits, given back when it ends. Move-only.
  class [[nodiscard("a permit that is dropped is given back at once")]] permit {
   public:
    permit() noexcept = default;
    inline permit(permit&& other) noexcept;
    inline permit& operator=(permit&& other) noexcept;
    inline ~permit();

    /// True unless it was given back or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(of_); }

    /// Gives it back now, to the first who waits.
    inline void release() noexcept;

   private:
    friend class async_semaphore;
    friend class async_condition;

    /// Of who has borrowed it, to bring another one back: knows it wherever it is moved, and whether
    /// it is still to be had.
    struct borrower {
      explicit borrower(permit& p) noexcept : from(&p) { p.lent_ = this; }
      borrower(const borrower&) = delete;
      borrower& operator=(const borrower&) = delete;
      ~borrower() {
        if (from != nullptr) from->lent_ = nullptr;
      }
      permit* from;
    };

    explicit permit(detail::counted_pointer<core> of) noexcept : of_(std::move(of)) {}

    inline void take_over(permit& other) noexcept;

    detail::counted_pointer<core> of_;
    borrower* lent_ = nullptr;
  };

  explicit inline async_semaphore(std::size_t permits);
  async_semaphore(const async_semaphore&) = delete;
  async_semaphore& operator=(const async_semaphore&) = delete;
  inline ~async_semaphore();

  /// A permit, once there is one. A future that is dropped after it was done gives the permit to
  /// the next one.
  inline future<permit> acquire(event_loop& loop = event_loop::current());

  /// An empty permit if there is none to be had at once.
  inline permit try_acquire() noexcept;

  /// How many can be had.
  inline std::size_t available() const noexcept;

 private:
  friend class async_condition;
  friend class async_mutex;

  inline async_semaphore(std::size_t permits, const char* what);

  detail::counted_pointer<core> core_;
};

struct async_semaphore::core : detail::counted {
  core(std::size_t permits, const char* what) noexcept : free(permits), waiting(what) {}

  future<permit> acquire(event_loop& loop) {
    if (free == 0 && !closed) return waiting.wait(loop);
    promise<permit> done(loop);
    if (closed) {
      done.set_exception(make_error_code(errc::broken_promise));
    } else {
      done.set_value(grant());
    }
    return done.get_future();
  }

  permit grant() noexcept {
    --free;
    return permit(detail::share(*this));
  }

  void close() noexcept {
    closed = true;
    waiting.fail_all(std::make_exception_ptr(error(errc::broken_promise)));
  }

  void give_back() noexcept {
    if (waiting.empty()) {
      ++free;
    } else {
      waiting.wake_first(permit(detail::share(*this)));
    }
  }

  std::size_t free;
  bool closed = false;  // the semaphore is gone
  detail::waiting_line<permit> waiting;
};

void async_semaphore::permit::release() noexcept {
  if (lent_ != nullptr) std::exchange(lent_, nullptr)->from = nullptr;
  const auto of = std::exchange(of_, nullptr);
  if (of) of->give_back();
}

void async_semaphore::permit::take_over(permit& other) noexcept {
  of_ = std::exchange(other.of_, nullptr);
  lent_ = std::exchange(other.lent_, nullptr);
  if (lent_ != nullptr) lent_->from = this;
}

async_semaphore::permit::permit(permit&& other) noexcept { take_over(other); }

async_semaphore::permit& async_semaphore::permit::operator=(permit&& other) noexcept {
  if (this != &other) {
    release();
    take_over(other);
  }
  return *this;
}

async_semaphore::permit::~permit() { release(); }

async_semaphore::async_semaphore(std::size_t permits) : async_semaphore(permits, "a semaphore") {}

async_semaphore::async_semaphore(std::size_t permits, const char* what)
    : core_(new core(permits, what)) {}

async_semaphore::~async_semaphore() { core_->close(); }

future<async_semaphore::permit> async_semaphore::acquire(event_loop& loop) {
  return core_->acquire(loop);
}

async_semaphore::permit async_semaphore::try_acquire() noexcept {
  return core_->free == 0 ? permit() : core_->grant();
}

std::size_t async_semaphore::available() const noexcept { return core_->free; }

}  // namespace pulsar
