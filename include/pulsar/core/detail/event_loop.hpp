// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How event_loop runs, and the door through which the headers above reach it.

#include <pulsar/core/detail/alarm.hpp>
#include <pulsar/core/event_loop.hpp>

#include <asio/post.hpp>

namespace pulsar {

// One handler of the context on its way: what it makes ready is run before Asio has its turn.
class event_loop::batch {
 public:
  explicit batch(event_loop& loop) noexcept
      : loop_(loop),
        before_(std::exchange(detail::this_thread_loops.running, &loop)),
        step_before_(std::exchange(detail::this_step, loop.debug_ ? &loop.steps_ : nullptr)),
        context_(nullptr) {
    ++loop_.batches_;
    loop_.quick_ = !detail::always_checked && !loop_.debug_;
  }
  batch(const batch&) = delete;
  batch& operator=(const batch&) = delete;
  ~batch() {
    if (detail::this_step != nullptr) [[unlikely]] detail::this_step->end();
    if (loop_.batches_ == 1) {
      loop_.finish_batch();
      if (const auto* f = static_cast<const detail::frame*>(loop_.frames_.first());
          f != nullptr && f->born == 0) [[unlikely]] {
        loop_.settle_births(tick_before(loop_.time()));
      }
      loop_.quick_ = false;
      loop_.coarse_ = 0;
    }
    --loop_.batches_;
    detail::this_step = step_before_;
    detail::this_thread_loops.running = before_;
  }

 private:
  event_loop& loop_;
  event_loop* before_;
  detail::step_watch* step_before_;
  detail::context_scope context_;
};

namespace detail {

inline constexpr unsigned batch_callbacks = 256;
inline constexpr event_loop::duration batch_time = std::chrono::microseconds(200);
// Callbacks between two looks at the clock, which costs as much as ten of the quick ones; fewer up
// to the first `time_first`, more once as many have taken no more than `quick_time`.
inline constexpr unsigned time_first = 16;
inline constexpr unsigned time_every = 24;
inline constexpr unsigned time_every_quick = 64;
inline constexpr event_loop::duration quick_time = std::chrono::microseconds(4);

/// What futures, operations and actors need of a loop and its users do not.
class loop_access {
 public:
  static constexpr unsigned most_hand_overs = 64;

  /// Ends the program if `loop` runs in another thread, in a debug build or in debug mode.
  static void check_thread(const event_loop& loop, const char* what) noexcept {
    loop.check_thread(what);
  }

  static void push_ready(event_loop& loop, task_node* node) noexcept { loop.push_ready(node); }
  /// Has the context call the loop once more.
  static void post_turn(event_loop& loop) noexcept { loop.post_ready(); }
  static state_list& frames(event_loop& loop) noexcept { return loop.frames_; }
  static state_list& states(event_loop& loop) noexcept { return loop.states_; }
  static const counted_pointer<loop_inbox>& inbox(event_loop& loop) noexcept {
    return loop.inbox_;
  }
  /// The loop of an inbox, unless it is closed; to be called in its thread.
  static event_loop* owner(const loop_inbox& inbox) noexcept { return inbox.loop_; }

  /// The loop's only `T`, a loop_extension, made on first use from the loop, gone when it closes.
  template <class T>
  static T& local(event_loop& loop) {
    loop.check_thread("what belongs to a loop");
    if (T* found = find_local<T>(loop)) return *found;
    T* const made = new T(loop);
    made->key_ = &local_key<T>;
    made->older_ = loop.extensions_;
    loop.extensions_ = made;
    return *made;
  }
  template <class T>
  static T* find_local(event_loop& loop) noexcept {
    return static_cast<T*>(find_extension(loop, &local_key<T>));
  }
  /// False if there is no such loop in this thread any more.
  static bool is_open(const event_loop* loop) noexcept {
    const event_loop* alive = this_thread_loops.alive;
    while (alive != nullptr && alive != loop) alive = alive->previous_;
    return alive != nullptr && !alive->closed_;
  }
  /// The loop of an inbox if this thread may look into it: it runs it, or made it and nobody does. A
  /// loop on a user's context may run unbeknown to it.
  static event_loop* loop_to_read(const loop_inbox& inbox) noexcept {
    event_loop* mine = this_thread_loops.alive;
    while (mine != nullptr && mine->inbox_.get() != &inbox) mine = mine->previous_;
    const thread_loops* const runner = inbox.runner_.load(std::memory_order_relaxed);
    event_loop* const running = this_thread_loops.running;
    if (running != nullptr && running->inbox_.get() == &inbox) return running;
    if (runner == &this_thread_loops) return mine;
    return mine != nullptr && runner == nullptr && mine->own_ != nullptr ? mine : nullptr;
  }
  static bool closing(const event_loop& loop) noexcept { return loop.closing_; }
  /// The loop's context if that is its own, which I/O objects that outlive the loop keep.
  static counted_pointer<counted> own_context(event_loop& loop) noexcept {
    if (loop.own_ == nullptr) return nullptr;
    loop.own_->take();
    return counted_pointer<counted>(loop.own_.get());
  }
  /// In debug mode, and not about to close.
  static bool looks_for_faults(const event_loop& loop) noexcept {
    return loop.debug_ && !loop.ending_;
  }

  /// What a coroutine that suspends for the first time is to keep as its `born`. Ends the program, in
  /// a debug build, if `loop` runs in another thread.
  static std::uint64_t birth(event_loop& loop) noexcept {
    if (always_checked) loop.check_thread("a coroutine");
    return loop.coarse_;
  }
  /// How long ago that was.
  static event_loop::duration age(event_loop& loop, frame& f) noexcept {
    const auto now = event_loop::tick_before(loop.time());
    loop.settle_births(now);
    return std::chrono::milliseconds(now + 1 - f.born);
  }

  /// True if a coroutine that ends may resume its awaiter itself.
  static bool hand_over(event_loop& loop) noexcept { return ++loop.depth_ < most_hand_overs; }

  /// While a coroutine runs inside a call of another one; counts as a hand-over for as long.
  class nesting {
   public:
    explicit nesting(event_loop& loop) noexcept : loop_(loop), before_(loop.depth_++) {}
    nesting(const nesting&) = delete;
    nesting& operator=(const nesting&) = delete;
    ~nesting() { loop_.depth_ = before_; }

    bool too_deep() const noexcept { return before_ >= most_hand_overs; }

   private:
    event_loop& loop_;
    const unsigned before_;
  };

  /// Calls `node` back not earlier than `delay` from now. Costs two links: the clock is not read.
  static void arm_after(event_loop& loop, timer_node& node, event_loop::duration delay) noexcept {
    loop.wheel_.arm_after(node, event_loop::ticks(delay));
    loop.timers_changed();
  }
  static void arm_at(event_loop& loop, timer_node& node, event_loop::time_point when) noexcept {
    loop.wheel_.arm_at(node, event_loop::tick_after(when));
    loop.timers_changed();
  }

  /// How long it is until `node`, which is armed, is due.
  static event_loop::duration time_left(const event_loop& loop, const timer_node& node) noexcept {
    return std::chrono::milliseconds(node.left(event_loop::tick_before(loop.time())));
  }
  static const timer_wheel& timers(const event_loop& loop) noexcept { return loop.wheel_; }

  /// Gives the deadlines of `arm_after` their ticks.
  static void settle_timers(event_loop& loop) noexcept {
    loop.wheel_.settle(event_loop::tick_after(loop.time()));
  }

  static void resume_from_io(event_loop& loop, continuation& waiter) {
    loop.on_io(waiter);
  }
  /// Runs `f()` as a handler of the loop's context; inside another one what it makes ready waits
  /// for that one to end.
  template <class F>
  static void run_as_batch(event_loop& loop, F&& f) {
    const event_loop::batch scope(loop);
    f();
    if (loop.batches_ == 1) loop.run_ready();
  }
  static void io_started(event_loop& loop) noexcept { ++loop.pending_io_; }
  static void io_ended(event_loop& loop) noexcept { --loop.pending_io_; }

 private:
  template <class T>
  static constexpr char local_key = 0;

  static loop_extension* find_extension(event_loop& loop, const void* key) noexcept {
    loop_extension* found = loop.extensions_;
    while (found != nullptr && found->key_ != key) found = found->older_;
    return found;
  }
};

bool loop_inbox::push(task_node* node) noexcept {
  switch (stack_.push(node)) {
    case task_stack::pushed::closed: return false;
    case task_stack::pushed::more: return true;
    case task_stack::pushed::first: break;
  }
  post();
  return true;
}

void loop_inbox::post() noexcept {
  const std::lock_guard lock(mutex_);
  if (loop_ == nullptr) return;
  ++posted_;
  loop_->post(&event_loop::on_inbox);
}

void loop_data::posted_call::operator()() const { (loop->*call)(); }

inline void report_callback_failure(event_loop& loop) noexcept {
  loop.call_exception_handler({"a callback of the event loop threw", std::current_exception(), {}});
}

void log_place(log_level level, std::string& text, std::source_location where);

inline std::string describe(const std::exception_ptr& exception) {
  try {
    if (exception) std::rethrow_exception(exception);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception that is no std::exception";
  }
  return "no exception";
}

}  // namespace detail

[[gnu::noinline]] inline void event_loop::push_carefully(detail::task_node* node) noexcept {
  check_thread("settling or cancelling a future");
  if (batches_ != 0) return ready_.push(node);
  // The coroutine will not be resumed any more, and its frame goes before the queue is looked at.
  if (closing_ && node->call == &detail::continuation::resume) return;
  ready_.push(node);
  post_ready();
}

// Behind what the context has to do already.
inline void event_loop::post(void (event_loop::*call)()) {
  asio::post(context_, posted_call{this, call});
}

inline void event_loop::post_ready() noexcept {
  if (closing_ || posted_) return;
  post(&event_loop::on_ready);
  posted_ = true;
}

inline void event_loop::on_ready() {
  posted_ = false;
  if (closing_) return;
  const batch scope(*this);
  run_ready();
}

inline void event_loop::on_inbox() {
  {
    const std::lock_guard lock(inbox_->mutex_);
    --inbox_->posted_;
  }
  if (closing_) return;
  const batch scope(*this);
  struct turn {
    event_loop& loop;
    // What came meanwhile woke nobody; it has its turn behind I/O.
    ~turn() {
      if (!loop.inbox_->stack_.rest()) loop.inbox_->post();
    }
  };
  const turn awake{*this};
  inbox_->stack_.take(ready_);
  run_ready();
}

inline void event_loop::on_timer() {
  armed_ = timer_wheel::never;
  const batch scope(*this);
  refresh();
  run_ready();
}

// Resumes what an Asio operation was awaited by; later if the operation completes inside a
// callback, which is not to find that others have run in the midst of it.
inline void event_loop::on_io(detail::continuation& waiter) {
  if (batches_ != 0) return ready_.push(waiter.ready());
  const batch scope(*this);
  waiter.handle.resume();
  run_ready();
}

inline void event_loop::on_stop() {
  --stop_waits_;
  if (stop_after_turn_) context_.stop();
  stop_after_turn_ = false;
}

inline void event_loop::run_ready() {
  if (debug_ || shuffled_) [[unlikely]] return run_ready_carefully();
  unsigned count = 0;
  unsigned look = 1;  // at the clock, at that count
  time_point start{};
  time_point last{};
  while (detail::task_node* node = ready_.pop()) {
    depth_ = 0;
    detail::this_context = nullptr;
    node->call(node, false);
    if (++count < look) continue;
    const time_point now = refresh();
    if (count == 1) start = now;
    if (count >= detail::batch_callbacks || now - start > detail::batch_time) break;
    look = count + (count < detail::time_first         ? 3 * count
                    : now - last <= detail::quick_time ? detail::time_every_quick
                                                       : detail::time_every);
    if (look > detail::batch_callbacks) look = detail::batch_callbacks;
    last = now;
  }
}

// Those that began since the batch before are the first in the list.
inline void event_loop::settle_births(tick now) noexcept {
  for (detail::state* s = frames_.first(); s != nullptr; s = s->next) {
    auto& born = static_cast<detail::frame*>(s)->born;
    if (born != 0) break;
    born = now + 1;
  }
}

// Reads the clock and calls what is due.
inline event_loop::time_point event_loop::refresh() {
  const time_point now = time();
  if (wheel_.has_fresh()) wheel_.settle(tick_after(now));
  const tick reached = tick_before(now);
  if (coarse_ == 0) settle_births(reached);
  coarse_ = reached + 1;
  if (reached > wheel_.now() || wheel_.has_due()) call_due(reached);
  return now;
}

// In nobody's context, whoever ran last.
inline void event_loop::call_due(tick reached) {
  detail::this_context = nullptr;
  wheel_.advance(reached);
}

inline void event_loop::call_exception_handler(const failure_report& report) noexcept {
  try {
    if (on_failure_) {
      const auto handler = on_failure_;  // it may set another one
      handler(report);
      return;
    }
    std::string text = report.message;
    if (report.exception != nullptr) text += ": " + detail::describe(report.exception);
    detail::log_place(report.exception != nullptr ? log_level::error : log_level::warning, text,
                      report.where);
  } catch (...) {
    log::error("the exception handler of the event loop threw: {}",
               detail::describe(std::current_exception()));
  }
}

inline void event_loop::finish_batch() noexcept {
  if (closing_) return;
  if (wheel_.has_fresh() || wheel_.has_due()) refresh();
  // What was armed for the past meanwhile has its turn behind I/O.
  if (!ready_.empty() || wheel_.has_due() || wheel_.has_fresh()) {
    post_ready();
    return;
  }
  const tick next = wheel_.next();
  if (kind_ == clock_kind::steady) {
    arm(next);
  } else if (next != timer_wheel::never && pending_io_ == 0 && inbox_->stack_.empty() &&
             !(running_ && context_.stopped())) {
    virtual_now_ = time_point(std::chrono::milliseconds(next));
    coarse_ = next + 1;
    call_due(next);
    post_ready();
  }
}

inline void event_loop::arm(tick next) noexcept {
  if (next >= armed_ && next != timer_wheel::never) return;  // left to fire early
  if (next == armed_) return;
  armed_ = next;
  if (next == timer_wheel::never) {
    detail::unset_alarm(timer_.descriptor->native_handle());
    timer_.descriptor->cancel();
  } else {
    timer_.set(next);
  }
}

}  // namespace pulsar

#include <pulsar/core/detail/event_loop_calls.hpp>
#include <pulsar/core/detail/event_loop_members.hpp>
