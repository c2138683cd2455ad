// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The actors of this process, by number and by name. Any thread.

#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/core/error.hpp>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pulsar {

/// One a process: `registry::instance()`.
class registry {
 public:
  static registry& instance() {
    static registry here;
    return here;
  }

  /// The number of this process in the program; the master's is 1.
  std::uint64_t process() const noexcept { return process_.load(std::memory_order_relaxed); }
  /// The process of the actor with this number.
  static constexpr std::uint64_t process_of(std::uint64_t actor) noexcept { return actor >> 32; }

  /// A number for a new actor.
  std::uint64_t next_id() noexcept {
    return process() << 32 | last_.fetch_add(1, std::memory_order_relaxed);
  }

  /// The actor of this name; empty if this process has none.
  actor_ref<> find(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    const auto found = names_.find(name);
    return found == names_.end() ? actor_ref<>() : detail::ref_access::make(found->second);
  }
  /// The actor of this number.
  actor_ref<> find(std::uint64_t id) const {
    const std::lock_guard lock(mutex_);
    const auto found = actors_.find(id);
    return found == actors_.end() ? actor_ref<>() : detail::ref_access::make(found->second);
  }
  /// All of them, in the order of their numbers.
  std::vector<actor_ref<>> all() const {
    const std::lock_guard lock(mutex_);
    std::map<std::uint64_t, actor_ref<>> sorted;
    for (const auto& [id, cell] : actors_) sorted.emplace(id, detail::ref_access::make(cell));
    std::vector<actor_ref<>> out;
    for (auto& [id, ref] : sorted) out.push_back(std::move(ref));
    return out;
  }

  /// Enters an actor; under its name too if it was given one, and then throws `errc::name_taken`
  /// when another has it.
  void enter(const detail::cell_pointer& cell, bool named) {
    const std::lock_guard lock(mutex_);
    if (named && !names_.emplace(cell->name, cell).second) {
      throw error(errc::name_taken, "an actor named '" + cell->name + "' is alive already");
    }
    actors_.emplace(cell->id, cell);
  }
  void leave(const detail::actor_cell& cell) {
    detail::cell_pointer a;
    detail::cell_pointer b;
    const std::lock_guard lock(mutex_);
    if (const auto at = actors_.find(cell.id); at != actors_.end()) {
      a = std::move(at->second);
      actors_.erase(at);
    }
    if (const auto at = names_.find(cell.name); at != names_.end() && at->second.get() == &cell) {
      b = std::move(at->second);
      names_.erase(at);
    }
  }

  /// Which process this is; set once, before the first actor.
  void set_process(std::uint64_t number) noexcept {
    process_.store(number, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> process_{1};
  std::atomic<std::uint64_t> last_{1};
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, detail::cell_pointer> actors_;
  std::map<std::string, detail::cell_pointer, std::less<>> names_;
};

}  // namespace pulsar
