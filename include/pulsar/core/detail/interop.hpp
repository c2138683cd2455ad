// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// A future that a completion handler of Asio waits for.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/run_threadsafe.hpp>
#include <pulsar/core/detail/outside_work.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/operation.hpp>

#include <asio/associated_allocator.hpp>
#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/co_spawn.hpp>
#include <asio/dispatch.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/system_executor.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace pulsar::detail {

/// What a handler for a `future<T>` is called with.
template <class T>
struct completion_of {
  using signature = void(std::exception_ptr, T);
};
template <>
struct completion_of<void> {
  using signature = void(std::exception_ptr);
};

/// True if there is such a handler.
template <class T>
consteval bool check_completion() {
  constexpr bool has_default =
      std::is_void_v<T> || (std::is_object_v<T> && std::is_default_constructible_v<T>);
  static_assert(
      has_default,
      "Asio calls a handler with a value in the case of a failure too, so the type needs a "
      "default: make it a future of std::optional or std::unique_ptr, by then()");
  return has_default;
}

/// A handler with what it is to be called with, and with what is associated with it.
template <class T, class Handler, class Executor = asio::io_context::executor_type>
struct bound_handler {
  using executor_type = asio::associated_executor_t<Handler, Executor>;
  using allocator_type = asio::associated_allocator_t<Handler>;

  executor_type get_executor() const noexcept {
    return asio::get_associated_executor(handler, usual);
  }
  allocator_type get_allocator() const noexcept { return asio::get_associated_allocator(handler); }

  void operator()() {
    asio::get_associated_cancellation_slot(handler).clear();
    if constexpr (std::is_void_v<T>) {
      std::move(handler)(std::move(failure));
    } else {
      std::move(handler)(std::move(failure), std::move(value));
    }
  }

  Handler handler;
  Executor usual;
  std::exception_ptr failure{};
  std::conditional_t<std::is_void_v<T>, char, T> value{};
};

template <class T, class Handler, class Executor>
void post_refusal(Handler&& handler, const Executor& usual, error why) {
  bound_handler<T, std::decay_t<Handler>, Executor> bound{std::move(handler), usual};
  bound.failure = std::make_exception_ptr(std::move(why));
  const auto executor = bound.get_executor();
  asio::post(executor, std::move(bound));
}

/// Nothing could be started, and an initiation must not throw: the coroutine of Asio that called it
/// is suspended already. Without an executor the handler is called by the loop of this thread, or
/// by Asio's system executor.
template <class T, class Handler>
void refuse(Handler&& handler, error why) {
  event_loop* const here = event_loop::find_current();
  if (here != nullptr && !here->is_closed()) {
    post_refusal<T>(std::move(handler), here->get_executor(), std::move(why));
  } else {
    post_refusal<T>(std::move(handler), asio::system_executor(), std::move(why));
  }
}

/// Hands a handler over to its executor; at its end the latest.
template <class T, class Handler>
class handler_wait final : public cancelled_from_outside {
 public:
  handler_wait(event_loop& loop, Handler&& h)
      : home_(loop_access::inbox(loop)),
        executor_(loop.get_executor()),
        handler_(std::move(h)),
        work_(asio::get_associated_executor(handler_, executor_)) {}

  /// To be called in the thread of the handler, before anything is started.
  static void heed_cancellation(const counted_pointer<handler_wait>& self) {
    auto slot = asio::get_associated_cancellation_slot(self->handler_);
    if (!slot.is_connected()) return;
    slot.assign([self](asio::cancellation_type type) {
      if (type != asio::cancellation_type::none) self->request_cancel(*self->home_);
    });
  }

  /// Nothing is started after all.
  void refuse(error why) {
    asio::get_associated_cancellation_slot(handler_).clear();
    detail::refuse<T>(std::move(handler_), std::move(why));
  }

  /// In the loop's thread, as all that follows.
  void wait_for(future<T>&& f) {
    future_ = std::move(f);
    under_way = &future_access::slot(future_);
    if (unwanted) future_.cancel();
    take();
    add_callback(**under_way, &ended_);
  }

  void fail(std::exception_ptr why) noexcept {
    bound_handler<T, Handler> bound{std::move(handler_), executor_};
    bound.failure = std::move(why);
    complete(std::move(bound));
  }

 private:
  struct end_node : detail::task_node {
    explicit end_node(handler_wait& w) noexcept : detail::task_node(&run), of(w) {}
    static void run(detail::task_node* node, bool dropped) {
      const counted_pointer<handler_wait> self(&static_cast<end_node*>(node)->of);
      self->under_way = nullptr;
      if (dropped) {
        self->future_ = {};  // in this thread, not in that of the handler
        self->fail(std::make_exception_ptr(error(errc::loop_closed, "async_wait")));
      } else {
        self->succeed();
      }
    }
    handler_wait& of;
  };

  // The future goes first: its failure is the handler's alone then.
  void succeed() {
    bound_handler<T, Handler> bound{std::move(handler_), executor_};
    try {
      future<T> done = std::move(future_);
      if constexpr (std::is_void_v<T>) {
        done.result();
      } else {
        bound.value = done.result();
      }
    } catch (...) {
      bound.failure = std::current_exception();
    }
    complete(std::move(bound));
  }

  void complete(bound_handler<T, Handler>&& bound) {
    const auto work = std::move(work_);
    asio::dispatch(work.get_executor(), std::move(bound));
  }

  const counted_pointer<loop_inbox> home_;
  const asio::io_context::executor_type executor_;
  Handler handler_;
  asio::executor_work_guard<asio::associated_executor_t<Handler, asio::io_context::executor_type>>
      work_;
  future<T> future_;
  end_node ended_{*this};
};

/// Has the loop call `work` and `waiting` wait for what that returns. Any thread.
template <class T, class Wait, class F>
void begin_for_handler(event_loop& loop, counted_pointer<Wait> waiting, F&& work) {
  struct order : task_node {
    order(event_loop& l, counted_pointer<Wait> w, F&& f)
        : task_node(&run), on(l), waiting(std::move(w)), work(std::move(f)) {}
    static void run(task_node* node, bool dropped) {
      const std::unique_ptr<order> self(static_cast<order*>(node));
      try {
        if (dropped) throw error(errc::loop_closed, "async_run");
        future<T> f = self->on.create_task(std::move(self->work));
        if (!f.valid()) throw error(errc::already_called, "async_run gave an empty future");
        self->waiting->wait_for(std::move(f));
      } catch (...) {
        self->waiting->fail(std::current_exception());
      }
    }
    event_loop& on;
    counted_pointer<Wait> waiting;
    F work;
  };
  auto made = std::make_unique<order>(loop, std::move(waiting), std::move(work));
  if (!loop_access::inbox(loop)->push(made.get())) {
    return made->waiting->refuse(error(errc::loop_closed, "async_run"));
  }
  static_cast<void>(made.release());
}

// -- a coroutine that runs in another thread ----------------------------------

/// Shared with that thread.
template <class T>
struct run_elsewhere : counted, task_node {
  explicit run_elsewhere(event_loop& loop) : task_node(&arrive), home(loop_access::inbox(loop)) {}

  /// What is called there when the coroutine has ended, or destroyed with its context.
  struct ending {
    explicit ending(counted_pointer<run_elsewhere> c) noexcept : call(std::move(c)) {}
    ending(ending&& other) noexcept : call(std::exchange(other.call, nullptr)) {}
    ~ending() {
      if (!call) return;
      call->ended(std::make_exception_ptr(
          error(errc::broken_promise, "the context of a coroutine of Asio has ended before it")));
    }
    template <class... Results>
    void operator()(std::exception_ptr why, Results&&... results) {
      const auto told = std::exchange(call, nullptr);
      try {
        if constexpr (sizeof...(Results) > 0) {
          told->value.emplace(std::forward<Results>(results)...);
        }
      } catch (...) {
        why = std::current_exception();
      }
      told->ended(std::move(why));
    }
    counted_pointer<run_elsewhere> call;
  };

  /// In that thread.
  void ended(std::exception_ptr why) noexcept {
    failure = std::move(why);
    over.store(true, std::memory_order_release);
    take();
    if (!home->push(this)) drop();
  }

  static void arrive(task_node* node, bool dropped) {
    auto* const self = static_cast<run_elsewhere*>(node);
    self->tell = nullptr;  // what it is to run on may go once the future is done
    if (!dropped && self->waiting != nullptr) self->waiting->settle();
    self->drop();
  }

  struct place final : shared_state<T> {
    place(event_loop& l, run_elsewhere& c) : shared_state<T>(l), call(share(c)) {
      outside_work::of(l).begin();
      c.waiting = this;
    }
    ~place() override { call->waiting = nullptr; }

    const char* name() const noexcept override { return "a coroutine of Asio"; }

    void settle() noexcept {
      if (this->done()) return;
      end_wait();
      if (call->failure != nullptr) {
        this->fail(std::move(call->failure));
      } else if constexpr (std::is_void_v<T>) {
        this->succeed();
      } else {
        this->succeed(std::move(*call->value));
      }
    }
    void on_cancelled() noexcept override {
      end_wait();
      if (!call->over.load(std::memory_order_acquire)) call->tell();
    }

    void end_wait() noexcept {
      if (this->loop == nullptr) return;
      if (auto* const waits = outside_work::find(*this->loop)) waits->end();
    }

    const counted_pointer<run_elsewhere> call;
  };

  const counted_pointer<loop_inbox> home;
  place* waiting = nullptr;            // in the loop's thread
  std::function<void()> tell{};        // the other thread to cancel
  asio::cancellation_signal signal{};  // in the other thread
  std::exception_ptr failure{};
  std::optional<std::conditional_t<std::is_void_v<T>, char, T>> value{};
  std::atomic<bool> over{false};  // that thread need not be told any more
};

template <class T, class Executor, class Where>
future<T> await_elsewhere(event_loop& loop,
                          const Where& executor,
                          asio::awaitable<T, Executor> coroutine) {
  using call = run_elsewhere<T>;
  const counted_pointer<call> shared(new call(loop));
  shared->tell = [executor, weak = shared.get()] {
    asio::post(executor,
               [self = share(*weak)] { self->signal.emit(asio::cancellation_type::all); });
  };
  auto* const waiting = new typename call::place(loop, *shared);
  waiting->handed_out = true;
  auto answer = future_access::make<T>(waiting);
  // Bound to it, or the end would be told in another thread.
  asio::co_spawn(
      executor, std::move(coroutine),
      asio::bind_executor(executor, asio::bind_cancellation_slot(shared->signal.slot(),
                                                                typename call::ending(shared))));
  return answer;
}

}  // namespace pulsar::detail
