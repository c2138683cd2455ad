// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// What one `co_await` of a coroutine costs. Beside it the same coroutines as `asio::awaitable`.
///
/// `nested_await` awaits coroutines that return at once. An `asio::awaitable` starts when it is
/// awaited, so that its caller is suspended meanwhile; a future has started when it was made, and
/// is done when it is awaited.
///
/// In `nested_await:suspended` coroutines await each other, and all of them are suspended until
/// the innermost, which waits for the loop, resumes. The innermost's hop is part of it.

// Asio 1.22 looks for the coroutines of Clang where only libc++ used to have them.
#if defined(__clang__)
#define ASIO_HAS_CO_AWAIT 1
#define ASIO_HAS_STD_COROUTINE 1
#endif

#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>

#include "support/asio_awaitables.hpp"
#include "support/harness.hpp"

#include <cstdint>
#include <memory>
#include <utility>

namespace {

// As deep as programs nest: a handler, what it calls, a stream, an operation.
constexpr int depth = 16;

pulsar::future<int> nested(pulsar::event_loop& loop, int levels) {
  if (levels == 0) {
    auto next_turn = loop.create_future();
    auto turned = next_turn.get_future();
    loop.call_soon([settle = std::move(next_turn)]() mutable { settle.set_value(); });
    co_await std::move(turned);
    co_return 0;
  }
  co_return 1 + co_await nested(loop, levels - 1);
}

pulsar::future<int> chains(pulsar::event_loop& loop, std::uint64_t left) {
  int sum = 0;
  for (; left != 0; --left) sum += co_await nested(loop, depth);
  co_return sum;
}

pulsar::future<int> immediate(pulsar::event_loop&, int value) { co_return value; }

pulsar::future<int> immediates(pulsar::event_loop& loop, std::uint64_t left) {
  int sum = 0;
  for (; left != 0; --left) sum += co_await immediate(loop, 1);
  co_return sum;
}

bench::kernel immediate_futures() {
  auto loop = std::make_shared<pulsar::event_loop>();
  return [loop](std::uint64_t awaits) {
    return bench::timed([&] {
      const int sum = loop->run_until_complete(immediates(*loop, awaits));
      bench::do_not_optimize(sum);
    });
  };
}

bench::kernel nested_futures() {
  auto loop = std::make_shared<pulsar::event_loop>();
  return [loop](std::uint64_t levels) {
    return bench::timed([&] {
      const int sum = loop->run_until_complete(chains(*loop, (levels + depth - 1) / depth));
      bench::do_not_optimize(sum);
    });
  };
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    const bench::pinned here(0);
    suite.compare({"asio::awaitable", &bench::asio_immediate_awaitables, {}},
                  {{"nested_await", &immediate_futures, bench::value_at_most(6, 5)}});
    suite.compare({"asio::awaitable", [] { return bench::asio_nested_awaitables(depth); }, {}},
                  {{"nested_await:suspended", &nested_futures, bench::ratio_at_most(0.6, 0.5)}});
  });
}
