// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `generator<T>`: a coroutine that gives one item after the other, and may wait in between
/// (PEP 525's asynchronous generator).
///
///     pulsar::generator<std::string> lines_of(tcp::socket socket) {
///       std::string data;
///       while (co_await more(socket, data)) {
///         while (has_line(data)) co_yield take_line(data);
///       }
///     }
///
///     auto lines = lines_of(std::move(socket));
///     while (const std::string* line = co_await lines.next()) use(*line);
///
/// The body runs only while somebody waits for an item: there is no queue that could fill, and an
/// item costs no allocation. What is `co_yield`ed lives until the next `next()`; a temporary or
/// `std::move(x)` is handed out where it is, a variable is copied. `generator<const T>` hands out
/// variables too where they are, and `generator<T&>` gives references.
///
/// g++ 12 frees twice what is forbidden inside a `co_await`, here too: name an aggregate first, and
/// `co_yield std::move(x)`.

#include <pulsar/core/detail/generator.hpp>
#include <pulsar/core/future.hpp>

#include <type_traits>
#include <utility>

namespace pulsar {

/// What `next` gives: await it, or hand it to a combinator, `with_timeout(lines.next(), 5s)`.
template <class T>
class [[nodiscard("co_await it: a generator runs only while somebody waits")]] next_item {
 public:
  using value_type = std::remove_reference_t<T>*;

  auto operator co_await()&& noexcept { return detail::next_awaiter<T>(slot_); }

  /// Asks for it now. The generator must outlive that or stay valid where it was moved from.
  operator future<value_type>()&& { return run(*this); }

 private:
  friend class generator<T>;
  explicit next_item(detail::state * *slot) noexcept : slot_(slot) {}

  static future<value_type> run(next_item item) { co_return co_await std::move(item); }

  detail::state** slot_;
};

/// The items of a coroutine. Move-only, of the thread of its loop, which is found as that of a
/// `future<T>` coroutine. The body begins at the first `next()`, in the context in which the
/// generator was called.
///
/// Dropping it while nobody waits frees the body where it stands, with what it holds. Dropping it
/// under a `next()` cancels what the body waits for, and that `next()` fails with
/// `errc::cancelled`.
template <class T>
class [[nodiscard(
    "a generator that is dropped gives nothing: ask it for items by next()")]] generator {
  static_assert(!std::is_rvalue_reference_v<T> && !std::is_void_v<T>,
                "a generator gives values or lvalue references");

 public:
  using promise_type = detail::generator_promise<T>;

  generator() noexcept = default;
  generator(generator && other) noexcept { take_over(other); }
  generator& operator=(generator&& other) noexcept {
    if (this != &other) {
      reset();
      take_over(other);
    }
    return *this;
  }
  ~generator() { reset(); }

  /// True unless it was moved from.
  bool valid() const noexcept { return state_ != nullptr; }

  /// True when there are no more items, or the body has failed.
  bool done() const noexcept {
    PULSAR_ASSERT(valid(), "this generator was moved from");
    return state_->done();
  }

  /// A pointer to the next item, valid until the next call, or null when there are no more. Throws
  /// once what the body threw; from then on there are no more. One coroutine at a time may wait:
  /// `errc::already_called`. Cancelling it cancels what the body waits for, which so ends the
  /// generator, unless the body catches that. Throws `errc::wrong_loop`, `errc::loop_closed`.
  next_item<T> next()& noexcept { return next_item<T>(&state_); }
  next_item<T> next()&& = delete;  // the item would go with the generator

 private:
  friend promise_type;
  explicit generator(detail::state * s) noexcept : state_(s) {}

  void take_over(generator & other) noexcept {
    state_ = std::exchange(other.state_, nullptr);
    // Who waits for an item finds it here from now on.
    if (state_ != nullptr && state_->awaiter != nullptr) state_->awaiter->slot = &state_;
  }
  void reset() noexcept {
    if (state_ != nullptr) detail::let_go_of_generator(*std::exchange(state_, nullptr));
  }

  detail::state* state_ = nullptr;
};

}  // namespace pulsar
