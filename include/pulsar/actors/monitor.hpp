// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `monitor`: keeps the workers of an application alive, a fixed number of them.
///
///     pulsar::monitor pool(plan);
///     co_await pool.start();      // done when every worker is ready
///     co_await pool.watch();      // until it is cancelled, or nothing can be started any more
///     co_await pool.stop(5s);
///
/// A worker that ends is replaced, at once if it had lived for a while, else after a delay that
/// doubles up to ten seconds, give or take a quarter. Workers that end five times in a row before
/// they were ever ready end the program with exit code 3: no restart mends that.

#include <pulsar/actors/arbiter.hpp>
#include <pulsar/actors/detail/node.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/actors/spawn.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pulsar {

/// Ends the program with a code of its own when it leaves the function given to `run` (the Python
/// pulsar's HaltServer).
class program_exit : public std::runtime_error {
 public:
  program_exit(int code, const std::string& why) : std::runtime_error(why), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/// The exit code of a program whose workers cannot start.
inline constexpr int workers_failed_exit_code = 3;

/// What an application runs in each worker; made there.
using worker_body = detail::worker_body;

/// The workers of an application.
struct worker_plan {
  std::string name = "worker";                           ///< Of the application, for the log.
  unsigned workers = 1;
  concurrency_kind concurrency = concurrency_kind::process;
  std::uint64_t ordinal = 1;                             ///< Of the `run` it belongs to.
  std::vector<int> descriptors;                          ///< What each worker gets, owned by the master.
  bytes settings;                                        ///< Given to `worker_body::start`.
  std::function<std::unique_ptr<worker_body>()> make;    ///< For workers of this process.
  event_loop::duration grace = std::chrono::seconds(5);  ///< To finish what is under way.
};

namespace detail {

/// A worker in a thread, or in the loop of the master.
class local_worker final : public actor<local_worker> {
 public:
  local_worker(std::function<std::unique_ptr<worker_body>()> make,
               std::vector<unique_fd> descriptors, bytes settings, event_loop::duration grace)
      : make_(std::move(make)),
        descriptors_(std::move(descriptors)),
        settings_(std::move(settings)),
        grace_(grace) {}

  future<> on_start() {
    body_ = make_();
    return body_->start(std::move(descriptors_), std::move(settings_));
  }
  future<> on_stopping() {
    return body_ != nullptr ? body_->stop(grace_) : make_ready_future();
  }
  using commands = pulsar::commands<>;

 private:
  std::function<std::unique_ptr<worker_body>()> make_;
  std::vector<unique_fd> descriptors_;
  bytes settings_;
  event_loop::duration grace_;
  std::unique_ptr<worker_body> body_;
};

}  // namespace detail

/// Belongs to the main loop, under `run`. Its coroutines are templates: g++ 12 emits the body of any
/// other, and all that it calls, used or not.
class monitor {
 public:
  static constexpr unsigned most_failed_starts = 5;
  static constexpr auto first_delay = std::chrono::milliseconds(100);
  static constexpr auto longest_delay = std::chrono::seconds(10);
  static constexpr auto settled_after = std::chrono::seconds(5);

  explicit monitor(worker_plan plan, event_loop& loop = event_loop::current())
      : plan_(std::move(plan)), loop_(loop), group_(loop), slots_(plan_.workers) {}
  monitor(const monitor&) = delete;
  monitor& operator=(const monitor&) = delete;

  /// Starts the workers; done when all are ready. Throws `program_exit`.
  template <class = void>
  future<> start() {
    for (auto& s : slots_) group_.add(keep(loop_, *this, s));
    // Ready, or one has given up for good.
    while (ready() < slots_.size() && group_.size() == slots_.size()) {
      changed_.emplace(loop_);
      auto changed = changed_->get_future();
      co_await changed;
    }
    if (group_.size() < slots_.size()) co_await group_.join();
  }

  /// Replaces workers as they end. Never done by itself; throws `program_exit`.
  template <class = void>
  future<> watch() { return group_.join(); }

  /// Ends all workers; done when they are gone.
  template <class = void>
  future<> stop(event_loop::duration grace) { return stop_all(loop_, *this, grace); }

  /// How many workers are ready.
  std::size_t ready() const noexcept {
    std::size_t n = 0;
    for (const auto& s : slots_) n += s.ready ? 1 : 0;
    return n;
  }

 private:
  struct slot {
    bool ready = false;
    std::uint64_t process = 0;         // of a process worker
    actor_ref<detail::local_worker> local;
    unsigned failed_starts = 0;
  };

  void tell_changed() {
    if (changed_ && !changed_->done()) changed_->set_value();
  }

  // Tells how a worker process has ended.
  struct ending final : exit_watcher {
    explicit ending(event_loop& loop) : gone(loop) {}
    void on_exit(const exit_status& status) override { gone.set_value(to_string(status)); }
    promise<std::string> gone;
  };

  // One worker after another, for ever.
  template <class Self>
  static future<> keep(event_loop& loop, Self& self, slot& s) {
    event_loop::duration delay{};
    for (;;) {
      const auto born = loop.time();
      const detail::counted_pointer<ending> watcher(new ending(loop));
      auto ended = watcher->gone.get_future();
      auto begun = co_await as_result(begin(loop, self, s, watcher));
      if (begun) {
        s.ready = true;
        s.failed_starts = 0;
        self.tell_changed();
        const std::string how = co_await ended;
        s.ready = false;
        log::error("a worker of '{}' has ended ({}): another takes its place", self.plan_.name,
                   how);
      } else {
        if (begun.code() == errc::cancelled) std::rethrow_exception(begun.exception());
        log::error("a worker of '{}' did not start: {}", self.plan_.name, begun.message());
        if (++s.failed_starts >= most_failed_starts) {
          self.tell_changed();  // `start` finds that this worker is given up
          throw program_exit(workers_failed_exit_code,
                             fmt::format("the workers of '{}' cannot start: {}", self.plan_.name,
                                         begun.message()));
        }
      }
      if (loop.time() - born >= settled_after) {
        delay = {};
      } else {
        delay = delay == event_loop::duration() ? first_delay
                                                : std::min<event_loop::duration>(2 * delay,
                                                                                 longest_delay);
        co_await sleep(self.with_jitter(delay), loop);
      }
    }
  }

  event_loop::duration with_jitter(event_loop::duration d) {
    // Knuth's MMIX generator: to parse <random> takes a third of a second.
    random_ = random_ * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto thousandths = static_cast<event_loop::duration::rep>(750 + (random_ >> 33) % 501);
    return d / 1000 * thousandths;
  }

  // Starts one worker.
  template <class Self>
  static future<> begin(event_loop&, Self& self, slot& s,
                        detail::counted_pointer<ending> watcher) {
    if (self.plan_.concurrency == concurrency_kind::process) {
      worker_options options;
      options.kind = worker_kind::application;
      options.ordinal = self.plan_.ordinal;
      auto& root = *arbiter::instance();
      auto told = detail::share<exit_watcher>(*watcher);
      s.process = co_await root.start_worker(options, self.plan_.descriptors, std::move(told));
      const auto node = detail::ref_access::make<detail::node>(
          detail::cell_of(detail::node_id(s.process), "node"));
      auto started =
          co_await as_result(send<&detail::node::start_worker>(node, self.plan_.settings));
      if (!started) {
        co_await root.stop_worker(s.process, {});
        std::rethrow_exception(started.exception());
      }
      co_return;
    }
    std::vector<unique_fd> copies;
    for (const int fd : self.plan_.descriptors) {
      unique_fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
      if (!copy) detail::throw_system_error(errno, "cannot copy a listening descriptor");
      copies.push_back(std::move(copy));
    }
    std::tuple args(self.plan_.make, std::move(copies), self.plan_.settings, self.plan_.grace);
    if (self.plan_.concurrency == concurrency_kind::thread) {
      s.local = co_await concurrency::thread::spawn<detail::local_worker>({}, std::move(args));
    } else {
      s.local = co_await concurrency::coroutine::spawn<detail::local_worker>({}, std::move(args));
    }
  }

  template <class Self>
  static future<> stop_all(event_loop& loop, Self& self, event_loop::duration grace) {
    self.group_.cancel();
    auto joined = co_await as_result(self.group_.join());
    std::vector<future<>> all;
    for (auto& s : self.slots_) {
      if (s.process != 0) all.push_back(arbiter::instance()->stop_worker(s.process, grace));
      if (s.local) all.push_back(stop_local(loop, s.local));
    }
    co_await when_all(std::move(all));
  }

  template <class Worker>
  static future<> stop_local(event_loop&, actor_ref<Worker> who) {
    auto stopped = co_await as_result(send(who, cmd::stop));
    if (!stopped && stopped.code() != errc::actor_gone && stopped.code() != errc::cancelled) {
      log::error("a worker did not stop: {}", stopped.message());
    }
  }

  worker_plan plan_;
  event_loop& loop_;
  task_group group_;
  std::vector<slot> slots_;
  std::optional<promise<>> changed_;
  std::uint64_t random_ = static_cast<std::uint64_t>(loop_.time().time_since_epoch().count());
};

}  // namespace pulsar
