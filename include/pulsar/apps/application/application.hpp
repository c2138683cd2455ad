// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `application`: something that is served by a number of workers.
///
///     class echo : public pulsar::application {
///      public:
///       echo() : application("echo") {}
///       std::unique_ptr<pulsar::worker_body> make_worker() override { ... }
///     };
///     int main(int argc, char** argv) { return echo().run(argc, argv); }
///
/// `run` reads the command line, opens the listeners, starts the workers and keeps them alive until
/// TERM or INT. A worker process runs `main` too, up to the same `run`, and there serves: so what a
/// worker needs is simply what `main` has built. Exit codes are those of `pulsar::run`: 1 also when
/// an address cannot be bound, 2 also when it is none.

#include <pulsar/actors/monitor.hpp>
#include <pulsar/actors/run.hpp>
#include <pulsar/apps/application/settings.hpp>
#include <pulsar/core/descriptor.hpp>

#include <fmt/format.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar {

/// What is served, and its life as a program: derive from it and say what a worker does.
///
/// Construct it in `main`, in the same way in each run of the program, and call `run` once. Its
/// members are called in the thread of `run`, `make_worker` alone in that of its worker.
class application : detail::body_maker {
 public:
  /// `name` and `about` are what `--help` and the log say. `check_bind` throws an exception whose
  /// text says what is wrong with an address; without it any text is one.
  explicit application(std::string name,
                       std::string about = {},
                       void (*check_bind)(std::string_view text) = nullptr)
      : name_(std::move(name)), about_(std::move(about)), check_bind_(check_bind) {}
  application(const application&) = delete;
  application& operator=(const application&) = delete;
  virtual ~application() = default;

  const std::string& name() const noexcept { return name_; }

  /// The values of the command line, once `run` has read it.
  const settings& config() const noexcept { return settings_; }

  /// Serves until TERM or INT; the exit code for `main`. In a worker process it never returns.
  int run(int argc, const char* const* argv) {
    const run_scope scope;
    auto& process = this_process();
    if (process.is_worker() && process.marker().kind == worker_kind::actor) {
      detail::serve_as_worker();
    }
    const program_description program{
        .name = name_, .about = about_, .check_bind = check_bind_};
    auto parsed = parse_settings(argc, argv, program, std::move(settings_));
    settings_ = std::move(parsed.values);
    if (parsed.exit) return *parsed.exit;
    log::set_level(settings_.level);
    set_default_concurrency(settings_.concurrency);
    if (process.is_worker()) {
      detail::serve_as_worker(this);
    }
    return run_master(scope.ordinal());
  }

 protected:
  /// What runs in each worker: made there, in its thread. May be called from several threads.
  virtual std::unique_ptr<worker_body> make_worker() = 0;

  /// Opens, in the master, what the workers inherit; the descriptors stay the application's. Throws
  /// with a sentence that says what is in the way; `close` is called then too.
  virtual std::vector<int> open() { return {}; }

  /// Every worker is ready. In the master.
  virtual void when_ready() {}

  /// Closes what `open` has opened.
  virtual void close() noexcept {}

  /// To be changed before `run`, whose command line goes first.
  settings& defaults() noexcept { return settings_; }

 private:
  detail::worker_body* new_body() final { return make_worker().release(); }

  int run_master(std::uint64_t ordinal) {
    worker_plan plan;
    plan.name = name_;
    plan.workers = settings_.workers;
    plan.concurrency = settings_.concurrency;
    plan.ordinal = ordinal;
    plan.make = [this] { return make_worker(); };
    plan.grace = settings_.graceful_timeout;
    try {
      detail::master m;
      m.set_grace(settings_.graceful_timeout);
      return m.run([this, &m, &plan] { return supervise(m.loop(), *this, std::move(plan)); });
    } catch (const std::system_error& e) {
      // A loop needs some descriptors itself.
      log::critical("{} cannot run{}: {}", name_, detail::remedy_for(e.code().value()), e.what());
      return 1;
    }
  }

  static future<> supervise(event_loop& loop, application& self, worker_plan plan) {
    const auto grace = plan.grace;
    std::exception_ptr why;  // none if the pool has nothing left to watch
    try {
      // Not before the handlers of signals are there: a TERM would leave behind what it has opened.
      plan.descriptors = self.open();
    } catch (const std::exception& e) {
      self.close();
      throw program_exit(1, fmt::format("{} cannot start: {}", self.name_, e.what()));
    }
    monitor pool(std::move(plan), loop);
    try {
      co_await pool.start();
      self.when_ready();
      co_await pool.watch();
    } catch (...) {
      why = std::current_exception();
    }
    self.close();
    co_await pool.stop(grace);
    if (why) std::rethrow_exception(why);
  }

  std::string name_;
  std::string about_;
  void (*check_bind_)(std::string_view text);
  settings settings_;
};

}  // namespace pulsar
