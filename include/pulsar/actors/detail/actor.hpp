// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The mailbox of an actor, and its life from on_start to its end.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/detail/invocation.hpp>
#include <pulsar/actors/registry.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar {

namespace detail {

/// The actors of one loop; what is left of them goes when the loop closes.
class loop_actors final : public loop_extension {
 public:
  explicit loop_actors(event_loop& loop) noexcept : loop_(loop) {}
  inline ~loop_actors() override;

  inline void add(actor_base& a) noexcept;
  inline void remove(actor_base& a) noexcept;

  bool empty() const noexcept { return youngest_ == nullptr; }
  actor_base& youngest() const noexcept { return *youngest_; }

 private:
  // Keeps cells behind what is ready in a loop that closes: commands name them until they are gone.
  struct remains final : task_node, recycled {
    explicit remains(const cell_pointer& c) noexcept : task_node(&run), cell(c) {}
    static void run(task_node* node, bool) { delete static_cast<remains*>(node); }
    const cell_pointer cell;
  };

  event_loop& loop_;
  actor_base* youngest_ = nullptr;
};

/// What the machinery around actors may do with them.
struct actor_access {
  /// Gives an actor its place in the loop of `cell`, until its end.
  static void place(actor_base& a, cell_pointer cell) {
    a.born_ = cell->loop->time();
    a.context_ = new context(cell->name);
    a.serial_ = a.type_->serial;
    loop_access::local<loop_actors>(*cell->loop).add(a);
    a.cell_ = std::move(cell);
  }
  /// What `A` says counts from now on, not what the class says that derives from `actor` itself.
  template <class A>
  static void set_type(actor_base& a) noexcept {
    a.type_ = &type_of_actor<A>();
  }
  static void set_bound(actor_base& a, std::size_t bound) noexcept { a.bound_ = bound; }
  static future<> begin(cell_pointer cell) { return actor_base::begin(std::move(cell)); }
  static void deliver(actor_base& a, invocation* what) noexcept { a.deliver(what); }
  static void started(actor_base& a, invocation* what) noexcept { a.started(what); }
  static void ended(actor_base& a, invocation* what) noexcept { a.ended(what); }
  static void finished(actor_base& a) noexcept { a.finished(); }
  static const wire_command* commands(const actor_base& a) noexcept { return a.type_->commands; }
  /// Null if it has no command of that name.
  static decode_command find_command(const actor_base& a, std::string_view name) noexcept {
    const auto* c = commands(a);
    while (c->decode != nullptr && c->name != name) ++c;
    return c->decode;
  }
  static actor_base*& older(actor_base& a) noexcept { return a.older_; }
  static actor_base*& younger(actor_base& a) noexcept { return a.younger_; }
  static context* context_of(actor_base& a) noexcept { return a.context_; }
  static const cell_pointer& cell(const actor_base& a) noexcept { return a.cell_; }
  /// Frees an actor whose loop closes, behind all that uses it.
  static void abandon(actor_base& a) noexcept {
    while (auto* i = a.under_way_) {
      a.ended(i);
      i->abandon();
    }
    while (a.activities_ != nullptr) a.activities_->abandon();
    while (auto* waiting = static_cast<invocation*>(a.mailbox_.pop())) {
      waiting->refuse(a.gone());
    }
    destroy(a);
  }
  static void destroy(actor_base& a) noexcept {
    const context_scope scope(a.context_);
    delete &a;
  }
  static void set_owner(actor_base& a, actor_owner& owner) noexcept { a.owner_ = &owner; }
};

void loop_actors::add(actor_base& a) noexcept {
  actor_access::older(a) = youngest_;
  if (youngest_ != nullptr) actor_access::younger(*youngest_) = &a;
  youngest_ = &a;
}

void loop_actors::remove(actor_base& a) noexcept {
  actor_base* older = actor_access::older(a);
  actor_base* younger = actor_access::younger(a);
  if (older != nullptr) actor_access::younger(*older) = younger;
  (younger != nullptr ? actor_access::older(*younger) : youngest_) = older;
}

loop_actors::~loop_actors() {
  task_queue gone;
  while (!empty()) {
    actor_base& actor = youngest();
    auto* const left = new remains(actor_access::cell(actor));
    gone.push(left);
    remove(actor);
    registry::instance().leave(*left->cell);
    left->cell->actor = nullptr;
    actor_access::abandon(actor);
  }
  while (auto* left = gone.pop()) loop_access::push_ready(loop_, left);
}

activity::activity(actor_base& a, future<> w) : owner(&a), what(std::move(w)), next(a.activities_) {
  if (next != nullptr) next->previous = this;
  a.activities_ = this;
  ++a.activity_count_;
}

activity::~activity() {
  if (owner == nullptr) return;
  unlink();
  owner->idle_.wake();
}

void activity::unlink() noexcept {
  if (next != nullptr) next->previous = previous;
  (previous != nullptr ? previous->next : owner->activities_) = next;
  --owner->activity_count_;
}

void activity::abandon() noexcept {
  unlink();
  owner = nullptr;
  state* s = std::exchange(future_access::slot(what), nullptr);
  if (s == nullptr) return;
  // Whoever waits for it is freed later: it must neither own it nor look for it.
  if (auto* awaiter = std::exchange(s->awaiter, nullptr)) {
    if (awaiter->waiter != nullptr) awaiter->waiter->waiting_on = nullptr;
  }
  let_go(*s, release_as::dropped);
}

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

inline actor_base::actor_base() : pump_(new pump_node(*this)) {
  if (const auto* cell = std::exchange(detail::newborn, nullptr)) {
    cell_ = *cell;
    born_ = loop().time();
  }
}

inline actor_base::~actor_base() {
  if (context_ != nullptr) context_->drop();
  if (pumping_) {
    pump_->owner = nullptr;
  } else {
    delete pump_;
  }
}

inline void actor_base::pump_node::run(detail::task_node* node, bool drop) {
  auto* self = static_cast<pump_node*>(node);
  if (self->owner == nullptr) {
    delete self;
  } else if (drop) {
    self->owner->pumping_ = false;
  } else {
    self->owner->pump();
  }
}

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
        error(errc::mailbox_full,
              "'" + name() + "' has " + std::to_string(pending_) + " commands pending")));
    return;
  }
  if (detail::may_be_limited()) [[unlikely]] {
    what->limit();
  }
  ++pending_;
  mailbox_.push(what);
  if (state_ == actor_state::running) schedule_pump();
}

inline void actor_base::pump() {
  pump_node* const me = pump_;  // is there even when the actor is not any more
  for (std::size_t i = 0; i < pump_batch; ++i) {
    detail::invocation* what = nullptr;
    if (state_ == actor_state::running && !(serial_ && running_ > 0)) {
      what = static_cast<detail::invocation*>(mailbox_.pop());
    }
    if (what == nullptr) {
      pumping_ = false;
      return;
    }
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
    if (me->owner == nullptr) {
      delete me;
      return;
    }
  }
  if (mailbox_.empty()) {
    pumping_ = false;
  } else {
    detail::loop_access::push_ready(loop(), me);
  }
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
  if (running_ == 0 && !idle_.empty()) idle_.wake();
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
  for (const auto* c = type_->commands; c->decode != nullptr; ++c) i.commands.emplace_back(c->name);
  return i;
}

inline void actor_base::require_born(const char* what) const {
  if (cell_ && cell_->actor != nullptr) return;
  throw error(errc::not_ready, std::string(what) + " in the constructor of an actor: throw there, "
                                                   "or do it in on_start");
}

// -- its own code ----------------------------------------------------------------

inline future<> actor_base::call(detail::actor_type::hook hook) {
  const detail::context_scope scope(context_);
  return hook(*this);
}

inline void actor_base::create_task(future<> task) {
  require_born("create_task");
  adopt(*this, std::move(task)).detach();
}

inline future<> actor_base::adopt(actor_base& self, future<> task) {
  detail::activity running(self, std::move(task));
  if (self.tasks_closed_) running.what.cancel();
  std::exception_ptr why;
  try {
    co_await running.what;
  } catch (...) {
    why = std::current_exception();
  }
  if (why == nullptr || detail::is_cancelled(why)) co_return;
  if (self.state_ >= actor_state::stopping) {
    log::error("a task of '{}' failed while it stopped: {}", self.name(), detail::describe(why));
  } else {
    self.fail(std::move(why));
  }
}

inline void actor_base::cancel_activities() noexcept {
  for (auto* a = activities_; a != nullptr;) {
    auto* next = a->next;
    a->what.cancel();
    a = next;
  }
}

// -- from on_start to the end ------------------------------------------------------

inline future<> actor_base::begin(detail::cell_pointer self) {
  actor_base& a = *self->actor;
  a.state_ = actor_state::starting;
  std::exception_ptr why = a.reason_;  // the constructor may have called `fail`
  if (why == nullptr) {
    try {
      detail::activity running(a, a.call(a.type_->on_start));
      a.starting_ = &running;
      co_await running.what;
    } catch (...) {
      why = std::current_exception();
    }
    a.starting_ = nullptr;
  }
  if (why == nullptr && a.state_ == actor_state::starting) {
    a.state_ = actor_state::running;
    if (!a.mailbox_.empty()) a.schedule_pump();
    co_return;
  }
  if (a.state_ == actor_state::starting) {
    a.reason_ = why;
  } else if (a.reason_ != nullptr) {
    why = a.reason_;
  } else if (why == nullptr || detail::is_cancelled(why)) {
    why = std::make_exception_ptr(
        error(errc::actor_gone, "'" + self->name + "' was stopped while it started"));
  }
  auto ended = a.stop(event_loop::duration::zero());
  co_await std::move(ended);
  std::rethrow_exception(why);
}

inline future<> actor_base::stop(event_loop::duration grace) {
  require_born("stop");
  auto done = stopped_.wait(loop());
  // The end must not be cut short by whoever asked for it.
  end(cell_, grace).detach();
  return done;
}

inline void actor_base::fail(std::exception_ptr reason) {
  if (state_ >= actor_state::stopping) return;
  const bool born = cell_ && cell_->actor != nullptr;
  if (born) log::error("'{}' has failed: {}", name(), detail::describe(reason));
  reason_ = std::move(reason);
  if (born) end(cell_, event_loop::duration::zero()).detach();
}

/// Waits until nothing is left of `what`, `grace` long; then cancels it, and names it while it does
/// not end.
inline future<> actor_base::wind_down(actor_base& a, event_loop::duration grace,
                                      const char* what, count_function left,
                                      cancel_function cancel) {
  bool cancelled = false;
  while (left(a) > 0) {
    auto idle = a.idle_.wait(a.loop());
    try {
      co_await with_timeout(std::move(idle), grace);
      continue;
    } catch (...) {
      // Late, or cancelled.
    }
    if (cancelled) {
      log::warning("'{}' still has {} that ignore their cancellation", a.name(),
                   std::to_string(left(a)) + ' ' + what);
    }
    cancel(a);
    cancelled = true;
    grace = std::chrono::seconds(5);
  }
}

inline future<> actor_base::run_hook(actor_base& a, detail::actor_type::hook hook,
                                     const char* which) {
  try {
    detail::activity running(a, a.call(hook));
    co_await running.what;
  } catch (...) {
    const auto why = std::current_exception();
    if (detail::is_cancelled(why)) throw;
    log::error("{} of '{}' failed: {}", std::string_view(which), a.name(), detail::describe(why));
  }
}

/// The steps of the end, each done when nothing of it is left.
struct detail::ending {
  struct step {
    future<> (*take)(actor_base& a, event_loop::duration grace);
    bool repeated;  // when it is cut short
  };

  static future<> refuse_waiting(actor_base& a, event_loop::duration) {
    // From here on nobody who called the actor is on the stack.
    co_await sleep({}, a.loop());
    while (auto* waiting = static_cast<invocation*>(a.mailbox_.pop())) {
      --a.pending_;
      ++a.refused_;
      waiting->refuse(a.gone());
    }
  }
  static future<> end_start(actor_base& a, event_loop::duration) {
    return actor_base::wind_down(a, {}, "on_start", &starts_left, &cancel_activities);
  }
  static future<> on_stopping(actor_base& a, event_loop::duration) {
    return actor_base::run_hook(a, a.type_->on_stopping, "on_stopping");
  }
  static future<> end_commands(actor_base& a, event_loop::duration grace) {
    return actor_base::wind_down(a, grace, "commands", &commands_left, &cancel_commands);
  }
  static future<> end_tasks(actor_base& a, event_loop::duration) {
    a.tasks_closed_ = true;
    return actor_base::wind_down(a, {}, "tasks", &tasks_left, &cancel_activities);
  }
  static future<> on_stop(actor_base& a, event_loop::duration) {
    return actor_base::run_hook(a, a.type_->on_stop, "on_stop");
  }

  static std::size_t starts_left(const actor_base& a) { return a.starting_ != nullptr ? 1 : 0; }
  static std::size_t commands_left(const actor_base& a) { return a.running_; }
  static std::size_t tasks_left(const actor_base& a) { return a.activity_count_; }

  static void cancel_commands(actor_base& a) {
    for (auto* i = a.under_way_; i != nullptr;) {
      auto* next = i->next_running;
      i->cancel();
      i = next;
    }
  }
  static void cancel_activities(actor_base& a) { a.cancel_activities(); }

  static constexpr step steps[] = {{&refuse_waiting, true}, {&end_start, true},
                                   {&on_stopping, false},   {&end_commands, true},
                                   {&end_tasks, true},      {&on_stop, false},
                                   {&end_tasks, true}};
};

inline future<> actor_base::end(detail::cell_pointer self, event_loop::duration grace) {
  actor_base& a = *self->actor;
  if (a.state_ >= actor_state::stopping) co_return;
  a.state_ = actor_state::stopping;
  for (const auto& step : detail::ending::steps) {
    bool taken = false;
    while (!taken) {
      taken = true;
      try {
        auto taking = step.take(a, grace);
        co_await std::move(taking);
      } catch (...) {
        // Cancelled: the loop closes. There is no time for a grace, but others wait for the end.
        grace = event_loop::duration::zero();
        taken = !step.repeated;
      }
    }
  }
  a.state_ = actor_state::closed;
  auto* const owner = a.owner_;
  auto reason = a.reason_;
  self->actor = nullptr;
  registry::instance().leave(*self);
  detail::loop_access::local<detail::loop_actors>(*self->loop).remove(a);
  a.stopped_.wake();  // which resumes nobody before this is done
  detail::actor_access::destroy(a);
  if (owner != nullptr) owner->actor_ended(std::move(reason));
}

namespace detail {

/// Is a hook of the actor's class plain? It returns a future else.
template <class Result>
consteval bool is_plain_hook() {
  static_assert(std::is_void_v<Result> || std::is_same_v<Result, future<>>,
                "on_start, on_stopping and on_stop return nothing or a future<>");
  return std::is_void_v<Result>;
}

template <class A>
struct actor_type_of {
  // Hooks may throw at once: whoever calls one waits for it in the same breath.
  static future<> on_start([[maybe_unused]] actor_base& a) {
    if constexpr (requires(A& derived) { derived.on_start(); }) {
      A& derived = static_cast<A&>(a);
      if constexpr (is_plain_hook<decltype(derived.on_start())>()) {
        derived.on_start();
      } else {
        return derived.on_start();
      }
    }
    return make_ready_future();
  }
  static future<> on_stopping([[maybe_unused]] actor_base& a) {
    if constexpr (requires(A& derived) { derived.on_stopping(); }) {
      A& derived = static_cast<A&>(a);
      if constexpr (is_plain_hook<decltype(derived.on_stopping())>()) {
        derived.on_stopping();
      } else {
        return derived.on_stopping();
      }
    }
    return make_ready_future();
  }
  static future<> on_stop([[maybe_unused]] actor_base& a) {
    if constexpr (requires(A& derived) { derived.on_stop(); }) {
      A& derived = static_cast<A&>(a);
      if constexpr (is_plain_hook<decltype(derived.on_stop())>()) {
        derived.on_stop();
      } else {
        return derived.on_stop();
      }
    }
    return make_ready_future();
  }
  static constexpr bool is_serial() {
    if constexpr (requires { A::serial; }) {
      return A::serial;
    } else {
      return false;
    }
  }
};

template <class A>
const actor_type& type_of_actor() noexcept {
  using type = actor_type_of<A>;
  static constexpr actor_type says{&type::on_start, &type::on_stopping, &type::on_stop,
                                   type::is_serial(), wire_commands<A, typename A::commands>::all};
  return says;
}

}  // namespace detail
}  // namespace pulsar
