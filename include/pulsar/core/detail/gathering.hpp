// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Waiting for a set of futures: the mechanism under when_all and when_any.

#include <pulsar/core/future.hpp>

#include <coroutine>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace pulsar::detail {

/// Counts futures as they end and resumes the one coroutine that waits for them. When `cancels`
/// says so of one that has ended, the rest is cancelled. The futures stay where they are, in the
/// frame of that coroutine, until all have ended or the coroutine has.
class gathering : public counted, cancellable {
 public:
  using rule = bool (*)(const state& ended);

  explicit gathering(rule cancels)
      : cancellable(&request_cancel, kind::operation),
        cancels_(cancels),
        loop_(event_loop::current()) {}

  static constexpr std::size_t none = ~std::size_t{0};

  void watch(future_base& f) {
    state* const watched = future_access::slot(f);
    if (watched == nullptr) {
      throw error(errc::already_called, "an empty future among those to wait for");
    }
    if (!watched->done() && watched->loop != &loop_) {
      throw error(errc::wrong_loop, "a future of another event loop among those to wait for");
    }
    const std::size_t index = slots_.size();
    slots_.push_back(&future_access::slot(f));
    if (f.done()) {
      decide(index);
    } else {
      ++left_;
      f.add_done_callback([self = share(*this), index] { self->ended(index); });
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

  /// What is behind `c`, or null if that is something else.
  static const gathering* from(const cancellable& c) noexcept {
    return c.on_cancel == &request_cancel ? static_cast<const gathering*>(&c) : nullptr;
  }
  /// Calls `f(s)` for each state that it waits for.
  template <class F>
  void each_awaited(F f) const {
    for (state** slot : slots_) {
      if (*slot != nullptr && !(*slot)->done()) f(**slot);
    }
  }

  /// True when the coroutine that waits was asked to stop.
  bool interrupted() const noexcept { return interrupted_; }

  /// The futures are about to go: those that end later are none of its business.
  void forget() noexcept { slots_.clear(); }

  /// Suspends until all have ended. A cancelled coroutine waits too, for the cancelled futures.
  struct awaiter {
    gathering& self;
    bool await_ready() const noexcept { return self.left_ == 0; }
    template <class P>
      requires std::is_base_of_v<frame, P>
    void await_suspend(std::coroutine_handle<P> h) {
      self.resumed_.handle = h;
      self.waiter_ = &h.promise();
      self.waiter_->waiting_on = &self;
    }
    void await_resume() const noexcept {
      if (self.waiter_ != nullptr) self.waiter_->resumed();
    }
  };
  awaiter operator co_await() noexcept { return awaiter{*this}; }

 private:
  /// True if that one is the first that ended so that the rest has to be cancelled.
  bool decide(std::size_t index) {
    if (decisive_ != none || !cancels_(**slots_[index])) return false;
    decisive_ = index;
    return true;
  }

  void ended(std::size_t index) {
    if (slots_.empty()) return;
    --left_;
    // Once: what a cancelled one does to clean up must not be cancelled because another ends.
    if (decide(index) && !interrupted_) cancel_rest();
    if (left_ == 0 && waiter_ != nullptr) loop_access::push_ready(loop_, &resumed_);
  }

  static cancellable* request_cancel(cancellable* c) noexcept {
    auto* self = static_cast<gathering*>(c);
    self->interrupted_ = true;
    self->cancel_rest();
    return nullptr;
  }

  rule cancels_;
  event_loop& loop_;
  std::vector<state**> slots_;
  std::size_t left_ = 0;
  std::size_t decisive_ = none;
  bool interrupted_ = false;
  frame* waiter_ = nullptr;
  continuation resumed_;
};

/// The gathering of one coroutine, a local of it.
class gatherer {
 public:
  explicit gatherer(gathering::rule cancels) : shared_(new gathering(cancels)) {}
  gatherer(const gatherer&) = delete;
  gatherer& operator=(const gatherer&) = delete;
  ~gatherer() { shared_->forget(); }

  gathering* operator->() const noexcept { return shared_.get(); }
  gathering& operator*() const noexcept { return *shared_; }

 private:
  counted_pointer<gathering> shared_;
};

inline bool has_failed(const state& s) { return s.progress == status::failed; }
inline bool has_ended(const state&) { return true; }
inline bool ends_nothing(const state&) { return false; }

}  // namespace pulsar::detail
