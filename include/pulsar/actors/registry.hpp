// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The actors of this process, by number and by name. Any thread.

#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/detail/number_map.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/core/error.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
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
    return ref_to(find_named(name));
  }
  /// The actor of this number.
  actor_ref<> find(std::uint64_t id) const {
    const std::lock_guard lock(mutex_);
    return ref_to(actors_.find(id));
  }
  /// All of them, in the order of their numbers.
  std::vector<actor_ref<>> all() const {
    std::vector<actor_ref<>> out;
    {
      const std::lock_guard lock(mutex_);
      std::size_t at = 0;
      while (auto* cell = actors_.next(at)) out.push_back(ref_to(cell));
    }
    std::sort(out.begin(), out.end(),
              [](const actor_ref<>& a, const actor_ref<>& b) { return a.id() < b.id(); });
    return out;
  }

  /// Enters an actor; under its name too if it was given one, and then throws `errc::name_taken`
  /// when another has it.
  void enter(const detail::cell_pointer& cell, bool named) {
    const std::lock_guard lock(mutex_);
    if (named && find_named(cell->name) != nullptr) {
      throw error(errc::name_taken, "an actor named '" + cell->name + "' is alive already");
    }
    if (!actors_.insert(cell->id, cell.get())) return;
    cell->take();
    if (!named) return;
    const auto hash = hash_of(cell->name);
    cell->next_of_hash = named_.erase(hash);
    named_.insert(hash, cell.get());
  }
  void leave(detail::actor_cell& cell) {
    detail::cell_pointer last;  // goes after the lock
    const std::lock_guard lock(mutex_);
    last = detail::cell_pointer(forget(cell.id));
  }
  /// Forgets the actors of another process, which has ended.
  void leave_process(std::uint64_t number) {
    detail::number_map<detail::actor_cell> gone;
    {
      const std::lock_guard lock(mutex_);
      std::size_t at = 0;
      while (auto* cell = actors_.next(at)) {
        if (process_of(cell->id) == number) gone.insert(cell->id, cell);
      }
      at = 0;
      while (auto* cell = gone.next(at)) forget(cell->id);
    }
    std::size_t at = 0;
    while (auto* cell = gone.next(at)) cell->drop();
  }

  /// Which process this is; set once, before the first actor.
  void set_process(std::uint64_t number) noexcept {
    process_.store(number, std::memory_order_relaxed);
  }

 private:
  static actor_ref<> ref_to(detail::actor_cell* cell) {
    return cell == nullptr ? actor_ref<>() : detail::ref_access::make(detail::share(*cell));
  }

  // Gives back the reference that was held, or null.
  detail::actor_cell* forget(std::uint64_t id) {
    auto* cell = actors_.erase(id);
    if (cell == nullptr) return nullptr;
    const auto hash = hash_of(cell->name);
    detail::actor_cell* first = named_.erase(hash);
    detail::actor_cell** at = &first;
    while (*at != nullptr && *at != cell) at = &(*at)->next_of_hash;
    if (*at != nullptr) *at = cell->next_of_hash;
    if (first != nullptr) named_.insert(hash, first);
    return cell;
  }

  static std::uint64_t hash_of(std::string_view name) noexcept {
    return std::hash<std::string_view>()(name);
  }
  detail::actor_cell* find_named(std::string_view name) const noexcept {
    auto* cell = named_.find(hash_of(name));
    while (cell != nullptr && cell->name != name) cell = cell->next_of_hash;
    return cell;
  }

  std::atomic<std::uint64_t> process_{1};
  std::atomic<std::uint64_t> last_{1};
  mutable std::mutex mutex_;
  detail::number_map<detail::actor_cell> actors_;  // each holds a reference
  detail::number_map<detail::actor_cell> named_;  // those that were given a name, by its hash
};

}  // namespace pulsar
