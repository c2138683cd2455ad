// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// A deadline that is armed and cancelled, as each request of a server does, while a million others
/// are pending. Beside it `asio::steady_timer`.
///
/// Each is cancelled 1,024 operations after it was armed, and the loop has a turn every 64, so that
/// what is lazy about arming is paid for. `timer:at_once` cancels in the same breath.

#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>

#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include "support/harness.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <system_error>
#include <vector>

namespace {

using std::chrono::milliseconds;

constexpr std::size_t pending = 1'000'000;
constexpr std::size_t ring = 1024;
constexpr std::uint64_t turn = 64;

/// Delays between ten seconds and ten minutes, in no order.
class delays {
 public:
  milliseconds next() noexcept {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return milliseconds(10'000 + (state_ >> 33U) % 590'000);
  }

 private:
  std::uint64_t state_ = 1;
};

/// A loop with a million deadlines that nobody meets.
struct crowded_loop {
  crowded_loop() {
    for (std::size_t i = 0; i < pending; ++i) loop.call_later(delay.next() * 100, [] {});
    loop.call_soon([this] { loop.stop(); });
    loop.run_forever();
  }

  void exchange() {
    pulsar::handle& oldest = recent[at++ % ring];
    oldest.cancel();
    oldest = loop.call_later(delay.next(), [] {});
  }

  /// Does `left` operations, some in each turn.
  struct step {
    crowded_loop* self;
    std::uint64_t left;
    void operator()() const {
      const std::uint64_t now = left < turn ? left : turn;
      for (std::uint64_t i = 0; i < now; ++i) self->exchange();
      if (left == now) return self->loop.stop();
      self->loop.call_soon(step{self, left - now});
    }
  };

  delays delay;
  pulsar::event_loop loop;
  std::array<pulsar::handle, ring> recent{};
  std::size_t at = 0;
};

/// The same of Asio.
struct crowded_context {
  crowded_context() {
    for (std::size_t i = 0; i < pending; ++i) {
      others.emplace_back(context, delay.next() * 100).async_wait([](std::error_code) {});
    }
    for (std::size_t i = 0; i < ring; ++i) recent.emplace_back(context);
  }

  void exchange() {
    asio::steady_timer& oldest = recent[at++ % ring];
    oldest.expires_after(delay.next());  // which cancels it
    oldest.async_wait([](std::error_code) {});
  }

  struct step {
    crowded_context* self;
    std::uint64_t left;
    void operator()() const {
      const std::uint64_t now = left < turn ? left : turn;
      for (std::uint64_t i = 0; i < now; ++i) self->exchange();
      if (left == now) return self->context.stop();
      asio::post(self->context, step{self, left - now});
    }
  };

  delays delay;
  asio::io_context context{1};
  std::deque<asio::steady_timer> others;
  std::deque<asio::steady_timer> recent;
  std::size_t at = 0;
};

bench::kernel call_later() {
  auto crowd = std::make_shared<crowded_loop>();
  return [crowd](std::uint64_t timers) {
    return bench::timed([&] {
      crowd->loop.call_soon(crowded_loop::step{crowd.get(), timers});
      crowd->loop.run_forever();
    });
  };
}

bench::kernel call_later_at_once() {
  auto crowd = std::make_shared<crowded_loop>();
  return [crowd](std::uint64_t timers) {
    return bench::timed([&] {
      crowd->loop.call_soon([&] {
        for (std::uint64_t i = 0; i < timers; ++i) {
          crowd->loop.call_later(crowd->delay.next(), [] {}).cancel();
        }
        crowd->loop.stop();
      });
      crowd->loop.run_forever();
    });
  };
}

bench::kernel steady_timer() {
  auto crowd = std::make_shared<crowded_context>();
  return [crowd](std::uint64_t timers) {
    return bench::timed([&] {
      asio::post(crowd->context, crowded_context::step{crowd.get(), timers});
      crowd->context.restart();
      crowd->context.run();
    });
  };
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    const bench::pinned here(0);
    suite.compare({"asio::steady_timer", &steady_timer, {}},
                  {{"timer", &call_later, bench::value_at_most(60, 20)},
                   {"timer:at_once", &call_later_at_once, bench::value_at_most(60, 20)}});
  });
}
