// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The lines of this process to the others of its program, and references to actors there.

#include <pulsar/actors/detail/link.hpp>
#include <pulsar/core/timeout.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pulsar::detail {

/// Belongs to the main loop of the process.
class peers {
 public:
  /// After the end of a line its sends wait so long for the reason.
  static constexpr auto patience = std::chrono::milliseconds(250);

  explicit peers(event_loop& loop) : loop_(loop) {}
  peers(const peers&) = delete;
  peers& operator=(const peers&) = delete;
  ~peers() {
    for (auto& [process, line] : lines_) line->close();
  }

  /// Asks for a line to a process that has none; the answer is `add` or `down`.
  void on_unknown(std::function<void(std::uint64_t process)> introduce) {
    introduce_ = std::move(introduce);
  }

  /// Takes the socket of a new line. Commands that waited for it go first, in their order.
  void add(std::uint64_t process, unique_fd socket) {
    if (gone_.contains(process)) return;
    auto line = std::make_shared<link>(loop_, std::move(socket), process,
                                       [this, process](std::string why) { closed(process, why); });
    lines_[process] = line;
    line->start();
    const auto waiting = waiting_.extract(process);
    if (!waiting) return;
    for (auto& c : waiting.mapped()) {
      line->post(c.target, c.command, std::move(c.arguments), c.deadline, std::move(c.sink));
    }
  }

  /// The process has ended: what is sent to it, or was and waits for an answer, fails with `why`.
  void down(std::uint64_t process, const std::string& why) {
    if (!gone_.emplace(process, why).second) return;
    const auto waiting = waiting_.extract(process);
    if (waiting) {
      for (auto& c : waiting.mapped()) fail(process, c.sink);
    }
    const auto found = lines_.find(process);
    // While its line still delivers, the reason waits for the end.
    if (found != lines_.end() && !found->second->open()) drop(process, why);
  }

  void post(std::uint64_t target, std::string_view command, buffer arguments,
            event_loop::time_point deadline, wire_sink sink) {
    const auto process = registry::process_of(target);
    if (const auto line = lines_.find(process); line != lines_.end()) {
      return line->second->post(target, command, std::move(arguments), deadline, std::move(sink));
    }
    if (gone_.contains(process) || !introduce_) return fail(process, sink);
    const bool first = !waiting_.contains(process);
    waiting_[process].push_back({target, std::string(command), std::move(arguments), deadline,
                                 std::move(sink)});
    if (first) introduce_(process);
  }

  bool drained() const noexcept {
    for (const auto& [process, line] : lines_) {
      if (line->open() && !line->drained()) return false;
    }
    return true;
  }

  event_loop& loop() noexcept { return loop_; }

 private:
  struct postponed {
    std::uint64_t target;
    std::string command;
    buffer arguments;
    event_loop::time_point deadline;
    wire_sink sink;
  };

  void closed(std::uint64_t process, const std::string& why) {
    if (const auto known = gone_.find(process); known != gone_.end()) {
      return drop(process, known->second);
    }
    loop_.call_later(patience, [this, process, why] {
      const auto known = gone_.find(process);
      drop(process, known != gone_.end() ? known->second : why);
    });
  }

  void drop(std::uint64_t process, const std::string& why) {
    const auto line = lines_.extract(process);
    if (line) line.mapped()->fail_pending(why);
  }

  void fail(std::uint64_t process, const wire_sink& sink) const {
    const auto known = gone_.find(process);
    const std::string why = known == gone_.end() ? "it is not known here" : known->second;
    if (!sink) {
      log::warning("a tell to process {} failed: {}", process, why);
      return;
    }
    sink({{},
          {"pulsar::error", "pulsar", static_cast<int>(errc::actor_gone),
           fmt::format("process {} is gone: {}", process, why)}});
  }

  event_loop& loop_;
  std::function<void(std::uint64_t)> introduce_;
  std::map<std::uint64_t, std::shared_ptr<link>> lines_;
  std::map<std::uint64_t, std::vector<postponed>> waiting_;
  std::unordered_map<std::uint64_t, std::string> gone_;
};

/// How any thread of this process reaches `peers`; empty in a program without an arbiter.
struct peers_access {
  std::mutex mutex;
  std::shared_ptr<loop_inbox> inbox;
  event_loop* loop = nullptr;

  static peers_access& instance() {
    static peers_access here;
    return here;
  }
};

/// Makes the lines of this process known while it lives.
class main_loop_scope {
 public:
  explicit main_loop_scope(event_loop& loop) {
    auto& access = peers_access::instance();
    const std::lock_guard lock(access.mutex);
    access.inbox = loop_access::inbox(loop);
    access.loop = &loop;
  }
  main_loop_scope(const main_loop_scope&) = delete;
  main_loop_scope& operator=(const main_loop_scope&) = delete;
  ~main_loop_scope() {
    auto& access = peers_access::instance();
    const std::lock_guard lock(access.mutex);
    access.inbox = nullptr;
    access.loop = nullptr;
  }
};

/// An actor of another process.
class remote_cell final : public actor_cell {
 public:
  remote_cell(std::uint64_t i, std::string n) : actor_cell(i, std::move(n), nullptr) {}

  void post_encoded(std::string_view command, buffer arguments, event_loop::time_point deadline,
                    wire_sink sink) override {
    auto& access = peers_access::instance();
    std::shared_ptr<loop_inbox> way;
    event_loop* main = nullptr;
    {
      const std::lock_guard lock(access.mutex);
      way = access.inbox;
      main = access.loop;
    }
    if (main != nullptr && event_loop::running() == main) {
      return loop_access::local<peers>(*main).post(id, command, std::move(arguments), deadline,
                                                   std::move(sink));
    }
    auto refused = sink;
    const bool posted =
        way != nullptr &&
        post_to(*way, [main, to = id, name = std::string(command), args = std::move(arguments),
                       deadline, s = std::move(sink)]() mutable {
          loop_access::local<peers>(*main).post(to, name, std::move(args), deadline, std::move(s));
        });
    if (!posted && refused) {
      refused({{},
               {"pulsar::error", "pulsar", static_cast<int>(errc::actor_gone),
                "'" + name + "' is in another process and pulsar::run has ended"}});
    }
  }
};

/// A reference to the actor of that number, wherever it lives.
inline cell_pointer cell_of(std::uint64_t id, std::string name) {
  if (registry::process_of(id) == registry::instance().process()) {
    return ref_access::pointer(registry::instance().find(id));
  }
  return cell_pointer(new remote_cell(id, std::move(name)));
}

}  // namespace pulsar::detail
