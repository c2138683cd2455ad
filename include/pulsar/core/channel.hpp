// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `channel<T>`: items between threads, those of loops and plain ones.
///
///     channel<job> jobs(100);
///
///     co_await jobs.send(std::move(j));     // in a coroutine, of whatever loop
///     job next = co_await jobs.receive();
///
///     jobs.send_wait(std::move(j));         // in a thread without a loop
///     job next = jobs.receive_wait();
///
/// First come, first served, whatever thread they are of. Who is cancelled or dropped takes nothing
/// along: an item on its way to a receiver who is gone goes to the next. What has been taken by a
/// combinator (`with_timeout`, `as_result`) goes with that. Within one thread `async_queue` is
/// quicker.

#include <pulsar/core/detail/blocking_wait.hpp>
#include <pulsar/core/detail/channel.hpp>
#include <pulsar/core/future.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

namespace pulsar {

/// Holds a bounded number of items. Every member may be called from any thread; those that return
/// futures belong to the thread of the loop they are given. It must outlive the calls of its
/// members, not the futures: its end closes it. Who waits here is no work of a context: `run()` of
/// a user's needs a work guard while nothing else is under way.
template <class T>
class channel {
  static_assert(
      std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T>,
      "a channel moves its items while it is locked: give it a std::unique_ptr to one that "
      "may throw there");
  using core = detail::channel_core<T>;
  using outcome = typename core::outcome;

 public:
  /// Holds up to `most` items. Throws `std::errc::invalid_argument` for zero.
  explicit channel(std::size_t most) : core_(new core(checked(most))) {}
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;
  /// Closes it; the items in it are dropped with it and the last of its futures.
  ~channel() { close(); }

  /// Done when the item is in, or with who waited for one. Fails with `errc::closed`. One that is
  /// cancelled while it waits takes its item with it.
  future<> send(T item, event_loop& loop = event_loop::current()) {
    auto* const state = new detail::send_state<T>(loop, *core_);
    auto sent = detail::future_access::make<void>(state);
    switch (core_->send(item, nullptr)) {
      case outcome::done: state->succeed(); return sent;
      case outcome::closed: state->refuse(); return sent;
      case outcome::must_wait: break;
    }
    switch (core_->send(item, state->new_ticket())) {  // there may be room by now
      case outcome::done: state->succeed(); break;
      case outcome::closed: state->refuse(); break;
      case outcome::must_wait: return sent;
    }
    state->forget_ticket();
    return sent;
  }

  /// The next item, once there is one. Fails with `errc::closed` when there will be none. An item
  /// that it has and nobody took goes back when it is dropped, to be the next.
  future<T> receive(event_loop& loop = event_loop::current()) {
    auto* const state = new detail::receive_state<T>(loop, *core_);
    auto received = detail::future_access::make<T>(state);
    std::optional<T> item;
    auto result = core_->receive(item, state->number, nullptr);
    if (result == outcome::must_wait) {
      result = core_->receive(item, state->number, state->new_ticket());
      if (result == outcome::must_wait) return received;
      state->forget_ticket();
    }
    if (result == outcome::done) {
      state->succeed(std::move(*item));
    } else {
      state->refuse();
    }
    return received;
  }

  /// False, and `item` stays as it is, if it would have to wait. Throws `errc::closed`.
  bool try_send(T&& item) {
    const auto result = core_->send(item, nullptr);
    if (result == outcome::closed) throw error(errc::closed, "channel::try_send");
    return result == outcome::done;
  }
  /// The same with a copy.
  bool try_send(const T& item)
    requires std::is_copy_constructible_v<T>
  {
    return try_send(T(item));
  }

  /// The next item, if there is one.
  std::optional<T> try_receive() {
    std::optional<T> item;
    std::uint64_t number = 0;
    static_cast<void>(core_->receive(item, number, nullptr));
    return item;
  }

  /// Blocks this thread until the item is in, or with who waited for one. Throws `errc::closed`,
  /// `errc::already_running` where a loop runs.
  void send_wait(T item) { send_blocking(item, nullptr); }
  /// The same, for `limit` at most; throws `errc::timed_out` then, and the item is dropped.
  void send_wait(T item, std::chrono::nanoseconds limit) { send_blocking(item, &limit); }

  /// Blocks this thread until there is an item, and gives it. Throws `errc::closed` when there will
  /// be none, `errc::already_running` where a loop runs.
  T receive_wait() { return receive_blocking(nullptr); }
  /// The same, for `limit` at most; throws `errc::timed_out` then.
  T receive_wait(std::chrono::nanoseconds limit) { return receive_blocking(&limit); }

  /// No `send` succeeds any more; those who wait with an item fail. `receive` goes on until it is
  /// empty.
  void close() { core_->close(); }
  bool closed() const { return core_->closed(); }

  /// The items in it, without those of `send`s that wait; another thread may change that at once.
  std::size_t size() const { return core_->size(); }

 private:
  using ticket = detail::thread_ticket<T>;
  using stage = typename ticket::stage;

  static std::size_t checked(std::size_t most) {
    if (most > 0) return most;
    throw error(std::make_error_code(std::errc::invalid_argument),
                "a channel must have room for an item");
  }

  void send_blocking(T& item, const std::chrono::nanoseconds* limit) {
    detail::check_may_block("channel::send_wait");
    const detail::counted_pointer<ticket> mine(new ticket);
    const auto result = core_->send(item, mine.get());
    if (result == outcome::closed) throw error(errc::closed, "channel::send_wait");
    if (result == outcome::must_wait) wait(*mine, true, limit);
  }

  T receive_blocking(const std::chrono::nanoseconds* limit) {
    detail::check_may_block("channel::receive_wait");
    const detail::counted_pointer<ticket> mine(new ticket);
    std::optional<T> item;
    const auto result = core_->receive(item, mine->number, mine.get());
    if (result == outcome::closed) throw error(errc::closed, "channel::receive_wait");
    if (result == outcome::done) return std::move(*item);
    wait(*mine, false, limit);
    return std::move(*mine->item);
  }

  // Until it was served; throws if it was not.
  void wait(ticket& mine, bool sends, const std::chrono::nanoseconds* limit) {
    const auto shared = core_;  // the channel may end as soon as it is closed
    {
      std::unique_lock lock(shared->mutex());
      static_cast<void>(detail::wait_blocking(lock, mine.woken, limit,
                                              [&mine] { return mine.at != stage::waiting; }));
    }
    if (shared->give_up(mine, sends)) throw error(errc::timed_out, "channel");
    if (mine.at == stage::refused) throw error(errc::closed, "channel");
  }

  detail::counted_pointer<core> core_;
};

}  // namespace pulsar
