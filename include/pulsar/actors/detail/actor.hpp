// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The mailbox of an actor, and its life from on_start to its end.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/detail/invocation.hpp>
#include <pulsar/actors/registry.hpp>

#include <unistd.h>

namespace pulsar {

namespace detail {

/// What the machinery around actors may do with them.
struct actor_access {
  static void place(actor_base& a, cell_pointer cell) {
    a.born_ = cell->loop->time();
    a.context_ = new context(cell->name);
    a.context_->owner = &a;
    a.cell_ = std::move(cell);
    a.serial_ = a.is_serial();
  }
  static void set_bound(actor_base& a, std::size_t bound) noexcept { a.bound_ = bound; }
  static future<> begin(cell_pointer cell) { return actor_base::begin(std::move(cell)); }
  static void deliver(actor_base& a, invocation* what) noexcept { a.deliver(what); }
  static void started(actor_base& a, invocation* what) noexcept { a.started(what); }
  static void ended(actor_base& a, invocation* what) noexcept { a.ended(what); }
  static void finished(actor_base& a) noexcept { a.finished(); }
  static decode_command find_command(const actor_base& a, std::string_view name) noexcept {
    return a.find_command(name);
  }
  static std::vector<std::string> command_names(const actor_base& a) { return a.command_names(); }
  static context* context_of(actor_base& a) noexcept { return a.context_; }
  static const cell_pointer& cell(const actor_base& a) noexcept { return a.cell_; }
  /// Frees an actor whose loop closes, with the commands under way.
  static void abandon(actor_base& a) noexcept {
    while (auto* i = a.under_way_) {
      a.ended(i);
      i->abandon();
    }
    while (auto* waiting = static_cast<invocation*>(a.mailbox_.pop())) {
      waiting->refuse(a.gone());
    }
    auto* owner = a.context_;
    owner->owner = nullptr;
    delete &a;
    owner->drop();
  }
  static void on_end(actor_base& a, std::function<void(std::exception_ptr)> f) {
    a.on_end_ = std::move(f);
  }
};

inline void command_started(actor_base& actor, invocation* what) noexcept {
  if (!what->control) actor_access::started(actor, what);
}
inline void command_ended(actor_base& actor, invocation* what) noexcept {
  if (!what->control) actor_access::ended(actor, what);
}
inline void command_finished(actor_base& actor, invocation* what) noexcept {
  if (!what->control) actor_access::finished(actor);
}

inline void invocation::arrive(task_node* node, bool drop) {
  auto* self = static_cast<invocation*>(node);
  if (!drop && self->target->actor != nullptr) {
    actor_access::deliver(*self->target->actor, self);
  } else {
    self->refuse(
        std::make_exception_ptr(error(errc::actor_gone, "'" + self->target->name + "' has ended")));
  }
}

}  // namespace detail

inline std::exception_ptr actor_base::gone() const {
  return std::make_exception_ptr(error(errc::actor_gone, "'" + name() + "' is stopping"));
}

inline void actor_base::deliver(detail::invocation* what) noexcept {
  if (what->control) {
    const detail::context_scope scope(context_);
    what->run(*this);
    return;
  }
  if (state_ >= actor_state::stopping) {
    ++refused_;
    what->refuse(gone());
    return;
  }
  if (pending_ >= bound_) {
    ++refused_;
    what->refuse(std::make_exception_ptr(
        error(errc::mailbox_full, fmt::format("'{}' has {} commands pending", name(), pending_))));
    return;
  }
  ++pending_;
  mailbox_.push(what);
  if (state_ == actor_state::running) schedule_pump();
}

inline void actor_base::pump() {
  pumping_ = false;
  const detail::cell_pointer keep = cell_;
  for (std::size_t i = 0; i < pump_batch; ++i) {
    if (state_ != actor_state::running || (serial_ && running_ > 0)) return;
    auto* what = static_cast<detail::invocation*>(mailbox_.pop());
    if (what == nullptr) return;
    if (what->expired ||
        (what->deadline != event_loop::time_point::max() && what->deadline < loop().time())) {
      ++refused_;
      --pending_;
      what->refuse(std::make_exception_ptr(
          error(errc::timed_out, "the deadline passed in the mailbox of '" + name() + "'")));
      continue;
    }
    ++running_;
    detail::this_context = context_;
    what->run(*this);
    detail::this_context = nullptr;
    if (keep->actor == nullptr) return;
  }
  if (!mailbox_.empty()) schedule_pump();
}

inline void actor_base::started(detail::invocation* what) noexcept {
  what->previous_running = nullptr;
  what->next_running = under_way_;
  if (under_way_ != nullptr) under_way_->previous_running = what;
  under_way_ = what;
}

inline void actor_base::ended(detail::invocation* what) noexcept {
  if (what->next_running != nullptr) what->next_running->previous_running = what->previous_running;
  (what->previous_running != nullptr ? what->previous_running->next_running : under_way_) =
      what->next_running;
}

inline void actor_base::finished() noexcept {
  --running_;
  --pending_;
  ++handled_;
  if (serial_ && state_ == actor_state::running && !mailbox_.empty()) schedule_pump();
  if (running_ == 0 && idle_) {
    idle_->set_value();
    idle_.reset();
  }
}

inline actor_info actor_base::info() const {
  actor_info i;
  i.id = id();
  i.name = name();
  i.state = to_string(state_);
  i.process_id = ::getpid();
  i.uptime_ms = static_cast<std::uint64_t>(uptime() / std::chrono::milliseconds(1));
  i.pending = pending_;
  i.handled = handled_;
  i.refused = refused_;
  i.commands = command_names();
  return i;
}

inline future<> actor_base::begin(detail::cell_pointer self) {
  actor_base& a = *self->actor;
  a.state_ = actor_state::starting;
  a.tasks_.emplace(a.loop());
  std::exception_ptr why;
  try {
    detail::this_context = a.context_;
    auto starting = a.call_on_start();
    detail::this_context = nullptr;
    co_await std::move(starting);
  } catch (...) {
    why = std::current_exception();
  }
  if (why != nullptr) {
    if (a.state_ == actor_state::starting) a.state_ = actor_state::running;
    a.reason_ = why;
    co_await end(self, event_loop::duration::zero());
    std::rethrow_exception(why);
  }
  if (a.state_ != actor_state::starting) {
    throw error(errc::actor_gone, "'" + self->name + "' was stopped while it started");
  }
  a.state_ = actor_state::running;
  if (!a.mailbox_.empty()) a.schedule_pump();
}

inline future<> actor_base::stop(event_loop::duration grace) {
  if (state_ >= actor_state::stopping) {
    stop_waiters_.emplace_back(loop());
    return stop_waiters_.back().get_future();
  }
  // The end must not be cut short by whoever asked for it.
  stop_waiters_.emplace_back(loop());
  auto done = stop_waiters_.back().get_future();
  end(cell_, grace).detach();
  return done;
}

inline void actor_base::fail(std::exception_ptr reason) {
  if (state_ >= actor_state::stopping) return;
  log::error("'{}' has failed: {}", name(), detail::describe(reason));
  reason_ = std::move(reason);
  end(cell_, event_loop::duration::zero()).detach();
}

inline future<> actor_base::adopt(actor_base& self, future<> task) {
  const detail::cell_pointer keep = self.cell_;
  std::exception_ptr why;
  try {
    co_await std::move(task);
  } catch (...) {
    why = std::current_exception();
  }
  if (why != nullptr && !detail::is_cancelled(why) && keep->actor != nullptr) {
    keep->actor->fail(why);
  }
}

inline future<> actor_base::end(detail::cell_pointer self, event_loop::duration grace) {
  actor_base& a = *self->actor;
  if (a.state_ >= actor_state::stopping) co_return;
  a.state_ = actor_state::stopping;
  // From here on nobody who called the actor is on the stack.
  co_await sleep({}, a.loop());
  while (auto* waiting = static_cast<detail::invocation*>(a.mailbox_.pop())) {
    --a.pending_;
    ++a.refused_;
    waiting->refuse(a.gone());
  }
  const auto guarded = [&a](future<> hook, std::string_view which) {
    return [](actor_base& owner, future<> h, std::string_view w) -> future<> {
      try {
        co_await std::move(h);
      } catch (...) {
        log::error("{} of '{}' failed: {}", w, owner.name(),
                   detail::describe(std::current_exception()));
      }
    }(a, std::move(hook), which);
  };
  {
    detail::this_context = a.context_;
    auto hook = a.call_on_stopping();
    detail::this_context = nullptr;
    co_await guarded(std::move(hook), "on_stopping");
  }
  // What is under way has its grace; then it is cancelled, and named while it does not end.
  auto wait = grace;
  while (a.running_ > 0) {
    a.idle_.emplace(a.loop());
    auto idle = a.idle_->get_future();
    auto ended = co_await as_result(with_timeout(std::move(idle), wait));
    if (ended || a.running_ == 0) break;
    if (wait != grace) {
      log::warning("'{}' still has {} commands that ignore their cancellation", a.name(),
                   a.running_);
    }
    for (auto* i = a.under_way_; i != nullptr;) {
      auto* next = i->next_running;
      i->cancel();
      i = next;
    }
    wait = std::chrono::seconds(5);
  }
  a.tasks_->cancel();
  {
    detail::this_context = a.context_;
    auto hook = a.call_on_stop();
    detail::this_context = nullptr;
    co_await guarded(std::move(hook), "on_stop");
  }
  a.state_ = actor_state::closed;
  while (a.pumping_) co_await sleep({}, a.loop());
  auto waiters = std::move(a.stop_waiters_);
  auto on_end = std::move(a.on_end_);
  auto reason = a.reason_;
  auto* owner = a.context_;
  self->actor = nullptr;
  registry::instance().leave(*self);
  owner->owner = nullptr;
  delete &a;
  owner->drop();
  for (auto& w : waiters) w.set_value();
  if (on_end) on_end(reason);
}

template <class Derived>
detail::decode_command actor<Derived>::find_command(std::string_view name) const noexcept {
  return detail::find_wire_command<Derived>(name,
                                            static_cast<typename Derived::commands*>(nullptr));
}

}  // namespace pulsar
