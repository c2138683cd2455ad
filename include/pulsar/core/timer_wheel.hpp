// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Deadlines by the million: a hierarchical timing wheel of one-millisecond ticks.
///
/// Eight levels of 64 slots: deadlines lie up to 69 years ahead, and the wheel turns for 4000, which
/// no clock of nanoseconds does. Arming and cancelling link and unlink a node that the user owns;
/// nothing is allocated. A deadline never fires early: `arm_after` keeps the node aside until the
/// wheel is next told the time, and counts its delay from there.

#include <bit>
#include <cstddef>
#include <cstdint>

namespace pulsar {

namespace detail {

struct timer_links {
  timer_links* next = nullptr;
  timer_links* previous = nullptr;
};

}  // namespace detail

/// One deadline. Its owner keeps it in place while it is armed; destroying it cancels it.
class timer_node : private detail::timer_links {
 public:
  /// Called when it is due, or with `drop` when the loop closes; it is off the wheel by then.
  using function = void (*)(timer_node*, bool drop);

  explicit constexpr timer_node(function fire) noexcept : fire_(fire) {}
  timer_node(const timer_node&) = delete;
  timer_node& operator=(const timer_node&) = delete;
  ~timer_node() { cancel(); }

  bool armed() const noexcept { return next != nullptr; }

  /// Takes it off the wheel; true if it was armed.
  inline bool cancel() noexcept;

  /// True if it was armed by a delay and no `settle` came since.
  bool fresh() const noexcept { return (tick_ & fresh_mark) != 0; }

  /// The tick at which it is due, or was; means nothing while it is `fresh`.
  std::uint64_t due() const noexcept { return tick_; }

  /// How many ticks are left at `now`; all of its delay if it is `fresh`.
  std::uint64_t left(std::uint64_t now) const noexcept {
    if (fresh()) return tick_ & ~fresh_mark;
    return tick_ > now ? tick_ - now : 0;
  }

  /// Is it that function that it calls?
  bool calls(function fire) const noexcept { return fire_ == fire; }

 private:
  friend class timer_wheel;

  static constexpr std::uint64_t fresh_mark = std::uint64_t{1} << 63U;

  std::uint64_t tick_ = 0;             // when it is due; if it is fresh a delay
  std::uint64_t* occupied_ = nullptr;  // the bits of its level, if it lies in a slot
  unsigned slot_ = 0;
  function fire_;
};

/// The wheel. Not thread-safe: it belongs to one loop.
class timer_wheel {
 public:
  using tick = std::uint64_t;

  /// The farthest deadline; later ones are due then.
  static constexpr tick horizon = tick{1} << 41;
  static constexpr tick never = ~tick{0};

  explicit timer_wheel(tick now = 0) noexcept : now_(now) {
    for (auto& level : slots_) {
      for (auto& slot : level) reset(slot);
    }
    reset(fresh_);
    reset(due_);
    reset(firing_);
  }
  timer_wheel(const timer_wheel&) = delete;
  timer_wheel& operator=(const timer_wheel&) = delete;
  ~timer_wheel() { close(); }

  /// Takes every deadline off and tells its node so.
  void close() noexcept {
    for (auto& level : slots_) {
      for (auto& slot : level) drop_all(slot);
    }
    drop_all(fresh_);
    drop_all(due_);
    drop_all(firing_);
  }

  /// The tick that `advance` reached.
  tick now() const noexcept { return now_; }

  /// True when no deadline is armed.
  bool empty() const noexcept { return next() == never && !has_fresh(); }

  /// True when deadlines wait for the next `settle`.
  bool has_fresh() const noexcept { return fresh_.next != &fresh_; }

  /// Due `delay` ticks after the next `settle`.
  void arm_after(timer_node& node, tick delay) noexcept {
    node.cancel();
    node.tick_ = (delay < horizon ? delay : horizon) | timer_node::fresh_mark;
    link(fresh_, node);
  }

  /// True when deadlines wait for the next `advance`, wherever it goes.
  bool has_due() const noexcept { return due_.next != &due_; }

  /// Due when `advance` reaches `at`; at its next call if it has.
  void arm_at(timer_node& node, tick at) noexcept {
    node.cancel();
    place(node, at);
  }

  /// Puts the deadlines of `arm_after` in their slots, counted from `from`.
  void settle(tick from) noexcept {
    while (has_fresh()) {
      timer_node& node = first(fresh_);
      const tick delay = node.tick_ & ~timer_node::fresh_mark;
      node.cancel();
      place(node, from + delay);
    }
  }

  /// No deadline is due before this tick; `never` if there is none. It may be too early by the
  /// width of a slot, since far deadlines are sorted only when they come near.
  tick next() const noexcept {
    if (has_due()) return now_;
    return next_in_slots();
  }

  /// Calls `f(node)` for each that is armed, in no order; it must not arm or cancel one.
  template <class F>
  void each(F f) const {
    const auto each_in = [&f](const links& head) {
      for (const links* l = head.next; l != &head; l = l->next) {
        f(static_cast<const timer_node&>(*l));
      }
    };
    for (const auto& level : slots_) {
      for (const auto& slot : level) each_in(slot);
    }
    each_in(fresh_);
    each_in(due_);
    each_in(firing_);
  }

  /// Moves to `to` and calls the `fire` function of each deadline up to it, in order. The function
  /// may arm and cancel whatever it likes, also its own node; what it arms for the past waits for
  /// the next call.
  void advance(tick to) {
    take_due();
    for (;;) {
      while (firing_.next != &firing_) {
        timer_node& node = first(firing_);
        node.cancel();
        node.fire_(&node, false);
      }
      const tick at = next_in_slots();
      if (at > to) break;  // also `never`
      unsigned level = 0;
      while (occupied_[level] == 0) ++level;
      const unsigned slot = lowest(level);
      now_ = at;
      // What lies in a slot of level 0 is due; a farther slot is dealt out to nearer ones.
      links& head = slots_[level][slot];
      while (head.next != &head) {
        timer_node& node = first(head);
        const tick due = node.tick_;
        node.cancel();
        if (due <= at) {
          link(firing_, node);
        } else {
          place(node, due);
        }
      }
    }
    if (to > now_) now_ = to;
  }

 private:
  static constexpr unsigned bits = 6;
  static constexpr unsigned width = 1U << bits;
  static constexpr unsigned levels = 8;  // one more than the horizon needs: 2^41 may cross 2^42

  using links = detail::timer_links;

  tick next_in_slots() const noexcept {
    for (unsigned level = 0; level < levels; ++level) {
      if (occupied_[level] != 0) return start_of(level, lowest(level));
    }
    return never;
  }

  // Before any is called: a function that arms for the past again and again must not keep `advance`
  // from its end.
  void take_due() noexcept {
    if (!has_due()) return;
    links& last = *firing_.previous;
    last.next = due_.next;
    due_.next->previous = &last;
    firing_.previous = due_.previous;
    due_.previous->next = &firing_;
    reset(due_);
  }

  static void reset(links& head) noexcept { head.next = head.previous = &head; }

  static timer_node& first(links& head) noexcept { return static_cast<timer_node&>(*head.next); }

  static void drop_all(links& head) noexcept {
    while (head.next != &head) {
      timer_node& node = first(head);
      node.cancel();
      node.fire_(&node, true);
    }
  }

  static void link(links& head, timer_node& node) noexcept {
    node.next = &head;
    node.previous = head.previous;
    head.previous->next = &node;
    head.previous = &node;
  }

  unsigned lowest(unsigned level) const noexcept {
    return static_cast<unsigned>(std::countr_zero(occupied_[level]));
  }

  tick start_of(unsigned level, unsigned slot) const noexcept {
    const tick above = ~((tick{1} << (bits * (level + 1))) - 1);
    return (now_ & above) | (tick{slot} << (bits * level));
  }

  // The level of a deadline is the highest group of six bits in which it differs from now, so
  // what is nearer lies lower, and within a level in the order of its slots.
  void place(timer_node& node, tick at) noexcept {
    node.tick_ = at;
    if (at <= now_) {
      link(due_, node);
      return;
    }
    if (at - now_ > horizon) at = node.tick_ = now_ + horizon;
    const unsigned level = (63U - static_cast<unsigned>(std::countl_zero(at ^ now_))) / bits;
    const unsigned slot = static_cast<unsigned>(at >> (bits * level)) % width;
    node.slot_ = slot;
    node.occupied_ = &occupied_[level];
    occupied_[level] |= std::uint64_t{1} << slot;
    link(slots_[level][slot], node);
  }

  tick now_;
  std::uint64_t occupied_[levels] = {};
  links fresh_;
  links due_;
  links firing_;  // due, and being called
  links slots_[levels][width];
};

bool timer_node::cancel() noexcept {
  if (next == nullptr) return false;
  next->previous = previous;
  previous->next = next;
  if (occupied_ != nullptr) {
    // Only the head is left when both neighbours are the same.
    if (next == previous) *occupied_ &= ~(std::uint64_t{1} << slot_);
    occupied_ = nullptr;
  }
  next = nullptr;
  return true;
}

}  // namespace pulsar
