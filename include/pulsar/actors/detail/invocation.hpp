// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// A command on its way, by where it comes from: the same loop, another thread, or encoded.

#include <pulsar/actors/command.hpp>
#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/detail/failure.hpp>
#include <pulsar/actors/detail/number_map.hpp>
#include <pulsar/core/codec.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/log.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>
#include <vector>

namespace pulsar::detail {

template <class T>
using or_monostate = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

void command_started(actor_base& actor, invocation* what) noexcept;
void command_ended(actor_base& actor, invocation* what) noexcept;
void command_finished(actor_base& actor, invocation* what) noexcept;

/// Runs the command of `Entry` on an actor of type `A`; `Final` says what becomes of the outcome:
/// `done(value...)` or `failed(exception)`, each of which ends it. `threw` is what the command itself
/// failed with.
template <class Final, class Entry, class A>
class command_call : public invocation {
 public:
  using traits = typename Entry::traits;
  using result = typename traits::result;

  command_call(actor_cell* t, typename traits::arguments&& a) : invocation(t), arguments_(std::move(a)) {
    if constexpr (requires { Entry::control; }) control = Entry::control;
  }

  void run(actor_base& actor) final {
    auto& self = static_cast<Final&>(*this);
    A& a = static_cast<A&>(actor);
    // Only the command throws in here: what it gives is passed on by functions that do not.
    try {
      if constexpr (traits::asynchronous) {
        inner_ = traits::call(a, arguments_);
        if (!inner_.valid()) throw error(errc::broken_promise, "the command returned an empty future");
      } else if constexpr (std::is_void_v<result>) {
        traits::call(a, arguments_);
        command_finished(actor, this);
        self.done();
      } else {
        result value = traits::call(a, arguments_);
        command_finished(actor, this);
        self.done(std::move(value));
      }
    } catch (...) {
      auto why = std::current_exception();
      command_finished(actor, this);
      self.threw(std::move(why));
      return;
    }
    if constexpr (traits::asynchronous) {
      if (inner_.done()) {
        command_finished(actor, this);
        pass_on();
        return;
      }
      actor_ = &actor;
      command_started(actor, this);
      add_callback(*future_access::slot(inner_), &ended_);
    }
  }

  void refuse(std::exception_ptr why) noexcept override {
    static_cast<Final&>(*this).failed(std::move(why));
  }

  void threw(std::exception_ptr why) noexcept { static_cast<Final&>(*this).failed(std::move(why)); }

  void cancel() noexcept override { inner_.cancel(); }
  void abandon() noexcept override {
    // Frees the frame, which tells `ended_`, which ends this object.
    [[maybe_unused]] const auto freed = std::move(inner_);
  }

 private:
  struct ended_node : task_node {
    explicit ended_node(command_call& c) noexcept : task_node(&run), owner(c) {}
    static void run(task_node* node, bool drop) {
      command_call& c = static_cast<ended_node*>(node)->owner;
      if (drop) {
        // The loop closes, and lets go of the future here, in its thread: this may end in another.
        { [[maybe_unused]] const auto freed = std::move(c.inner_); }
        static_cast<Final&>(c).failed(std::make_exception_ptr(error(errc::loop_closed)));
        return;
      }
      command_ended(*c.actor_, &c);
      command_finished(*c.actor_, &c);
      c.pass_on();
    }
    command_call& owner;
  };

  void pass_on() noexcept {
    auto& self = static_cast<Final&>(*this);
    // Its frame belongs to this thread; `self` may go to the sender's.
    future<result> ended = std::move(inner_);
    if (auto failure = ended.exception()) return self.threw(std::move(failure));
    try {
      if constexpr (std::is_void_v<result>) {
        ended.result();
        self.done();
      } else {
        result value = ended.result();
        self.done(std::move(value));
      }
    } catch (...) {  // of moving the value
      self.threw(std::current_exception());
    }
  }

  typename traits::arguments arguments_;
  struct no_future {
    bool cancel() noexcept { return false; }
  };
  struct no_node {
    explicit no_node(command_call&) noexcept {}
  };
  std::conditional_t<traits::asynchronous, future<result>, no_future> inner_;
  std::conditional_t<traits::asynchronous, ended_node, no_node> ended_{*this};
  actor_base* actor_ = nullptr;
};

// -- without a reply -------------------------------------------------------------

template <class Entry, class A>
class tell_call final : public command_call<tell_call<Entry, A>, Entry, A> {
 public:
  using command_call<tell_call, Entry, A>::command_call;

  template <class... V>
  void done(V&&...) noexcept {
    delete this;
  }
  void failed(std::exception_ptr why) noexcept {
    log::warning("a tell of '{}' to '{}' failed: {}", Entry::name, this->target->name,
                 describe(why));
    delete this;
  }
};

// -- in the same loop ------------------------------------------------------------

/// The command and the state of the sender's future in one.
template <class Entry, class A>
class ask_call final : public shared_state<typename Entry::traits::result>,
                       public command_call<ask_call<Entry, A>, Entry, A> {
  using state_type = shared_state<typename Entry::traits::result>;
  using call_type = command_call<ask_call, Entry, A>;

 public:
  ask_call(actor_cell* t, typename Entry::traits::arguments&& a)
      : state_type(*t->loop), call_type(t, std::move(a)) {
    this->count = 2;  // the future's, and the command's
    this->handed_out = true;
  }

  static void* operator new(std::size_t size) { return recycler::allocate(size); }
  static void operator delete(void* memory, std::size_t size) noexcept {
    recycler::deallocate(memory, size);
  }

  template <class... V>
  void done(V&&... value) noexcept {
    timer_.cancel();
    if (!state_type::done()) {
      try {
        this->succeed(std::forward<V>(value)...);
      } catch (...) {  // of moving the value
        this->fail(std::current_exception());
      }
    }
    this->drop();
  }
  /// As from another thread: the caller must not be able to tell.
  void threw(std::exception_ptr why) noexcept { failed(put_together(take_apart(why))); }
  void failed(std::exception_ptr why) noexcept {
    timer_.cancel();
    if (!state_type::done()) this->fail(std::move(why));
    this->drop();
  }

  void arm(event_loop::duration timeout) noexcept {
    loop_access::arm_after(*state_type::loop, timer_, timeout);
  }

 private:
  struct deadline_node : timer_node {
    explicit deadline_node(ask_call& c) noexcept : timer_node(&fire), owner(c) {}
    static void fire(timer_node* node, bool drop) {
      ask_call& c = static_cast<deadline_node*>(node)->owner;
      if (drop || c.state_type::done()) return;
      c.expired = true;
      c.fail(std::make_exception_ptr(error(
          errc::timed_out,
          "'" + c.target->name + "' did not answer '" + std::string(Entry::name) + "' in time")));
    }
    ask_call& owner;
  };

  deadline_node timer_{*this};
};

// -- from another thread -----------------------------------------------------------

/// A sender's future whose outcome comes from outside its loop, found again by a number. The
/// number of a future that is done means nothing, so a late reply is dropped.
class pending_call {
 public:
  pending_call() noexcept = default;
  pending_call(const pending_call&) = delete;
  pending_call& operator=(const pending_call&) = delete;

  virtual void settle_encoded(wire_outcome&& outcome) = 0;
  virtual void settle_failed(std::exception_ptr why) = 0;

  pending_call* next_failed = nullptr;  // while the table ends

 protected:
  virtual ~pending_call() = default;
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

  counted_pointer<outcome_receiver> outcomes;  // of those sent in encoded form; see dispatch.hpp

 private:
  number_map<pending_call> calls_;
  std::uint64_t last_ = 0;
};

template <class R>
class remote_ask final : public shared_state<R>, public pending_call {
 public:
  remote_ask(event_loop& l, std::string asked)
      : shared_state<R>(l),
        table_(loop_access::local<call_table>(l)),
        what_(std::move(asked)) {
    this->count = 2;  // the future's, and the table's
    this->handed_out = true;
    number_ = table_.enter(*this);
  }

  std::uint64_t number() const noexcept { return number_; }

  void arm(event_loop::duration timeout) noexcept {
    loop_access::arm_after(*this->loop, timer_, timeout);
  }

  template <class... V>
  void settle(V&&... value) {
    timer_.cancel();
    if (!this->done()) this->succeed(std::forward<V>(value)...);
    this->drop();
  }

  void settle_failed(std::exception_ptr why) override {
    timer_.cancel();
    if (!this->done()) this->fail(std::move(why));
    this->drop();
  }

  void settle_encoded(wire_outcome&& outcome) override {
    if (!outcome.failure.type.empty()) return settle_failed(put_together(outcome.failure));
    if constexpr (std::is_void_v<R>) {
      settle();
    } else if constexpr (std::is_same_v<R, buffer>) {
      settle(std::move(outcome.value));
    } else if constexpr (decodable<R>) {
      R decoded{};
      if (const auto bad = try_decode(outcome.value.readable(), decoded)) {
        settle_failed(std::make_exception_ptr(
            error(bad.code(), "the result of " + what_ + ": " + bad.message())));
      } else {
        settle(std::move(decoded));
      }
    } else {
      settle_failed(std::make_exception_ptr(error(errc::not_encodable, "the result of " + what_)));
    }
  }

  void on_cancelled() noexcept override {
    timer_.cancel();
    if (table_.leave(number_) != nullptr) this->drop();
  }

 private:
  struct deadline_node : timer_node {
    explicit deadline_node(remote_ask& c) noexcept : timer_node(&fire), owner(c) {}
    static void fire(timer_node* node, bool drop) {
      remote_ask& c = static_cast<deadline_node*>(node)->owner;
      if (drop || c.table_.leave(c.number_) == nullptr) return;
      c.settle_failed(
          std::make_exception_ptr(error(errc::timed_out, "no answer to " + c.what_ + " in time")));
    }
    remote_ask& owner;
  };

  call_table& table_;
  std::uint64_t number_ = 0;
  std::string what_;
  deadline_node timer_{*this};
};

/// Runs in the actor's thread; goes back to the sender's with what came out.
template <class Entry, class A>
class thread_call final : public command_call<thread_call<Entry, A>, Entry, A> {
  using base = command_call<thread_call, Entry, A>;
  using result = typename Entry::traits::result;

 public:
  thread_call(actor_cell* t, typename Entry::traits::arguments&& a, event_loop& sender,
              std::uint64_t number)
      : base(t, std::move(a)),
        sender_(&sender),
        inbox_(loop_access::inbox(sender)),
        number_(number) {}

  template <class... V>
  void done(V&&... value) noexcept {
    try {
      value_.emplace(std::forward<V>(value)...);
    } catch (...) {  // of moving the value
      failure_ = take_apart(std::current_exception());
    }
    go_back();
  }
  void failed(std::exception_ptr why) noexcept {
    failure_ = take_apart(why);
    go_back();
  }

 private:
  void go_back() noexcept {
    this->task_node::call = &arrive_back;
    // The sender may free this, and its loop end, while `push` is still at work.
    const auto way = std::move(inbox_);
    if (!way->push(this)) delete this;
  }

  static void arrive_back(task_node* node, bool drop) {
    const std::unique_ptr<thread_call, deleter> self(static_cast<thread_call*>(node));
    if (drop) return;
    auto* call = loop_access::local<call_table>(*self->sender_).leave(self->number_);
    if (call == nullptr) return;  // late
    if (!self->value_) {
      call->settle_failed(put_together(self->failure_));
    } else if constexpr (std::is_void_v<result>) {
      static_cast<remote_ask<result>*>(call)->settle();
    } else {
      static_cast<remote_ask<result>*>(call)->settle(std::move(*self->value_));
    }
  }
  struct deleter {
    void operator()(thread_call* c) const noexcept { delete c; }
  };

  event_loop* sender_;
  counted_pointer<loop_inbox> inbox_;
  std::uint64_t number_;
  std::optional<or_monostate<result>> value_;
  remote_failure failure_;
};

// -- encoded ---------------------------------------------------------------------

template <class Entry, class A>
class wire_call final : public command_call<wire_call<Entry, A>, Entry, A> {
  using base = command_call<wire_call, Entry, A>;

 public:
  wire_call(actor_cell* t, typename Entry::traits::arguments&& a, wire_sink sink)
      : base(t, std::move(a)), sink_(std::move(sink)) {}

  template <class... V>
  void done(V&&... value) noexcept {
    if (sink_) {
      wire_outcome outcome;
      try {
        (encode(outcome.value, value), ...);
      } catch (...) {
        outcome.failure = take_apart(std::current_exception());
      }
      sink_(std::move(outcome));
    }
    delete this;
  }
  void failed(std::exception_ptr why) noexcept {
    if (sink_) {
      sink_({{}, take_apart(why)});
    } else {
      log::warning("a tell of '{}' to '{}' failed: {}", Entry::name, this->target->name,
                   describe(why));
    }
    delete this;
  }

 private:
  wire_sink sink_;
};

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
      fmt::format("'{}' of '{}' {} a {}, which cannot travel to another process", command, actor,
                  parameter != nullptr ? "takes" : "gives",
                  type_name(parameter != nullptr ? *parameter : result))));
}
template <class Entry>
std::exception_ptr cannot_travel(const std::string& actor) {
  using traits = typename Entry::traits;
  return cannot_travel(Entry::name, actor,
                       first_unfit(static_cast<typename traits::arguments*>(nullptr)),
                       typeid(typename traits::result));
}

template <class Entry, class A>
invocation* decode_invocation(actor_cell& target,
                              std::span<const std::byte> arguments,
                              wire_sink sink) {
  if constexpr (wire_entry<Entry>) {
    typename Entry::traits::arguments values{};
    if (const auto bad = try_decode(arguments, values)) {
      throw error(bad.code(), fmt::format("the arguments of '{}' of '{}': {}", Entry::name,
                                          target.name, bad.message()));
    }
    return new wire_call<Entry, A>(&target, std::move(values), std::move(sink));
  } else {
    std::rethrow_exception(cannot_travel<Entry>(target.name));
  }
}

template <class A, class... E>
decode_command find_wire_command([[maybe_unused]] std::string_view name,
                                 command_list<E...>*) noexcept {
  decode_command found = nullptr;
  static_cast<void>(((E::name == name ? (found = &decode_invocation<E, A>, true) : false) || ...));
  return found;
}

}  // namespace pulsar::detail
