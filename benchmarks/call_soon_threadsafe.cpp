// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// One callback handed to the loop of another thread, one way, as fast as the sender can: what
/// `tell` to a thread actor is built on. Beside it `asio::post` between the same two threads.

#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>

#include "support/asio_yardsticks.hpp"
#include "support/harness.hpp"

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>

namespace {

/// A loop that runs in a thread of its own, on the second CPU.
class loop_thread {
 public:
  loop_thread() { loop = started_.get_future().get(); }
  loop_thread(const loop_thread&) = delete;
  loop_thread& operator=(const loop_thread&) = delete;
  ~loop_thread() {
    loop->call_soon_threadsafe([stop = loop] { stop->stop(); });
    thread_.join();
  }

  pulsar::event_loop* loop = nullptr;
  long total = 0;
  std::atomic<std::uint64_t> done{0};

 private:
  std::promise<pulsar::event_loop*> started_;
  std::thread thread_{[this] {
    bench::pin(1);
    pulsar::event_loop own;
    started_.set_value(&own);
    own.run_forever();
  }};
};

bench::kernel hand_over() {
  auto other = std::make_shared<loop_thread>();
  return [other](std::uint64_t messages) {
    const bench::pinned here(0);
    return bench::timed([&] {
      for (std::uint64_t i = 0; i < messages; ++i) {
        const bool open =
            other->loop->call_soon_threadsafe([to = other.get(), last = i + 1 == messages] {
              to->total += 1;
              bench::do_not_optimize(to->total);
              if (!last) return;
              to->done.store(1, std::memory_order_release);
              to->done.notify_one();
            });
        if (!open) throw std::runtime_error("the loop of the other thread is closed");
      }
      other->done.wait(0, std::memory_order_acquire);
      other->done.store(0, std::memory_order_relaxed);
    });
  };
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    suite.compare({"asio::post", &bench::asio_post_across_threads, {}},
                  {{"call_soon_threadsafe", &hand_over, {}}});
  });
}
