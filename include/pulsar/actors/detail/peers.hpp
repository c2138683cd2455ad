// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The lines of this process to the others of its program, and references to actors there.

#include <pulsar/actors/detail/link.hpp>
#include <pulsar/core/timeout.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar::detail {

/// Belongs to the main loop of the process.
class peers final : public loop_extension, link::owner {
 public:
  /// After the end of a line its sends wait so long for the reason.
  static constexpr auto patience = std::chrono::milliseconds(250);
  /// How many processes that have ended are remembered, with how they did.
  static constexpr std::size_t most_gone = 1024;

  /// Asks for a line to a process that has none; the answer is `add` or `down`. `had` is how many
  /// there were: one that is on its way already needs no asking for.
  class introducer {
   public:
    virtual void introduce(std::uint64_t process, std::uint64_t had) = 0;

   protected:
    ~introducer() = default;
  };

  explicit peers(event_loop& loop) : loop_(loop) {}
  peers(const peers&) = delete;
  peers& operator=(const peers&) = delete;
  ~peers() override {
    const remote_failure why = failure_of(errc::actor_gone, "this process ends");
    introducer_ = nullptr;
    std::size_t at = 0;
    while (auto* p = known_.next(at)) {
      p->gone = true;  // for those who send again
      if (p->line) drop(*p, why);
      refuse_waiting(*p, why);
      known_.erase(p->process);
      delete p;
      at = 0;
    }
  }

  /// Who is asked; none: a process without a line is gone.
  void on_unknown(introducer* who) noexcept { introducer_ = who; }

  /// Takes the socket of a new line. Commands that waited for it go first, in their order. It
  /// replaces one that stands: the other end of that was closed.
  void add(std::uint64_t process, unique_fd socket) {
    peer& p = of(process);
    if (p.gone) return;
    if (p.line) drop(p, broken(process, "it was closed"));
    ++p.had;
    try {
      p.line = counted_pointer<link>(new link(loop_, std::move(socket), process, this));
      p.line->start();
    } catch (...) {
      p.line = {};
      refuse_waiting(p, unreachable(process, take_apart(std::current_exception())));
      throw;
    }
    const auto line = p.line;
    while (auto* c = static_cast<encoded_command*>(p.waiting.pop())) {
      line->post(c->target, c->command, c->arguments, c->deadline, std::move(c->sink));
      delete c;
    }
    p.waiting_bytes = 0;
  }

  /// There is no line to the process now, for the reason `why`; the next command asks again. `lost`:
  /// one was given, and did not arrive.
  void unconnected(std::uint64_t process, const remote_failure& why, bool lost) {
    peer& p = of(process);
    if (p.gone) return;
    if (lost) ++p.had;
    refuse_waiting(p, unreachable(process, why));
  }

  /// The process has ended: what is sent to it, or was and waits for an answer, fails with `why`.
  void down(std::uint64_t process, const std::string& why) {
    peer& p = of(process);
    if (p.gone) return;
    p.gone = true;
    p.why = why;
    p.had = 0;
    remember(p);
    refuse_waiting(p, gone(process, why));
    if (!p.line) return;
    if (!p.line->open()) return drop(p, gone(process, why));
    // The reason waits for what the line still delivers, but not for a stranger who holds its
    // other end: a process that the dead one has forked.
    drop_later(p);
  }

  void post(std::uint64_t target, std::string_view command, buffer&& arguments,
            event_loop::time_point deadline, wire_sink&& sink) {
    const auto process = registry::process_of(target);
    if (introducer_ == nullptr && known_.find(process) == nullptr) {
      return refuse(command, sink, gone(process, "it is not known here"));
    }
    peer& p = of(process);
    if (p.line) {
      if (p.line->open()) {
        return p.line->post(target, command, arguments, deadline, std::move(sink));
      }
      if (!sink) return refuse(command, sink, broken(process, "it was closed"));
      p.late.push(new encoded_command(nullptr, target, command, {}, deadline, std::move(sink)));
      return;
    }
    if (p.gone) return refuse(command, sink, gone(process, p.why));
    if (introducer_ == nullptr) return refuse(command, sink, gone(process, "it is not known here"));
    const bool first = p.waiting.empty();
    const std::size_t size = arguments.size() + command.size() + sizeof(encoded_command);
    if (p.waiting_bytes + size > most_unsent) {
      return refuse(command, sink,
                    failure_of(errc::mailbox_full,
                               fmt::format("{} bytes wait for a link to process {} already",
                                           p.waiting_bytes, process)));
    }
    p.waiting_bytes += size;
    p.waiting.push(new encoded_command(nullptr, target, command, std::move(arguments), deadline,
                                       std::move(sink)));
    if (!first) return;
    try {
      introducer_->introduce(process, p.had);
    } catch (...) {
      const auto why = take_apart(std::current_exception());
      log::error("no line to process {}: {}", process, why.text);
      unconnected(process, why, false);
    }
  }

  /// Is all that was sent on its way?
  bool drained() const noexcept {
    std::size_t at = 0;
    while (const auto* p = known_.next(at)) {
      if (p->line && p->line->open() && !p->line->drained()) return false;
    }
    return true;
  }

  event_loop& loop() noexcept { return loop_; }

 private:
  // What is known of one other process.
  struct peer : timer_node {
    explicit peer(std::uint64_t p) noexcept : timer_node(&lose_patience), process(p) {}

    const std::uint64_t process;
    counted_pointer<link> line;
    std::uint64_t had = 0;  // lines, ever
    task_queue late;     // encoded commands that came after its end, before the reason
    task_queue waiting;  // those that came before there was one
    std::size_t waiting_bytes = 0;
    bool gone = false;  // it has ended, `why` says how
    std::string why;
    peer* next_gone = nullptr;
  };

  peer& of(std::uint64_t process) {
    if (auto* known = known_.find(process)) return *known;
    auto* made = new peer(process);
    known_.insert(process, made);
    return *made;
  }

  // Those that have ended stand in a list, the first to be forgotten first.
  void remember(peer& p) {
    *last_gone_ = &p;
    last_gone_ = &p.next_gone;
    if (++gone_count_ <= most_gone) return;
    --gone_count_;
    peer* oldest = first_gone_;
    first_gone_ = oldest->next_gone;
    if (oldest->line) drop(*oldest, gone(oldest->process, oldest->why));
    known_.erase(oldest->process);
    delete oldest;
  }

  static remote_failure gone(std::uint64_t process, const std::string& why) {
    return failure_of(errc::actor_gone, fmt::format("process {} is gone: {}", process, why));
  }
  static remote_failure broken(std::uint64_t process, const std::string& why) {
    return failure_of(errc::actor_gone,
                      fmt::format("the link to process {} has broken: {}", process, why));
  }

  // It lives, but cannot be reached.
  static remote_failure unreachable(std::uint64_t process, remote_failure why) {
    why.text = fmt::format("there is no line to process {}: {}", process, why.text);
    return why;
  }

  void on_closed(link& which, link::ending how, const std::string& why) override {
    auto* p = known_.find(which.peer());
    if (p == nullptr || p->line.get() != &which) return;
    if (p->gone) return drop(*p, gone(p->process, p->why));
    if (how == link::ending::broken) return drop(*p, broken(p->process, why));
    drop_later(*p);
  }

  // Ends the line when the reason has had its time.
  void drop_later(peer& p) { loop_access::arm_after(loop_, p, patience); }
  static void lose_patience(timer_node* node, bool loop_closes) {
    auto& p = static_cast<peer&>(*node);
    if (loop_closes) return;
    drop(p, p.gone ? gone(p.process, p.why) : broken(p.process, "it has closed its end"));
  }

  static void drop(peer& p, const remote_failure& why) {
    const auto line = std::move(p.line);
    p.cancel();
    if (line->open()) line->close();
    line->fail_pending(why.text);
    refuse_all(p.late, why);
  }

  static void refuse_waiting(peer& p, const remote_failure& why) {
    p.waiting_bytes = 0;
    refuse_all(p.waiting, why);
  }
  static void refuse_all(task_queue& commands, const remote_failure& why) {
    while (auto* c = static_cast<encoded_command*>(commands.pop())) {
      refuse(c->command, c->sink, why);
      delete c;
    }
  }

  event_loop& loop_;
  introducer* introducer_ = nullptr;
  number_map<peer> known_;
  peer* first_gone_ = nullptr;
  peer** last_gone_ = &first_gone_;
  std::size_t gone_count_ = 0;
};

/// How any thread of this process reaches `peers`; empty in a program without an arbiter.
struct peers_access {
  std::mutex mutex;
  counted_pointer<loop_inbox> inbox;
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
      return refuse(command, sink, "' has ended, or is not born yet");
    }
    auto& access = peers_access::instance();
    counted_pointer<loop_inbox> way;
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
    if (way != nullptr) {
      auto* one = new relayed(*main, id, command, std::move(arguments), deadline, std::move(sink));
      if (way->push(one)) return;
      sink = std::move(one->sink);
      delete one;
    }
    refuse(command, sink, "' is in another process and pulsar::run has ended");
  }

 private:
  // On its way to the main loop.
  struct relayed : encoded_command {
    relayed(event_loop& m, std::uint64_t t, std::string_view c, buffer&& a,
            event_loop::time_point d, wire_sink&& s)
        : encoded_command(&run, t, c, std::move(a), d, std::move(s)), main(m) {}
    static void run(task_node* node, bool drop) {
      auto* self = static_cast<relayed*>(node);
      if (!drop) {
        loop_access::local<peers>(self->main)
            .post(self->target, self->command, std::move(self->arguments), self->deadline,
                  std::move(self->sink));
      }
      delete self;
    }
    event_loop& main;
  };

  void refuse(std::string_view command, const wire_sink& sink, const char* why) const {
    detail::refuse(command, sink, failure_of(errc::actor_gone, "'" + name + why));
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
