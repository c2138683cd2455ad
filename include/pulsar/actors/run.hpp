// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `run`: the arbiter, the main loop, and the program's exit code.
///
///     pulsar::future<> app() { ... }
///     int main(int argc, char** argv) { return pulsar::run(argc, argv, app); }
///
/// Exit codes: 0 when `app` ended or a TERM or INT ended it gracefully, 1 when it threw, its own when
/// it threw `program_exit`, 2 for a bad command line, 3 when the workers of an application cannot
/// start, 70 when the program misused its workers. A second INT, or QUIT, ends it at once.
/// In a worker process `run` serves and never returns.

#include <pulsar/actors/arbiter.hpp>
#include <pulsar/actors/monitor.hpp>
#include <pulsar/actors/spawn.hpp>
#include <pulsar/core/child.hpp>
#include <pulsar/core/signals.hpp>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

/// Reads PULSAR_CONCURRENCY and `--concurrency NAME`, which goes first; false with a sentence for a
/// bad one. What stands behind "--" is not looked at.
inline bool read_concurrency(int argc, char** argv) {
  std::string_view source;
  std::string_view text;
  if (const char* value = std::getenv("PULSAR_CONCURRENCY"); value != nullptr && *value != 0) {
    source = "PULSAR_CONCURRENCY";
    text = value;
  }
  constexpr std::string_view option = "--concurrency";
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view arg = argv[i];
    if (arg == option) {
      source = option;
      text = i + 1 < argc ? argv[++i] : "";
    } else if (arg.starts_with("--concurrency=")) {
      source = option;
      text = arg.substr(option.size() + 1);
    }
  }
  if (source.empty()) return true;
  concurrency_kind kind{};
  if (find_concurrency(text, kind)) {
    set_default_concurrency(kind);
    return true;
  }
  fmt::print(stderr, "{} is '{}', but must be process, thread or coroutine\n", source,
             printable(text));
  return false;
}

}  // namespace detail

/// Serves, and never returns, if this process is a worker for actors. To be called first in `main`
/// by programs that call `run` later or not at all, such as test programs. Throws
/// `errc::already_running` in a worker that serves.
inline void serve_if_worker(int argc, char** argv) {
  auto& process = this_process();
  if (!process.is_worker() || process.marker().kind != worker_kind::actor) return;
  if (process.serving()) {
    throw error(errc::already_running,
                "pulsar::run was called inside a worker process: spawn an actor instead");
  }
  // What an actor here spawns without a policy follows the program's default.
  detail::read_concurrency(argc, argv);
  detail::serve_as_worker();
}

namespace detail {

/// The master's side of `run`: one arbiter, one loop.
class master {
 public:
  /// Runs `app()` until it has ended, or a signal ends it; then ends every worker and actor.
  template <class App>
  int run(App app) {
    return run_body([](void* a) -> future<> { return (*static_cast<App*>(a))(); }, &app);
  }

  event_loop& loop() noexcept { return loop_; }
  void set_grace(event_loop::duration grace) noexcept { grace_ = grace; }
  void set_exit_code(int code) noexcept { exit_code_ = code; }

  void on_signal(int signal) {
    if (signal == SIGCHLD) return reap_soon();
    if (signal == SIGQUIT || (signal == SIGINT && stopping_)) return quit();
    if (std::exchange(stopping_, true)) return;
    log::info("{} received: stopping", signal == SIGINT ? "INT" : "TERM");
    app_.cancel();
  }

 private:
  using body = future<> (*)(void* app);

  int run_body(body call, void* app) {
    this_process().require_serving("run an event loop");
    take_signals();
    raise_descriptor_limit();
    const log_scope speaker("arbiter");
    const main_loop_scope main(loop_);
    loop_access::local<peers>(loop_);
    place_actor(loop_, node_id(arbiter_process), "arbiter", new arbiter);
    for (const int s : {SIGTERM, SIGINT, SIGQUIT}) tell_of_signal(loop_, s, *this);
    if (inherits_orphans()) {
      tell_of_signal(loop_, SIGCHLD, *this);
      reap_soon();
    }
    unblock_signals();
    whole(loop_, *this, call, app).detach();
    loop_.run_forever();
    loop_.close();
    return exit_code_;
  }

  // Whoever started this program may have ignored SIGCHLD, and it would not learn how its workers
  // end.
  static void take_signals() {
    ::signal(SIGPIPE, SIG_IGN);
    struct sigaction child {};
    ::sigaction(SIGCHLD, nullptr, &child);
    const bool lost = (child.sa_flags & SA_SIGINFO) == 0 && child.sa_handler == SIG_IGN;
    if (lost || (child.sa_flags & SA_NOCLDWAIT) != 0) ::signal(SIGCHLD, SIG_DFL);
  }

  // Or blocked those that end it.
  static void unblock_signals() {
    sigset_t ours;
    ::sigemptyset(&ours);
    for (const int s : {SIGTERM, SIGINT, SIGQUIT, SIGCHLD}) ::sigaddset(&ours, s);
    ::pthread_sigmask(SIG_UNBLOCK, &ours, nullptr);
  }

  // The children of processes that have ended become those of PID 1, or of a subreaper.
  static bool inherits_orphans() noexcept {
    int subreaper = 0;
    ::prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
    return ::getpid() == 1 || subreaper != 0;
  }

  // In a second: whoever waits for a child that pulsar does not know, as `system` does, has it first.
  void reap_soon() {
    if (std::exchange(reaping_, true)) return;
    loop_.call_later(std::chrono::seconds(1), [this] {
      reaping_ = false;
      if (reap_strangers().hidden) reap_soon();
    });
  }

  void quit() {
    log::warning("ending at once");
    if (auto* a = arbiter::instance()) a->kill_workers();
    grace_ = {};
    stopping_ = true;
    app_.cancel();
    // Whoever ignores that does not keep the program.
    loop_.call_later(std::chrono::seconds(1), [this] {
      log::critical("something ignores its cancellation: the program ends without it");
      std::_Exit(exit_code_ != 0 ? exit_code_ : 1);
    });
  }

  static future<> whole(event_loop& loop, master& self, body call, void* app) {
    std::exception_ptr why;
    try {
      self.app_ = call(app);
      co_await self.app_;
    } catch (const program_exit& e) {
      log::critical("{}", e.what());
      self.exit_code_ = e.code();
    } catch (...) {
      why = std::current_exception();
    }
    if (why != nullptr && !(self.stopping_ && is_cancelled(why))) {
      log::critical("the program failed: {}", describe(why));
      if (self.exit_code_ == 0) self.exit_code_ = 1;
    }
    self.stopping_ = true;
    if (auto* a = arbiter::instance()) {
      try {
        co_await a->stop_workers(self.grace_);
      } catch (...) {
        log::error("workers did not stop cleanly: {}", describe(std::current_exception()));
      }
    }
    // The loop goes on while they end: their last words may be for its actors.
    auto* joining = new joined_threads(loop);
    auto threads = joining->done.get_future();
    std::thread joiner(&joined_threads::join, static_cast<void*>(joining));
    try {
      co_await std::move(threads);
    } catch (...) {
      // The loop closes, and the threads are waited for here.
    }
    joiner.join();
    try {
      co_await stop_actors(loop, self.grace_);
    } catch (...) {
      log::error("actors did not stop cleanly: {}", describe(std::current_exception()));
    }
    loop.stop();
  }

  // Goes to a thread that may block, and comes back when all others have ended.
  struct joined_threads : task_node {
    explicit joined_threads(event_loop& loop)
        : task_node(&run), done(loop), inbox(loop_access::inbox(loop)) {}
    static void join(void* data) {
      auto* self = static_cast<joined_threads*>(data);
      actor_threads::instance().stop_all();
      const auto way = self->inbox;
      if (!way->push(self)) delete self;
    }
    static void run(task_node* node, bool drop) {
      auto* self = static_cast<joined_threads*>(node);
      if (!drop) self->done.set_value();
      delete self;
    }
    promise<> done;
    counted_pointer<loop_inbox> inbox;
  };

  event_loop loop_;
  future<> app_;
  event_loop::duration grace_ = std::chrono::seconds(5);
  bool stopping_ = false;
  bool reaping_ = false;
  int exit_code_ = 0;
};

}  // namespace detail

/// Runs `app`, a callable that returns `future<>`, with an arbiter; the exit code for `main`. It is
/// called once and lives as long as its future.
template <class App>
int run(int argc, char** argv, App app) {
  constexpr bool takes_nothing = std::is_invocable_v<App&>;
  static_assert(takes_nothing,
                "run: app is called without arguments: give a function that needs none, or a "
                "lambda that calls it with what it needs");
  if constexpr (takes_nothing) {
    constexpr bool right_result = std::is_same_v<std::invoke_result_t<App&>, future<>>;
    static_assert(right_result,
                  "run: app must return future<>: it gives the program's exit code by throwing "
                  "program_exit(code, why)");
    if constexpr (right_result) {
      const run_scope scope;
      serve_if_worker(argc, argv);
      if (!detail::read_concurrency(argc, argv)) return 2;
      detail::master m;
      return m.run(std::move(app));
    }
  }
  return 1;
}

/// The same without a command line.
template <class App>
int run(App app) {
  return run(0, nullptr, std::move(app));
}

}  // namespace pulsar
