// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What an event_loop consists of, and the objects by which others reach one.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/state.hpp>
#include <pulsar/core/detail/step.hpp>
#include <pulsar/core/detail/task_node.hpp>
#include <pulsar/core/detail/watched_descriptor.hpp>
#include <pulsar/core/timer_wheel.hpp>

#include <asio/io_context.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace pulsar {

class event_loop;
enum class clock_kind;
struct failure_report;

namespace detail {

class loop_access;
class loop_service;

/// The loops of a thread.
struct thread_loops {
  event_loop* running = nullptr;  // inside one of its callbacks, or in run_forever
  event_loop* alive = nullptr;    // the one made last
  unsigned count = 0;
};
inline constinit thread_local thread_loops this_thread_loops{};

/// How other threads reach a loop; outlives it, so that late senders are refused, not lost.
class loop_inbox : public counted {
 public:
  explicit loop_inbox(event_loop& loop) noexcept : loop_(&loop) {}

  /// Hands `node` to the loop's thread. False, and the node stays the caller's, once the loop is
  /// closed. Any thread.
  inline bool push(task_node* node) noexcept;

 private:
  friend class pulsar::event_loop;
  friend class loop_access;

  friend class loop_registry;

  inline void post() noexcept;

  task_stack stack_;
  std::mutex mutex_;
  event_loop* loop_;
  unsigned posted_ = 0;                               // handlers on their way to the loop
  std::atomic<const thread_loops*> runner_{nullptr};  // the thread that is in run_forever
  // In the list of all.
  loop_inbox* next_ = nullptr;
  loop_inbox** link_ = nullptr;
};

/// All loops of the process. Any thread.
class loop_registry {
 public:
  static void add(loop_inbox& inbox) noexcept {
    const std::lock_guard lock(mutex_);
    inbox.next_ = first_;
    inbox.link_ = &first_;
    if (first_ != nullptr) first_->link_ = &inbox.next_;
    first_ = &inbox;
  }
  static void remove(loop_inbox& inbox) noexcept {
    const std::lock_guard lock(mutex_);
    *inbox.link_ = inbox.next_;
    if (inbox.next_ != nullptr) inbox.next_->link_ = inbox.link_;
  }
  static inline event_loop* find(const asio::io_context& context) noexcept;
  /// The newest first.
  static std::vector<counted_pointer<loop_inbox>> all() {
    const std::lock_guard lock(mutex_);
    std::vector<counted_pointer<loop_inbox>> found;
    for (loop_inbox* i = first_; i != nullptr; i = i->next_) found.push_back(share(*i));
    return found;
  }

 private:
  static inline constinit std::mutex mutex_;
  static inline constinit loop_inbox* first_ = nullptr;
};

/// What a floor above attaches to a loop; see loop_access::local.
class loop_extension {
 public:
  loop_extension() noexcept = default;
  loop_extension(const loop_extension&) = delete;
  loop_extension& operator=(const loop_extension&) = delete;
  virtual ~loop_extension() = default;

 private:
  friend class pulsar::event_loop;
  friend class loop_access;

  const void* key_ = nullptr;
  loop_extension* older_ = nullptr;
};

// Set by the process layer: ends a program that runs a loop before it may (actors/run.hpp).
inline void (*before_run)() = nullptr;

// Whether calls from the wrong thread are looked for in every loop, and not just in debug mode.
#ifdef NDEBUG
inline constexpr bool always_checked = false;
#else
inline constexpr bool always_checked = true;
#endif

/// How many loops of the program are in debug mode.
inline constinit std::atomic<unsigned> loops_in_debug{0};

inline bool debug_is_wanted() noexcept {
  const char* const wanted = std::getenv("PULSAR_DEBUG");
  return wanted != nullptr && *wanted != '\0' && !(wanted[0] == '0' && wanted[1] == '\0');
}

/// Gives access to `shutdown`, which drops pending operations without completing them.
struct own_context : asio::io_context, counted {
  own_context() : asio::io_context(1) {}
  using asio::io_context::shutdown;
};

/// Fires once, at the tick it was set to last.
struct loop_alarm : descriptor_wait {
  loop_alarm(event_loop& loop, asio::io_context& context, clock_kind kind);
  inline static void rang(descriptor_wait* self, std::error_code failure);
  inline void set(timer_wheel::tick at) noexcept;
  inline void wait();

  event_loop& loop;
  std::optional<watched_descriptor> descriptor;  // gone when a user's context may be
  bool waiting = false;  // for the descriptor
};

/// The base of event_loop, whose functions alone use it.
struct loop_data {
  using tick = timer_wheel::tick;
  using time_point = std::chrono::steady_clock::time_point;

  // What the context calls when it was posted.
  struct posted_call {
    event_loop* loop;
    void (event_loop::*call)();
    inline void operator()() const;
  };

  // On `context`, or on one of its own.
  loop_data(event_loop& loop, asio::io_context* context, clock_kind kind)
      : own_(context == nullptr ? new own_context : nullptr),
        context_(context == nullptr ? *own_ : *context),
        timer_(loop, context_, kind),
        kind_(kind) {}

  // A tick is a millisecond of the loop's clock.
  static tick tick_before(time_point t) noexcept {
    return static_cast<tick>(t.time_since_epoch() / std::chrono::milliseconds(1));
  }
  static tick tick_after(time_point t) noexcept { return ticks(t.time_since_epoch()); }
  // `delay` may be as long as a duration can be.
  static time_point later(time_point from, time_point::duration delay) noexcept {
    return delay > time_point::max() - from ? time_point::max() : from + delay;
  }
  static tick ticks(time_point::duration d) noexcept {
    if (d.count() <= 0) return 0;
    return static_cast<tick>((d - time_point::duration(1)) / std::chrono::milliseconds(1)) + 1;
  }

  counted_pointer<own_context> own_;  // shared with frames that are left when the loop ends
  asio::io_context& context_;
  loop_service* service_ = nullptr;  // of a user's context
  loop_alarm timer_;
  counted_pointer<loop_inbox> inbox_;
  task_queue ready_;
  timer_wheel wheel_;
  tick armed_ = timer_wheel::never;  // when `timer_` fires
  unsigned stop_waits_ = 0;          // handlers of a stop that came before the run
  unsigned batches_ = 0;             // nested handlers, zero outside
  unsigned depth_ = 0;               // hand-overs since the ready queue
  std::size_t pending_io_ = 0;       // operations awaited, which virtual time must not overtake
  bool posted_ = false;              // on_ready is on its way
  bool stop_after_turn_ = false;     // what on_stop is to do
  bool running_ = false;
  bool closing_ = false;
  bool closed_ = false;
  bool ending_ = false;  // close was called
  bool quick_ = false;   // in a batch, and nothing is to be checked
  bool debug_ = false;
  bool shuffled_ = false;  // by `seed_`
  const clock_kind kind_;
  tick coarse_ = 0;  // one more than the time that this batch has seen last; zero before
  std::uint64_t seed_ = 0;
  step_watch steps_;
  time_point virtual_now_{};
  std::atomic<bool> stopping_{false};
  std::thread::id thread_;
  int thread_number_ = 0;  // the same for people, as top(1) and gdb say it
  state_list frames_;  // coroutines, also those that have ended
  state_list states_;  // all other states that a future or promise refers to
  std::function<void(const failure_report&)> on_failure_;
  loop_extension* extensions_ = nullptr;  // the newest; see loop_access::local
  event_loop* previous_ = nullptr;
};

}  // namespace detail

}  // namespace pulsar
