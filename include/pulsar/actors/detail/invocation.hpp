// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// A command on its way, wherever it comes from: the same loop, another thread, or encoded.

#include <pulsar/actors/command.hpp>
#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/detail/failure.hpp>
#include <pulsar/actors/detail/number_map.hpp>
#include <pulsar/core/codec.hpp>
#include <pulsar/core/deadline.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/log.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>

namespace pulsar::detail {

template <class T>
using or_monostate = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

void command_started(actor_base& actor, invocation* what) noexcept;
void command_ended(actor_base& actor, invocation* what) noexcept;
void command_finished(actor_base& actor, invocation* what) noexcept;

// -- the sender's side -------------------------------------------------------------

inline constexpr event_loop::duration default_timeout = std::chrono::seconds(10);

/// How long a send may take in a chain of awaits that has said so itself; else it is the default.
inline const context_value<event_loop::duration> chosen_timeout(default_timeout);

/// True if the chain may have a limit. What has none is to be found out in no time.
inline bool may_be_limited() noexcept {
  return this_context != nullptr && this_context->addition != nullptr;
}

[[gnu::cold, gnu::noinline]] inline event_loop::duration limited_timeout(event_loop& loop,
                                                                         event_loop::duration own) {
  return std::min(own == default_timeout ? chosen_timeout.get() : own, remaining(loop));
}

/// `own`, or what the chain of awaits has left (deadline.hpp).
inline event_loop::duration within_chain(event_loop& loop, event_loop::duration own) {
  return may_be_limited() ? limited_timeout(loop, own) : own;
}

/// A sender's future with its deadline.
class asked_state : public hand_made_state {
 public:
  asked_state(event_loop& l, event_loop::duration timeout) : hand_made_state(l) {
    count = 2;  // the future's, and that of whoever settles it
    handed_out = true;
    loop_access::arm_after(l, timer_, timeout);
  }

  /// Its time ends with that of the chain of awaits, if that is earlier.
  void limit() noexcept {
    const auto own = loop_access::time_left(*loop, timer_);
    // Not `arm_after`: with two callers it would not stand inlined in each send.
    loop_access::arm_at(*loop, timer_, loop->time() + limited_timeout(*loop, own));
  }

  /// The end of whoever settles it.
  void end() noexcept {
    timer_.cancel();
    drop();
  }

  void describe(wait_description& to) const override {
    to.text = "a reply";
    to.until = &timer_;
  }

 protected:
  virtual void on_deadline() noexcept = 0;

 private:
  struct deadline_node : timer_node {
    explicit deadline_node(asked_state& s) noexcept : timer_node(&fire), owner(s) {}
    static void fire(timer_node* node, bool drop) {
      if (!drop) static_cast<deadline_node*>(node)->owner.on_deadline();
    }
    asked_state& owner;
  };

  deadline_node timer_{*this};
};

class call_table;

/// A sender's future whose outcome comes from outside its loop, found again by a number. The
/// number of a future that is done means nothing, so a late reply is dropped.
class pending_call : public asked_state {
 public:
  inline pending_call(event_loop& l, std::string asked, event_loop::duration timeout);

  std::uint64_t number() const noexcept { return number_; }

  /// `from` is of the future's type, and moved away.
  void settle(void* from) noexcept {
    try {
      if (!done()) take_value(from);
    } catch (...) {  // of moving it
      fail(std::current_exception());
    }
    end();
  }
  void settle_encoded(wire_outcome&& outcome) noexcept {
    if (!outcome.failure.type.empty()) return settle_failed(put_together(outcome.failure));
    try {
      if (!done()) take_encoded(outcome.value);
    } catch (...) {  // of making it
      fail(std::current_exception());
    }
    end();
  }
  void settle_failed(std::exception_ptr why) noexcept {
    if (!done()) fail(std::move(why));
    end();
  }

  /// Fails it where nobody else knows of it yet.
  inline void refuse(std::exception_ptr why) noexcept;

  inline void on_cancelled() noexcept final;

  pending_call* next_failed = nullptr;  // while the table ends

 protected:
  virtual void take_value(void* from) = 0;
  virtual void take_encoded(buffer& from) = 0;

  void refuse_result(const decode_failure& bad) noexcept {
    fail(std::make_exception_ptr(
        error(bad.code(), "the result of " + what_ + ": " + bad.message())));
  }
  void refuse_result() noexcept {
    fail(std::make_exception_ptr(error(errc::not_encodable, "the result of " + what_)));
  }

 private:
  inline void on_deadline() noexcept final;

  call_table& table_;
  const std::uint64_t number_;
  const std::string what_;
};

/// The pending calls of one loop.
class call_table final : public loop_extension {
 public:
  explicit call_table(event_loop&) noexcept {}
  ~call_table() override {
    pending_call* left = nullptr;
    std::size_t at = 0;
    while (auto* call = calls_.next(at)) {
      call->next_failed = left;
      left = call;
    }
    calls_.clear();  // first: what the failure of one wakes may cancel others
    while (left != nullptr) {
      auto* call = std::exchange(left, left->next_failed);
      call->settle_failed(std::make_exception_ptr(
          error(errc::loop_closed, "the loop of the sender was closed")));
    }
  }

  std::uint64_t enter(pending_call& call) {
    calls_.insert(++last_, &call);
    return last_;
  }
  /// Takes the call out; null if nobody waits any more.
  pending_call* leave(std::uint64_t number) noexcept { return calls_.erase(number); }

  counted_pointer<outcome_receiver> outcomes;  // of those sent in encoded form; see sink_of

 private:
  number_map<pending_call> calls_;
  std::uint64_t last_ = 0;
};

pending_call::pending_call(event_loop& l, std::string asked, event_loop::duration timeout)
    : asked_state(l, timeout),
      table_(loop_access::local<call_table>(l)),
      number_(table_.enter(*this)),
      what_(std::move(asked)) {}

void pending_call::refuse(std::exception_ptr why) noexcept {
  table_.leave(number_);
  settle_failed(std::move(why));
}

void pending_call::on_cancelled() noexcept {
  if (table_.leave(number_) != nullptr) end();
}

void pending_call::on_deadline() noexcept {
  if (table_.leave(number_) == nullptr) return;
  settle_failed(
      std::make_exception_ptr(error(errc::timed_out, "no answer to " + what_ + " in time")));
}

template <class R>
class remote_ask final : public shared_state<R, pending_call> {
 public:
  using shared_state<R, pending_call>::shared_state;

 private:
  void take_value([[maybe_unused]] void* from) override {
    if constexpr (std::is_void_v<R>) {
      this->succeed();
    } else {
      this->succeed(std::move(*static_cast<R*>(from)));
    }
  }

  void take_encoded([[maybe_unused]] buffer& from) override {
    if constexpr (std::is_void_v<R>) {
      this->succeed();
    } else if constexpr (std::is_same_v<R, buffer>) {
      this->succeed(std::move(from));
    } else if constexpr (decodable<R>) {
      R decoded{};
      if (const auto bad = try_decode(from.readable(), decoded)) {
        this->refuse_result(bad);
      } else {
        this->succeed(std::move(decoded));
      }
    } else {
      this->refuse_result();
    }
  }
};

/// Brings outcomes to the loop of the sender.
class loop_outcomes final : public outcome_receiver {
 public:
  explicit loop_outcomes(event_loop& loop) : home_(loop), inbox_(loop_access::inbox(loop)) {}

  void receive(std::uint64_t number, wire_outcome&& outcome) override {
    if (event_loop::running() == &home_) return settle(home_, number, std::move(outcome));
    auto* node = new arrival(home_, number, std::move(outcome));
    if (!push(node)) delete node;
  }

  /// Runs `node` in the loop; false if that is closed.
  bool push(task_node* node) noexcept { return inbox_->push(node); }
  event_loop& home() const noexcept { return home_; }

  /// Who waits for that number in `loop`, this thread's; null if it is late.
  static pending_call* take(event_loop& loop, std::uint64_t number) noexcept {
    auto* table = loop_access::find_local<call_table>(loop);
    return table == nullptr ? nullptr : table->leave(number);
  }

 private:
  struct arrival : task_node, recycled {
    arrival(event_loop& h, std::uint64_t n, wire_outcome&& o)
        : task_node(&run), home(h), number(n), outcome(std::move(o)) {}
    static void run(task_node* node, bool drop) {
      auto* self = static_cast<arrival*>(node);
      if (!drop) settle(self->home, self->number, std::move(self->outcome));
      delete self;
    }
    event_loop& home;
    std::uint64_t number;
    wire_outcome outcome;
  };

  static void settle(event_loop& loop, std::uint64_t number, wire_outcome&& outcome) {
    if (auto* call = take(loop, number)) call->settle_encoded(std::move(outcome));
  }

  event_loop& home_;
  const counted_pointer<loop_inbox> inbox_;
};

/// A sink for the call of that number in `loop`.
inline wire_sink sink_of(event_loop& loop, std::uint64_t number) {
  auto& table = loop_access::local<call_table>(loop);
  if (!table.outcomes) {
    table.outcomes = counted_pointer<outcome_receiver>(new loop_outcomes(loop));
  }
  return {*table.outcomes, number};
}

// -- the command -------------------------------------------------------------------

class command_call;

/// The future of a sender in the actor's own loop; stands in the command.
class future_in_call : public asked_state {
 public:
  inline future_in_call(command_call& c, event_loop::duration timeout);

  /// Frees the command, and this with it.
  static inline void operator delete(future_in_call* self, std::destroying_delete_t) noexcept;

 private:
  inline void on_deadline() noexcept final;

  command_call& call_;
};

/// A command with its arguments, and the way of its outcome.
class command_call : public invocation {
 public:
  explicit command_call(actor_cell* t) noexcept : invocation(t) {}
  ~command_call() override {}

  virtual std::string_view name() const noexcept = 0;

  /// The outcome goes back encoded; none of a tell.
  void answer_encoded(wire_sink&& to) noexcept {
    if (to) answer(way::encoded, std::move(to));
  }
  /// The outcome goes back in this object, to a future in the loop of `to`.
  void answer_elsewhere(wire_sink&& to) noexcept {
    answer(way::elsewhere, std::move(to));
  }

  void refuse(std::exception_ptr why) noexcept final { failed(std::move(why)); }
  void limit() noexcept final {
    if (answers_ == way::here) future_->limit();
  }

 protected:
  enum class way : std::uint8_t { nowhere, here, elsewhere, back, encoded };

  void failed(std::exception_ptr why) noexcept {
    if (answers_ == way::here) {
      if (!future_->done()) future_->fail(std::move(why));
      return future_->end();
    }
    if (answers_ == way::nowhere) {
      log::warning("a tell of '{}' to '{}' failed: {}", name(), target->name, describe(why));
    } else {
      take_sink()({{}, take_apart(why)});
    }
    delete this;
  }

  /// The command itself has failed. A sender in the same loop must not be able to tell.
  void threw(std::exception_ptr why) noexcept {
    failed(answers_ == way::here ? put_together(take_apart(why)) : std::move(why));
  }

  void threw_in(actor_base& actor) noexcept {
    auto why = std::current_exception();
    command_finished(actor, this);
    threw(std::move(why));
  }

  void give(wire_outcome&& outcome) noexcept {
    take_sink()(std::move(outcome));
    delete this;
  }

  /// With the value in it.
  void go_back(void* value) noexcept {
    answers_ = way::back;
    value_ = value;
    task_node::call = &arrive_back;
    // The sender may free this, and its loop end, while `push` is still at work. Only ask_thread
    // has it answered elsewhere, with outcomes of its loop.
    const wire_sink sink = take_sink();
    auto& outcomes = static_cast<loop_outcomes&>(sink.receiver());
    number_ = sink.number();
    home_ = &outcomes.home();
    if (!outcomes.push(this)) delete this;
  }

  way answers_ = way::nowhere;
  future_in_call* future_;  // of a sender here

 private:
  void answer(way how, wire_sink&& to) noexcept {
    answers_ = how;
    ::new (static_cast<void*>(&sink_)) wire_sink(std::move(to));
  }
  // Once, before the end.
  wire_sink take_sink() noexcept { return std::move(sink_); }

  static void arrive_back(task_node* node, bool drop) {
    auto* self = static_cast<command_call*>(node);
    auto* waiting = drop ? nullptr : loop_outcomes::take(*self->home_, self->number_);
    if (waiting != nullptr) waiting->settle(self->value_);  // else it is late
    delete self;
  }

  union {
    wire_sink sink_;  // if the outcome goes elsewhere or is encoded
  };
  // On the way back.
  void* value_;
  event_loop* home_;
  std::uint64_t number_;
};

future_in_call::future_in_call(command_call& c, event_loop::duration timeout)
    : asked_state(*c.target->loop, timeout), call_(c) {}

void future_in_call::operator delete(future_in_call* self, std::destroying_delete_t) noexcept {
  delete &self->call_;
}

void future_in_call::on_deadline() noexcept {
  if (done()) return;
  call_.expired = true;
  fail(std::make_exception_ptr(error(errc::timed_out, "'" + call_.target->name +
                                                          "' did not answer '" +
                                                          std::string(call_.name()) + "' in time")));
}

/// A command whose function returns a `Returned`.
template <class Returned>
class call_of : public command_call {
  static constexpr bool asynchronous = is_future<Returned>;
  using result = unwrapped<Returned>;
  using value_type = or_monostate<result>;
  using future_type = shared_state<result, future_in_call>;

 public:
  explicit call_of(actor_cell* t) noexcept : command_call(t) {}
  ~call_of() override {
    if (answers_ == way::here) future_->~future_in_call();
    if (answers_ == way::back) value_.~value_type();
  }

  /// The outcome goes to a future of the actor's own loop.
  future<result> answer_here(event_loop::duration timeout) {
    future_ = ::new (static_cast<void*>(&own_future_)) future_type(*this, timeout);
    answers_ = way::here;
    return future_access::make<result>(future_);
  }

  void cancel() noexcept override {
    if constexpr (asynchronous) later_.inner.cancel();
  }
  void abandon() noexcept override {
    // Frees the frame, which tells `later_`, which ends this object.
    if constexpr (asynchronous) [[maybe_unused]] const auto freed = std::move(later_.inner);
  }

 protected:
  void done(value_type&& value) noexcept {
    if (answers_ == way::nowhere) {
      delete this;
    } else if (answers_ == way::encoded) {
      give(encoded(value));
    } else {
      pass(std::move(value));
    }
  }

  /// Goes on when `inner` is done.
  void wait_for(actor_base& actor, future<result> inner) {
    if (!inner.valid()) {
      throw error(errc::broken_promise, "the command returned an empty future");
    }
    later_.inner = std::move(inner);
    if (later_.inner.done()) {
      command_finished(actor, this);
      pass_on();
      return;
    }
    later_.actor = &actor;
    command_started(actor, this);
    add_callback(*future_access::slot(later_.inner), &later_);
  }

 private:
  /// Waits for the future that the function returned.
  struct waiting : task_node {
    explicit waiting(call_of& c) noexcept : task_node(&run), owner(c) {}
    static void run(task_node* node, bool drop) {
      auto& self = *static_cast<waiting*>(node);
      if (drop) {
        // The loop closes, and lets go of the future here, in its thread: this may end in another.
        { [[maybe_unused]] const auto freed = std::move(self.inner); }
        self.owner.failed(std::make_exception_ptr(error(errc::loop_closed)));
        return;
      }
      command_ended(*self.actor, &self.owner);
      command_finished(*self.actor, &self.owner);
      self.owner.pass_on();
    }
    call_of& owner;
    future<result> inner;
    actor_base* actor = nullptr;
  };

  void pass_on() noexcept {
    // Its frame belongs to this thread; this object may go to the sender's.
    future<result> ended = std::move(later_.inner);
    if (auto failure = ended.exception()) return threw(std::move(failure));
    try {
      if constexpr (std::is_void_v<result>) {
        ended.result();
        done({});
      } else {
        result value = ended.result();
        done(std::move(value));
      }
    } catch (...) {  // of moving the value
      threw(std::current_exception());
    }
  }

  void pass(value_type&& value) noexcept {
    try {
      if (answers_ == way::elsewhere) {
        go_back(::new (static_cast<void*>(&value_)) value_type(std::move(value)));
        return;
      }
      if (!future_->done()) {
        if constexpr (std::is_void_v<result>) {
          own_future_.succeed();
        } else {
          own_future_.succeed(std::move(value));
        }
      }
    } catch (...) {  // of moving the value
      return failed(std::current_exception());
    }
    future_->end();
  }

  static wire_outcome encoded([[maybe_unused]] const value_type& value) noexcept {
    wire_outcome outcome;
    if constexpr (!std::is_void_v<result> && encodable<result>) {
      try {
        encode(outcome.value, value);
      } catch (...) {
        outcome.failure = take_apart(std::current_exception());
      }
    }
    return outcome;
  }

  union {
    future_type own_future_;
    value_type value_;
  };
  struct no_waiting {
    explicit no_waiting(call_of&) noexcept {}
  };
  [[no_unique_address]] std::conditional_t<asynchronous, waiting, no_waiting> later_{*this};
};

/// The command of `Entry` for an actor of type `A`.
template <class Entry, class A>
class typed_call final : public call_of<typename Entry::traits::returned> {
  using traits = typename Entry::traits;

 public:
  typed_call(actor_cell* t, typename traits::arguments&& a)
      : call_of<typename traits::returned>(t), arguments_(std::move(a)) {
    if constexpr (requires { Entry::control; }) this->control = Entry::control;
  }

  std::string_view name() const noexcept override { return Entry::name; }

  void run(actor_base& actor) override {
    constexpr std::make_index_sequence<traits::arity> all;
    A& self = static_cast<A&>(actor);
    // Only the command throws in here: what it gives is passed on by functions that do not.
    try {
      if constexpr (traits::asynchronous) {
        this->wait_for(actor, traits::call(self, arguments_, all));
      } else if constexpr (std::is_void_v<typename traits::result>) {
        traits::call(self, arguments_, all);
        command_finished(actor, this);
        this->done({});
      } else {
        typename traits::result value = traits::call(self, arguments_, all);
        command_finished(actor, this);
        this->done(std::move(value));
      }
    } catch (...) {
      this->threw_in(actor);
    }
  }

 private:
  typename traits::arguments arguments_;
};

// -- encoded ---------------------------------------------------------------------

template <class Entry>
concept wire_entry = decodable<typename Entry::traits::arguments> &&
    (std::is_void_v<typename Entry::traits::result> || encodable<typename Entry::traits::result>);

/// Of these types the first that does not travel, or null.
template <class... T>
const std::type_info* first_unfit(std::tuple<T...>*) noexcept {
  const std::type_info* first = nullptr;
  static_cast<void>(((encodable<T> && decodable<T> ? false : (first = &typeid(T), true)) || ...));
  return first;
}

/// Says which parameter of `Entry`, or that its result, does not travel between processes.
inline std::exception_ptr cannot_travel(std::string_view command, const std::string& actor,
                                        const std::type_info* parameter,
                                        const std::type_info& result) {
  return std::make_exception_ptr(error(
      errc::not_encodable,
      "'" + std::string(command) + "' of '" + actor +
          (parameter != nullptr ? "' takes a " + type_name(*parameter)
                                : "' gives a " + type_name(result)) +
          ", which cannot travel to another process"));
}
template <class Entry>
std::exception_ptr cannot_travel(const std::string& actor) {
  using traits = typename Entry::traits;
  return cannot_travel(Entry::name, actor,
                       first_unfit(static_cast<typename traits::arguments*>(nullptr)),
                       typeid(typename traits::result));
}

[[noreturn]] inline void throw_malformed(const decode_failure& bad, std::string_view command,
                                         const std::string& actor) {
  throw error(bad.code(), "the arguments of '" + std::string(command) + "' of '" + actor +
                              "': " + bad.message());
}

template <class Entry, class A>
invocation* decode_invocation(actor_cell& target,
                              std::span<const std::byte> arguments,
                              wire_sink sink) {
  if constexpr (wire_entry<Entry>) {
    typename Entry::traits::arguments values{};
    if (const auto bad = try_decode(arguments, values)) {
      throw_malformed(bad, Entry::name, target.name);
    }
    auto* call = new typed_call<Entry, A>(&target, std::move(values));
    call->answer_encoded(std::move(sink));
    return call;
  } else {
    std::rethrow_exception(cannot_travel<Entry>(target.name));
  }
}

template <class A, class List>
struct wire_commands;
template <class A, class... E>
struct wire_commands<A, command_list<E...>> {
  static constexpr wire_command all[] = {{E::name, &decode_invocation<E, A>}..., {}};
};

}  // namespace pulsar::detail
