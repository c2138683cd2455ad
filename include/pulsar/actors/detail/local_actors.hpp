// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Actors of this process: those of each loop, and the threads that carry one each.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/detail/dispatch.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/actors/registry.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

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
  return fmt::format("{}#{}", type.substr(type.rfind(':') + 1), id & 0xffff'ffff);
}

/// All that a birth needs to know of the actor's type. Made where the actor is spawned, used where
/// it is to live.
class actor_maker {
 public:
  actor_maker(birth&& h, const std::type_info& t) noexcept : how(std::move(h)), type(t) {}
  actor_maker(const actor_maker&) = delete;
  actor_maker& operator=(const actor_maker&) = delete;
  virtual ~actor_maker() = default;
  /// Calls the constructor.
  virtual actor_base* make() = 0;

  const birth how;
  const std::type_info& type;
};

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
std::unique_ptr<actor_maker> maker_of(birth how, std::tuple<Args...>&& args) {
  return std::unique_ptr<actor_maker>(
      new maker_from<A, Args...>(std::move(how), std::move(args)));
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
inline future<cell_pointer> give_birth(event_loop& loop, std::unique_ptr<actor_maker> maker) {
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
  co_return cell;
}

/// The reference to an actor that is being born.
template <class A>
future<actor_ref<A>> ref_when_born(event_loop&, future<cell_pointer> born) {
  cell_pointer cell = co_await std::move(born);
  co_return ref_access::make<A>(std::move(cell));
}

/// An actor that is to be born in a thread of its own, and who waits for that in another loop.
class thread_birth : public counted {
 public:
  thread_birth(event_loop& home, std::unique_ptr<actor_maker> m)
      : maker(std::move(m)), inbox_(loop_access::inbox(home)) {}

  /// In the actor's thread: it is born, or was not. Stopped again if nobody waits for it any more.
  void born(cell_pointer cell, const std::exception_ptr& why) {
    remote_failure failure;
    if (why != nullptr) failure = take_apart(why);
    post_to(*inbox_, [self = share(*this), c = unclaimed(std::move(cell)),
                      f = std::move(failure)]() mutable {
      if (self->waiting == nullptr) return;
      if (cell_pointer claimed = c.claim()) {
        self->waiting->set_value(std::move(claimed));
      } else {
        self->waiting->set_exception(put_together(f));
      }
    });
  }

  std::unique_ptr<actor_maker> maker;
  promise<cell_pointer>* waiting = nullptr;  // belongs to the loop of who spawns

 private:
  // An actor that has started.
  class unclaimed {
   public:
    explicit unclaimed(cell_pointer cell) noexcept : cell_(std::move(cell)) {}
    unclaimed(unclaimed&&) noexcept = default;
    ~unclaimed() {
      if (!cell_) return;
      post_to(*cell_->inbox, [c = cell_] {
        if (c->actor != nullptr) c->actor->stop().detach();
      });
    }
    cell_pointer claim() noexcept { return std::exchange(cell_, {}); }

   private:
    cell_pointer cell_;
  };

  const counted_pointer<loop_inbox> inbox_;
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

  void start(counted_pointer<thread_birth> what) {
    const std::lock_guard lock(mutex_);
    reap();
    auto e = std::make_unique<entry>(*this, std::move(what));
    e->thread = std::thread(&carry, static_cast<void*>(e.get()));
    e->next = std::exchange(first_, e.get());
    static_cast<void>(e.release());
  }

  /// Ends the actors of all threads and joins them.
  void stop_all() noexcept {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    for (auto* e = first_; e != nullptr; e = e->next) ask_to_stop(*e);
    for (reap(); first_ != nullptr; reap()) changed_.wait(lock);
    stopping_ = false;
  }

 private:
  struct entry {
    entry(actor_threads& o, counted_pointer<thread_birth>&& w) : owner(o), what(std::move(w)) {}
    actor_threads& owner;
    const counted_pointer<thread_birth> what;
    std::thread thread;
    counted_pointer<loop_inbox> inbox;
    event_loop* loop = nullptr;
    bool ended = false;
    entry* next = nullptr;
  };

  // A thread from its beginning to its end.
  static void carry(void* data) {
    auto& e = *static_cast<entry*>(data);
    live(e);
    auto& owner = e.owner;
    const std::lock_guard lock(owner.mutex_);
    e.ended = true;
    owner.changed_.notify_all();
  }

  static void live(entry& e) {
    event_loop loop;
    {
      const std::lock_guard lock(e.owner.mutex_);
      e.inbox = loop_access::inbox(loop);
      e.loop = &loop;
      if (e.owner.stopping_) ask_to_stop(e);
    }
    auto& what = *e.what;
    try {
      auto cell =
          loop.run_until_complete([&] { return give_birth(loop, std::move(what.maker)); });
      const std::string name = cell->name;
      const log_scope speaker(name);
      if (cell->actor != nullptr) {
        // Behind those who waited for the end, and are told of it in this turn.
        actor_access::on_end(*cell->actor, [&loop](std::exception_ptr) {
          loop.call_soon([&loop] { loop.stop(); });
        });
      }
      what.born(cell, nullptr);
      if (cell->actor != nullptr) loop.run_forever();
      loop.close();
    } catch (...) {
      what.born({}, std::current_exception());
    }
  }

  static void ask_to_stop(entry& e) {
    if (e.inbox == nullptr) return;
    post_to(*e.inbox, [loop = e.loop] {
      stop_actors(*loop, std::chrono::seconds(5)).detach();
    });
  }

  void reap() {
    for (entry** at = &first_; *at != nullptr;) {
      entry* e = *at;
      if (e->ended && e->thread.get_id() != std::this_thread::get_id()) {
        e->thread.join();
        *at = e->next;
        delete e;
      } else {
        at = &e->next;
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  entry* first_ = nullptr;
  bool stopping_ = false;
};

/// Makes the actor in a thread of its own.
inline future<cell_pointer> give_birth_in_thread(event_loop& loop,
                                                 std::unique_ptr<actor_maker> maker) {
  promise<cell_pointer> born(loop);
  auto result = born.get_future();
  const counted_pointer<thread_birth> what(new thread_birth(loop, std::move(maker)));
  // Found through the object, for the thread may outlive the wait.
  struct waiting_scope {
    thread_birth& what;
    ~waiting_scope() { what.waiting = nullptr; }
  } const waits{*what};
  what->waiting = &born;
  actor_threads::instance().start(what);
  co_return co_await std::move(result);
}

}  // namespace detail
}  // namespace pulsar
