// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How the arbiter starts, introduces and buries worker processes.

#include <pulsar/actors/arbiter.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/core/detail/readiness.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace pulsar {

namespace detail {

/// A birth has no deadline: `on_start` may load what it needs for minutes. The hand-shake before it
/// has one, and the death of the process ends it.
inline constexpr event_loop::duration birth_limit = std::chrono::hours(24 * 365);

/// `send` with `birth_limit`.
template <auto Function, class A, class... Args>
auto ask_patiently(const actor_ref<A>& ref, Args&&... args) {
  using list = typename A::commands;
  using entry =
      typename list::template at<index_of<A, Function>(static_cast<list*>(nullptr))>;
  return ask<entry, A>(ref_access::cell(ref),
                       typename entry::traits::arguments(std::forward<Args>(args)...),
                       birth_limit);
}

}  // namespace detail

class arbiter::name_claim {
 public:
  name_claim() noexcept = default;
  name_claim(const name_claim&) = delete;
  name_claim& operator=(const name_claim&) = delete;
  ~name_claim() {
    if (cell_) registry::instance().leave(*cell_);
  }

  /// Throws `errc::name_taken`.
  void take(const std::string& name) {
    const detail::cell_pointer cell(
        new detail::remote_cell(registry::instance().next_id(), name));
    registry::instance().enter(cell, true);
    cell_ = cell;
  }
  /// The actor has been born; `free_names` is what ends its name.
  void keep(std::uint64_t id) {
    if (!cell_) return;
    const detail::cell_pointer born(new detail::remote_cell(id, cell_->name));
    registry::instance().leave(*cell_);
    cell_ = {};
    registry::instance().enter(born, true);
  }

 private:
  detail::cell_pointer cell_;  // holds the place
};

inline void arbiter::on_start() {
  detail::loop_access::local<detail::peers>(loop()).on_unknown(this);
}

inline void arbiter::enter(worker_process& w) {
  workers_.insert(w.number, &w);
  w.take();
  w.previous = last_;
  (last_ != nullptr ? last_->next : first_) = &w;
  last_ = &w;
}

inline void arbiter::leave(worker_process& w) noexcept {
  workers_.erase(w.number);
  (w.previous != nullptr ? w.previous->next : first_) = w.next;
  (w.next != nullptr ? w.next->previous : last_) = w.previous;
  w.drop();
}

inline arbiter::worker_pointer arbiter::launch(const worker_options& options,
                                               std::span<const int> inherited) {
  if (ending_) throw error(errc::spawn_failed, "the program ends: no worker is started");
  const worker_pointer w(new worker_process(*this));
  worker_marker marker;
  marker.control = 3;
  marker.stream = 4;
  marker.serial = ++last_serial_;
  marker.kind = options.kind;
  marker.ordinal = options.ordinal;
  marker.arbiter = ::getpid();
  marker.inherited = static_cast<unsigned>(inherited.size());
  w->number = detail::process_of_worker(marker.serial);
  auto [control, their_control] = socket_pair(SOCK_SEQPACKET);
  auto [stream, their_stream] = socket_pair(SOCK_STREAM);
  w->control = detail::counted_pointer<detail::control_line>(
      new detail::control_line(loop(), std::move(control)));

  std::vector<int> descriptors(2 + inherited.size());
  descriptors[0] = their_control.get();
  descriptors[1] = their_stream.get();
  for (std::size_t i = 0; i < inherited.size(); ++i) descriptors[2 + i] = inherited[i];
  const environment_change environment[] = {{worker_variable, to_string(marker)}};
  const int blocked[] = {SIGINT, SIGHUP, SIGTERM, SIGQUIT};
  child_options start;
  start.executable = this_process().executable();
  start.arguments = this_process().arguments();
  start.environment = environment;
  start.descriptors = descriptors;
  start.blocked_signals = blocked;
  w->process = spawn_child(start);

  enter(*w);
  watch(loop(), *this, w).detach();
  w->control->start(*w);
  detail::loop_access::local<detail::peers>(loop()).add(w->number, std::move(stream));
  return w;
}

inline future<std::uint64_t> arbiter::start_worker(worker_options options,
                                                   std::span<const int> inherited,
                                                   detail::counted_pointer<exit_watcher> watcher) {
  const worker_pointer w = launch(options, inherited);
  w->watcher = std::move(watcher);
  std::exception_ptr why;
  try {
    co_await with_timeout(w->greeted.get_future(), options.timeout);
    co_return w->number;
  } catch (...) {
    why = std::current_exception();
  }
  if (w->process.signal(SIGKILL)) {
    try {
      co_await w->ended.wait(loop());
    } catch (...) {
      // Cancelled: it is not waited for.
    }
  }
  try {
    std::rethrow_exception(why);
  } catch (const error& e) {
    if (e.code() != errc::timed_out) throw;
    throw error(errc::timed_out,
                "a worker process did not answer: does main reach pulsar::run, or "
                "pulsar::serve_if_worker, without waiting?");
  }
}

inline void arbiter::on_control(worker_process& w, detail::control_message&& m) {
  switch (m.kind) {
    case detail::control_kind::hello: {
      std::string difference = image::difference(image::describe(), m.text);
      if (m.number != detail::wire_version) difference = "it speaks another version of the wire";
      if (w.greeted.done()) return distrust(w, "greets a second time");
      detail::control_message answer;
      answer.kind = difference.empty() ? detail::control_kind::welcome
                                       : detail::control_kind::refused;
      answer.text = difference;
      w.control->send(answer);
      if (difference.empty()) {
        w.greeted.set_value();
      } else {
        w.greeted.set_exception(std::make_exception_ptr(error(errc::incompatible, difference)));
      }
      break;
    }
    case detail::control_kind::introduce: introduce(w, m.number, m.count); break;
    case detail::control_kind::leaving:
      w.leaving = true;
      free_names(w.number);
      break;
    default: distrust(w, "sent a control packet of unknown kind"); break;
  }
}

// Whoever says what no worker says is not asked for more of it.
inline void arbiter::distrust(worker_process& w, const char* what) {
  log::error("worker process {} {} and is killed", w.process.pid(), what);
  w.control->close();
  w.process.signal(SIGKILL);
}

inline void arbiter::on_control_end(worker_process& w, detail::control_ending how) {
  if (how == detail::control_ending::broken) return distrust(w, "cannot be led any more");
  // It ends. If it gets stuck on the way, nobody could tell it anything.
  kill_later(w, std::chrono::seconds(5), "was stuck at its end");
}

// Unless it has ended by then.
inline void arbiter::kill_later(const worker_process& w, event_loop::duration after,
                                const char* what) {
  loop().call_later(after, [number = w.number, what] {
    auto* late = instance_ == nullptr ? nullptr : instance_->workers_.find(number);
    if (late != nullptr && late->process.signal(SIGKILL)) {
      log::warning("worker process {} {} and was killed", late->process.pid(), what);
    }
  });
}

// How many lines two workers were given to each other: noted at the older one.
inline std::uint64_t& arbiter::lines_between(worker_process& one, worker_process& other) {
  auto& older = one.number < other.number ? one : other;
  const auto younger = one.number < other.number ? other.number : one.number;
  auto* found = older.introduced;
  while (found != nullptr && found->number != younger) found = found->next;
  if (found == nullptr) found = older.introduced = new acquaintance{younger, 0, older.introduced};
  return found->lines;
}

// A worker asks for a line to another process. When both ask at once the second finds that it was
// given one already.
inline void arbiter::introduce(worker_process& asker, std::uint64_t wanted, std::uint64_t had) {
  const bool here = wanted == detail::arbiter_process;
  auto* other = workers_.find(wanted);
  if (!here && (other == nullptr || other == &asker)) {
    detail::control_message m;
    m.kind = detail::control_kind::down;
    m.number = wanted;
    m.text = "it has ended";
    asker.control->send(m);
    return;
  }
  std::uint64_t& given = here ? asker.lines : lines_between(asker, *other);
  if (had > given) return distrust(asker, "claims lines that it was not given");
  if (given > had) return;
  try {
    if (here) return connect(asker.number);
    auto [one, two] = socket_pair(SOCK_STREAM);
    ++given;
    give_line(asker, wanted, std::move(one));
    give_line(*other, asker.number, std::move(two));
  } catch (...) {
    refuse_line(asker, wanted, detail::take_apart(std::current_exception()));
  }
}

inline void arbiter::refuse_line(worker_process& asker, std::uint64_t wanted,
                                 const detail::remote_failure& why) {
  log::error("no line from process {} to process {}: {}", asker.number, wanted, why.text);
  detail::control_message m;
  m.kind = detail::control_kind::no_line;
  m.number = wanted;
  m.count = static_cast<std::uint64_t>(why.category == "system" ? why.value : ENOMEM);
  m.text = why.text;
  asker.control->send(m);
}

// A new line between a worker and this process, after the first one has broken.
inline void arbiter::connect(std::uint64_t wanted) {
  auto& lines = detail::loop_access::local<detail::peers>(loop());
  auto* other = workers_.find(wanted);
  if (other == nullptr) return lines.down(wanted, "it has ended");
  auto [one, two] = socket_pair(SOCK_STREAM);
  lines.add(wanted, std::move(one));
  ++other->lines;
  give_line(*other, detail::arbiter_process, std::move(two));
}

inline void arbiter::give_line(worker_process& to, std::uint64_t process, unique_fd socket) {
  detail::control_message m;
  m.kind = detail::control_kind::line;
  m.number = process;
  to.control->send(m, std::move(socket));
}

inline void arbiter::free_names(std::uint64_t process) {
  registry::instance().leave_process(process);
}

inline future<> arbiter::watch(event_loop&, arbiter& self, worker_pointer w) {
  w->exit_watch.assign(w->process.handle());
  for (;;) {
    // Named: g++ 12 misplaces the frame of a coroutine without variables that awaits in a condition.
    const bool readable = co_await w->exit_watch.readable();
    if (!readable || w->process.try_wait()) break;
  }
  w->exit_watch.release();
  if (!w->process.running()) self.on_exit(*w, w->process.wait());
}

inline void arbiter::on_exit(worker_process& w, const exit_status& status) {
  const auto keep = detail::share(w);
  leave(w);
  const std::string how = to_string(status);
  w.control->close();
  free_names(w.number);
  for (auto* other = first_; other != nullptr; other = other->next) {
    for (auto** at = &other->introduced; *at != nullptr; at = &(*at)->next) {
      if ((*at)->number != w.number) continue;
      delete std::exchange(*at, (*at)->next);
      break;
    }
  }
  if (!w.greeted.done()) {
    w.greeted.set_exception(std::make_exception_ptr(
        error(errc::spawn_failed, "a worker process ended before it was ready: " + how)));
  }
  detail::loop_access::local<detail::peers>(loop()).down(w.number, how);
  detail::control_message m;
  m.kind = detail::control_kind::down;
  m.number = w.number;
  m.text = how;
  for (auto* other = first_; other != nullptr; other = other->next) other->control->send(m);
  w.ended.wake();
  if (w.watcher) w.watcher->on_exit(status);
  if (first_ == nullptr) none_left_.wake();
}

inline void arbiter::ask_to_stop(worker_process& w, event_loop::duration grace) {
  detail::control_message m;
  m.kind = detail::control_kind::stop;
  m.number = static_cast<std::uint64_t>(grace / std::chrono::milliseconds(1));
  w.control->send(m);
  // A worker that neither stops nor lets itself be stopped is killed.
  kill_later(w, grace + std::chrono::seconds(2), "did not end in time");
}

inline future<> arbiter::stop_worker(std::uint64_t process, event_loop::duration grace) {
  auto* w = workers_.find(process);
  if (w == nullptr) return make_ready_future();
  ask_to_stop(*w, grace);
  return w->ended.wait(loop());
}

inline future<> arbiter::stop_workers(event_loop::duration grace) {
  ending_ = true;
  if (first_ == nullptr) return make_ready_future();
  for (auto* w = first_; w != nullptr; w = w->next) ask_to_stop(*w, grace);
  return none_left_.wait(loop());
}

inline future<actor_ref<>> arbiter::spawn_process(detail::birth_request request) {
  name_claim claim;
  if (request.named) claim.take(request.name);
  const auto process = co_await start_worker({});
  const auto node = detail::ref_access::make<detail::node>(
      detail::cell_of(detail::node_id(process), "node"));
  actor_ref<> born;
  std::exception_ptr why;
  try {
    born = co_await detail::ask_patiently<&detail::node::give_birth>(node, std::move(request));
    // It may have ended already; or another thread takes the name in this very moment.
    const auto* alive = workers_.find(process);
    if (alive != nullptr && !alive->leaving) claim.keep(born.id());
  } catch (...) {
    why = std::current_exception();
  }
  if (why != nullptr) {
    try {
      co_await stop_worker(process, {});
    } catch (...) {
      // Cancelled: it is not waited for.
    }
    std::rethrow_exception(why);
  }
  co_return born;
}

namespace detail {

/// The actor of that name in another process of the program.
inline future<actor_ref<>> find_by_arbiter(event_loop&, std::string name) {
  {
    auto& access = peers_access::instance();
    const std::lock_guard lock(access.mutex);
    if (access.loop == nullptr) throw_unknown_actor(name);
  }
  return send<&arbiter::find>(arbiter_ref(), std::move(name));
}

inline const bool names_of_the_program = (find_elsewhere = &find_by_arbiter, true);

}  // namespace detail
}  // namespace pulsar
