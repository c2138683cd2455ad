// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How an event_loop begins, is found, run and ends, and what is handed to it: callbacks and
// deadlines.

#include <pulsar/core/detail/alarm.hpp>
#include <pulsar/core/detail/loop_service.hpp>
#include <pulsar/core/event_loop.hpp>

#include <asio/error.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <source_location>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

inline loop_alarm::loop_alarm(event_loop& l, asio::io_context& context, clock_kind kind)
    : descriptor_wait(&rang), loop(l), descriptor(std::in_place, context) {
  if (kind != clock_kind::steady) return;
  unique_fd timer = open_alarm();
  descriptor->assign(timer.get());
  static_cast<void>(timer.release());
}

void loop_alarm::rang(descriptor_wait* self, std::error_code failure) {
  auto& timer = static_cast<loop_alarm&>(*self);
  timer.waiting = false;
  if (timer.loop.closing_) return;
  if (!failure) {
    timer.loop.on_timer();
  } else if (failure == asio::error::operation_aborted &&
             timer.loop.armed_ != timer_wheel::never) {
    // It was cancelled, and set again. If that throws, the next batch has to arm it.
    const auto at = std::exchange(timer.loop.armed_, timer_wheel::never);
    timer.wait();
    timer.loop.armed_ = at;
  }
}

void loop_alarm::set(timer_wheel::tick at) noexcept {
  set_alarm(descriptor->native_handle(), at);
  if (!waiting) wait();
}

void loop_alarm::wait() {
  descriptor->wait(watched_descriptor::wait_read, *this);
  waiting = true;
}

}  // namespace detail

inline event_loop::event_loop(asio::io_context& context, clock_kind kind)
    : loop_data(*this, &context, kind) {
  service_ = &asio::use_service<detail::loop_service>(context);
  enlist();
  ++service_->open;
}

inline void event_loop::enlist() {
  inbox_ = detail::counted_pointer<detail::loop_inbox>(new detail::loop_inbox(*this));
  auto& loops = detail::this_thread_loops;
  previous_ = std::exchange(loops.alive, this);
  ++loops.count;
  detail::loop_registry::add(*inbox_);
  wheel_.advance(tick_before(time()));
  if (detail::debug_is_wanted()) set_debug(true);
}

inline event_loop::~event_loop() {
  close();
  PULSAR_ASSERT(closed_, "an event loop ended in a handler that runs while it closes");
  let_go_of_states();
  drop_ready();
  drop_extensions();  // what came after the end
  drop_ready();
  auto& loops = detail::this_thread_loops;
  event_loop** link = &loops.alive;
  while (*link != nullptr && *link != this) link = &(*link)->previous_;
  PULSAR_ASSERT(*link == this, "an event loop ends in the thread that made it");
  *link = previous_;
  --loops.count;
  set_debug(false);
}

inline event_loop* detail::loop_registry::find(const asio::io_context& context) noexcept {
  const std::lock_guard lock(mutex_);
  for (loop_inbox* i = first_; i != nullptr; i = i->next_) {
    const std::lock_guard open(i->mutex_);
    if (i->loop_ != nullptr && &i->loop_->context() == &context) return i->loop_;
  }
  return nullptr;
}

inline event_loop* event_loop::find(const asio::io_context& context) noexcept {
  return detail::loop_registry::find(context);
}

inline event_loop* event_loop::find_current() noexcept {
  const auto& loops = detail::this_thread_loops;
  if (loops.running != nullptr) return loops.running;
  return loops.count == 1 ? loops.alive : nullptr;
}

inline event_loop& event_loop::current() {
  if (auto* loop = find_current()) return *loop;
  const auto& loops = detail::this_thread_loops;
  throw error(errc::no_loop, loops.count == 0
                                 ? "this thread has no event loop: make one, or give the "
                                   "coroutine an event_loop& parameter"
                                 : "this thread has several event loops and none of them is "
                                   "running: give the coroutine an event_loop& parameter");
}

inline handle event_loop::arm_after(detail::timed_callback_base* node, duration delay) noexcept {
  wheel_.arm_after(*node, ticks(delay));  // without a look at the clock
  timers_changed();
  return handle(node);
}

inline handle event_loop::arm_at(detail::timed_callback_base* node, time_point when) noexcept {
  wheel_.arm_at(*node, tick_after(when));
  timers_changed();
  return handle(node);
}

// Templates, and yet `inline`: g++ 12 makes a hop a quarter dearer without it.
template <class F>
inline handle event_loop::call_soon(F&& f, source_location where) {
  if (!quick_) check_open("call_soon");
  auto* node = new detail::callback<std::decay_t<F>>(*this, std::forward<F>(f), where);
  push_ready(node);
  return handle(node);
}

template <class F>
inline bool event_loop::call_soon_threadsafe(F&& f, source_location where) {
  auto* node = new detail::callback<std::decay_t<F>>(*this, std::forward<F>(f), where);
  if (inbox_->push(node)) return true;
  node->drop();
  return false;
}

template <class F>
inline handle event_loop::call_later(duration delay, F&& f, source_location where) {
  check_open("call_later");
  using node = detail::timed_callback<std::decay_t<F>>;
  return arm_after(new node(*this, std::forward<F>(f), where), delay);
}

template <class F>
inline handle event_loop::call_at(time_point when, F&& f, source_location where) {
  check_open("call_at");
  using node = detail::timed_callback<std::decay_t<F>>;
  return arm_at(new node(*this, std::forward<F>(f), where), when);
}

template <class F>
inline handle event_loop::call_repeatedly(duration period, F&& f, source_location where) {
  check_period(period);
  using node = detail::callback<std::decay_t<F>, detail::periodic_callback_base>;
  auto* made = new node(*this, std::forward<F>(f), where, period);
  made->again();
  return handle(made);
}

template <class F>
inline handle event_loop::call_every(F&& f, source_location where) {
  check_open("call_every");
  using node = detail::callback<std::decay_t<F>, detail::turn_callback_base>;
  auto* made = new node(*this, std::forward<F>(f), where);
  made->again();
  return handle(made);
}

inline void event_loop::check_may_run(const char* what) const {
  if (closed_) throw_closed(what);
  if (!running_ && running() == nullptr) return;
  throw error(errc::already_running,
              std::string(what) + " inside a callback or coroutine of a loop");
}

inline void event_loop::run_forever() {
  check_may_run("run_forever");
  if (detail::before_run != nullptr) detail::before_run();
  struct session {
    explicit session(event_loop& l)
        : loop(l), work(l.get_executor()) {
      loop.running_ = true;
      loop.thread_ = std::this_thread::get_id();
      loop.thread_number_ = ::gettid();
      detail::this_thread_loops.running = &loop;
      loop.inbox_->runner_.store(&detail::this_thread_loops, std::memory_order_relaxed);
      loop.context_.restart();
    }
    session(const session&) = delete;
    session& operator=(const session&) = delete;
    ~session() {
      loop.running_ = false;
      loop.stop_after_turn_ = false;
      loop.stopping_.store(false, std::memory_order_relaxed);
      loop.inbox_->runner_.store(nullptr, std::memory_order_relaxed);
      detail::this_thread_loops.running = nullptr;
    }
    event_loop& loop;
    const asio::executor_work_guard<asio::io_context::executor_type> work;
  };
  const session scope(*this);
  // A stop that came before is honoured, as asyncio does, after one turn: behind what is ready.
  if (stopping_.exchange(false, std::memory_order_relaxed)) {
    stop_after_turn_ = true;
    ++stop_waits_;
    post(&event_loop::on_stop);
  }
  context_.run();
}

}  // namespace pulsar
