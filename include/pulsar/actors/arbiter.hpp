// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The arbiter: starts, watches, introduces and ends the worker processes of a program.
///
/// It lives in the main loop of the master, as actor number 0 of process 1, for as long as
/// `pulsar::run` does. Programs meet it through `spawn` and `named_actor`; it carries no messages of
/// theirs: workers talk to each other over lines of their own that it only introduces.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/detail/control_line.hpp>
#include <pulsar/actors/detail/node.hpp>
#include <pulsar/actors/detail/peers.hpp>
#include <pulsar/actors/detail/worker.hpp>
#include <pulsar/actors/worker_environment.hpp>
#include <pulsar/core/child.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/timeout.hpp>

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace pulsar {

/// Told when a worker process has ended. Counts its references: the arbiter has one until then.
class exit_watcher : public detail::counted {
 public:
  virtual void on_exit(const exit_status& status) = 0;
};

/// How a worker process is started.
struct worker_options {
  worker_kind kind = worker_kind::actor;
  std::uint64_t ordinal = 0;                            ///< Of the `run` an application belongs to.
  event_loop::duration timeout = std::chrono::seconds(30);  ///< For the hand-shake.
};

class arbiter;
template <>
inline constexpr bool detail::only_encoded<arbiter> = true;

class arbiter final : public actor<arbiter>, detail::peers::introducer {
 public:
  /// The arbiter of this process, or null. Its loop's thread only.
  static arbiter* instance() noexcept { return instance_; }

  arbiter() { instance_ = this; }
  ~arbiter() override {
    instance_ = nullptr;
    while (first_ != nullptr) {
      first_->control->close();
      leave(*first_);
    }
  }

  void on_start();

  /// Starts a worker process and shakes hands; its number. `inherited` are the descriptors it shall
  /// have besides its own, a view that needs to live only until this is called. Cancelling it kills
  /// the process. Throws `errc::spawn_failed` with how it ended, `errc::incompatible`,
  /// `errc::timed_out`; no process is left then.
  future<std::uint64_t> start_worker(worker_options options, std::span<const int> inherited = {},
                                     detail::counted_pointer<exit_watcher> watcher = {});

  /// Asks a worker to end within `grace`; killed when it has not soon after. Done when it is gone.
  future<> stop_worker(std::uint64_t process, event_loop::duration grace);

  /// Ends all workers; none is started any more.
  future<> stop_workers(event_loop::duration grace);

  /// SIGKILL to all workers.
  void kill_workers() noexcept {
    for (auto* w = first_; w != nullptr; w = w->next) w->process.signal(SIGKILL);
  }

  /// Sends a signal to a worker; false if there is none of that number.
  bool signal_worker(std::uint64_t process, int signal) {
    auto* w = workers_.find(process);
    return w != nullptr && w->process.signal(signal);
  }

  /// The system's number of a worker process, or nothing.
  std::optional<std::int64_t> pid_of(std::uint64_t process) const {
    const auto* w = workers_.find(process);
    if (w == nullptr) return std::nullopt;
    return w->process.pid();
  }

  /// The processes of the workers.
  std::vector<std::int64_t> worker_pids() const {
    std::vector<std::int64_t> pids;
    for (const auto* w = first_; w != nullptr; w = w->next) pids.push_back(w->process.pid());
    return pids;
  }

  // -- commands --------------------------------------------------------------------

  /// Starts a process for one actor.
  future<actor_ref<>> spawn_process(detail::birth_request request);
  /// The actor of that name; empty if there is none.
  actor_ref<> find(std::string name) const {
    auto found = registry::instance().find(name);
    const auto* cell = detail::ref_access::cell(found);
    // One that is being born in another process has its name, but no number yet.
    const bool unborn = cell != nullptr && !cell->local() &&
                        registry::process_of(cell->id) == detail::arbiter_process;
    if (unborn) return {};
    return found;
  }

  using commands = pulsar::commands<&arbiter::spawn_process, &arbiter::find>;

 private:
  // How many lines a worker was given to a younger one.
  struct acquaintance {
    std::uint64_t number;
    std::uint64_t lines;
    acquaintance* next;
  };

  // Counted: by the list of the living, and by whoever waits for something of it.
  struct worker_process final : detail::counted, detail::control_line::owner {
    explicit worker_process(arbiter& a)
        : root(a), greeted(a.loop()), exit_watch(a.loop().context()) {}
    ~worker_process() override {
      if (control) control->close();
      exit_watch.release();  // the handle is the child's
      while (introduced != nullptr) delete std::exchange(introduced, introduced->next);
    }
    void on_packet(detail::control_message&& m, std::vector<unique_fd>&&) override {
      const auto alive = detail::share(*this);
      root.on_control(*this, std::move(m));
    }
    void on_control_end(detail::control_ending how) override {
      const auto alive = detail::share(*this);
      root.on_control_end(*this, how);
    }

    arbiter& root;
    std::uint64_t number = 0;
    std::uint64_t lines = 1;  // that it was given to this process
    bool leaving = false;
    child process;
    detail::counted_pointer<detail::control_line> control;
    promise<> greeted;
    detail::watched_descriptor exit_watch;
    detail::waiting_list ended;
    detail::counted_pointer<exit_watcher> watcher;
    acquaintance* introduced = nullptr;
    worker_process* previous = nullptr;  // in the list of the living
    worker_process* next = nullptr;
  };
  using worker_pointer = detail::counted_pointer<worker_process>;

  /// Keeps a name for an actor that is being born in another process.
  class name_claim;

  void enter(worker_process& w);
  void leave(worker_process& w) noexcept;
  void introduce(std::uint64_t wanted, std::uint64_t) override { connect(wanted); }
  void on_control(worker_process& w, detail::control_message&& m);
  void on_control_end(worker_process& w, detail::control_ending how);
  static std::uint64_t& lines_between(worker_process& one, worker_process& other);
  void introduce(worker_process& asker, std::uint64_t wanted, std::uint64_t had);
  void refuse_line(worker_process& asker, std::uint64_t wanted, const detail::remote_failure& why);
  void distrust(worker_process& w, const char* what);
  void connect(std::uint64_t wanted);
  void give_line(worker_process& to, std::uint64_t process, unique_fd socket);
  void free_names(std::uint64_t process);
  worker_pointer launch(const worker_options& options, std::span<const int> inherited);
  void ask_to_stop(worker_process& w, event_loop::duration grace);
  void kill_later(const worker_process& w, event_loop::duration after, const char* what);
  static future<> watch(event_loop& loop, arbiter& self, worker_pointer w);
  void on_exit(worker_process& w, const exit_status& status);

  inline static arbiter* instance_ = nullptr;
  // Of the program: a reference from an earlier run must not fit an actor of this one.
  inline static std::uint64_t last_serial_ = 0;
  detail::number_map<worker_process> workers_;
  worker_process* first_ = nullptr;  // of the workers, the oldest
  worker_process* last_ = nullptr;
  detail::waiting_list none_left_;
  bool ending_ = false;
};

/// A reference to the program's arbiter, from any of its processes and threads.
inline actor_ref<arbiter> arbiter_ref() {
  return detail::ref_access::make<arbiter>(
      detail::cell_of(detail::node_id(detail::arbiter_process), "arbiter"));
}

}  // namespace pulsar

#include <pulsar/actors/detail/arbiter.hpp>
