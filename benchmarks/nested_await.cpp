// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// What one `co_await` of a coroutine costs: coroutines that await each other, all of them
/// suspended until the innermost, which waits for the loop, resumes. Beside it `asio::awaitable`.
///
/// `nested_await:immediate` awaits coroutines that return at once: there a future is done when it
/// is awaited, so that nothing is suspended.

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

// Deep enough that the hop of the innermost hardly counts, within what hands over directly.
constexpr int depth = 60;

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
    suite.compare({"asio::awaitable", [] { return bench::asio_nested_awaitables(depth); }, {}},
                  {{"nested_await", &nested_futures, bench::value_at_most(6, 5)}});
    suite.compare({"asio::awaitable", &bench::asio_immediate_awaitables, {}},
                  {{"nested_await:immediate", &immediate_futures, bench::value_at_most(6, 5)}});
  });
}
