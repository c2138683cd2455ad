// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The yardsticks written with Asio alone: what a program without pulsar would do.
///
///     suite.compare({"asio::post", &bench::asio_post_chain}, ...);

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <unistd.h>

#include "harness.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

namespace bench {

/// A descriptor that some loop waits for and that never becomes ready: with it the reactor takes
/// part in every turn of the loop, as it does in a server.
class silent_pipe {
 public:
  silent_pipe() {
    if (::pipe(ends_.data()) != 0) {
      throw std::system_error(errno, std::generic_category(), "pipe");
    }
  }
  silent_pipe(const silent_pipe&) = delete;
  silent_pipe& operator=(const silent_pipe&) = delete;
  ~silent_pipe() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }

  /// The end to wait on; it stays owned here.
  int reader() const noexcept { return ends_[0]; }

 private:
  std::array<int, 2> ends_{};
};

namespace detail {

/// An `io_context` for one thread with a descriptor pending in its reactor.
class asio_loop {
 public:
  asio_loop() : descriptor_(context, ::dup(pipe_.reader())) {
    descriptor_.async_wait(asio::posix::stream_descriptor::wait_read, [](std::error_code) {});
  }

  /// Runs until `stop()` of the context.
  void run() {
    context.restart();
    context.run();
  }

  asio::io_context context{1};

 private:
  silent_pipe pipe_;
  asio::posix::stream_descriptor descriptor_;
};

struct post_hop {
  asio::io_context* context;
  std::uint64_t left;

  void operator()() {
    if (left == 0) return context->stop();
    asio::post(*context, post_hop{context, left - 1});
  }
};

/// Something to call through a pointer, as an actor is.
struct virtual_account {
  virtual ~virtual_account() = default;
  virtual long deposit(long cents) = 0;
};

struct plain_account final : virtual_account {
  long deposit(long cents) override { return total += cents; }
  long total = 0;
};

struct posted_ask {
  asio::io_context* context;
  virtual_account* account;
  std::uint64_t left;

  void operator()() const {
    const long total = account->deposit(1);
    asio::post(*context, [ask = *this, total] {
      do_not_optimize(total);
      if (ask.left == 0) return ask.context->stop();
      asio::post(*ask.context, posted_ask{ask.context, ask.account, ask.left - 1});
    });
  }
};

}  // namespace detail

/// A chain of handlers, each posting the next, while a descriptor is pending.
inline kernel asio_post_chain() {
  auto loop = std::make_shared<detail::asio_loop>();
  return [loop](std::uint64_t hops) {
    return timed([&] {
      asio::post(loop->context, detail::post_hop{&loop->context, hops});
      loop->run();
    });
  };
}

/// A virtual call in a posted handler, whose result comes back through another one.
inline kernel asio_posted_call() {
  auto loop = std::make_shared<detail::asio_loop>();
  auto account = std::make_shared<detail::plain_account>();
  return [loop, account](std::uint64_t calls) {
    return timed([&] {
      detail::virtual_account* opaque = account.get();
      do_not_optimize(opaque);
      asio::post(loop->context, detail::posted_ask{&loop->context, opaque, calls});
      loop->run();
    });
  };
}

/// One thread posts to the loop of another as fast as it can; time ends when the last has run.
/// The receiver is on the second CPU, the sender on the first.
inline kernel asio_post_across_threads() {
  struct receiver {
    detail::asio_loop loop;
    long total = 0;
    std::atomic<std::uint64_t> done{0};
    std::thread thread{[this] {
      pin(1);
      loop.run();
    }};

    ~receiver() {
      loop.context.stop();
      thread.join();
    }
  };
  auto other = std::make_shared<receiver>();
  return [other](std::uint64_t messages) {
    const pinned here(0);
    return timed([&] {
      for (std::uint64_t i = 0; i < messages; ++i) {
        asio::post(other->loop.context, [to = other.get(), last = i + 1 == messages] {
          to->total += 1;
          do_not_optimize(to->total);
          if (!last) return;
          to->done.store(1, std::memory_order_release);
          to->done.notify_one();
        });
      }
      other->done.wait(0, std::memory_order_acquire);
      other->done.store(0, std::memory_order_relaxed);
    });
  };
}

}  // namespace bench
