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

#include <pulsar/core/future.hpp>

#include <asio/async_result.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/error.hpp>

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar {

/// Completion token: awaiting gives the result, or throws.
struct use_future_t {};
inline constexpr use_future_t use_future{};

/// Completion token: awaiting gives `std::tuple<std::error_code, ...>`, and never throws but
/// `errc::cancelled` when the coroutine was cancelled before it began. Cancelled later, it gives
/// `asio::error::operation_aborted`, and the coroutine has been told.
struct use_result_t {};
inline constexpr use_result_t use_result{};

namespace detail {

inline bool is_aborted(const std::error_code& ec) noexcept {
  return ec == asio::error::operation_aborted;
}
inline bool is_aborted(const std::exception_ptr& failure) noexcept {
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::system_error& e) {
    return is_aborted(e.code());
  } catch (...) {
  }
  return false;
}

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

/// One operation under way; lives in the frame of the coroutine that awaits it.
template <class Token, class... Args>
class operation_awaiter : cancellable {
 public:
  operation_awaiter() noexcept : cancellable(&request_cancel, kind::operation) {}

  // What Asio calls. Destroyed without a call only when its context shuts down, and then the
  // loop frees the frame.
  class handler {
   public:
    using executor_type = asio::io_context::executor_type;
    using cancellation_slot_type = asio::cancellation_slot;

    explicit handler(operation_awaiter* o) noexcept : owner_(o) {}

    template <class... Results>
    void operator()(Results&&... results) {
      owner_->complete(std::forward<Results>(results)...);
    }

    executor_type get_executor() const noexcept { return owner_->waiter_->loop->get_executor(); }
    cancellation_slot_type get_cancellation_slot() const noexcept { return owner_->signal_.slot(); }

   private:
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
    loop_access::io_started(*waiter.loop);
    try {
      start(handler(this));
    } catch (...) {
      if (!results_) loop_access::io_ended(*waiter.loop);
      waiter.waiting_on = nullptr;
      throw;
    }
    if (results_) return false;  // it was done at once
    suspended_.handle = handle;
    return true;
  }

  auto finish() {
    waiter_->resumed();
    if (!results_) throw error(errc::cancelled);
    if constexpr (sizeof...(Args) > 0) {
      using first = std::tuple_element_t<0, std::tuple<Args...>>;
      if constexpr (failure_argument<first>) {
        if (waiter_->cancel_requested && is_aborted(std::get<0>(*results_))) {
          waiter_->cancel_requested = false;
          if constexpr (std::is_same_v<Token, use_future_t>) throw error(errc::cancelled);
        }
      }
    }
    return outcome_of<Token>(std::move(*results_));
  }

 private:
  template <class... Results>
  void complete(Results&&... results) {
    results_.emplace(std::forward<Results>(results)...);
    loop_access::io_ended(*waiter_->loop);
    if (suspended_.handle) loop_access::resume_from_io(*waiter_->loop, suspended_);
  }

  static cancellable* request_cancel(cancellable* self) noexcept {
    // Once: by the second time the I/O object may be gone and the completion on its way.
    auto* operation = static_cast<operation_awaiter*>(self);
    if (!std::exchange(operation->cancelled_, true)) {
      operation->signal_.emit(asio::cancellation_type::all);
    }
    return nullptr;
  }

  frame* waiter_ = nullptr;
  continuation suspended_;
  asio::cancellation_signal signal_;
  bool cancelled_ = false;
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

}  // namespace pulsar

namespace asio {

template <class... Args>
class async_result<pulsar::use_future_t, void(Args...)> {
 public:
  template <class Initiation, class... InitArgs>
  static auto initiate(Initiation&& initiation, pulsar::use_future_t, InitArgs&&... args) {
    return pulsar::operation<pulsar::use_future_t, std::decay_t<Initiation>, void(Args...),
                             std::decay_t<InitArgs>...>(std::forward<Initiation>(initiation),
                                                        std::forward<InitArgs>(args)...);
  }
};

template <class... Args>
class async_result<pulsar::use_result_t, void(Args...)> {
 public:
  template <class Initiation, class... InitArgs>
  static auto initiate(Initiation&& initiation, pulsar::use_result_t, InitArgs&&... args) {
    return pulsar::operation<pulsar::use_result_t, std::decay_t<Initiation>, void(Args...),
                             std::decay_t<InitArgs>...>(std::forward<Initiation>(initiation),
                                                        std::forward<InitArgs>(args)...);
  }
};

}  // namespace asio
