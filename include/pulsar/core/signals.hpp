// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Signals as callbacks of a loop: `event_loop::add_signal_handler`, `remove_signal_handler`.
///
///     loop.add_signal_handler(SIGTERM, [&] { loop.stop(); });
///
/// One handler a loop and signal: a second one replaces the first. Several loops may ask for the
/// same signal, and each is told; the default action returns with the last handler, which closing
/// the loop removes as well.

#include <pulsar/core/event_loop.hpp>

#include <asio/basic_signal_set.hpp>

#include <cstring>
#include <functional>
#include <string>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

/// What a loop does when the process receives `signal`. Counted: it may remove itself.
class signal_handler : public counted {
 public:
  signal_handler(event_loop& loop, int s)
      : signal(s), loop_(loop), set_(loop.context()), waiting_(new waiting(*this)) {}

  /// Throws for what cannot be caught.
  void start() {
    std::error_code failure;
    set_.add(signal, failure);
    if (failure) refuse(failure);
    wait();
  }

  void stop() noexcept {
    waiting_->handler = nullptr;
    std::error_code ignored;
    set_.clear(ignored);
    set_.cancel(ignored);
  }

  const int signal;
  counted_pointer<signal_handler> next;

 protected:
  virtual void call() = 0;

 private:
  // A wait may end when the handler, and the loop, are gone.
  struct waiting : counted {
    explicit waiting(signal_handler& h) noexcept : handler(&h) {}
    signal_handler* handler;
  };
  struct ended_wait {
    counted_pointer<waiting> by;
    void operator()(std::error_code ec, int) const {
      if (!ec && by->handler != nullptr) by->handler->on_signal();
    }
  };

  [[noreturn]] void refuse(std::error_code why) const {
    const char* const name = signal > 0 ? ::sigabbrev_np(signal) : nullptr;
    const std::string text = "add_signal_handler: signal " + std::to_string(signal);
    throw error(why, name != nullptr ? text + " (SIG" + name + ") cannot be handled"
                                     : text + " cannot be handled");
  }

  void wait() { set_.async_wait(ended_wait{waiting_}); }

  void on_signal() {
    const auto kept = share(*this);
    wait();
    loop_access::run_as_batch(loop_, [this] {
      try {
        call();
      } catch (...) {
        report_callback_failure(loop_);
      }
    });
  }

  event_loop& loop_;
  asio::basic_signal_set<asio::io_context::executor_type> set_;
  counted_pointer<waiting> waiting_;
};

/// The handlers of one loop.
class signal_table final : public loop_extension {
 public:
  explicit signal_table(event_loop&) noexcept {}
  ~signal_table() override {
    while (first_) remove(first_->signal);
  }

  void add(counted_pointer<signal_handler> added) {
    added->start();
    // Only now: between two handlers the signal would have its default action.
    const auto before = take_out(added->signal);
    if (before) before->stop();
    added->next = first_;
    first_ = added;
  }

  bool remove(int signal) noexcept {
    const auto gone = take_out(signal);
    if (gone) gone->stop();
    return static_cast<bool>(gone);
  }

 private:
  // It ends, with what the user's function owns, when the table is whole again.
  counted_pointer<signal_handler> take_out(int signal) noexcept {
    auto* at = &first_;
    while (*at && (*at)->signal != signal) at = &(*at)->next;
    const counted_pointer<signal_handler> found = *at;
    if (found) *at = found->next;
    return found;
  }

  counted_pointer<signal_handler> first_;
};

/// Calls `owner.on_signal(signal)`; for those who would have to wrap a function for each signal.
template <class T>
void tell_of_signal(event_loop& loop, int signal, T& owner) {
  struct handler final : signal_handler {
    handler(event_loop& l, int s, T& o) : signal_handler(l, s), told(o) {}
    void call() override { told.on_signal(signal); }
    T& told;
  };
  auto& table = loop_access::local<signal_table>(loop);
  table.add(counted_pointer<signal_handler>(new handler(loop, signal, owner)));
}

}  // namespace detail

inline void event_loop::set_signal_handler(int signal,
                                           std::function<void()> f,
                                           source_location where) {
  if (closed_) throw_closed("add_signal_handler");
  if (!f) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "add_signal_handler was given no function");
  }
  struct handler final : detail::signal_handler {
    handler(event_loop& l, int s, std::function<void()>&& c, source_location w)
        : signal_handler(l, s), function(std::move(c)), given(w) {}
    void call() override {
      if (detail::this_step != nullptr) [[unlikely]] {
        detail::this_step->begin(detail::step_watch::kind::callback, given);
      }
      function();
    }
    const std::function<void()> function;
    const source_location given;
  };
  auto& table = detail::loop_access::local<detail::signal_table>(*this);
  table.add(detail::counted_pointer<detail::signal_handler>(
      new handler(*this, signal, std::move(f), where)));
}

inline bool event_loop::remove_signal_handler(int signal) noexcept {
  check_thread("remove_signal_handler");
  auto* table = detail::loop_access::find_local<detail::signal_table>(*this);
  return table != nullptr && table->remove(signal);
}

}  // namespace pulsar
