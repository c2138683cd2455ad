// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How the arbiter starts, introduces and buries worker processes.

#include <pulsar/actors/arbiter.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/core/when_all.hpp>

#include <sys/socket.h>
#include <unistd.h>

namespace pulsar {

inline future<std::uint64_t> arbiter::start_worker(worker_options options,
                                                   std::vector<int> inherited,
                                                   exit_callback on_exit) {
  return start(loop(), *this, options, std::move(inherited), std::move(on_exit));
}

inline future<std::uint64_t> arbiter::start(event_loop& loop, arbiter& self,
                                            worker_options options, std::vector<int> inherited,
                                            exit_callback on_exit) {
  auto w = std::make_shared<worker_process>();
  const std::uint64_t serial = ++self.last_serial_;
  w->number = detail::process_of_worker(serial);
  w->on_exit = std::move(on_exit);
  auto [control, their_control] = socket_pair(SOCK_SEQPACKET);
  auto [stream, their_stream] = socket_pair(SOCK_STREAM);

  worker_marker marker;
  marker.control = 3;
  marker.stream = 4;
  marker.serial = serial;
  marker.kind = options.kind;
  marker.ordinal = options.ordinal;
  marker.arbiter = ::getpid();
  std::vector<int> descriptors{their_control.get(), their_stream.get()};
  descriptors.insert(descriptors.end(), inherited.begin(), inherited.end());
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
  self.workers_.emplace(w->number, w);
  w->greeted.emplace(loop);
  auto greeted = w->greeted->get_future();
  w->control = std::make_shared<detail::control_line>(loop, std::move(control));
  w->control->start([&self, weak = std::weak_ptr(w)](detail::control_message&& m,
                                                     std::vector<unique_fd>&&) {
    if (const auto alive = weak.lock()) self.on_control(alive, std::move(m));
  },
                    [] {});
  lines.add(w->number, std::move(stream));
  watch(loop, self, w).detach();

  auto outcome = co_await as_result(with_timeout(std::move(greeted), options.timeout));
  w->greeted.reset();
  if (!outcome) {
    w->process.signal(SIGKILL);
    if (outcome.code() == errc::timed_out) {
      throw error(errc::timed_out,
                  "a worker process did not answer: does main reach pulsar::run, or "
                  "pulsar::serve_if_worker, without waiting?");
    }
    std::rethrow_exception(outcome.exception());
  }
  co_return w->number;
}

inline void arbiter::on_control(const std::shared_ptr<worker_process>& w,
                                detail::control_message&& m) {
  switch (m.kind) {
    case detail::control_kind::hello: {
      auto difference = image::difference(image::describe(), m.objects);
      if (m.number != detail::wire_version) difference = "it speaks another version of the wire";
      detail::control_message answer;
      answer.kind = difference ? detail::control_kind::refused : detail::control_kind::welcome;
      answer.text = difference.value_or("");
      w->control->send(answer);
      if (!w->greeted || w->greeted->done()) return;
      if (difference) {
        w->greeted->set_exception(
            std::make_exception_ptr(error(errc::incompatible, *difference)));
      } else {
        w->greeted->set_value();
      }
      break;
    }
    case detail::control_kind::introduce: introduce(*w, m.number); break;
    default:
      log::error("worker process {} sent a control packet of unknown kind", w->process.pid());
      break;
  }
}

inline void arbiter::introduce(worker_process& asker, std::uint64_t wanted) {
  const auto other = workers_.find(wanted);
  detail::control_message m;
  if (other == workers_.end() || other->second->number == asker.number) {
    m.kind = detail::control_kind::down;
    m.number = wanted;
    m.text = "it has ended";
    asker.control->send(m);
    return;
  }
  auto [one, two] = socket_pair(SOCK_STREAM);
  m.kind = detail::control_kind::line;
  m.number = wanted;
  asker.control->send(m, std::move(one));
  m.number = asker.number;
  other->second->control->send(m, std::move(two));
}

inline future<> arbiter::watch(event_loop& loop, arbiter& self,
                               std::shared_ptr<worker_process> w) {
  w->exit_watch =
      std::make_unique<asio::posix::stream_descriptor>(loop.context(), w->process.handle());
  std::optional<exit_status> status;
  while (!status) {
    auto waited =
        co_await w->exit_watch->async_wait(asio::posix::descriptor_base::wait_read, use_result);
    if (std::get<0>(waited)) break;
    status = w->process.try_wait();
  }
  w->exit_watch->release();
  if (status) self.on_exit(*w, *status);
}

inline void arbiter::on_exit(worker_process& w, const exit_status& status) {
  const auto keep = workers_.extract(w.number);
  const std::string how = to_string(status);
  w.control->close();
  std::erase_if(names_, [&](const auto& entry) {
    return registry::process_of(entry.second) == w.number;
  });
  if (w.greeted && !w.greeted->done()) {
    w.greeted->set_exception(std::make_exception_ptr(
        error(errc::spawn_failed, "a worker process ended before it was ready: " + how)));
  }
  detail::loop_access::local<detail::peers>(loop()).down(w.number, how);
  detail::control_message m;
  m.kind = detail::control_kind::down;
  m.number = w.number;
  m.text = how;
  for (auto& [process, other] : workers_) other->control->send(m);
  for (auto& waiting : w.gone) waiting.set_value();
  w.gone.clear();
  if (w.on_exit) std::exchange(w.on_exit, nullptr)(status);
}

inline future<> arbiter::stop_worker(std::uint64_t process, event_loop::duration grace) {
  const auto found = workers_.find(process);
  if (found == workers_.end()) co_return;
  const auto w = found->second;
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
  while (!workers_.empty()) {
    std::vector<future<>> all;
    for (const auto& [process, w] : workers_) all.push_back(stop_worker(process, grace));
    co_await when_all(std::move(all));
  }
}

inline future<detail::birth_notice> arbiter::spawn_process(detail::birth_request request) {
  if (request.named && find(request.name) != 0) {
    throw error(errc::name_taken, "an actor named '" + request.name + "' is alive already");
  }
  const bool named = request.named;
  const auto process = co_await start_worker({}, {}, {});
  const auto node = detail::ref_access::make<detail::node>(
      detail::cell_of(detail::node_id(process), "node"));
  auto born = co_await as_result(send<&detail::node::give_birth>(node, pulsar::moved(request)));
  if (!born) {
    stop_worker(process, {}).detach();
    std::rethrow_exception(born.exception());
  }
  if (named) names_.emplace(born->name, born->id);
  co_return *born;
}

}  // namespace pulsar
