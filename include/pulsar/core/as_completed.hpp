// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Several futures, each when it is done (asyncio.as_completed).
///
///     auto pages = as_completed(std::move(fetches));      // a vector of future<page>
///     while (auto next = co_await pages.next()) {
///       if (next->outcome()) show(next->index(), next->value());
///     }
///
/// A failure is an outcome like any other: it is thrown by `value()`, and cancels nothing. What you
/// do not look at of what `next` gave is lost, and reported nowhere.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/when_all.hpp>

#include <cstddef>
#include <deque>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace pulsar {

/// What became of one of several futures.
template <class T>
class [[nodiscard("a failure is in it, and nowhere else: call value() or outcome()")]] completion {
 public:
  completion(std::size_t index, result<T> outcome) : index_(index), outcome_(std::move(outcome)) {}

  /// Which one it was, counted from zero.
  std::size_t index() const noexcept { return index_; }
  /// Its value; throws its failure.
  decltype(auto) value() { return outcome_.value(); }
  /// The same as a value or a failure.
  result<T>& outcome() noexcept { return outcome_; }
  const result<T>& outcome() const noexcept { return outcome_; }

 private:
  std::size_t index_;
  result<T> outcome_;
};

/// Gives futures in the order in which they end; see `as_completed`. Dropping it cancels those that
/// have not.
template <class T>
class [[nodiscard("the futures in it are cancelled when it is dropped")]] completions {
 public:
  using item = std::optional<completion<T>>;

  explicit completions(std::vector<future<T>> fs) : core_(new core(std::move(fs))) {
    try {
      for (std::size_t i = 0; i < core_->futures.size(); ++i) {
        core_->futures[i].add_done_callback([c = core_, i] { c->on_end(i); });
      }
    } catch (...) {  // a loop is closed; the callbacks keep the others
      core_->give_up();
      throw;
    }
  }
  completions(completions &&) noexcept = default;
  completions& operator=(completions&& other) noexcept {
    if (this == &other) return *this;
    const completions before(std::move(*this));
    core_ = std::move(other.core_);
    return *this;
  }
  ~completions() {
    if (core_) core_->give_up();
  }

  /// The next one that is done, or nothing when all have been given. Several may wait, in line.
  /// Cancelling it cancels none of the futures and loses nothing; dropping it when it was done
  /// drops what it has. Those who wait when the object goes fail with `errc::broken_promise`.
  future<item> next(event_loop& loop = event_loop::current()) {
    core& c = *core_;
    if (!c.ended.empty()) {
      const std::size_t index = c.ended.front();
      c.ended.pop_front();
      return detail::settled<item>(loop, c.completed(index));
    }
    if (c.left == 0) return detail::settled<item>(loop);
    auto waiting = c.waiting.wait(loop);
    static_cast<next_state*>(detail::future_access::slot(waiting))->source = &c;
    return waiting;
  }

  /// How many `next` has not given yet.
  std::size_t size() const noexcept { return core_->left + core_->ended.size(); }

  /// Cancels those that have not ended; they are given all the same.
  void cancel() noexcept {
    for (auto& f : core_->futures) f.cancel();
  }

 private:
  struct core;

  struct next_state : detail::shared_state<item> {
    using detail::shared_state<item>::shared_state;
    void each_awaited(void (*f)(void*, detail::state&), void* with) const noexcept override {
      for (auto& each : source->futures) {
        if (auto* const slot = detail::future_access::slot(each)) f(with, *slot);
      }
    }
    core* source = nullptr;  // which is there as long as this is pending
  };

  // Shared with the callbacks of futures that have not ended.
  struct core : detail::counted {
    explicit core(std::vector<future<T>> fs) : futures(std::move(fs)), left(futures.size()) {
      for (const auto& f : futures) {
        if (!f.valid()) throw error(errc::already_called, "as_completed of an empty future");
      }
    }

    completion<T> completed(std::size_t index) {
      return completion<T>(index, detail::take_outcome(futures[index]));
    }

    void on_end(std::size_t index) {
      if (futures.empty()) return;
      --left;
      if (waiting.empty()) {
        ended.push_back(index);
      } else {
        waiting.wake_first(completed(index));
      }
      while (left == 0 && !waiting.empty()) waiting.wake_first();
    }

    void give_up() noexcept {
      for (auto& f : futures) f.cancel();
      waiting.fail_all(std::make_exception_ptr(error(errc::broken_promise)));
      futures.clear();
    }

    std::vector<future<T>> futures;
    std::size_t left;  // have not ended
    std::deque<std::size_t> ended;
    detail::waiting_line<item, detail::nothing, next_state> waiting{"the next of several futures"};
  };

  detail::counted_pointer<core> core_;
};

/// Gives the futures of a vector, which may be empty, in the order in which they end; those that
/// have ended already in their own. Throws `errc::already_called` for an empty one,
/// `errc::loop_closed`.
template <class T>
completions<T> as_completed(std::vector<future<T>> fs) {
  return completions<T>(std::move(fs));
}

/// The same for some futures or operations with one type of result.
template <detail::future_like First, detail::future_like... Rest>
completions<detail::value_in<First>> as_completed(First&& first, Rest&&... rest) {
  using value = detail::value_in<First>;
  constexpr bool of_one_type = (std::is_same_v<detail::value_in<Rest>, value> && ...);
  static_assert(of_one_type,
                "as_completed gives results of one type: convert them by then(), or use when_any");
  std::vector<future<value>> all;
  if constexpr (of_one_type) {
    all.reserve(1 + sizeof...(rest));
    all.push_back(detail::to_future(std::forward<First>(first)));
    (all.push_back(detail::to_future(std::forward<Rest>(rest))), ...);
  }
  return completions<value>(std::move(all));
}

}  // namespace pulsar
