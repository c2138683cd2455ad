// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `actor<Derived>`: what others share nothing with and talk to by `send`.
///
///     class greeter : public pulsar::actor<greeter> {
///      public:
///       std::string greet(std::string name) { return "hello " + name; }
///       using commands = pulsar::commands<&greeter::greet>;
///     };
///
/// Optional members, found by name: `on_start()`, `on_stopping()`, `on_stop()`, plain or coroutines,
/// and `static constexpr bool serial = true` for commands one at a time. An actor lives in one loop
/// and everything here belongs to its thread. Commands interleave where they `co_await`.

#include <pulsar/actors/command.hpp>
#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/info.hpp>
#include <pulsar/actors/state.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar {

namespace detail {

struct actor_access;

/// How an encoded command becomes an invocation. Throws `errc::malformed` for bad arguments.
using decode_command = invocation* (*)(actor_cell& target, std::span<const std::byte> arguments,
                                       wire_sink sink);

}  // namespace detail

/// The part of an actor that does not depend on its type.
class actor_base {
 public:
  actor_base(const actor_base&) = delete;
  actor_base& operator=(const actor_base&) = delete;
  virtual ~actor_base() = default;

  /// Unique in the program, also across its processes.
  std::uint64_t id() const noexcept { return cell_->id; }
  /// The name it was spawned with, else its type and number.
  const std::string& name() const noexcept { return cell_->name; }
  actor_state state() const noexcept { return state_; }
  event_loop& loop() const noexcept { return *cell_->loop; }

  /// Since it was spawned.
  event_loop::duration uptime() const { return loop().time() - born_; }

  /// Commands that wait or are under way.
  std::size_t pending() const noexcept { return pending_; }

  /// What `send(ref, cmd::info)` gives.
  actor_info info() const;

  /// Ends it: refuses what waits with `errc::actor_gone`, gives commands under way `grace`, then
  /// cancels them, and is gone when none is left. Done then; calling it twice is no error.
  future<> stop(event_loop::duration grace = std::chrono::seconds(5));

  /// Ends it as a failure of its own: its supervisor learns `reason`.
  void fail(std::exception_ptr reason);

  /// Runs `task` as part of the actor: cancelled when it stops; a failure ends the actor.
  void create_task(future<> task) { adopt(*this, std::move(task)).detach(); }

 protected:
  actor_base() = default;

 private:
  friend struct detail::actor_access;
  template <class Derived>
  friend class actor;

  static constexpr std::size_t pump_batch = 32;

  struct pump_node : detail::task_node {
    explicit pump_node(actor_base& a) noexcept : task_node(&run), owner(a) {}
    static void run(detail::task_node* node, bool drop) {
      if (!drop) static_cast<pump_node*>(node)->owner.pump();
    }
    actor_base& owner;
  };

  virtual future<> call_on_start() = 0;
  virtual future<> call_on_stopping() = 0;
  virtual future<> call_on_stop() = 0;
  virtual bool is_serial() const noexcept = 0;
  virtual detail::decode_command find_command(std::string_view name) const noexcept = 0;
  virtual std::vector<std::string> command_names() const = 0;

  // -- mailbox ---------------------------------------------------------------
  void deliver(detail::invocation* what) noexcept;
  void pump();
  void schedule_pump() noexcept {
    if (std::exchange(pumping_, true)) return;
    detail::loop_access::push_ready(loop(), &pump_);
  }
  void started(detail::invocation* what) noexcept;
  void ended(detail::invocation* what) noexcept;
  void finished() noexcept;

  // -- life --------------------------------------------------------------------
  static future<> begin(detail::cell_pointer self);
  static future<> end(detail::cell_pointer self, event_loop::duration grace);
  static future<> adopt(actor_base& self, future<> task);
  std::exception_ptr gone() const;

  detail::cell_pointer cell_;
  detail::context* context_ = nullptr;
  actor_state state_ = actor_state::initial;
  event_loop::time_point born_{};
  detail::task_queue mailbox_;
  std::size_t pending_ = 0;  // waiting and under way
  std::size_t bound_ = 10'000;
  std::size_t running_ = 0;
  std::uint64_t handled_ = 0;
  std::uint64_t refused_ = 0;
  bool pumping_ = false;
  bool serial_ = false;
  pump_node pump_{*this};
  detail::invocation* under_way_ = nullptr;  // commands that wait for something
  std::optional<promise<>> idle_;            // wanted by `end`
  std::optional<task_group> tasks_;
  std::exception_ptr reason_;
  std::vector<promise<>> stop_waiters_;
  std::function<void(std::exception_ptr reason)> on_end_;  // the owner's
};

/// Base of an actor; `Derived` lists its `commands`.
template <class Derived>
class actor : public actor_base {
 private:
  template <class F>
  static future<> call(F f) {
    if constexpr (detail::is_future<std::invoke_result_t<F&>>) {
      co_await f();
    } else {
      f();
      co_return;
    }
  }

  Derived& derived() noexcept { return static_cast<Derived&>(*this); }

  future<> call_on_start() override {
    if constexpr (requires { derived().on_start(); }) {
      return call([this] { return derived().on_start(); });
    } else {
      return make_ready_future();
    }
  }
  future<> call_on_stopping() override {
    if constexpr (requires { derived().on_stopping(); }) {
      return call([this] { return derived().on_stopping(); });
    } else {
      return make_ready_future();
    }
  }
  future<> call_on_stop() override {
    if constexpr (requires { derived().on_stop(); }) {
      return call([this] { return derived().on_stop(); });
    } else {
      return make_ready_future();
    }
  }
  bool is_serial() const noexcept override {
    if constexpr (requires { Derived::serial; }) {
      return Derived::serial;
    } else {
      return false;
    }
  }
  inline detail::decode_command find_command(std::string_view name) const noexcept override;
  std::vector<std::string> command_names() const override {
    return names(static_cast<typename Derived::commands*>(nullptr));
  }
  template <class... E>
  static std::vector<std::string> names(command_list<E...>*) {
    return {std::string(E::name)...};
  }
};

}  // namespace pulsar

#include <pulsar/actors/detail/actor.hpp>
