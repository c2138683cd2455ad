// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What a channel shares with those who wait at it, in whatever thread.
//
// A `ticket` stands in one of two lines, under the lock of the channel. Whoever can serve it takes
// it out, moves the item, and wakes its owner: a thread by its condition variable, a coroutine
// through the inbox of its loop, which is woken once for all that comes in a batch. An item that
// was given to a receiver who does not want it any more, or whose loop is gone, goes back to the
// front of the channel.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/future.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

namespace pulsar::detail {

/// One who waits; counted by who waits, by the line, and on its way through an inbox.
template <class T>
struct channel_ticket : counted, task_node {
  explicit channel_ticket(task_node::function f) noexcept : task_node(f) {}

  enum class stage { free, waiting, served, refused };  // refused: the channel was closed

  /// Under the lock, of one who was served or refused. False, and nothing has happened, if its loop
  /// is closed.
  virtual bool wake() noexcept = 0;

  // Under the lock.
  stage at = stage::free;
  channel_ticket* previous = nullptr;
  channel_ticket* next = nullptr;
  std::optional<T> item{};  // to be sent, or received
  std::uint64_t number = 0;  // of an item that was received
};

/// First come, first served. Under the lock.
template <class T>
class ticket_line {
 public:
  using ticket = channel_ticket<T>;

  bool empty() const noexcept { return first_ == nullptr; }

  void join(ticket& t) noexcept {
    t.take();
    t.at = ticket::stage::waiting;
    t.previous = last_;
    t.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &t;
    last_ = &t;
  }

  void leave(ticket& t) noexcept {
    (t.previous != nullptr ? t.previous->next : first_) = t.next;
    (t.next != nullptr ? t.next->previous : last_) = t.previous;
    t.at = ticket::stage::free;
  }

  counted_pointer<ticket> pop() noexcept {
    counted_pointer<ticket> t(first_);
    if (t) leave(*t);
    return t;
  }

 private:
  ticket* first_ = nullptr;
  ticket* last_ = nullptr;
};

/// Any thread.
template <class T>
class channel_core : public counted {
 public:
  using ticket = channel_ticket<T>;
  using stage = typename ticket::stage;

  explicit channel_core(std::size_t most) : most_(most) {}

  enum class outcome { done, closed, must_wait };

  /// Takes `item` over if it is `done`; `wait` joins the line if it must wait.
  outcome send(T& item, ticket* wait) {
    const std::lock_guard lock(mutex_);
    if (closed_) return outcome::closed;
    if (hand_over(item, next_)) {
      ++next_;
      return outcome::done;
    }
    if (items_.size() < most_) {
      items_.push_back({std::move(item), next_++});
      return outcome::done;
    }
    if (wait != nullptr) {
      wait->item.emplace(std::move(item));
      senders_.join(*wait);
    }
    return outcome::must_wait;
  }

  /// With its `number`.
  outcome receive(std::optional<T>& item, std::uint64_t& number, ticket* wait) {
    const std::lock_guard lock(mutex_);
    if (!items_.empty()) {
      item.emplace(std::move(items_.front().item));
      number = items_.front().number;
      items_.pop_front();
      fill();
      return outcome::done;
    }
    if (closed_) return outcome::closed;
    if (wait != nullptr) receivers_.join(*wait);
    return outcome::must_wait;
  }

  /// Out of the line; false if it was served or refused before.
  bool give_up(ticket& t, bool sends) noexcept {
    {
      const std::lock_guard lock(mutex_);
      if (t.at != stage::waiting) return false;
      (sends ? senders_ : receivers_).leave(t);
    }
    t.drop();
    return true;
  }

  /// Of a receiver who was served and does not want it: it goes in front of those that came later.
  void give_back(T&& item, std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    if (hand_over(item, number)) return;
    auto place = items_.begin();
    while (place != items_.end() && place->number < number) ++place;
    items_.insert(place, {std::move(item), number});
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (auto* line : {&senders_, &receivers_}) {
      while (const auto t = line->pop()) {
        t->at = stage::refused;
        static_cast<void>(t->wake());
      }
    }
  }

  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }

  std::mutex& mutex() noexcept { return mutex_; }

 private:
  struct numbered {
    T item;
    std::uint64_t number;  // grows in the order in which they came
  };

  // To the first who waits for one and can be reached.
  bool hand_over(T& item, std::uint64_t number) {
    while (const auto t = receivers_.pop()) {
      t->item.emplace(std::move(item));
      t->number = number;
      t->at = stage::served;
      if (t->wake()) return true;
      item = std::move(*t->item);
      t->item.reset();
      t->at = stage::refused;
    }
    return false;
  }

  // There is room: for those who wait with an item.
  void fill() {
    while (items_.size() < most_) {
      const auto t = senders_.pop();
      if (!t) return;
      t->at = stage::served;
      // One whose loop is gone sends nothing.
      if (t->wake()) {
        items_.push_back({std::move(*t->item), next_++});
        t->item.reset();
      }
    }
  }

  mutable std::mutex mutex_;
  const std::size_t most_;
  std::deque<numbered> items_;
  std::uint64_t next_ = 0;
  bool closed_ = false;
  ticket_line<T> senders_;
  ticket_line<T> receivers_;
};

/// A coroutine's place: its thread is that of the loop.
template <class T, class State>
struct loop_ticket final : channel_ticket<T> {
  using base = channel_ticket<T>;

  explicit loop_ticket(State& s) : base(&arrive), owner(&s), home(loop_access::inbox(*s.loop)) {}

  bool wake() noexcept override {
    this->take();
    if (home->push(this)) return true;
    this->drop();
    return false;
  }

  static void arrive(task_node* node, bool drop) {
    auto* const self = static_cast<loop_ticket*>(node);
    if (State* const state = std::exchange(self->owner, nullptr)) {
      if (drop) {
        state->loop_has_ended();
      } else {
        state->settle();
      }
      state->waiting = nullptr;
      state->drop();
    }
    self->drop();
  }

  State* owner;  // counted; null when it does not wait any more
  const counted_pointer<loop_inbox> home;
};

/// What a future of `send` or `receive` refers to. `Derived` says what settles it.
template <class T, class Value, class Derived>
struct channel_state : shared_state<Value> {
  using ticket = loop_ticket<T, Derived>;
  using stage = typename channel_ticket<T>::stage;

  channel_state(event_loop& l, channel_core<T>& c) : shared_state<Value>(l), core(share(c)) {
    this->handed_out = true;
  }

  /// To be called before the ticket joins a line.
  ticket* new_ticket() {
    waiting = counted_pointer<ticket>(new ticket(static_cast<Derived&>(*this)));
    ++this->count;
    return waiting.get();
  }
  void forget_ticket() noexcept {
    waiting = nullptr;
    --this->count;
  }

  void on_cancelled() noexcept override {
    if (!waiting) return;
    auto* const self = static_cast<Derived*>(this);
    // Who was served already has what it waited for.
    if (!core->give_up(*waiting, Derived::sends) && waiting->at == stage::served) self->settle();
    waiting->owner = nullptr;
    waiting = nullptr;
    this->drop();
  }

  const char* name() const noexcept override {
    return Derived::sends ? "room in a full channel" : "an item of an empty channel";
  }

  void refuse() noexcept { this->fail(std::make_exception_ptr(error(errc::closed, "channel"))); }

  const counted_pointer<channel_core<T>> core;
  counted_pointer<ticket> waiting;
};

template <class T>
struct send_state final : channel_state<T, void, send_state<T>> {
  using base = channel_state<T, void, send_state<T>>;
  using base::base;
  static constexpr bool sends = true;

  void settle() noexcept {
    if (this->waiting->at == base::stage::served) {
      this->succeed();
    } else {
      this->refuse();
    }
  }
  void loop_has_ended() noexcept {}
};

template <class T>
struct receive_state final : channel_state<T, T, receive_state<T>> {
  using base = channel_state<T, T, receive_state<T>>;
  using base::base;
  static constexpr bool sends = false;

  // An item that nobody took is not lost.
  ~receive_state() override {
    if (this->progress == status::value) {
      this->core->give_back(static_cast<T&&>(*static_cast<T*>(this->value)), number);
    }
  }

  void settle() noexcept {
    if (this->waiting->at == base::stage::served) {
      number = this->waiting->number;
      this->succeed(std::move(*this->waiting->item));
      this->waiting->item.reset();
    } else {
      this->refuse();
    }
  }
  void loop_has_ended() noexcept {
    if (this->waiting->at == base::stage::served) {
      this->core->give_back(std::move(*this->waiting->item), this->waiting->number);
    }
  }

  std::uint64_t number = 0;  // of the item
};

/// A thread's place.
template <class T>
struct thread_ticket final : channel_ticket<T> {
  thread_ticket() noexcept : channel_ticket<T>(nullptr) {}

  bool wake() noexcept override {
    woken.notify_one();
    return true;
  }

  std::condition_variable woken;
};

}  // namespace pulsar::detail
