// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The yardstick of nested awaits: the same coroutines as `asio::awaitable`.
///
///     suite.compare({"asio::awaitable", [] { return bench::asio_nested_awaitables(16); }}, ...);
///
/// Asio 1.22 does not see the coroutines of Clang with libstdc++ by itself: a program that shall
/// compile there defines ASIO_HAS_CO_AWAIT and ASIO_HAS_STD_COROUTINE before its first include.

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include "asio_yardsticks.hpp"
#include "harness.hpp"

#include <cstdint>
#include <memory>

namespace bench {

namespace detail {

inline asio::awaitable<int> nested_awaitable(int depth) {
  if (depth == 0) {
    co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    co_return 0;
  }
  co_return 1 + co_await nested_awaitable(depth - 1);
}

inline asio::awaitable<void> awaitable_chains(asio::io_context& context,
                                              std::uint64_t chains,
                                              int depth) {
  int sum = 0;
  for (; chains != 0; --chains) sum += co_await nested_awaitable(depth);
  do_not_optimize(sum);
  context.stop();
}

inline asio::awaitable<int> immediate_awaitable() { co_return 1; }

inline asio::awaitable<void> immediate_awaitables(asio::io_context& context, std::uint64_t left) {
  int sum = 0;
  for (; left != 0; --left) sum += co_await immediate_awaitable();
  do_not_optimize(sum);
  context.stop();
}

}  // namespace detail

/// Awaits, one after another, coroutines that have nothing to wait for.
inline kernel asio_immediate_awaitables() {
  auto loop = std::make_shared<detail::asio_loop>();
  return [loop](std::uint64_t awaits) {
    return timed([&] {
      asio::co_spawn(loop->context, detail::immediate_awaitables(loop->context, awaits),
                     asio::detached);
      loop->run();
    });
  };
}

/// Coroutines that await each other `depth` deep, the innermost suspended for real, again and
/// again; an operation is one level.
inline kernel asio_nested_awaitables(int depth) {
  auto loop = std::make_shared<detail::asio_loop>();
  return [loop, depth](std::uint64_t levels) {
    const auto deep = static_cast<std::uint64_t>(depth);
    return timed([&] {
      asio::co_spawn(loop->context,
                     detail::awaitable_chains(loop->context, (levels + deep - 1) / deep, depth),
                     asio::detached);
      loop->run();
    });
  };
}

}  // namespace bench
