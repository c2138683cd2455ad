// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The life of a worker process: from its hand-shake with the arbiter to its exit.

#include <pulsar/actors/detail/control_line.hpp>
#include <pulsar/actors/detail/node.hpp>
#include <pulsar/actors/detail/peers.hpp>
#include <pulsar/actors/worker_environment.hpp>
#include <pulsar/core/signals.hpp>

#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace pulsar::detail {

inline constexpr std::uint64_t arbiter_process = 1;

/// Workers are numbered from 1 by the arbiter; processes of the program from 1, the master first.
constexpr std::uint64_t process_of_worker(std::uint64_t serial) noexcept { return serial + 1; }

// A loop that runs in a worker before it serves would keep it from ever doing so.
inline const bool loops_wait_for_serving =
    (before_run = [] { this_process().require_serving("run an event loop"); }, true);

/// The time a worker has from the arbiter's death to its own. The kernel's alarm ends it then, even
/// if its loop is stuck in a callback and no handler of ours runs any more.
class last_seconds {
 public:
  /// Asks for the death signal to be seen at once; after the loop has its handler of SIGCONT, which
  /// still gets every one.
  static void watch_signal(pid_t arbiter) {
    arbiter_ = arbiter;
    struct sigaction before {};
    ::sigaction(SIGCONT, nullptr, &before);
    handler_ = before.sa_handler;
    before.sa_handler = &on_signal;
    ::sigaction(SIGCONT, &before, nullptr);
  }

  /// Counts them; the first call does. Fit for a signal handler.
  static void begin() noexcept {
    if (begun_ != 0) return;
    begun_ = 1;
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(4);
  }

 private:
  static void on_signal(int number) {
    if (::getppid() != arbiter_) begin();
    handler_(number);
  }

  inline static volatile std::sig_atomic_t begun_ = 0;
  inline static pid_t arbiter_ = 0;
  inline static void (*handler_)(int) = nullptr;
};

class worker : control_line::owner, peers::introducer, actor_owner {
 public:
  /// `maker` makes what an application's worker runs; none in a worker for actors.
  explicit worker(body_maker* maker) : maker_(maker) {}

  /// Serves until the arbiter says stop or dies; the exit code.
  int run() {
    auto& process = this_process();
    const auto& marker = process.marker();
    registry::instance().set_process(process_of_worker(marker.serial));
    speaker_ = fmt::format("worker {}", marker.serial);
    const log_scope speaker(speaker_);
    peers& lines = loop_access::local<peers>(loop_);
    const main_loop_scope main(loop_);

    control_ = counted_pointer<control_line>(
        new control_line(loop_, process.take_control_socket()));
    lines.on_unknown(this);
    lines.add(arbiter_process, process.take_stream());

    auto* const served = new node(*this);
    node_ = place_actor(loop_, node_id(registry::instance().process()), speaker_, served);
    if (marker.kind == worker_kind::application) {
      served->set_body(maker_->new_body());
    }
    install_signals();
    control_->start(*this);
    control_message hello;
    hello.number = wire_version;
    hello.text = image::describe();
    control_->send(hello);
    process.mark_serving();

    loop_.run_forever();
    control_->close();  // its end means the arbiter's death no more
    loop_.close();
    return exit_code_;
  }

  void on_signal(int signal) {
    if (signal == SIGCONT) {
      // Sent by the kernel when the arbiter dies; by anybody else it means nothing here.
      if (::getppid() != this_process().marker().arbiter) on_control_end(control_ending::closed);
    } else if (signal == SIGTERM) {
      leave(std::chrono::seconds(5), "SIGTERM");
    } else {
      if (leaving_) loop_.stop();
      leave({}, "SIGQUIT");
    }
  }

 private:
  void install_signals() {
    ::signal(SIGINT, SIG_IGN);  // the terminal's, meant for the arbiter
    ::signal(SIGHUP, SIG_IGN);
    ::signal(SIGPIPE, SIG_IGN);
    for (const int s : {SIGTERM, SIGCONT, SIGQUIT}) tell_of_signal(loop_, s, *this);
    last_seconds::watch_signal(this_process().marker().arbiter);
    sigset_t all;
    ::sigemptyset(&all);
    for (const int s : {SIGINT, SIGHUP, SIGTERM, SIGQUIT}) ::sigaddset(&all, s);
    ::pthread_sigmask(SIG_UNBLOCK, &all, nullptr);
  }

  void introduce(std::uint64_t process, std::uint64_t had) override {
    control_message m;
    m.kind = control_kind::introduce;
    m.number = process;
    m.count = had;
    control_->send(m);
  }

  void on_packet(control_message&& m, std::vector<unique_fd>&& descriptors) override {
    peers& lines = loop_access::local<peers>(loop_);
    switch (m.kind) {
      case control_kind::welcome: break;
      case control_kind::refused:
        log::critical("the arbiter refuses this process: {}", m.text);
        exit_code_ = misuse_exit_code;
        loop_.stop();
        break;
      case control_kind::line:
        if (descriptors.size() == 1) {
          lines.add(m.number, std::move(descriptors[0]));
        } else {
          // The system's text for the number is added where it is thrown.
          lines.unconnected(m.number, {"pulsar::error", "system", EMFILE, "its descriptor was lost"},
                            true);
        }
        break;
      case control_kind::no_line:
        lines.unconnected(m.number,
                          {"pulsar::error", "system", static_cast<int>(m.count), std::move(m.text)},
                          false);
        break;
      case control_kind::down: lines.down(m.number, m.text); break;
      case control_kind::stop: leave(std::chrono::milliseconds(m.number), "the arbiter"); break;
      default: log::error("the arbiter sent a control packet of unknown kind"); break;
    }
  }

  // The rule for the arbiter's death: drain and leave, whatever signal comes or not.
  void on_control_end(control_ending how) override {
    last_seconds::begin();
    if (leaving_) return;
    log::error("{}: this worker drains and ends", how == control_ending::closed
                                                      ? "the arbiter has died"
                                                      : "the line to the arbiter has broken");
    leave(std::chrono::seconds(2), "the end of its control line");
  }

  void actor_ended(std::exception_ptr why) override {
    if (why != nullptr) exit_code_ = 1;
    leave(std::chrono::seconds(5), "the end of its actor");
  }

  void leave(event_loop::duration grace, std::string_view because) {
    if (std::exchange(leaving_, true)) return;
    log::debug("ending because of {}", because);
    control_message m;
    m.kind = control_kind::leaving;
    control_->send(m);
    depart(*this, grace).detach();
  }

  static future<> depart(worker& self, event_loop::duration grace) {
    const auto until = self.loop_.time() + grace;
    if (self.node_->actor != nullptr) {
      if (auto* body = static_cast<node&>(*self.node_->actor).body()) {
        try {
          co_await body->stop(grace);
        } catch (...) {
          log::error("the worker did not stop cleanly: {}", describe(std::current_exception()));
        }
      }
    }
    auto left = until - self.loop_.time();
    if (left < event_loop::duration::zero()) left = {};
    try {
      co_await stop_actors(self.loop_, left);
    } catch (...) {
      log::error("the actors did not stop cleanly: {}", describe(std::current_exception()));
    }
    // Their last words go out before the process does.
    peers& lines = loop_access::local<peers>(self.loop_);
    const auto limit = self.loop_.time() + std::chrono::seconds(1);
    do {
      co_await sleep(std::chrono::milliseconds(1), self.loop_);
    } while (!lines.drained() && self.loop_.time() < limit);
    self.loop_.stop();
  }

  event_loop loop_;
  body_maker* const maker_;
  std::string speaker_;
  counted_pointer<control_line> control_;
  cell_pointer node_;
  bool leaving_ = false;
  int exit_code_ = 0;
};

/// Serves as the worker that this process is, and never returns.
[[noreturn]] inline void serve_as_worker(body_maker* maker = nullptr) {
  int code = 1;
  try {
    worker w(maker);
    code = w.run();
  } catch (const std::exception& e) {
    log::critical("the worker failed: {}", e.what());
  }
  actor_threads::instance().stop_all();
  std::exit(code);
}

}  // namespace pulsar::detail
