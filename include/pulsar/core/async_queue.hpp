// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `async_queue` and `async_priority_queue`: items between coroutines of one thread
/// (asyncio.Queue).
///
///     async_queue<job> jobs(100);
///     co_await jobs.put(std::move(j));        // waits while 100 are in it
///     job next = co_await jobs.get();         // waits while there is none
///
/// A consumer that ends with the queue:
///
///     for (;;) {
///       auto next = co_await as_result(jobs.get());   // errc::closed: no more
///       if (!next) break;
///       ...
///       jobs.task_done();
///     }
///
/// Between threads use actors.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/waiters.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <list>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace pulsar {

namespace detail {

/// The first that came is the first to go. A ring, which allocates only to hold more than before;
/// when it is empty it gives back what it needed for many.
template <class T>
class fifo_items {
 public:
  fifo_items() noexcept = default;
  fifo_items(const fifo_items&) = delete;
  fifo_items& operator=(const fifo_items&) = delete;
  ~fifo_items() {
    for (; size_ > 0; --size_) std::destroy_at(&at(size_ - 1));
    free();
  }

  std::size_t size() const noexcept { return size_ + returned_.size(); }
  void push(T&& item) {
    if (size_ == room_) grow();
    std::construct_at(&at(size_), std::move(item));
    ++size_;
  }
  /// With its number, which grows in the order in which they go.
  T pop(std::uint64_t& number) {
    if (!returned_.empty()) [[unlikely]] return pop_returned(number);
    T item = std::move(at(0));
    std::destroy_at(&at(0));
    first_ = (first_ + 1) % room_;
    if (--size_ == 0 && room_ > many) free();
    number = gone_++;
    return item;
  }
  /// The number of an item that goes without having been in here, when nothing is.
  std::uint64_t pass() noexcept { return gone_++; }
  /// One that has gone is the next again, but for those that went before it.
  void give_back(T&& item, std::uint64_t number) {
    auto place = returned_.begin();
    while (place != returned_.end() && place->number < number) ++place;
    returned_.insert(place, numbered{std::move(item), number});
  }

 private:
  struct numbered {
    T item;
    std::uint64_t number;
  };

  static constexpr std::size_t few = 8;
  static constexpr std::size_t many = 1024;

  T& at(std::size_t index) noexcept { return items_[(first_ + index) % room_]; }

  T pop_returned(std::uint64_t& number) {
    T item = std::move(returned_.front().item);
    number = returned_.front().number;
    returned_.pop_front();
    return item;
  }

  void grow() {
    fifo_items larger;
    larger.room_ = room_ == 0 ? few : 2 * room_;
    larger.items_ = std::allocator<T>().allocate(larger.room_);
    for (; larger.size_ < size_; ++larger.size_) {
      std::construct_at(&larger.at(larger.size_), std::move_if_noexcept(at(larger.size_)));
    }
    std::swap(items_, larger.items_);
    std::swap(room_, larger.room_);
    std::swap(first_, larger.first_);
  }

  void free() noexcept {
    if (items_ != nullptr) std::allocator<T>().deallocate(items_, room_);
    items_ = nullptr;
    room_ = first_ = 0;
  }

  T* items_ = nullptr;
  std::size_t room_ = 0;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
  std::uint64_t gone_ = 0;
  std::list<numbered> returned_;  // few, if any
};

/// The least is the first to go, among equals the one that came first.
template <class T, class Less>
class ordered_items {
 public:
  std::size_t size() const noexcept { return items_.size(); }
  void push(T&& item) { give_back(std::move(item), next_++); }
  T pop(std::uint64_t& number) {
    std::pop_heap(items_.begin(), items_.end(), &goes_later);
    T item = std::move(items_.back().item);
    number = items_.back().number;
    items_.pop_back();
    return item;
  }
  std::uint64_t pass() noexcept { return next_++; }
  void give_back(T&& item, std::uint64_t number) {
    items_.push_back({std::move(item), number});
    std::push_heap(items_.begin(), items_.end(), &goes_later);
  }

 private:
  struct numbered {
    T item;
    std::uint64_t number;
  };
  static bool goes_later(const numbered& a, const numbered& b) {
    if (Less{}(b.item, a.item)) return true;
    if (Less{}(a.item, b.item)) return false;
    return a.number > b.number;
  }

  std::vector<numbered> items_;
  std::uint64_t next_ = 0;
};

/// What a future of `get` refers to. An item that nobody took out of it goes back.
template <class T, class Core>
struct queue_taker : shared_state<T> {
  using shared_state<T>::shared_state;
  ~queue_taker() override {
    if (this->progress == status::value) {
      core->give_back(static_cast<T&&>(*static_cast<T*>(this->value)), number);
    }
  }

  void succeed(Core& of, std::uint64_t n, T&& item) {
    core = share(of);
    number = n;
    shared_state<T>::succeed(std::move(item));
  }

  counted_pointer<Core> core;
  std::uint64_t number = 0;  // of the item
};

/// A queue without its interface: those who have an item of it keep it.
template <class T, class Items>
struct queue_core : counted {
  using taker = queue_taker<T, queue_core>;

  explicit queue_core(std::size_t m) noexcept : most(m) {}

  void take_in(T&& item) {
    if (takers.empty()) {
      items.push(std::move(item));
    } else {
      takers.wake_first(*this, items.pass(), std::move(item));
    }
    ++unfinished;
  }

  T give_out(std::uint64_t& number) {
    T item = items.pop(number);
    if (!givers.empty() && items.size() < most) {
      take_in(std::move(givers.extra()));
      givers.wake_first();
    }
    return item;
  }

  void give_back(T&& item, std::uint64_t number) noexcept {
    if (ended) return;
    try {
      if (takers.empty()) {
        items.give_back(std::move(item), number);
      } else {
        takers.wake_first(*this, number, std::move(item));
      }
    } catch (...) {  // there is no memory, or the item cannot be moved: it is lost
    }
  }

  void fail_all(const std::exception_ptr& why) noexcept {
    givers.fail_all(why);
    takers.fail_all(why);  // nobody waits for an item while there is one
  }

  /// The queue is gone.
  void end() noexcept {
    const auto why = std::make_exception_ptr(error(errc::broken_promise));
    ended = true;
    fail_all(why);
    joining.fail_all(why);
  }

  const std::size_t most;
  Items items{};
  std::size_t unfinished = 0;
  bool closed = false;
  bool ended = false;
  waiting_line<void, T> givers{"room in a full queue"};
  waiting_line<T, nothing, taker> takers{"an item of an empty queue"};
  waiting_line<> joining{"the items of a queue to be done"};
};

}  // namespace detail

/// Belongs to one thread. Fair on both sides: who comes later does not overtake. Those who wait
/// when it ends fail with `errc::broken_promise`.
template <class T, class Items>
class basic_async_queue {
  using core = detail::queue_core<T, Items>;

 public:
  static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

  /// Holds up to `most` items. Throws `std::errc::invalid_argument` for zero.
  explicit basic_async_queue(std::size_t most = unbounded) : core_(new core(checked(most))) {}
  basic_async_queue(const basic_async_queue&) = delete;
  basic_async_queue& operator=(const basic_async_queue&) = delete;
  ~basic_async_queue() { core_->end(); }

  /// The items in it, without those of `put`s that wait.
  std::size_t size() const noexcept { return core_->items.size(); }
  bool empty() const noexcept { return size() == 0; }
  bool full() const noexcept { return size() >= core_->most; }

  /// Done when the item is in, or with who waited for one. Fails with `errc::closed`. One that is
  /// cancelled while it waits takes its item with it.
  future<> put(T item, event_loop& loop = event_loop::current()) {
    if (full() && !closed()) return core_->givers.wait(loop, std::move(item));
    promise<> done(loop);
    if (closed()) {
      done.set_exception(make_error_code(errc::closed));
    } else {
      core_->take_in(std::move(item));
      done.set_value();
    }
    return done.get_future();
  }

  /// False, and `item` stays as it is, if it would have to wait. Throws `errc::closed`.
  bool try_put(T&& item) {
    if (closed()) throw error(errc::closed, "async_queue::try_put");
    if (full()) return false;
    core_->take_in(std::move(item));
    return true;
  }
  /// The same with a copy.
  bool try_put(const T& item)
    requires std::is_copy_constructible_v<T>
  {
    if (full() && !closed()) return false;
    return try_put(T(item));
  }

  /// The next item, once there is one; fails with `errc::closed` when there will be none. An item
  /// that it has and nobody took goes back when it is dropped, to be the next; what a combinator has
  /// taken (`with_timeout`, `as_result`) goes with that.
  future<T> get(event_loop& loop = event_loop::current()) {
    if (empty() && !closed()) return core_->takers.wait(loop);
    auto* const state = new typename core::taker(loop);
    state->handed_out = true;
    auto next = detail::future_access::make<T>(state);
    if (empty()) {
      state->fail(std::make_exception_ptr(error(errc::closed)));
    } else {
      std::uint64_t number = 0;
      T item = core_->give_out(number);
      state->succeed(*core_, number, std::move(item));
    }
    return next;
  }

  /// The next item, if there is one.
  std::optional<T> try_get() {
    if (empty()) return std::nullopt;
    std::uint64_t number = 0;
    return core_->give_out(number);
  }

  /// No `put` succeeds any more; those who wait with one fail. `get` goes on until it is empty.
  void close() {
    core_->closed = true;
    core_->fail_all(std::make_exception_ptr(error(errc::closed)));
  }
  bool closed() const noexcept { return core_->closed; }

  /// Says that an item that was taken out is dealt with. Throws `std::errc::invalid_argument` if
  /// all are already.
  void task_done() {
    if (core_->unfinished == 0) {
      throw error(std::make_error_code(std::errc::invalid_argument),
                  "task_done was called more often than there were items");
    }
    if (--core_->unfinished > 0) return;
    while (!core_->joining.empty()) core_->joining.wake_first();
  }

  /// Done when every item that came in is dealt with: see `task_done`.
  future<> join(event_loop& loop = event_loop::current()) {
    return core_->unfinished == 0 ? detail::settled<void>(loop) : core_->joining.wait(loop);
  }

 private:
  static std::size_t checked(std::size_t most) {
    if (most > 0) return most;
    throw error(std::make_error_code(std::errc::invalid_argument),
                "an async_queue must have room for an item");
  }

  const detail::counted_pointer<core> core_;
};

/// First in, first out.
template <class T>
using async_queue = basic_async_queue<T, detail::fifo_items<T>>;

/// The least item goes first, among equals the one that came first.
template <class T, class Less = std::less<T>>
using async_priority_queue = basic_async_queue<T, detail::ordered_items<T, Less>>;

}  // namespace pulsar
