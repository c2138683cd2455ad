// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How an event_loop closes: it cancels all coroutines, runs until they have ended or time is up,
// and takes the rest down in an order in which nothing refers to what is gone.

#include <pulsar/core/detail/event_loop.hpp>
#include <pulsar/core/detail/loop_service.hpp>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <cstdlib>
#include <utility>

namespace pulsar {

inline bool event_loop::cancel_all() noexcept {
  ++batches_;  // what ends at once, inside its cancellation, resumes nobody before the end of this
  for (detail::state* s = frames_.first(); s != nullptr; s = s->next) {
    // The others are cancelled with the frame that waits for them.
    if (s->awaiter == nullptr || s->awaiter->waiter == nullptr) detail::cancel_chain(s);
  }
  --batches_;
  return has_running_frames();
}

inline bool event_loop::has_running_frames() const noexcept {
  for (const detail::state* s = frames_.first(); s != nullptr; s = s->next) {
    if (!s->done()) return true;
  }
  return false;
}

inline void event_loop::drop_ready() noexcept {
  while (detail::task_node* node = ready_.pop()) node->call(node, true);
}

// While a loop closes it runs its context, whether that was stopped or not. A user's context is
// stopped again afterwards if it was, or if somebody has stopped it meanwhile.
class event_loop::closing_run {
 public:
  explicit closing_run(event_loop& loop)
      : loop_(loop), stopped_(loop.context_.stopped()), work_(loop.get_executor()) {
    // A user's context would count as stopped too when it has nothing to do.
    if (loop.own_ != nullptr) work_.reset();
    loop.context_.restart();
  }
  closing_run(const closing_run&) = delete;
  closing_run& operator=(const closing_run&) = delete;
  ~closing_run() {
    if (loop_.own_ != nullptr) return;
    note_stop();
    work_.reset();
    if (stopped_) {
      loop_.context_.stop();
    } else {
      loop_.context_.restart();
    }
  }

  /// One handler; false if there was none until then, or the context was stopped.
  bool run_one(time_point until = time_point::max()) noexcept {
    bool ran = true;
    try {
      ran = loop_.context_.run_one_until(until) > 0;
    } catch (...) {
      detail::report_callback_failure(loop_);  // a handler of the user's
    }
    note_stop();
    return ran;
  }

 private:
  void note_stop() noexcept {
    if (!loop_.context_.stopped()) return;
    stopped_ = true;
    loop_.context_.restart();
  }

  event_loop& loop_;
  bool stopped_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
};

// Runs until the cancelled coroutines have ended.
inline void event_loop::run_to_close(closing_run& run, duration limit) noexcept {
  const auto give_up = later(clock::now(), limit);
  post_ready();
  for (bool idle = false; has_running_frames() && clock::now() < give_up;) {
    const bool ran = run.run_one(give_up);
    // Twice in a row means that nothing is pending; once, that a coroutine called stop().
    if (!ran && idle && own_ != nullptr) break;
    idle = !ran;
  }
}

inline void event_loop::free_frames() noexcept {
  // The frames without an owner go first; what they own goes with them. A frame that is left then
  // is owned by a future outside, and is freed with it.
  bool again = true;
  while (again) {
    again = false;
    for (detail::state* s = frames_.first(); s != nullptr; s = s->next) {
      auto* f = static_cast<detail::frame*>(s);
      if (!f->abandoned) continue;
      detail::destroy_suspended(f);
      again = true;
      break;
    }
  }
}

// What futures and promises outside still refer to must not lead back here.
inline void event_loop::let_go_of_states() noexcept {
  for (detail::state_list* list : {&frames_, &states_}) {
    while (detail::state* s = list->pop()) {
      s->loop = nullptr;
      const auto* awaiter = s->awaiter;
      if (s->what != detail::cancellable::kind::frame) {
        s->awaiter = nullptr;
        s->release(s, detail::release_as::loop_closed);  // may free it
        continue;
      }
      if (!s->done()) {
        // The outermost of a chain keeps it for all of them; on the user's context there is none.
        const bool outermost = awaiter == nullptr || awaiter->slot != &awaiter->owned;
        detail::keep_context(*static_cast<detail::frame*>(s), outermost ? own_.get() : nullptr);
      }
      if (s->callbacks != nullptr) detail::free_callbacks(*s);  // may free the state
    }
  }
}

// Runs the user's context until none of the handlers in it refers to this loop.
inline void event_loop::finish_handlers(closing_run& run) noexcept {
  while (posted_ || timer_.waiting || stop_waits_ > 0 || inbox_->posted_ > 0) run.run_one();
}

// The newest first. What one of them attaches while it ends is dropped in its turn.
inline void event_loop::drop_extensions() noexcept {
  while (extensions_ != nullptr) {
    auto* const newest = extensions_;
    extensions_ = newest->older_;
    delete newest;
  }
}

inline void event_loop::close(duration limit) noexcept {
  if (ending_) return;
  if (running_ || batches_ != 0) {  // what called this could not go on, with NDEBUG either
    detail::assertion_failed(__FILE__, __LINE__, "close()",
                             "an event loop cannot be closed while it runs: call stop() there, and "
                             "close() when run_forever has returned");
  }
  auto* const outer = std::exchange(detail::this_thread_loops.running, nullptr);
  ending_ = true;
  closing_run run(*this);
  if (cancel_all()) {
    run_to_close(run, limit);
    if (own_ == nullptr && has_running_frames()) {
      log::critical(
          "coroutines are left on the user's io_context although they were cancelled when their "
          "event loop closed: let them end before close()");
      std::abort();
    }
  }
  closing_ = true;
  {
    const std::lock_guard lock(inbox_->mutex_);
    inbox_->loop_ = nullptr;
  }
  detail::loop_registry::remove(*inbox_);
  inbox_->stack_.close(ready_);
  // First Asio and the ready queue, which refer to frames; then all that may own frames.
  if (own_ != nullptr) {
    own_->shutdown();
  } else {
    // The user's context must not call back into a loop that is gone.
    timer_.descriptor->cancel();
    finish_handlers(run);
    timer_.descriptor.reset();
  }
  drop_ready();
  drop_extensions();
  drop_ready();
  wheel_.close();
  free_frames();
  drop_ready();
  drop_extensions();
  let_go_of_states();
  if (service_ != nullptr) --service_->open;
  closed_ = true;
  detail::this_thread_loops.running = outer;
}

}  // namespace pulsar
