// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Waiting for a set of futures: the mechanism under when_all, when_any and task_group.

#include <pulsar/core/future.hpp>

#include <coroutine>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

namespace pulsar::detail {

/// Counts futures as they end and resumes the one coroutine that waits for them. When `cancels`
/// says so of one that has ended, the rest is cancelled. The futures stay where they are, in the
/// frame of that coroutine, until all have ended.
class gathering : public std::enable_shared_from_this<gathering>, cancellable {
 public:
  using rule = bool (*)(const state& ended);

  explicit gathering(rule cancels) noexcept
      : cancellable(&request_cancel, kind::operation), cancels_(cancels) {}

  static constexpr std::size_t none = ~std::size_t{0};

  template <class T>
  void watch(future<T>& f) {
    if (!f.valid()) throw error(errc::already_called, "an empty future among those to wait for");
    const std::size_t index = slots_.size();
    slots_.push_back(&future_access::slot(f));
    ++left_;
    if (f.done()) {
      ended(index);
    } else {
      f.add_done_callback([self = shared_from_this(), index] { self->ended(index); });
    }
  }

  /// The first that ended so that the rest had to be cancelled, or `none`.
  std::size_t decisive() const noexcept { return decisive_; }

  /// To be called when all are watched: one that had ended before decides for all.
  void settle() noexcept {
    if (decisive_ != none) cancel_rest();
  }

  void cancel_rest() noexcept {
    for (state** slot : slots_) {
      if (*slot != nullptr) cancel_chain(*slot);
    }
  }

  /// Suspends until all have ended. A cancelled coroutine waits too, for the cancelled futures.
  struct awaiter {
    gathering& self;
    bool await_ready() const noexcept { return self.left_ == 0; }
    template <class P>
      requires std::is_base_of_v<frame, P>
    void await_suspend(std::coroutine_handle<P> h) {
      for (state** slot : self.slots_) {
        if ((*slot)->loop != h.promise().loop) {
          throw error(errc::wrong_loop, "a future of another event loop among those to wait for");
        }
      }
      self.resumed_.handle = h;
      self.waiter_ = &h.promise();
      self.waiter_->waiting_on = &self;
      if (self.waiter_->cancel_requested) self.cancel_rest();
    }
    void await_resume() const noexcept {
      if (self.waiter_ != nullptr) self.waiter_->resumed();
    }
  };
  awaiter operator co_await() noexcept { return awaiter{*this}; }

 private:
  void ended(std::size_t index) {
    --left_;
    if (decisive_ == none && cancels_(**slots_[index])) {
      decisive_ = index;
      cancel_rest();
    }
    if (left_ == 0 && waiter_ != nullptr) loop_access::push_ready(*waiter_->loop, &resumed_);
  }

  static cancellable* request_cancel(cancellable* c) noexcept {
    static_cast<gathering*>(c)->cancel_rest();
    return nullptr;
  }

  rule cancels_;
  std::vector<state**> slots_;
  std::size_t left_ = 0;
  std::size_t decisive_ = none;
  frame* waiter_ = nullptr;
  continuation resumed_;
};

inline bool has_failed(const state& s) { return s.progress == status::failed; }
inline bool has_ended(const state&) { return true; }

}  // namespace pulsar::detail
