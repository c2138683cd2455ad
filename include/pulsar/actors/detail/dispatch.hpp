// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The way of a command from `send` to an actor's mailbox: chosen by where the actor lives.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/builtin.hpp>
#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/detail/invocation.hpp>
#include <pulsar/actors/image.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/actors/registry.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pulsar::detail {

// -- commands that every actor has, by name ------------------------------------

class global_commands {
 public:
  inline global_commands();
  static global_commands& instance() {
    static global_commands table;
    return table;
  }
  bool add(std::string_view name, decode_command decode) {
    const std::lock_guard lock(mutex_);
    if (find_locked(name) == nullptr) first_ = new known{name, decode, first_};
    return true;
  }
  decode_command find(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    const known* found = find_locked(name);
    return found == nullptr ? nullptr : found->decode;
  }

 private:
  struct known {
    std::string_view name;
    decode_command decode;
    const known* next;
  };
  const known* find_locked(std::string_view name) const noexcept {
    const known* k = first_;
    while (k != nullptr && k->name != name) k = k->next;
    return k;
  }

  mutable std::mutex mutex_;
  const known* first_ = nullptr;  // as long as the program
};

// By name they are known even where nobody sends them by type.
inline global_commands::global_commands() {
  add("ping", &decode_invocation<global_entry<"ping", &ping_of>, actor_base>);
  add("info", &decode_invocation<global_entry<"info", &info_of>, actor_base>);
  add("stop", &decode_invocation<global_entry<"stop", &stop_of>, actor_base>);
}

/// What a command is called on the wire. Those that every actor has are marked, for an actor may
/// list one of the same name: whoever asks for `cmd::echo` must not get that.
template <class Entry>
struct wire_name {
  static constexpr std::string_view value = Entry::name;
};
inline constexpr std::string_view built_in_mark = "cmd::";
template <fixed_string Name, auto Function>
struct wire_name<global_entry<Name, Function>> {
  static constexpr auto text = [] {
    std::array<char, built_in_mark.size() + Name.view().size()> joined{};
    std::copy_n(built_in_mark.begin(), built_in_mark.size(), joined.begin());
    std::copy_n(Name.view().begin(), Name.view().size(), joined.begin() + built_in_mark.size());
    return joined;
  }();
  static constexpr std::string_view value{text.data(), text.size()};
};

/// True before main in every process of a program that sends `Entry`.
template <class Entry>
inline const bool global_registered =
    global_commands::instance().add(Entry::name, &decode_invocation<Entry, actor_base>);

/// `cmd::run` of one function: where it lives travels in front of its arguments.
template <auto Function>
using run_entry = global_entry<"run", &plain_signature<Function>::call>;

template <auto Function>
invocation* decode_run(actor_cell& target, std::span<const std::byte> arguments, wire_sink sink) {
  return decode_invocation<run_entry<Function>, actor_base>(target, arguments, std::move(sink));
}

struct run_key {
  std::uint64_t object;
  std::uint64_t offset;
};

inline invocation* decode_any(actor_base& actor, std::string_view command, buffer& arguments,
                              wire_sink sink) {
  actor_cell& cell = *actor_access::cell(actor);
  auto bytes = std::span<const std::byte>(arguments.readable());
  if (command.starts_with(built_in_mark)) {
    command.remove_prefix(built_in_mark.size());
  } else if (const auto decode = actor_access::find_command(actor, command)) {
    return decode(cell, bytes, std::move(sink));
  }
  if (command == "run") {
    run_key key{};
    if (bytes.size() < sizeof(key)) throw error(errc::malformed, "cmd::run without a function");
    std::memcpy(&key, bytes.data(), sizeof(key));
    const auto decode = image::resolve<std::remove_pointer_t<decode_command>>(
        {key.object, key.offset});
    return decode(cell, bytes.subspan(sizeof(key)), std::move(sink));
  }
  if (const auto decode = global_commands::instance().find(command)) {
    return decode(cell, bytes, std::move(sink));
  }
  std::string known;
  for (const auto* c = actor_access::commands(actor); c->decode != nullptr; ++c) {
    known.append(" ").append(c->name);
  }
  throw error(errc::unknown_command, "'" + cell.name + "' has no command '" +
                                         std::string(command.substr(0, most_shown)) +
                                         "'; it has:" + known);
}

// -- actors of this process --------------------------------------------------------

class local_cell final : public actor_cell {
 public:
  using actor_cell::actor_cell;

  void post_encoded(std::string_view command, buffer arguments, event_loop::time_point deadline,
                    wire_sink sink) override {
    auto* message = new arrival(*this, command, std::move(arguments), deadline, std::move(sink));
    if (event_loop::find_current() == loop) {  // in order with what `ask` delivers
      arrival::run(message, false);
    } else if (!inbox->push(message)) {
      arrival::run(message, true);
    }
  }

 private:
  struct arrival : encoded_command {
    arrival(local_cell& to, std::string_view c, buffer&& a, event_loop::time_point d, wire_sink&& s)
        : encoded_command(&run, to.id, c, std::move(a), d, std::move(s)), cell(to) {}

    static void run(detail::task_node* node, bool drop) {
      auto* self = static_cast<arrival*>(node);
      if (drop) {
        self->fail(std::make_exception_ptr(
            error(errc::actor_gone, "'" + self->cell.name + "' has ended")));
      } else {
        self->deliver();
      }
      delete self;
    }

    void deliver() noexcept {
      try {
        if (cell.actor == nullptr) {
          throw error(errc::actor_gone, "'" + cell.name + "' has ended");
        }
        if (is_echo()) {
          // Whatever the value is, its bytes are the answer: they stand behind the array's head.
          wire_outcome outcome;
          const auto bytes = arguments.readable();
          if (bytes.empty() || bytes[0] != std::byte{0x91}) {
            throw error(errc::malformed, "cmd::echo takes one argument");
          }
          outcome.value.append(bytes.subspan(1));
          if (sink) sink(std::move(outcome));
          return;
        }
        invocation* decoded = decode_any(*cell.actor, command, arguments, sink);
        decoded->deadline = deadline;
        actor_access::deliver(*cell.actor, decoded);
      } catch (...) {
        fail(std::current_exception());
      }
    }

    bool is_echo() const noexcept {
      return command == wire_name<global_entry<"echo", &echo_of<int>>>::value ||
             (command == "echo" && actor_access::find_command(*cell.actor, command) == nullptr);
    }

    void fail(const std::exception_ptr& why) noexcept {
      if (sink) {
        sink({{}, take_apart(why)});
      } else {
        command.resize(std::min(command.size(), most_shown));
        log::warning("a tell of '{}' failed: {}", std::as_const(command), describe(why));
      }
    }

    local_cell& cell;
  };
};

// -- asking ------------------------------------------------------------------------

inline std::exception_ptr empty_reference(const std::string& what) {
  return std::make_exception_ptr(
      error(errc::unknown_actor, what + " through a reference that refers to no actor"));
}

inline std::exception_ptr has_ended(const actor_cell& cell) {
  return std::make_exception_ptr(error(errc::actor_gone, "'" + cell.name + "' has ended"));
}

inline std::string asked_of(const actor_cell& cell, std::string_view command) {
  std::string asked;
  asked.reserve(command.size() + cell.name.size() + 8);  // one allocation: it is made for each ask
  asked.append(1, '\'').append(command).append("' of '").append(cell.name).append(1, '\'');
  return asked;
}

template <class R>
future<R> ask_encoded(actor_cell& cell, std::string_view command, buffer arguments,
                      event_loop::duration timeout) {
  event_loop& here = event_loop::current();
  timeout = within_chain(here, timeout);
  auto* call = new remote_ask<R>(here, asked_of(cell, command), timeout);
  auto result = future_access::make<R>(call);
  cell.post_encoded(command, std::move(arguments), here.time() + timeout,
                    sink_of(here, call->number()));
  return result;
}

/// What no actor was asked. Not by a promise, which is twenty functions for each type.
template <class R>
future<R> refused_ask(std::exception_ptr why) {
  auto* call = new remote_ask<R>(event_loop::current(), {}, default_timeout);
  auto result = future_access::make<R>(call);
  call->refuse(std::move(why));
  return result;
}

/// For an actor on another thread. Out of the way of those in this loop.
template <class Returned>
[[gnu::noinline]] future<unwrapped<Returned>> ask_thread(event_loop& here, call_of<Returned>* call,
                                                         event_loop::duration timeout) {
  using result = unwrapped<Returned>;
  actor_cell& cell = *call->target;
  timeout = within_chain(here, timeout);
  auto* waiting = new remote_ask<result>(here, asked_of(cell, call->name()), timeout);
  auto answer = future_access::make<result>(waiting);
  call->answer_elsewhere(sink_of(here, waiting->number()));
  call->deadline = here.time() + timeout;
  if (!cell.inbox->push(call)) call->refuse(has_ended(cell));
  return answer;
}

/// For an actor of this process.
template <class Returned>
future<unwrapped<Returned>> ask_local(event_loop& here, call_of<Returned>* call,
                                      event_loop::duration timeout) {
  actor_cell& cell = *call->target;
  if (cell.loop != &here) return ask_thread<Returned>(here, call, timeout);
  auto answer = call->answer_here(timeout);
  if (cell.actor != nullptr) {
    actor_access::deliver(*cell.actor, call);
  } else {
    call->refuse(has_ended(cell));
  }
  return answer;
}

inline void tell_local(command_call* call) {
  actor_cell& cell = *call->target;
  if (event_loop::find_current() == cell.loop) {
    if (cell.actor != nullptr) return actor_access::deliver(*cell.actor, call);
  } else if (cell.inbox->push(call)) {
    return;
  }
  call->refuse(has_ended(cell));
}

/// Actors of the machinery, whose commands are few and come from other processes: they go in
/// encoded form within this one too, which spares every program the other ways of each.
template <class A>
inline constexpr bool only_encoded = false;

template <class Entry, class A>
future<typename Entry::traits::result> ask(actor_cell* cell,
                                           typename Entry::traits::arguments&& arguments,
                                           event_loop::duration timeout, buffer prefix = {}) {
  using traits = typename Entry::traits;
  using result = typename traits::result;
  event_loop& here = event_loop::current();
  if (cell == nullptr) return refused_ask<result>(empty_reference("send"));
  if constexpr (!only_encoded<A>) {
    if (cell->local()) {
      return ask_local<typename traits::returned>(
          here, new typed_call<Entry, A>(cell, std::move(arguments)), timeout);
    }
  }
  if constexpr (wire_entry<Entry> && encodable<typename traits::arguments> &&
                (std::is_void_v<result> || decodable<result>)) {
    encode(prefix, arguments);
    return ask_encoded<result>(*cell, wire_name<Entry>::value, std::move(prefix), timeout);
  } else {
    return refused_ask<result>(cannot_travel<Entry>(cell->name));
  }
}

template <class Entry, class A>
void tell(actor_cell* cell, typename Entry::traits::arguments&& arguments, buffer prefix = {}) {
  if (cell == nullptr) {
    std::rethrow_exception(empty_reference("tell"));
  }
  if constexpr (!only_encoded<A>) {
    if (cell->local()) return tell_local(new typed_call<Entry, A>(cell, std::move(arguments)));
  }
  if constexpr (wire_entry<Entry> && encodable<typename Entry::traits::arguments>) {
    encode(prefix, arguments);
    cell->post_encoded(wire_name<Entry>::value, std::move(prefix), event_loop::time_point::max(),
                       {});
  } else {
    std::rethrow_exception(cannot_travel<Entry>(cell->name));
  }
}

}  // namespace pulsar::detail
