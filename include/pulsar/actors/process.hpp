// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `concurrency::process`: an actor in a process of its own, started from this program's image.
///
///     auto bank = co_await pulsar::spawn<ledger, pulsar::concurrency::process>();
///
/// Works under `pulsar::run` only. What stands before `run` in `main` runs in each worker process
/// too. A crash costs that actor alone: whoever waits for it gets `errc::actor_gone` with the exit
/// code or the signal.

#include <pulsar/actors/arbiter.hpp>
#include <pulsar/actors/concurrency.hpp>
#include <pulsar/actors/ref_codec.hpp>
#include <pulsar/actors/send.hpp>

#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar::concurrency {

struct process {
  static constexpr std::string_view name = "process";
  static constexpr bool remote = true;

  template <class A, class... Args>
  static future<actor_ref<A>> spawn(spawn_options options, std::tuple<Args...> args) {
    static_assert((encodable<Args> && ...) && (decodable<Args> && ...),
                  "spawn: an argument cannot travel to another process: use "
                  "concurrency::coroutine or concurrency::thread for this actor");
    this_process().require_serving("spawn an actor");
    {
      auto& access = detail::peers_access::instance();
      const std::lock_guard lock(access.mutex);
      if (access.loop == nullptr) {
        throw error(errc::no_arbiter,
                    "spawning a process needs pulsar::run: call it in main, or spawn with "
                    "concurrency::thread");
      }
    }
    detail::birth_request request;
    request.factory = image::key_of<&detail::factory<A, Args...>>();
    request.name = options.name;
    request.named = !options.name.empty();
    request.mailbox_bound = options.mailbox_bound;
    const buffer encoded = encode(args);
    request.arguments.assign(encoded.begin(), encoded.end());
    return detail::ref_when_born<A>(
        event_loop::current(),
        detail::ask_patiently<&arbiter::spawn_process>(arbiter_ref(), std::move(request)));
  }
};

}  // namespace pulsar::concurrency
