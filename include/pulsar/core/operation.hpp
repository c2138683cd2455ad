// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Any Asio operation in a `future<T>` coroutine.
///
///     auto n = co_await socket.async_read_some(asio::buffer(data), pulsar::use_future);
///     auto [ec, m] = co_await socket.async_read_some(asio::buffer(data), pulsar::use_result);
///
/// The first form throws `std::system_error`; the second gives the handler's arguments as a tuple.
/// The operation starts when it is awaited, or when it is converted to a `future<T>`. Cancelling
/// the coroutine emits `asio::cancellation_type::all`; `async_read` and its like heed `terminal`,
/// and leave a stream in the middle of a message. What does not heed cancellation is waited for.
/// As with Asio itself, an operation must not be cancelled after its I/O object is gone: declare
/// the socket before the future that uses it.
///
/// The I/O object belongs to the loop's own context, or to one that outlives the operation; an
/// operation whose handler is destroyed without being called fails with `errc::broken_promise`. The
/// handler is to be called in the loop's thread, by the loop's executor, which is the one
/// associated with it: no `bind_executor` to another thread. Nor `bind_cancellation_slot`, which
/// replaces the slot by which pulsar cancels.

#include <pulsar/core/future.hpp>

#include <asio/async_result.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/error.hpp>

#include <atomic>
#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

/// What makes a completion token the default of an I/O object:
///
///     auto socket = pulsar::use_future.as_default_on(tcp::socket(loop.context()));
///     auto n = co_await socket.async_read_some(asio::buffer(data));
template <class Token>
struct default_token {
  template <class Executor>
  struct executor_with_default : Executor {
    using default_completion_token_type = Token;

    template <class E>
      requires(!std::is_same_v<E, executor_with_default>) && std::is_convertible_v<E, Executor>
    executor_with_default(const E& executor) noexcept : Executor(executor) {}
  };

  template <class T>
  using as_default_on_t =
      typename T::template rebind_executor<executor_with_default<typename T::executor_type>>::other;

  template <class T>
  static as_default_on_t<std::decay_t<T>> as_default_on(T&& object) {
    return as_default_on_t<std::decay_t<T>>(std::forward<T>(object));
  }
};

}  // namespace detail

/// Completion token: awaiting gives the result, or throws; `errc::cancelled` when the operation
/// failed, however, after the coroutine was cancelled.
struct use_future_t : detail::default_token<use_future_t> {};
inline constexpr use_future_t use_future{};

/// Completion token: awaiting gives `std::tuple<std::error_code, ...>`, and throws nothing but
/// `errc::cancelled` when the coroutine was cancelled before it began, and `errc::broken_promise`.
/// Cancelled later, it gives the operation's failure, of most `asio::error::operation_aborted`, and
/// the coroutine has been told.
struct use_result_t : detail::default_token<use_result_t> {};
inline constexpr use_result_t use_result{};

namespace detail {

inline void throw_failure(const std::error_code& ec) {
  if (ec) throw std::system_error(ec);
}
inline void throw_failure(const std::exception_ptr& failure) {
  if (failure) std::rethrow_exception(failure);
}

template <class T>
concept failure_argument = std::is_same_v<T, std::error_code> || std::is_same_v<T, std::exception_ptr>;

/// What awaiting gives for a handler that is called with `Args`: all of them as a tuple, or, when
/// failures are thrown, nothing, the one, or the tuple of those after the failure.
template <class Token, class... Args>
auto outcome_of(std::tuple<Args...>&& all) {
  if constexpr (std::is_same_v<Token, use_result_t>) {
    return std::move(all);
  } else if constexpr (sizeof...(Args) == 0) {
    return;
  } else {
    using first = std::tuple_element_t<0, std::tuple<Args...>>;
    if constexpr (failure_argument<first>) {
      throw_failure(std::get<0>(all));
      return std::apply(
          [](auto&, auto&... rest) {
            if constexpr (sizeof...(rest) == 0) {
              return;
            } else if constexpr (sizeof...(rest) == 1) {
              return (std::move(rest), ...);
            } else {
              return std::tuple(std::move(rest)...);
            }
          },
          all);
    } else if constexpr (sizeof...(Args) == 1) {
      return std::get<0>(std::move(all));
    } else {
      return std::move(all);
    }
  }
}

/// Of an operation that has begun and was given up, or was not to begin any more.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_without_results(frame& waiter,
                                                                         bool begun) {
  if (begun) {
    loop_access::io_ended(*waiter.loop);
    if (!std::exchange(waiter.cancel_requested, false)) {
      throw error(errc::broken_promise, "a handler of Asio was destroyed without being called");
    }
  }
  throw error(errc::cancelled);
}

/// One operation under way; lives in the frame of the coroutine that awaits it.
template <class Token, class... Args>
class operation_awaiter : cancellable {
 public:
  operation_awaiter() noexcept : cancellable(&request_cancel, kind::operation) {}
  // The loop has closed, and another context has not let go of its handler.
  ~operation_awaiter() {
    if (handler* const left = handler_.load(std::memory_order_relaxed)) left->owner_ = nullptr;
  }

  // What Asio calls, or destroys.
  class handler {
   public:
    using executor_type = asio::io_context::executor_type;
    using cancellation_slot_type = asio::cancellation_slot;

    explicit handler(operation_awaiter* o) noexcept : owner_(o) { stay(); }
    handler(handler&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {
      if (owner_ != nullptr) stay();
    }
    ~handler() {
      if (owner_ != nullptr) [[unlikely]] owner_->give_up();
    }

    template <class... Results>
    void operator()(Results&&... results) {
      if (owner_ == nullptr) return;
      owner_->check_thread();
      owner_->results_.emplace(std::forward<Results>(results)...);
      std::exchange(owner_, nullptr)->complete();
    }

    executor_type get_executor() const noexcept { return owner_->waiter_->loop->get_executor(); }
    cancellation_slot_type get_cancellation_slot() const noexcept { return owner_->signal_.slot(); }

   private:
    friend class operation_awaiter;

    void stay() noexcept { owner_->handler_.store(this, std::memory_order_relaxed); }

    operation_awaiter* owner_;
  };

 protected:
  template <class Start>
  bool begin(frame& waiter, std::coroutine_handle<> handle, Start&& start) {
    waiter_ = &waiter;
    if (waiter.cancel_requested) {
      waiter.cancel_requested = false;
      return false;
    }
    waiter.waiting_on = this;
    suspended_.handle = handle;
    loop_access::io_started(*waiter.loop);
    beginning_.store(&this_thread_loops, std::memory_order_relaxed);
    try {
      start(handler(this));
    } catch (...) {
      if (!results_) loop_access::io_ended(*waiter.loop);
      waiter.waiting_on = nullptr;
      throw;
    }
    beginning_.store(nullptr, std::memory_order_relaxed);
    return !results_ && !given_up_;  // else it was over at once
  }

  auto finish() {
    waiter_->resumed();
    if (!results_) [[unlikely]] throw_without_results(*waiter_, suspended_.handle != nullptr);
    if constexpr (sizeof...(Args) > 0) {
      using first = std::tuple_element_t<0, std::tuple<Args...>>;
      if constexpr (failure_argument<first>) {
        if (told_ && waiter_->cancel_requested && std::get<0>(*results_)) {
          waiter_->cancel_requested = false;
          if constexpr (std::is_same_v<Token, use_future_t>) throw error(errc::cancelled);
        }
      }
    }
    return outcome_of<Token>(std::move(*results_));
  }

 private:
  void check_thread() const noexcept {
    loop_access::check_thread(*waiter_->loop, "completing an operation");
  }

  void complete() {
    handler_.store(nullptr, std::memory_order_relaxed);
    event_loop& loop = *waiter_->loop;
    loop_access::io_ended(loop);
    if (beginning_.load(std::memory_order_relaxed) != nullptr) return;
    if (telling_) return loop_access::push_ready(loop, &suspended_);
    loop_access::resume_from_io(loop, suspended_);
  }

  // In whatever thread lets go of the handler.
  void give_up() noexcept {
    handler_.store(nullptr, std::memory_order_relaxed);
    if (beginning_.load(std::memory_order_relaxed) == &this_thread_loops) {
      given_up_ = true;
    } else if (event_loop* const loop = waiter_->loop) {
      loop_access::inbox(*loop)->push(&suspended_);  // unless it closes, which frees the frame
    }
  }

  static cancellable* request_cancel(cancellable* self) noexcept {
    // Once, and not when it is over: by then the I/O object may be gone.
    auto* const operation = static_cast<operation_awaiter*>(self);
    if (operation->handler_.load(std::memory_order_relaxed) != nullptr &&
        !std::exchange(operation->told_, true)) {
      operation->telling_ = true;
      operation->signal_.emit(asio::cancellation_type::all);
      operation->telling_ = false;
    }
    return nullptr;
  }

  frame* waiter_ = nullptr;
  continuation suspended_;
  asio::cancellation_signal signal_;
  // Null once it was called or destroyed. Another context may move it in another thread.
  std::atomic<handler*> handler_{nullptr};
  std::atomic<const thread_loops*> beginning_{nullptr};  // in that thread
  bool given_up_ = false;                                // while it began
  bool told_ = false;                                    // to cancel
  bool telling_ = false;
  std::optional<std::tuple<std::decay_t<Args>...>> results_;
};

}  // namespace detail

/// An Asio operation that starts when it is awaited.
template <class Token, class Initiation, class Signature, class... InitArgs>
class operation;

template <class Token, class Initiation, class... Args, class... InitArgs>
class [[nodiscard("an operation starts when it is awaited")]]
operation<Token, Initiation, void(Args...), InitArgs...> {
 public:
  using value_type =
      decltype(detail::outcome_of<Token>(std::declval<std::tuple<std::decay_t<Args>...>>()));

  template <class I, class... A>
  explicit operation(I&& initiation, A&&... args)
      : initiation_(std::forward<I>(initiation)), args_(std::forward<A>(args)...) {}
  operation(operation&&) = default;

  class awaiter : detail::operation_awaiter<Token, std::decay_t<Args>...> {
    using base = detail::operation_awaiter<Token, std::decay_t<Args>...>;

   public:
    explicit awaiter(operation& o) noexcept : operation_(o) {}

    bool await_ready() const noexcept { return false; }
    template <class P>
      requires std::is_base_of_v<detail::frame, P>
    bool await_suspend(std::coroutine_handle<P> h) {
      return base::begin(h.promise(), h, [this](auto completion) {
        std::apply(
            [&](auto&... args) {
              std::move(operation_.initiation_)(std::move(completion), std::move(args)...);
            },
            operation_.args_);
      });
    }
    auto await_resume() { return base::finish(); }

   private:
    operation& operation_;
  };

  awaiter operator co_await() && noexcept { return awaiter(*this); }

  /// Starts it.
  operator future<value_type>() && { return run(std::move(*this)); }

 private:
  static future<value_type> run(operation o) { co_return co_await std::move(o); }

  Initiation initiation_;
  std::tuple<InitArgs...> args_;
};

namespace detail {

/// What Asio's async_result is for our tokens.
template <class Token, class... Args>
struct operation_result {
  template <class Initiation, class... InitArgs>
  static auto initiate(Initiation&& initiation, Token, InitArgs&&... args) {
    return operation<Token, std::decay_t<Initiation>, void(Args...), std::decay_t<InitArgs>...>(
        std::forward<Initiation>(initiation), std::forward<InitArgs>(args)...);
  }
};

template <class... Signatures>
struct one_signature {
  static_assert(sizeof...(Signatures) == 1,
                "use_future and use_result are for operations whose handler is called in one way: "
                "this one has several completion signatures");
};

}  // namespace detail

}  // namespace pulsar

namespace asio {

template <class... Args>
class async_result<pulsar::use_future_t, void(Args...)>
    : public pulsar::detail::operation_result<pulsar::use_future_t, Args...> {};
template <class... Args>
class async_result<pulsar::use_result_t, void(Args...)>
    : public pulsar::detail::operation_result<pulsar::use_result_t, Args...> {};

template <class First, class Second, class... Rest>
class async_result<pulsar::use_future_t, First, Second, Rest...>
    : pulsar::detail::one_signature<First, Second, Rest...> {};
template <class First, class Second, class... Rest>
class async_result<pulsar::use_result_t, First, Second, Rest...>
    : pulsar::detail::one_signature<First, Second, Rest...> {};

}  // namespace asio
