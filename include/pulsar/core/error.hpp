// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What can go wrong: `errc`, its category, and `error`, the exception that carries it.
///
///     try {
///       co_await send(bank, "deposit"_cmd, "ann", 250);
///     } catch (const pulsar::error& e) {
///       if (e.code() == pulsar::errc::mailbox_full) back_off();
///     }
///
/// `errc::cancelled` and `errc::timed_out` also equal their `std::errc` counterparts.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace pulsar {

/// The failures that pulsar itself reports; those of the system keep their own `std::error_code`.
enum class errc {
  /// A promise was settled twice, or a future was taken twice.
  already_called = 1,
  /// The result of a future was asked for before it was there.
  not_ready,
  /// The promise was destroyed before it was settled.
  broken_promise,
  /// The operation was cancelled.
  cancelled,
  /// The deadline passed first.
  timed_out,
  /// No event loop can be found for what was called here.
  no_loop,
  /// A future was handed to a loop it is not bound to.
  wrong_loop,
  /// The loop runs already, or another one runs in this thread.
  already_running,
  /// The loop is closed.
  loop_closed,
  /// The loop stopped before the awaited future was done.
  loop_stopped,
  /// Bytes that are not what the protocol says.
  malformed,
  /// More bytes than the limit allows.
  too_large,
  /// The peer speaks another version, or is another program.
  incompatible,
  /// No actor of that name or id.
  unknown_actor,
  /// The actor has no such command.
  unknown_command,
  /// The actor ended, or the link to its process did.
  actor_gone,
  /// The bound of the actor's mailbox is reached.
  mailbox_full,
  /// A serial actor would wait for itself.
  would_deadlock,
  /// A name that must be unique is taken.
  name_taken,
  /// There is no arbiter: the program did not start through `pulsar::run`.
  no_arbiter,
  /// A value that the wire format cannot carry.
  not_encodable,
  /// A child process did not start, or ended before it was ready.
  spawn_failed,
  /// A command of another actor failed with an exception of unknown type.
  command_failed,
  /// The queue or stream was closed: it takes nothing more, or has nothing more to give.
  closed,
  /// The stream ended in the middle of what was to be read.
  truncated,
};

namespace detail {

class pulsar_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "pulsar"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::already_called: return "already settled";
      case errc::not_ready: return "not done yet";
      case errc::broken_promise: return "the promise was dropped before it was settled";
      case errc::cancelled: return "cancelled";
      case errc::timed_out: return "timed out";
      case errc::no_loop: return "no event loop";
      case errc::wrong_loop: return "the future belongs to another event loop";
      case errc::already_running: return "an event loop is running already";
      case errc::loop_closed: return "the event loop is closed";
      case errc::loop_stopped: return "the event loop stopped before the future was done";
      case errc::malformed: return "malformed data";
      case errc::too_large: return "larger than the limit";
      case errc::incompatible: return "the peer is not compatible";
      case errc::unknown_actor: return "unknown actor";
      case errc::unknown_command: return "unknown command";
      case errc::actor_gone: return "the actor is gone";
      case errc::mailbox_full: return "the mailbox is full";
      case errc::would_deadlock: return "the call would deadlock";
      case errc::name_taken: return "the name is taken";
      case errc::no_arbiter: return "no arbiter";
      case errc::not_encodable: return "the value cannot be encoded";
      case errc::spawn_failed: return "the process did not start";
      case errc::command_failed: return "the command failed";
      case errc::closed: return "closed";
      case errc::truncated: return "the stream ended too soon";
    }
    return "unknown pulsar error";
  }

  std::error_condition default_error_condition(int value) const noexcept override {
    switch (static_cast<errc>(value)) {
      case errc::cancelled: return std::errc::operation_canceled;
      case errc::timed_out: return std::errc::timed_out;
      case errc::malformed: return std::errc::bad_message;
      case errc::too_large: return std::errc::message_size;
      default: return std::error_condition(value, *this);
    }
  }
};

/// Prints where and why, then aborts: a broken contract is a bug, not an error to handle.
[[noreturn]] inline void assertion_failed(const char* file, int line, const char* condition,
                                          const char* sentence) noexcept {
  std::fprintf(stderr, "%s:%d: %s [%s]\n", file, line, sentence, condition);
  std::abort();
}

}  // namespace detail

/// The category of `errc`, named "pulsar".
inline const std::error_category& error_category() noexcept {
  // Never destroyed: threads that are joined behind main still name it.
  static const auto* const instance = new detail::pulsar_category;
  return *instance;
}

/// Found by argument-dependent look-up when an `errc` becomes a `std::error_code`.
inline std::error_code make_error_code(errc value) noexcept {
  return {static_cast<int>(value), error_category()};
}

}  // namespace pulsar

template <>
struct std::is_error_code_enum<pulsar::errc> : std::true_type {};

namespace pulsar {

/// What leaves a `co_await` when an operation of pulsar fails.
///
/// `what()` is the sentence it was made with, followed by the text of `code()`.
class error : public std::system_error {
 public:
  explicit error(std::error_code code) : std::system_error(code) {}
  error(std::error_code code, const std::string& what) : std::system_error(code, what) {}
};

/// A command of another actor failed with an exception whose type the caller's side does not know.
///
/// `type()` is the name of that type, `what()` its text.
class command_error : public error {
 public:
  command_error(std::string type, const std::string& text)
      : error(errc::command_failed, type + ": " + text), type_(std::move(type)), text_(text) {}

  /// The demangled name of the exception's type.
  const std::string& type() const noexcept { return type_; }
  /// What its `what()` returned.
  const std::string& text() const noexcept { return text_; }

 private:
  std::string type_;
  std::string text_;
};

}  // namespace pulsar

/// Ends the program with `sentence` when `condition` does not hold; nothing in a build with NDEBUG.
#ifdef NDEBUG
#define PULSAR_ASSERT(condition, sentence) static_cast<void>(0)
#else
#define PULSAR_ASSERT(condition, sentence) \
  ((condition) ? static_cast<void>(0)      \
               : ::pulsar::detail::assertion_failed(__FILE__, __LINE__, #condition, sentence))
#endif
