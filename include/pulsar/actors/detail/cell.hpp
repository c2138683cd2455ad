// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What the references to one actor share, and what can be delivered to it.

#include <pulsar/core/buffer.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/recycler.hpp>
#include <pulsar/core/event_loop.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar {
class actor_base;
}

namespace pulsar::detail {

/// So much of a command's name goes into the log: it may be a stranger's.
inline constexpr std::size_t most_shown = 100;

class actor_cell;

/// A failure on its way between threads and processes; see failure.hpp.
struct remote_failure {
  std::string type;      // of the exception, demangled; empty: no failure
  std::string category;  // of its error code; empty: it has none
  std::int32_t value = 0;
  std::string text;
};

/// The outcome of a command in encoded form.
struct wire_outcome {
  buffer value;
  remote_failure failure;
};

/// Takes the outcomes of encoded commands, in the threads of the actors that ran them.
class outcome_receiver : public counted {
 public:
  /// `number` is what the receiver knows the command by.
  virtual void receive(std::uint64_t number, wire_outcome&& outcome) = 0;
};

/// Where the outcome of one encoded command goes; empty for a tell.
class wire_sink {
 public:
  wire_sink() noexcept = default;
  wire_sink(outcome_receiver& to, std::uint64_t number) noexcept
      : to_(share(to)), number_(number) {}

  explicit operator bool() const noexcept { return static_cast<bool>(to_); }
  void operator()(wire_outcome&& outcome) const { to_->receive(number_, std::move(outcome)); }

  outcome_receiver& receiver() const noexcept { return *to_; }
  std::uint64_t number() const noexcept { return number_; }

 private:
  counted_pointer<outcome_receiver> to_;
  std::uint64_t number_ = 0;
};

/// A command and its arguments, for one actor. Owned by whoever is to `run` or to `refuse` it,
/// which ends it.
struct invocation : task_node, recycled {
  explicit invocation(actor_cell* t) noexcept : task_node(&arrive), target(t) {}

  /// In the loop of the actor.
  virtual void run(actor_base& actor) = 0;
  virtual void refuse(std::exception_ptr why) noexcept = 0;
  /// What the chain of the sender, which runs, may take is less than its own time, perhaps.
  virtual void limit() noexcept {}
  /// Asks a command that is under way to end.
  virtual void cancel() noexcept {}
  /// Frees a command that is under way: its loop closes.
  virtual void abandon() noexcept {}

  actor_cell* target;
  event_loop::time_point deadline = event_loop::time_point::max();
  bool expired = false;  // the sender has given up waiting
  bool control = false;  // goes past the mailbox and its bound
  invocation* previous_running = nullptr;
  invocation* next_running = nullptr;

 protected:
  virtual ~invocation() = default;

 private:
  static void arrive(task_node* node, bool drop);
};

/// How an encoded command becomes an invocation. Throws `errc::malformed` for bad arguments.
using decode_command = invocation* (*)(actor_cell& target, std::span<const std::byte> arguments,
                                       wire_sink sink);

/// What a command is called from outside this process.
struct wire_command {
  std::string_view name;
  decode_command decode;
};

/// Lives as long as the actor or a reference to it. `actor` belongs to the thread of `loop`; the
/// rest never changes.
class actor_cell : task_node {
 public:
  actor_cell(std::uint64_t i, std::string n, event_loop* l)
      : task_node(&free_later),
        id(i),
        name(std::move(n)),
        loop(l),
        inbox(l != nullptr ? loop_access::inbox(*l) : counted_pointer<loop_inbox>()) {}
  virtual ~actor_cell() = default;

  void take() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void drop() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    // Behind every message that was sent through a reference, for those name the cell. The loop may
    // free the cell, and end, while `push` is still at work: hence the copy.
    const counted_pointer<loop_inbox> way = inbox;
    if (way == nullptr || !way->push(this)) delete this;
  }

  /// Is it an actor of this process?
  bool local() const noexcept { return loop != nullptr; }

  /// Sends a command in encoded form; `sink` may be called from another thread for actors of other
  /// processes. A failure to send goes to the sink, or, without one, to the log. Any thread.
  virtual void post_encoded(std::string_view command,
                            buffer arguments,
                            event_loop::time_point deadline,
                            wire_sink sink) = 0;

  const std::uint64_t id;
  const std::string name;
  event_loop* const loop;  // null: the actor lives in another process
  const counted_pointer<loop_inbox> inbox;
  actor_base* actor = nullptr;
  actor_cell* next_of_hash = nullptr;  // the registry's

 private:
  static void free_later(task_node* node, bool) { delete static_cast<actor_cell*>(node); }

  std::atomic<std::uint32_t> references_{1};
};

using cell_pointer = counted_pointer<actor_cell>;

/// A command in encoded form that waits for its way.
struct encoded_command : task_node, recycled {
  encoded_command(void (*way)(task_node*, bool), std::uint64_t t, std::string_view c, buffer&& a,
                  event_loop::time_point d, wire_sink&& s)
      : task_node(way),
        target(t),
        command(c),
        arguments(std::move(a)),
        deadline(d),
        sink(std::move(s)) {}

  std::uint64_t target;
  std::string command;
  buffer arguments;
  event_loop::time_point deadline;
  wire_sink sink;
};

}  // namespace pulsar::detail
