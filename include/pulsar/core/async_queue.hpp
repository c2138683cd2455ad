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

#include <pulsar/core/detail/waiters.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
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

  std::size_t size() const noexcept { return size_; }
  void push(T&& item) {
    if (size_ == room_) grow();
    std::construct_at(&at(size_), std::move(item));
    ++size_;
  }
  T pop() {
    T item = std::move(at(0));
    std::destroy_at(&at(0));
    first_ = (first_ + 1) % room_;
    if (--size_ == 0 && room_ > many) free();
    return item;
  }

 private:
  static constexpr std::size_t few = 8;
  static constexpr std::size_t many = 1024;

  T& at(std::size_t index) noexcept { return items_[(first_ + index) % room_]; }

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
};

/// The least is the first to go, among equals the one that came first.
template <class T, class Less>
class ordered_items {
 public:
  std::size_t size() const noexcept { return items_.size(); }
  void push(T&& item) {
    items_.push_back({std::move(item), next_++});
    std::push_heap(items_.begin(), items_.end(), &goes_later);
  }
  T pop() {
    std::pop_heap(items_.begin(), items_.end(), &goes_later);
    T item = std::move(items_.back().item);
    items_.pop_back();
    return item;
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

}  // namespace detail

/// Belongs to one thread. Fair on both sides: who comes later does not overtake. Those who wait
/// when it ends fail with `errc::broken_promise`.
template <class T, class Items>
class basic_async_queue {
 public:
  static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

  /// Holds up to `most` items. Throws `std::errc::invalid_argument` for zero.
  explicit basic_async_queue(std::size_t most = unbounded) : most_(most) {
    if (most == 0) {
      throw error(std::make_error_code(std::errc::invalid_argument),
                  "an async_queue must have room for an item");
    }
  }
  basic_async_queue(const basic_async_queue&) = delete;
  basic_async_queue& operator=(const basic_async_queue&) = delete;

  /// The items in it, without those of `put`s that wait.
  std::size_t size() const noexcept { return items_.size(); }
  bool empty() const noexcept { return items_.size() == 0; }
  bool full() const noexcept { return items_.size() >= most_; }

  /// Done when the item is in, or with who waited for one. Fails with `errc::closed`. One that is
  /// cancelled while it waits takes its item with it.
  future<> put(T item, event_loop& loop = event_loop::current()) {
    if (full() && !closed_) return givers_.wait(loop, std::move(item));
    promise<> done(loop);
    if (closed_) {
      done.set_exception(make_error_code(errc::closed));
    } else {
      take_in(std::move(item));
      done.set_value();
    }
    return done.get_future();
  }

  /// False, and `item` stays as it is, if it would have to wait. Throws `errc::closed`.
  bool try_put(T&& item) {
    if (closed_) throw error(errc::closed, "async_queue::try_put");
    if (full()) return false;
    take_in(std::move(item));
    return true;
  }
  /// The same with a copy.
  bool try_put(const T& item)
    requires std::is_copy_constructible_v<T>
  {
    if (full() && !closed_) return false;
    return try_put(T(item));
  }

  /// The next item, once there is one; fails with `errc::closed` when there will be none. Dropping
  /// the future after it was done drops the item.
  future<T> get(event_loop& loop = event_loop::current()) {
    if (empty() && !closed_) return takers_.wait(loop);
    promise<T> next(loop);
    if (empty()) {
      next.set_exception(make_error_code(errc::closed));
    } else {
      next.set_value(give_out());
    }
    return next.get_future();
  }

  /// The next item, if there is one.
  std::optional<T> try_get() {
    if (empty()) return std::nullopt;
    return give_out();
  }

  /// No `put` succeeds any more; those who wait with one fail. `get` goes on until it is empty.
  void close() {
    closed_ = true;
    const auto why = std::make_exception_ptr(error(errc::closed));
    givers_.fail_all(why);
    takers_.fail_all(why);  // nobody waits for an item while there is one
  }
  bool closed() const noexcept { return closed_; }

  /// Says that an item that was taken out is dealt with. Throws `std::errc::invalid_argument` if
  /// all are already.
  void task_done() {
    if (unfinished_ == 0) {
      throw error(std::make_error_code(std::errc::invalid_argument),
                  "task_done was called more often than there were items");
    }
    if (--unfinished_ > 0) return;
    while (!joining_.empty()) joining_.wake_first();
  }

  /// Done when every item that came in is dealt with: see `task_done`.
  future<> join(event_loop& loop = event_loop::current()) {
    return unfinished_ == 0 ? detail::settled<void>(loop) : joining_.wait(loop);
  }

 private:
  void take_in(T&& item) {
    if (takers_.empty()) {
      items_.push(std::move(item));
    } else {
      takers_.wake_first(std::move(item));
    }
    ++unfinished_;
  }

  T give_out() {
    T item = items_.pop();
    if (!givers_.empty()) {
      take_in(std::move(givers_.extra()));
      givers_.wake_first();
    }
    return item;
  }

  const std::size_t most_;
  Items items_{};
  std::size_t unfinished_ = 0;
  bool closed_ = false;
  detail::waiting_line<void, T> givers_{"room in a full queue"};
  detail::waiting_line<T> takers_{"an item of an empty queue"};
  detail::waiting_line<> joining_{"the items of a queue to be done"};
};

/// First in, first out.
template <class T>
using async_queue = basic_async_queue<T, detail::fifo_items<T>>;

/// The least item goes first, among equals the one that came first.
template <class T, class Less = std::less<T>>
using async_priority_queue = basic_async_queue<T, detail::ordered_items<T, Less>>;

}  // namespace pulsar
