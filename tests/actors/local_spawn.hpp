// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `spawn_local<A, Policy>(options, args...)`: spawns without the process layer, so that the tests of
/// the headers below it do not depend on it.

#include <pulsar/actors/concurrency.hpp>

#include <tuple>
#include <utility>

template <class A, class Policy = pulsar::concurrency::coroutine, class... Args>
[[nodiscard]] pulsar::future<pulsar::actor_ref<A>> spawn_local(pulsar::spawn_options options,
                                                               Args... args) {
  return Policy::template spawn<A>(options, std::tuple<Args...>(std::move(args)...));
}
template <class A, class Policy = pulsar::concurrency::coroutine>
[[nodiscard]] pulsar::future<pulsar::actor_ref<A>> spawn_local() {
  return spawn_local<A, Policy>(pulsar::spawn_options{});
}
