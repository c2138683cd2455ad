// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Where a spawned actor lives: the policies `concurrency::coroutine` and `concurrency::thread`;
/// `concurrency::process` stands in process.hpp.
///
///     auto here = co_await pulsar::spawn<ledger, pulsar::concurrency::coroutine>();
///
/// A policy is a type with a `name`, `remote` (must arguments travel?) and `spawn<A>`; programs may
/// add their own.

#include <pulsar/actors/detail/local_actors.hpp>

#include <concepts>
#include <exception>
#include <string_view>
#include <tuple>
#include <utility>

namespace pulsar {

/// What `spawn<A, Policy>` asks of a policy.
template <class P>
concept concurrency_policy = requires {
  { P::name } -> std::convertible_to<std::string_view>;
  { P::remote } -> std::convertible_to<bool>;
};

namespace concurrency {

/// In the loop of the caller: millions of actors.
struct coroutine {
  static constexpr std::string_view name = "coroutine";
  static constexpr bool remote = false;

  template <class A, class... Args>
  static future<actor_ref<A>> spawn(spawn_options options, std::tuple<Args...> args) {
    return start<A, Args...>(event_loop::current(), detail::birth_of(options), std::move(args));
  }

 private:
  template <class A, class... Args>
  static future<actor_ref<A>> start(event_loop& loop, detail::birth how,
                                    std::tuple<Args...> args) {
    detail::cell_pointer cell =
        co_await detail::give_birth<A, Args...>(loop, std::move(how), std::move(args));
    co_return detail::ref_access::make<A>(std::move(cell));
  }
};

/// In a thread with a loop of its own. Values are moved between threads, never shared.
struct thread {
  static constexpr std::string_view name = "thread";
  static constexpr bool remote = false;

  template <class A, class... Args>
  static future<actor_ref<A>> spawn(spawn_options options, std::tuple<Args...> args) {
    return start<A, Args...>(event_loop::current(), detail::birth_of(options), std::move(args));
  }

 private:
  // An actor that has started; it is stopped again unless whoever spawned it still waits.
  class unclaimed {
   public:
    explicit unclaimed(detail::cell_pointer cell) noexcept : cell_(std::move(cell)) {}
    unclaimed(unclaimed&&) noexcept = default;
    ~unclaimed() {
      if (!cell_) return;
      detail::post_to(*cell_->inbox, [c = cell_] {
        if (c->actor != nullptr) c->actor->stop().detach();
      });
    }
    detail::cell_pointer claim() noexcept { return std::exchange(cell_, {}); }

   private:
    detail::cell_pointer cell_;
  };

  template <class A, class... Args>
  static future<actor_ref<A>> start(event_loop& loop, detail::birth how,
                                    std::tuple<Args...> args) {
    promise<detail::cell_pointer> born(loop);
    auto result = born.get_future();
    // Found again through the loop, for the thread may outlive the wait.
    auto waiting = std::make_shared<promise<detail::cell_pointer>*>(&born);
    struct forget {
      std::shared_ptr<promise<detail::cell_pointer>*> waiting;
      ~forget() { *waiting = nullptr; }
    } const guard{waiting};
    detail::give_birth_in_thread<A, Args...>(
        std::move(how), std::move(args),
        [waiting, inbox = detail::loop_access::inbox(loop)](detail::cell_pointer cell,
                                                            std::exception_ptr why) {
          detail::remote_failure failure;
          if (why != nullptr) failure = detail::take_apart(why);
          detail::post_to(*inbox, [waiting, c = unclaimed(std::move(cell)),
                                   f = std::move(failure)]() mutable {
            if (*waiting == nullptr) return;
            if (detail::cell_pointer claimed = c.claim()) {
              (*waiting)->set_value(std::move(claimed));
            } else {
              (*waiting)->set_exception(detail::put_together(f));
            }
          });
        });
    detail::cell_pointer cell = co_await std::move(result);
    co_return detail::ref_access::make<A>(std::move(cell));
  }
};

}  // namespace concurrency
}  // namespace pulsar
