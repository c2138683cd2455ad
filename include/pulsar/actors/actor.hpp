// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `actor<Derived>`: what others share nothing with and talk to by `send`.
///
///     class greeter : public pulsar::actor<greeter> {
///      public:
///       std::string greet(std::string name) { return "hello " + name; }
///       using commands = pulsar::commands<&greeter::greet>;
///     };
///
/// Optional members, found by name: `on_start()`, `on_stopping()`, `on_stop()`, plain or coroutines,
/// public ones, and `static constexpr bool serial = true` for commands one at a time. An actor lives
/// in one loop and everything here belongs to its thread. Commands interleave where they `co_await`.

#include <pulsar/actors/command.hpp>
#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/info.hpp>
#include <pulsar/actors/state.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/timeout.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar {

namespace detail {

struct actor_access;
struct ending;

/// What the type an actor was spawned as says of it; see detail/actor.hpp.
struct actor_type {
  using hook = future<> (*)(actor_base&);
  hook on_start;
  hook on_stopping;
  hook on_stop;
  bool serial;
  const wire_command* commands;  // one without a function is the last
};

template <class A>
const actor_type& type_of_actor() noexcept;

/// A hook or a task of the actor that is under way. Stands in the frame that waits for it.
struct activity {
  inline activity(actor_base& a, future<> w);
  activity(const activity&) = delete;
  activity& operator=(const activity&) = delete;
  inline ~activity();
  /// Frees it: the loop closes, and the actor goes before this.
  inline void abandon() noexcept;

  actor_base* owner;
  future<> what;
  activity* previous = nullptr;
  activity* next = nullptr;

 private:
  inline void unlink() noexcept;
};

/// Whoever had an actor born, and is told of its end.
class actor_owner {
 public:
  /// `reason` is null unless it failed.
  virtual void actor_ended(std::exception_ptr reason) = 0;

 protected:
  ~actor_owner() = default;
};

/// Those who wait for the same to happen in an actor.
class waiting_list {
 public:
  waiting_list() noexcept = default;
  waiting_list(const waiting_list&) = delete;
  waiting_list& operator=(const waiting_list&) = delete;
  ~waiting_list() {
    while (auto* w = static_cast<waiter*>(waiters_.pop())) delete w;
  }

  bool empty() const noexcept { return waiters_.empty(); }
  future<> wait(event_loop& loop) {
    auto* w = new waiter(loop);
    waiters_.push(w);
    return w->told.get_future();
  }
  void wake() {
    while (auto* w = static_cast<waiter*>(waiters_.pop())) {
      w->told.set_value();
      delete w;
    }
  }

 private:
  struct waiter : task_node {
    explicit waiter(event_loop& loop) : task_node(nullptr), told(loop) {}
    promise<> told;
  };

  task_queue waiters_;
};

/// The cell of the actor whose constructor is about to run in this thread.
inline constinit thread_local const cell_pointer* newborn = nullptr;

}  // namespace detail

/// The part of an actor that does not depend on its type.
class actor_base {
 public:
  actor_base(const actor_base&) = delete;
  actor_base& operator=(const actor_base&) = delete;
  virtual inline ~actor_base();

  /// Unique in the program, also across its processes.
  std::uint64_t id() const noexcept { return cell_->id; }
  /// The name it was spawned with, else its type and number.
  const std::string& name() const noexcept { return cell_->name; }
  actor_state state() const noexcept { return state_; }
  event_loop& loop() const noexcept { return *cell_->loop; }

  /// Since it was spawned.
  event_loop::duration uptime() const { return loop().time() - born_; }

  /// Commands that wait or are under way.
  std::size_t pending() const noexcept { return pending_; }

  /// What `send(ref, cmd::info)` gives.
  actor_info info() const;

  /// Ends it: refuses what waits with `errc::actor_gone`, gives commands under way `grace`, then
  /// cancels them, then its tasks, and is gone when none is left. Done then; calling it twice is no
  /// error. Throws `errc::not_ready` in the constructor: there, throw.
  future<> stop(event_loop::duration grace = std::chrono::seconds(5));

  /// Ends it as a failure of its own: its supervisor learns `reason`, and so does who spawns it.
  void fail(std::exception_ptr reason);

  /// Runs `task` as part of the actor: cancelled when it stops; a failure ends the actor. Throws
  /// `errc::not_ready` in the constructor: `on_start` is the place.
  void create_task(future<> task);

 protected:
  inline actor_base();

 private:
  friend struct detail::actor_access;
  friend struct detail::activity;
  friend struct detail::ending;
  template <class Derived>
  friend class actor;

  static constexpr std::size_t pump_batch = 32;

  // In the ready queue while there is work; stays there when the actor goes meanwhile.
  struct pump_node : detail::task_node, detail::recycled {
    explicit pump_node(actor_base& a) noexcept : task_node(&run), owner(&a) {}
    static inline void run(detail::task_node* node, bool drop);
    actor_base* owner;
  };

  // -- mailbox ---------------------------------------------------------------
  void deliver(detail::invocation* what) noexcept;
  void pump();
  void schedule_pump() noexcept {
    if (std::exchange(pumping_, true)) return;
    detail::loop_access::push_ready(loop(), pump_);
  }
  void started(detail::invocation* what) noexcept;
  void ended(detail::invocation* what) noexcept;
  void finished() noexcept;

  // -- life --------------------------------------------------------------------
  using count_function = std::size_t (*)(const actor_base& a);
  using cancel_function = void (*)(actor_base& a);

  static future<> begin(detail::cell_pointer self);
  static future<> end(detail::cell_pointer self, event_loop::duration grace);
  static future<> wind_down(actor_base& a, event_loop::duration grace, const char* what,
                            count_function left, cancel_function cancel);
  static future<> run_hook(actor_base& a, detail::actor_type::hook hook, const char* which);
  static future<> adopt(actor_base& self, future<> task);
  future<> call(detail::actor_type::hook hook);
  void cancel_activities() noexcept;
  void require_born(const char* what) const;
  std::exception_ptr gone() const;

  detail::cell_pointer cell_;
  detail::context* context_ = nullptr;
  const detail::actor_type* type_ = nullptr;
  actor_state state_ = actor_state::initial;
  event_loop::time_point born_{};
  detail::task_queue mailbox_;
  std::size_t pending_ = 0;  // waiting and under way
  std::size_t bound_ = 10'000;
  std::size_t running_ = 0;
  std::uint64_t handled_ = 0;
  std::uint64_t refused_ = 0;
  bool pumping_ = false;       // pump_ is in the ready queue, or runs
  bool serial_ = false;
  bool tasks_closed_ = false;  // tasks are cancelled as they come
  pump_node* const pump_;
  actor_base* older_ = nullptr;  // of the same loop
  actor_base* younger_ = nullptr;
  detail::invocation* under_way_ = nullptr;  // commands that wait for something
  detail::activity* activities_ = nullptr;
  std::size_t activity_count_ = 0;
  detail::activity* starting_ = nullptr;  // on_start
  detail::waiting_list idle_;             // `wind_down`
  std::exception_ptr reason_;
  detail::waiting_list stopped_;
  detail::actor_owner* owner_ = nullptr;
};

/// Base of an actor; `Derived` lists its `commands`.
template <class Derived>
class actor : public actor_base {
 protected:
  actor() { type_ = &detail::type_of_actor<Derived>(); }
};

}  // namespace pulsar

#include <pulsar/actors/detail/actor.hpp>
