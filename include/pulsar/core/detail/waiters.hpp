// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Who waits for one thing, first come, first served: the mechanism under the synchronisation of
// coroutines.

#include <pulsar/core/future.hpp>

#include <exception>
#include <utility>

namespace pulsar::detail {

struct nothing {};

/// Futures of `T` that wait in line, each with an `Extra` of whoever waits, which may `describe` what
/// for; `State` is what they refer to. One thread; those who wait may belong to several of its loops.
template <class T = void, class Extra = nothing, class State = shared_state<T>>
class waiting_line {
 public:
  /// `what`, a literal, is what they wait for: "a mutex".
  explicit waiting_line(const char* what) noexcept : what_(what) {}
  waiting_line(const waiting_line&) = delete;
  waiting_line& operator=(const waiting_line&) = delete;
  /// Those who still wait fail with `errc::broken_promise`.
  ~waiting_line() { fail_all(std::make_exception_ptr(error(errc::broken_promise))); }

  bool empty() const noexcept { return first_ == nullptr; }

  /// A future at the end of the line. It leaves when it is cancelled or dropped, or its loop closes.
  future<T> wait(event_loop& loop, Extra extra = {}) {
    auto* const made = new place(loop, *this, std::move(extra));
    made->handed_out = true;
    ++made->count;
    made->link = last_;
    *last_ = made;
    last_ = &made->behind;
    return future_access::make<T>(made);
  }

  /// The first one's; there must be one.
  Extra& extra() noexcept { return first_->extra; }

  /// Settles the first in line, who resumes from its loop, never in here; there must be one.
  template <class... Args>
  void wake_first(Args&&... args) {
    place* const p = first_;
    p->leave();
    try {
      p->succeed(std::forward<Args>(args)...);
    } catch (...) {  // of making the value: it goes to whoever was to have it
      p->fail(std::current_exception());
    }
    p->drop();
  }

  void fail_all(const std::exception_ptr& why) noexcept {
    while (place* const p = first_) {
      p->leave();
      p->fail(why);
      p->drop();
    }
  }

 private:
  struct place final : State {
    place(event_loop& l, waiting_line& of, Extra&& e) : State(l), line(of), extra(std::move(e)) {}

    const char* name() const noexcept override { return line.what_; }
    void describe(wait_description& to) const override {
      if constexpr (requires { extra.describe(to); }) {
        extra.describe(to);
      } else {
        to.text = line.what_;
      }
    }

    void on_cancelled() noexcept override {
      leave();
      this->drop();
    }
    // It would take what nobody has of it.
    void on_loop_closed() noexcept override {
      leave();
      this->fail(std::make_exception_ptr(error(errc::cancelled)));
      this->drop();
    }

    void leave() noexcept {
      *link = behind;
      (behind != nullptr ? behind->link : line.last_) = link;
    }

    waiting_line& line;
    place* behind = nullptr;
    place** link;
    [[no_unique_address]] Extra extra;
  };

  const char* const what_;
  place* first_ = nullptr;
  place** last_ = &first_;
};

/// A future of `loop` that is done, with a value made from `args`.
template <class T, class... Args>
future<T> settled(event_loop& loop, Args&&... args) {
  promise<T> p(loop);
  p.set_value(std::forward<Args>(args)...);
  return p.get_future();
}

}  // namespace pulsar::detail
