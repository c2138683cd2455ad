// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The lines of this process to the others of its program, and references to actors there.

#include <pulsar/actors/detail/link.hpp>
#include <pulsar/core/timeout.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
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
  /// How many processes that have ended are remembered, with how they did.
  static constexpr std::size_t most_gone = 1024;

  explicit peers(event_loop& loop) : loop_(loop) {}
  peers(const peers&) = delete;
  peers& operator=(const peers&) = delete;
  ~peers() {
    const remote_failure why{"pulsar::error", "pulsar", static_cast<int>(errc::actor_gone),
                             "this process ends"};
    while (!lines_.empty()) drop(lines_.begin()->first, why);
    for (auto& [process, q] : waiting_) {
      for (auto& c : q.commands) refuse(c.command, c.sink, why);
    }
  }

  /// Asks for a line to a process that has none; the answer is `add` or `down`. `had` is how many
  /// there were: one that is on its way already needs no asking for.
  void on_unknown(std::function<void(std::uint64_t process, std::uint64_t had)> introduce) {
    introduce_ = std::move(introduce);
  }

  /// Takes the socket of a new line. Commands that waited for it go first, in their order. It
  /// replaces one that stands: the other end of that was closed.
  void add(std::uint64_t process, unique_fd socket) {
    if (gone_.contains(process)) return;
    if (lines_.contains(process)) drop(process, broken(process, "it was closed"));
    const auto serial = ++last_line_;
    ++had_[process];
    auto made = std::make_shared<link>(
        loop_, std::move(socket), process,
        [this, process, serial](link::ending how, const std::string& why) {
          closed(process, serial, how, why);
        });
    lines_[process] = {made, serial, {}};
    made->start();
    const auto waiting = waiting_.extract(process);
    if (!waiting) return;
    for (auto& c : waiting.mapped().commands) {
      made->post(c.target, c.command, std::move(c.arguments), c.deadline, std::move(c.sink));
    }
  }

  /// The process has ended: what is sent to it, or was and waits for an answer, fails with `why`.
  void down(std::uint64_t process, const std::string& why) {
    if (!gone_.emplace(process, why).second) return;
    gone_order_.push_back(process);
    had_.erase(process);
    if (gone_order_.size() > most_gone) {
      gone_.erase(gone_order_.front());
      gone_order_.pop_front();
    }
    if (const auto waiting = waiting_.extract(process)) {
      for (auto& c : waiting.mapped().commands) refuse(c.command, c.sink, gone(process, why));
    }
    const auto found = lines_.find(process);
    if (found == lines_.end()) return;
    if (!found->second.link->open()) return drop(process, gone(process, why));
    // The reason waits for what the line still delivers, but not for a stranger who holds its
    // other end: a process that the dead one has forked.
    loop_.call_later(patience, [this, process, serial = found->second.serial, why] {
      if (is_line(process, serial)) drop(process, gone(process, why));
    });
  }

  void post(std::uint64_t target, std::string_view command, buffer arguments,
            event_loop::time_point deadline, wire_sink sink) {
    const auto process = registry::process_of(target);
    if (const auto found = lines_.find(process); found != lines_.end()) {
      auto& l = found->second;
      if (l.link->open()) {
        return l.link->post(target, command, std::move(arguments), deadline, std::move(sink));
      }
      if (!sink) return refuse(command, sink, broken(process, "it was closed"));
      return l.late.push_back(std::move(sink));  // for the reason
    }
    if (const auto known = gone_.find(process); known != gone_.end()) {
      return refuse(command, sink, gone(process, known->second));
    }
    if (!introduce_) return refuse(command, sink, gone(process, "it is not known here"));
    auto& waiting = waiting_[process];
    const bool first = waiting.commands.empty();
    const std::size_t size = arguments.size() + command.size() + sizeof(postponed);
    if (waiting.bytes + size > most_unsent) {
      return refuse(command, sink,
                    {"pulsar::error", "pulsar", static_cast<int>(errc::mailbox_full),
                     fmt::format("{} bytes wait for a link to process {} already", waiting.bytes,
                                 process)});
    }
    waiting.bytes += size;
    waiting.commands.push_back(
        {target, std::string(command), std::move(arguments), deadline, std::move(sink)});
    if (first) introduce_(process, had_[process]);
  }

  /// Is all that was sent on its way?
  bool drained() const noexcept {
    for (const auto& [process, l] : lines_) {
      if (l.link->open() && !l.link->drained()) return false;
    }
    return true;
  }

  event_loop& loop() noexcept { return loop_; }

 private:
  struct line {
    std::shared_ptr<detail::link> link;
    std::uint64_t serial = 0;
    std::vector<wire_sink> late;  // came after its end, before the reason
  };
  struct postponed {
    std::uint64_t target;
    std::string command;
    buffer arguments;
    event_loop::time_point deadline;
    wire_sink sink;
  };
  struct queue {
    std::vector<postponed> commands;
    std::size_t bytes = 0;
  };

  static remote_failure gone(std::uint64_t process, const std::string& why) {
    return {"pulsar::error", "pulsar", static_cast<int>(errc::actor_gone),
            fmt::format("process {} is gone: {}", process, why)};
  }
  static remote_failure broken(std::uint64_t process, const std::string& why) {
    return {"pulsar::error", "pulsar", static_cast<int>(errc::actor_gone),
            fmt::format("the link to process {} has broken: {}", process, why)};
  }

  bool is_line(std::uint64_t process, std::uint64_t serial) const {
    const auto found = lines_.find(process);
    return found != lines_.end() && found->second.serial == serial;
  }

  void closed(std::uint64_t process, std::uint64_t serial, link::ending how,
              const std::string& why) {
    if (!is_line(process, serial)) return;
    if (const auto known = gone_.find(process); known != gone_.end()) {
      return drop(process, gone(process, known->second));
    }
    if (how == link::ending::broken) return drop(process, broken(process, why));
    loop_.call_later(patience, [this, process, serial, why] {
      if (is_line(process, serial)) drop(process, broken(process, why));
    });
  }

  void drop(std::uint64_t process, const remote_failure& why) {
    const auto dropped = lines_.extract(process);
    auto& l = dropped.mapped();
    if (l.link->open()) l.link->close();
    l.link->fail_pending(why.text);
    for (auto& sink : l.late) sink({{}, why});
  }

  static void refuse(std::string_view command, const wire_sink& sink, const remote_failure& why) {
    if (sink) return sink({{}, why});
    log::warning("a tell of '{}' failed: {}", command, why.text);
  }

  event_loop& loop_;
  std::function<void(std::uint64_t, std::uint64_t)> introduce_;
  std::map<std::uint64_t, line> lines_;
  std::map<std::uint64_t, queue> waiting_;
  std::unordered_map<std::uint64_t, std::string> gone_;
  std::deque<std::uint64_t> gone_order_;
  std::unordered_map<std::uint64_t, std::uint64_t> had_;  // lines to each process, ever
  std::uint64_t last_line_ = 0;
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
    if (registry::process_of(id) == registry::instance().process()) {
      return refuse(command, sink, "'" + name + "' has ended, or is not born yet");
    }
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
    if (!posted) {
      refuse(command, refused, "'" + name + "' is in another process and pulsar::run has ended");
    }
  }

 private:
  static void refuse(std::string_view command, const wire_sink& sink, std::string why) {
    if (sink) {
      sink({{}, {"pulsar::error", "pulsar", static_cast<int>(errc::actor_gone), std::move(why)}});
    } else {
      log::warning("a tell of '{}' failed: {}", command, why);
    }
  }
};

/// A reference to the actor of that number, wherever it lives.
inline cell_pointer cell_of(std::uint64_t id, std::string name) {
  if (registry::process_of(id) == registry::instance().process()) {
    if (const auto here = registry::instance().find(id)) return ref_access::pointer(here);
  }
  return cell_pointer(new remote_cell(id, std::move(name)));
}

}  // namespace pulsar::detail
