// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What a process of the program does for its arbiter: number 0 of its actors.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/detail/local_actors.hpp>
#include <pulsar/actors/image.hpp>
#include <pulsar/actors/ref_codec.hpp>
#include <pulsar/actors/worker_environment.hpp>
#include <pulsar/core/descriptor.hpp>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <utility>

namespace pulsar::detail {

/// An actor to be born in another process.
struct birth_request {
  image::function_key factory;
  std::string name;
  bool named = false;
  std::uint64_t mailbox_bound = 10'000;
  bytes arguments;
};

template <>
inline constexpr bool codec::own_record<image::function_key> = true;
template <>
inline constexpr bool codec::own_record<birth_request> = true;

using factory_function = future<actor_ref<>>(event_loop& loop, birth how,
                                             std::span<const std::byte> arguments);

/// Makes an `A` from encoded arguments; its place in the image is what travels.
template <class A, class... Args>
future<actor_ref<>> factory(event_loop& loop, birth how, std::span<const std::byte> arguments) {
  return give_birth(loop, maker_of<A>(std::move(how), decode<std::tuple<Args...>>(arguments)));
}

constexpr std::uint64_t node_id(std::uint64_t process) noexcept { return process << 32; }

/// Registers an actor with a number of the caller's choice; the loop starts it in its first turn.
inline cell_pointer place_actor(event_loop& loop, std::uint64_t id, std::string name,
                                actor_base* made) {
  const cell_pointer cell(new local_cell(id, std::move(name), &loop));
  cell->actor = made;
  actor_access::place(*cell->actor, cell);
  registry::instance().enter(cell, true);
  loop.call_soon([cell] {
    if (cell->actor != nullptr) actor_access::begin(cell).detach();
  });
  return cell;
}

/// What an application runs in each of its workers.
class worker_body {
 public:
  virtual ~worker_body() = default;
  /// Begins to serve on the descriptors that the master handed out; done when it is ready.
  virtual future<> start(std::vector<unique_fd> descriptors, bytes settings) = 0;
  /// Takes nothing new and finishes what is under way, within `grace`.
  virtual future<> stop(event_loop::duration grace) = 0;
};

/// Makes the body of an application's worker.
class body_maker {
 public:
  virtual worker_body* new_body() = 0;

 protected:
  ~body_maker() = default;
};

class node;
template <>
inline constexpr bool only_encoded<node> = true;

class node final : public actor<node> {
 public:
  /// `owner` is told when an actor that was born here for the arbiter has ended.
  explicit node(actor_owner& owner) noexcept : owner_(owner) {}
  ~node() override { delete body_; }

  future<actor_ref<>> give_birth(birth_request request) {
    const auto make = image::resolve<factory_function>(request.factory);
    birth how{request.name, request.named, request.mailbox_bound};
    actor_ref<> born = co_await make(loop(), std::move(how), request.arguments);
    auto* const alive = ref_access::cell(born)->actor;
    if (alive != nullptr) actor_access::set_owner(*alive, owner_);
    co_return born;
  }

  /// Starts the body of an application's worker.
  future<> start_worker(bytes settings) {
    if (body_ == nullptr) throw error(errc::spawn_failed, "this process is no worker of an application");
    return body_->start(this_process().take_inherited(), std::move(settings));
  }

  /// Becomes the owner of `body`.
  void set_body(worker_body* body) noexcept { body_ = body; }
  worker_body* body() noexcept { return body_; }

  using commands = pulsar::commands<&node::give_birth, &node::start_worker>;

 private:
  actor_owner& owner_;
  worker_body* body_ = nullptr;
};

}  // namespace pulsar::detail
