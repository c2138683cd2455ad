// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Actors of this process: those of each loop, and the threads that carry one each.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/detail/dispatch.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/actors/registry.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <typeinfo>
#include <utility>

namespace pulsar {

/// How to spawn an actor. Views: they need to live only until `spawn` is called.
struct spawn_options {
  std::string_view name = {};         ///< Unique among the living; none: type and number.
  std::size_t mailbox_bound = 10'000; ///< Commands that may wait and be under way.
};

namespace detail {

/// Runs `f()` in the loop of `inbox`; false if that is closed.
template <class F>
bool post_to(loop_inbox& inbox, F f) {
  struct node final : task_node, recycled {
    explicit node(F&& g) : task_node(&run), f(std::move(g)) {}
    static void run(task_node* n, bool drop) {
      auto* self = static_cast<node*>(n);
      if (!drop) self->f();
      delete self;
    }
    F f;
  };
  auto* n = new node(std::move(f));
  if (inbox.push(n)) return true;
  delete n;
  return false;
}

/// Ends every actor of `loop`, the youngest first, and waits for them.
inline future<> stop_actors(event_loop& loop, event_loop::duration grace) {
  auto& actors = loop_access::local<loop_actors>(loop);
  while (!actors.empty()) {
    co_await actors.youngest().stop(grace);
  }
}

/// The settled part of spawn_options.
struct birth {
  std::string name;
  bool named = false;
  std::size_t mailbox_bound = 10'000;
};

inline birth birth_of(const spawn_options& options) {
  return {std::string(options.name), !options.name.empty(), options.mailbox_bound};
}

inline std::string default_name(const std::type_info& of, std::uint64_t id) {
  const std::string type = type_name(of);
  return type.substr(type.rfind(':') + 1) + '#' + std::to_string(id & 0xffff'ffff);
}

/// All that a birth needs to know of the actor's type. Made where the actor is spawned, used where
/// it is to live.
class actor_maker : public counted {
 public:
  actor_maker(birth&& h, const std::type_info& t) noexcept : how(std::move(h)), type(t) {}
  /// Calls the constructor.
  virtual actor_base* make() = 0;

  const birth how;
  const std::type_info& type;
};
using maker_pointer = counted_pointer<actor_maker>;

template <class A, class... Args>
class maker_from final : public actor_maker {
 public:
  maker_from(birth&& h, std::tuple<Args...>&& a)
      : actor_maker(std::move(h), typeid(A)), arguments_(std::move(a)) {}
  actor_base* make() override { return make_from(std::index_sequence_for<Args...>()); }

 private:
  template <std::size_t... I>
  actor_base* make_from(std::index_sequence<I...>) {
    actor_base* made = new A(std::move(std::get<I>(arguments_))...);
    actor_access::set_type<A>(*made);
    return made;
  }

  std::tuple<Args...> arguments_;
};

/// Makes an `A`.
template <class A, class... Args>
maker_pointer maker_of(birth how, std::tuple<Args...>&& args) {
  return maker_pointer(new maker_from<A, Args...>(std::move(how), std::move(args)));
}

/// Tells the constructors of this thread whose they are: the actor knows its name and loop there.
class newborn_scope {
 public:
  explicit newborn_scope(const cell_pointer& c) noexcept : before_(std::exchange(newborn, &c)) {}
  newborn_scope(const newborn_scope&) = delete;
  newborn_scope& operator=(const newborn_scope&) = delete;
  ~newborn_scope() { newborn = before_; }

 private:
  const cell_pointer* before_;
};

inline void make_in(const cell_pointer& cell, actor_maker& maker) {
  const newborn_scope scope(cell);
  cell->actor = maker.make();
}

/// Makes the actor in `loop`, this thread's, and starts it.
inline future<actor_ref<>> give_birth(event_loop& loop, maker_pointer maker) {
  auto& names = registry::instance();
  const auto id = names.next_id();
  const auto& how = maker->how;
  const cell_pointer cell(
      new local_cell(id, how.named ? how.name : default_name(maker->type, id), &loop));
  names.enter(cell, how.named);
  bool placed = false;
  std::exception_ptr why;
  try {
    make_in(cell, *maker);
    actor_access::place(*cell->actor, cell);
    actor_access::set_bound(*cell->actor, how.mailbox_bound);
    placed = true;
    co_await actor_access::begin(cell);
  } catch (...) {
    why = std::current_exception();
  }
  if (why != nullptr) {
    if (!placed) names.leave(*cell);
    std::rethrow_exception(why);
  }
  co_return ref_access::make(cell);
}

/// The reference to an actor that is being born.
template <class A>
future<actor_ref<A>> ref_when_born(event_loop&, future<actor_ref<>> born) {
  const actor_ref<> ref = co_await std::move(born);
  co_return ref_access::make<A>(ref_access::pointer(ref));
}

/// A thread that carries one actor, and who waits for its birth in another loop.
class actor_thread final : public counted, actor_owner {
 public:
  actor_thread(event_loop& home, maker_pointer maker)
      : maker_(std::move(maker)), home_(loop_access::inbox(home)) {}

  promise<actor_ref<>>* waiting = nullptr;  // belongs to the loop of who spawns

 private:
  friend class actor_threads;

  /// One of the things that it does in a loop.
  struct step : task_node {
    step(actor_thread& t, function f) noexcept : task_node(f), owner(t) {}
    actor_thread& owner;
  };

  void live(std::mutex& mutex, const bool& stopping) {
    bool reported = false;
    try {
      event_loop loop;
      {
        const std::lock_guard lock(mutex);
        inbox_ = loop_access::inbox(loop);
        loop_ = &loop;
        if (stopping) ask_to_stop();
      }
      born_ = loop.run_until_complete(begin(loop));
      const std::string name = born_.name();
      const log_scope speaker(name);
      auto* const actor = ref_access::cell(born_)->actor;
      if (actor != nullptr) actor_access::set_owner(*actor, *this);
      reported = true;
      report();
      if (actor != nullptr) loop.run_forever();
      loop.close();
    } catch (...) {
      if (reported) {
        log::critical("the thread of an actor ends: {}", describe(std::current_exception()));
        return;
      }
      failure_ = take_apart(std::current_exception());
      report();
    }
  }

  future<actor_ref<>> begin(event_loop& loop) {
    const current_loop scope(loop);
    return give_birth(loop, std::move(maker_));
  }

  // Behind those who waited for the end, and are told of it in this turn.
  void actor_ended(std::exception_ptr) override { loop_access::push_ready(*loop_, &ending_); }
  static void end(task_node* node, bool drop) {
    if (!drop) static_cast<step*>(node)->owner.loop_->stop();
  }

  /// Tells who waits that the actor was born, or was not.
  void report() {
    take();
    if (!home_->push(&arrival_)) arrive(&arrival_, true);
  }
  static void arrive(task_node* node, bool drop) {
    const counted_pointer<actor_thread> self(&static_cast<step*>(node)->owner);
    if (drop || self->waiting == nullptr) {
      self->ask_to_stop();  // nobody waits for it any more
    } else if (self->born_) {
      self->waiting->set_value(std::move(self->born_));
    } else {
      self->waiting->set_exception(put_together(self->failure_));
    }
  }

  /// Any thread, once it is known that there is a loop.
  void ask_to_stop() noexcept {
    if (inbox_ != nullptr && !asked_.exchange(true)) inbox_->push(&stop_);
  }
  static void stop(task_node* node, bool drop) {
    if (!drop) stop_actors(*static_cast<step*>(node)->owner.loop_, std::chrono::seconds(5)).detach();
  }

  maker_pointer maker_;
  const counted_pointer<loop_inbox> home_;
  actor_ref<> born_;
  remote_failure failure_;
  step arrival_{*this, &arrive};

  counted_pointer<loop_inbox> inbox_;
  event_loop* loop_ = nullptr;
  std::atomic<bool> asked_ = false;
  step stop_{*this, &stop};
  step ending_{*this, &end};

  // Of actor_threads.
  std::thread thread_;
  bool ended_ = false;
  actor_thread* next_ = nullptr;
};

/// The threads that carry an actor each.
class actor_threads {
 public:
  static actor_threads& instance() {
    registry::instance();  // outlives this
    static actor_threads here;
    return here;
  }
  ~actor_threads() { stop_all(); }

  void start(actor_thread& t) {
    const std::lock_guard lock(mutex_);
    reap();
    t.thread_ = std::thread(&carry, static_cast<void*>(&t));
    t.take();
    t.next_ = first_;
    first_ = &t;
  }

  /// Ends the actors of all threads and joins them.
  void stop_all() noexcept {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    for (auto* t = first_; t != nullptr; t = t->next_) t->ask_to_stop();
    for (reap(); first_ != nullptr; reap()) changed_.wait(lock);
    stopping_ = false;
  }

 private:
  // A thread from its beginning to its end.
  static void carry(void* data) {
    auto& t = *static_cast<actor_thread*>(data);
    auto& all = instance();
    t.live(all.mutex_, all.stopping_);
    const std::lock_guard lock(all.mutex_);
    t.ended_ = true;
    all.changed_.notify_all();
  }

  void reap() {
    for (actor_thread** at = &first_; *at != nullptr;) {
      actor_thread* t = *at;
      if (t->ended_ && t->thread_.get_id() != std::this_thread::get_id()) {
        t->thread_.join();
        *at = t->next_;
        t->drop();
      } else {
        at = &t->next_;
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  actor_thread* first_ = nullptr;
  bool stopping_ = false;
};

/// Makes the actor in a thread of its own.
inline future<actor_ref<>> give_birth_in_thread(event_loop& loop, maker_pointer maker) {
  promise<actor_ref<>> born(loop);
  auto result = born.get_future();
  const counted_pointer<actor_thread> thread(new actor_thread(loop, std::move(maker)));
  // Found through the object, for the thread may outlive the wait.
  struct waiting_scope {
    actor_thread& thread;
    ~waiting_scope() { thread.waiting = nullptr; }
  } const waits{*thread};
  thread->waiting = &born;
  actor_threads::instance().start(*thread);
  co_return co_await std::move(result);
}

}  // namespace detail
}  // namespace pulsar
