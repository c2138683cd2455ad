// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Actors of this process: those of each loop, and the threads that carry one each.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/detail/dispatch.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/actors/registry.hpp>

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <list>
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
      const std::unique_ptr<node> self(static_cast<node*>(n));
      if (!drop) self->f();
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
    const cell_pointer youngest = actors.youngest();
    co_await youngest->actor->stop(grace);
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

template <class A>
std::string default_name(std::uint64_t id) {
  const std::string type = type_name(typeid(A));
  return fmt::format("{}#{}", type.substr(type.rfind(':') + 1), id & 0xffff'ffff);
}

/// Calls the constructor, in which the actor knows its name and loop already.
template <class A, class... Args>
std::unique_ptr<A> make_actor(const cell_pointer& cell, std::tuple<Args...>& args) {
  struct newborn_scope {
    explicit newborn_scope(const cell_pointer& c) noexcept : before(std::exchange(newborn, &c)) {}
    newborn_scope(const newborn_scope&) = delete;
    newborn_scope& operator=(const newborn_scope&) = delete;
    ~newborn_scope() { newborn = before; }
    const cell_pointer* before;
  } const scope(cell);
  return std::apply([](Args&... a) { return std::make_unique<A>(std::move(a)...); }, args);
}

/// Makes the actor in `loop`, this thread's, and starts it.
template <class A, class... Args>
future<cell_pointer> give_birth(event_loop& loop, birth how, std::tuple<Args...> args) {
  auto& names = registry::instance();
  const auto id = names.next_id();
  const cell_pointer cell(
      new local_cell(id, how.named ? how.name : default_name<A>(id), &loop));
  names.enter(cell, how.named);
  bool placed = false;
  std::exception_ptr why;
  try {
    auto made = make_actor<A>(cell, args);
    cell->actor = made.release();
    actor_access::set_type<A>(*cell->actor);
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

/// The threads that carry an actor each.
class actor_threads {
 public:
  static actor_threads& instance() {
    registry::instance();  // outlives this
    static actor_threads here;
    return here;
  }
  ~actor_threads() { stop_all(); }

  /// Runs `body()` in a thread of its own; `inbox` reaches its loop from then on.
  template <class F>
  void start(F body) {
    const std::lock_guard lock(mutex_);
    reap();
    std::list<entry> fresh(1);
    auto& e = fresh.front();
    e.thread = std::thread([this, &e, b = std::move(body)]() mutable {
      b([this, &e](event_loop& loop) {
        const std::lock_guard inner(mutex_);
        e.inbox = loop_access::inbox(loop);
        e.loop = &loop;
        if (stopping_) ask_to_stop(e);
      });
      const std::lock_guard inner(mutex_);
      e.ended = true;
      changed_.notify_all();
    });
    entries_.splice(entries_.end(), fresh);
  }

  /// Ends the actors of all threads and joins them.
  void stop_all() noexcept {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    for (auto& e : entries_) ask_to_stop(e);
    while (!entries_.empty()) {
      changed_.wait(lock, [this] {
        for (auto& e : entries_) {
          if (e.ended) return true;
        }
        return false;
      });
      reap();
    }
    stopping_ = false;
  }

 private:
  struct entry {
    std::thread thread;
    std::shared_ptr<loop_inbox> inbox;
    event_loop* loop = nullptr;
    bool ended = false;
  };

  static void ask_to_stop(entry& e) {
    if (e.inbox == nullptr) return;
    post_to(*e.inbox, [loop = e.loop] {
      stop_actors(*loop, std::chrono::seconds(5)).detach();
    });
  }

  void reap() {
    for (auto at = entries_.begin(); at != entries_.end();) {
      if (at->ended && at->thread.get_id() != std::this_thread::get_id()) {
        at->thread.join();
        at = entries_.erase(at);
      } else {
        ++at;
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<entry> entries_;
  bool stopping_ = false;
};

/// Makes the actor in a thread of its own; tells `born` there, which must not block.
template <class A, class... Args, class Born>
void give_birth_in_thread(birth how, std::tuple<Args...> args, Born born) {
  actor_threads::instance().start(
      [how = std::move(how), args = std::move(args), born = std::move(born)](auto ready) mutable {
        event_loop loop;
        ready(loop);
        try {
          auto cell = loop.run_until_complete(
              [&] { return give_birth<A, Args...>(loop, std::move(how), std::move(args)); });
          const std::string name = cell->name;
          const log_scope speaker(name);
          if (cell->actor != nullptr) {
            actor_access::on_end(*cell->actor, [&loop](std::exception_ptr) { loop.stop(); });
          }
          born(cell, nullptr);
          if (cell->actor != nullptr) loop.run_forever();
          loop.close();
        } catch (...) {
          born({}, std::current_exception());
        }
      });
}

}  // namespace detail
}  // namespace pulsar
