// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How the arbiter starts, introduces and buries worker processes.

#include <pulsar/actors/arbiter.hpp>
#include <pulsar/actors/send.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <mutex>
#include <optional>
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
  /// Throws `errc::name_taken`.
  explicit name_claim(const std::string& name)
      : cell_(new detail::remote_cell(registry::instance().next_id(), name)) {
    registry::instance().enter(cell_, true);
  }
  name_claim(const name_claim&) = delete;
  name_claim& operator=(const name_claim&) = delete;
  ~name_claim() {
    if (cell_) registry::instance().leave(*cell_);
  }

  /// The actor has been born; `free_names` is what ends its name.
  void keep(std::uint64_t id) {
    const detail::cell_pointer born(new detail::remote_cell(id, cell_->name));
    registry::instance().leave(*cell_);
    registry::instance().enter(born, true);
    cell_ = {};
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

inline future<std::uint64_t> arbiter::start_worker(worker_options options,
                                                   std::vector<int> inherited,
                                                   exit_callback on_exit) {
  return start(loop(), *this, options, std::move(inherited), std::move(on_exit));
}

inline future<std::uint64_t> arbiter::start(event_loop& loop, arbiter& self,
                                            worker_options options, std::vector<int> inherited,
                                            exit_callback on_exit) {
  if (self.ending_) throw error(errc::spawn_failed, "the program ends: no worker is started");
  const worker_pointer w(new worker_process(self));
  const std::uint64_t serial = ++last_serial_;
  w->number = detail::process_of_worker(serial);
  w->on_exit = std::move(on_exit);
  auto [control, their_control] = socket_pair(SOCK_SEQPACKET);
  auto [stream, their_stream] = socket_pair(SOCK_STREAM);
  w->control = detail::counted_pointer<detail::control_line>(
      new detail::control_line(loop, std::move(control)));

  worker_marker marker;
  marker.control = 3;
  marker.stream = 4;
  marker.serial = serial;
  marker.kind = options.kind;
  marker.ordinal = options.ordinal;
  marker.arbiter = ::getpid();
  marker.inherited = static_cast<unsigned>(inherited.size());
  std::vector<int> descriptors{their_control.get(), their_stream.get()};
  for (const int fd : inherited) descriptors.push_back(fd);
  const std::vector<environment_change> environment{{worker_variable, to_string(marker)}};
  const int blocked[] = {SIGINT, SIGHUP, SIGTERM, SIGQUIT};
  child_options start;
  start.executable = this_process().executable();
  start.arguments = this_process().arguments();
  start.environment = environment;
  start.descriptors = descriptors;
  start.blocked_signals = blocked;
  w->process = spawn_child(start);
  their_control.reset();
  their_stream.reset();

  auto& lines = detail::loop_access::local<detail::peers>(loop);
  self.enter(*w);
  w->greeted.emplace(loop);
  auto greeted = w->greeted->get_future();
  w->control->start(*w);
  lines.add(w->number, std::move(stream));
  watch(loop, self, w).detach();

  auto outcome = co_await as_result(with_timeout(std::move(greeted), options.timeout));
  w->greeted.reset();
  if (!outcome) {
    if (w->process.signal(SIGKILL)) {
      w->gone.emplace_back(loop);
      auto gone = w->gone.back().get_future();
      auto ended = co_await as_result(std::move(gone));
    }
    if (outcome.code() == errc::timed_out) {
      throw error(errc::timed_out,
                  "a worker process did not answer: does main reach pulsar::run, or "
                  "pulsar::serve_if_worker, without waiting?");
    }
    std::rethrow_exception(outcome.exception());
  }
  co_return w->number;
}

inline void arbiter::on_control(worker_process& w, detail::control_message&& m) {
  switch (m.kind) {
    case detail::control_kind::hello: {
      auto difference = image::difference(image::describe(), m.objects);
      if (m.number != detail::wire_version) difference = "it speaks another version of the wire";
      detail::control_message answer;
      answer.kind = difference ? detail::control_kind::refused : detail::control_kind::welcome;
      answer.text = difference.value_or("");
      if (!w.greeted || w.greeted->done()) return distrust(w, "greets a second time");
      w.control->send(answer);
      if (difference) {
        w.greeted->set_exception(
            std::make_exception_ptr(error(errc::incompatible, *difference)));
      } else {
        w.greeted->set_value();
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
  if (how == detail::control_ending::broken) {
    log::error("worker process {} cannot be led any more and is killed", w.process.pid());
    w.process.signal(SIGKILL);
    return;
  }
  // It ends. If it gets stuck on the way, nobody could tell it anything.
  loop().call_later(std::chrono::seconds(5), [number = w.number] {
    auto* late = instance_ == nullptr ? nullptr : instance_->workers_.find(number);
    if (late != nullptr && late->process.signal(SIGKILL)) {
      log::warning("worker process {} was stuck at its end and was killed", late->process.pid());
    }
  });
}

// A worker asks for a line to another process. When both ask at once the second finds that it was
// given one already.
inline void arbiter::introduce(worker_process& asker, std::uint64_t wanted, std::uint64_t had) {
  if (wanted == detail::arbiter_process) {
    if (had > asker.lines) return distrust(asker, "claims lines that it was not given");
    if (asker.lines > had) return;
    try {
      connect(asker.number);
    } catch (...) {
      refuse_line(asker, wanted, detail::take_apart(std::current_exception()));
    }
    return;
  }
  auto* other = workers_.find(wanted);
  if (other == nullptr || other == &asker) {
    detail::control_message m;
    m.kind = detail::control_kind::down;
    m.number = wanted;
    m.text = "it has ended";
    asker.control->send(m);
    return;
  }
  // Noted at the older one.
  auto& older = asker.number < wanted ? asker : *other;
  const auto younger = asker.number < wanted ? wanted : asker.number;
  auto* given = older.introduced;
  while (given != nullptr && given->younger != younger) given = given->next;
  if (given == nullptr) {
    given = older.introduced = new introduction{younger, 0, older.introduced};
  }
  if (had > given->count) return distrust(asker, "claims lines that it was not given");
  if (given->count > had) return;
  std::pair<unique_fd, unique_fd> ends;
  try {
    ends = socket_pair(SOCK_STREAM);
  } catch (...) {
    return refuse_line(asker, wanted, detail::take_apart(std::current_exception()));
  }
  ++given->count;
  give_line(asker, wanted, std::move(ends.first));
  give_line(*other, asker.number, std::move(ends.second));
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

inline future<> arbiter::watch(event_loop& loop, arbiter& self, worker_pointer w) {
  w->exit_watch.emplace(loop.context(), w->process.handle());
  std::optional<exit_status> status;
  while (!status && co_await w->exit_watch->readable()) status = w->process.try_wait();
  w->exit_watch->release();
  if (status) self.on_exit(*w, *status);
}

inline void arbiter::on_exit(worker_process& w, const exit_status& status) {
  const auto keep = detail::share(w);
  leave(w);
  const std::string how = to_string(status);
  w.control->close();
  free_names(w.number);
  for (auto* other = first_; other != nullptr; other = other->next) {
    auto** at = &other->introduced;
    while (*at != nullptr && (*at)->younger != w.number) at = &(*at)->next;
    if (*at != nullptr) delete std::exchange(*at, (*at)->next);
  }
  if (w.greeted && !w.greeted->done()) {
    w.greeted->set_exception(std::make_exception_ptr(
        error(errc::spawn_failed, "a worker process ended before it was ready: " + how)));
  }
  detail::loop_access::local<detail::peers>(loop()).down(w.number, how);
  detail::control_message m;
  m.kind = detail::control_kind::down;
  m.number = w.number;
  m.text = how;
  for (auto* other = first_; other != nullptr; other = other->next) other->control->send(m);
  for (auto& waiting : w.gone) waiting.set_value();
  w.gone.clear();
  if (w.on_exit) std::exchange(w.on_exit, nullptr)(status);
}

inline future<> arbiter::stop_worker(std::uint64_t process, event_loop::duration grace) {
  auto* found = workers_.find(process);
  if (found == nullptr) co_return;
  const auto w = detail::share(*found);
  detail::control_message m;
  m.kind = detail::control_kind::stop;
  m.number = static_cast<std::uint64_t>(grace / std::chrono::milliseconds(1));
  w->control->send(m);
  w->gone.emplace_back(loop());
  auto gone = w->gone.back().get_future();
  // A worker that neither stops nor lets itself be stopped is killed.
  auto killer = loop().call_later(grace + std::chrono::seconds(2), [w] {
    if (w->process.signal(SIGKILL)) {
      log::warning("worker process {} did not end in time and was killed", w->process.pid());
    }
  });
  auto ended = co_await as_result(std::move(gone));
  killer.cancel();
}

inline future<> arbiter::stop_workers(event_loop::duration grace) {
  ending_ = true;
  // All at once: each is asked now, and its end awaited one after another.
  for (const auto* w = first_; w != nullptr; w = w->next) stop_worker(w->number, grace).detach();
  while (first_ != nullptr) {
    first_->gone.emplace_back(loop());
    auto gone = first_->gone.back().get_future();
    co_await std::move(gone);
  }
}

inline future<actor_ref<>> arbiter::spawn_process(detail::birth_request request) {
  std::optional<name_claim> claim;
  if (request.named) claim.emplace(request.name);
  const auto process = co_await start_worker({}, {}, {});
  const auto node = detail::ref_access::make<detail::node>(
      detail::cell_of(detail::node_id(process), "node"));
  auto born = co_await as_result(
      detail::ask_patiently<&detail::node::give_birth>(node, std::move(request)));
  if (!born) {
    auto gone = co_await as_result(stop_worker(process, {}));
    std::rethrow_exception(born.exception());
  }
  std::exception_ptr why;
  try {
    // It may have ended already.
    const auto* alive = workers_.find(process);
    if (claim && alive != nullptr && !alive->leaving) claim->keep(born->id());
  } catch (...) {
    why = std::current_exception();  // another thread has taken the name in this very moment
  }
  if (why != nullptr) {
    auto gone = co_await as_result(stop_worker(process, {}));
    std::rethrow_exception(why);
  }
  co_return *born;
}

namespace detail {

/// The actor of that name in another process of the program.
inline future<actor_ref<>> find_by_arbiter(event_loop&, std::string name) {
  {
    auto& access = peers_access::instance();
    const std::lock_guard lock(access.mutex);
    if (access.loop == nullptr) co_return actor_ref<>();
  }
  const auto root = arbiter_ref();
  const auto id = co_await send<&arbiter::find>(root, name);
  if (id == 0) co_return actor_ref<>();
  co_return ref_access::make(cell_of(id, name));
}

inline const bool names_of_the_program = (find_elsewhere = &find_by_arbiter, true);

}  // namespace detail
}  // namespace pulsar
