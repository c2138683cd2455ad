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

#include <functional>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

/// What a loop does when the process receives `signal`. Counted: it may remove itself.
struct signal_handler : counted {
  explicit signal_handler(int s) noexcept : signal(s) {}
  virtual void call() = 0;

  const int signal;
  counted_pointer<signal_handler> next;  // of the loop
};

/// The handlers of one loop.
class signal_table final : public loop_extension {
 public:
  explicit signal_table(event_loop& loop) : loop_(loop), set_(loop.context()) {}

  void add(counted_pointer<signal_handler> added) {
    set_.add(added->signal);  // throws for what cannot be caught
    if (!first_) wait();
    auto& at = find(added->signal);
    if (at) at = at->next;
    added->next = first_;
    first_ = added;
  }

  bool remove(int signal) noexcept {
    auto& at = find(signal);
    if (!at) return false;
    std::error_code ignored;
    set_.remove(signal, ignored);
    at = at->next;
    if (!first_) {
      ++waits_;
      set_.cancel(ignored);
    }
    return true;
  }

 private:
  // Called also when the loop is gone.
  struct ended_wait {
    counted_pointer<loop_inbox> inbox;
    unsigned wait;

    void operator()(std::error_code ec, int signal) const {
      event_loop* const loop = loop_access::owner(*inbox);
      if (loop == nullptr) return;
      auto& table = *loop_access::find_local<signal_table>(*loop);
      if (!ec && wait == table.waits_) table.call(signal);
    }
  };

  void wait() { set_.async_wait(ended_wait{loop_access::inbox(loop_), waits_}); }

  void call(int signal) {
    wait();
    const counted_pointer<signal_handler> found = find(signal);
    if (!found) return;
    loop_access::run_as_batch(loop_, [&] {
      try {
        found->call();
      } catch (...) {
        report_callback_failure(loop_);
      }
    });
  }

  counted_pointer<signal_handler>& find(int signal) noexcept {
    auto* at = &first_;
    while (*at && (*at)->signal != signal) at = &(*at)->next;
    return *at;
  }

  event_loop& loop_;
  asio::basic_signal_set<asio::io_context::executor_type> set_;
  counted_pointer<signal_handler> first_;
  unsigned waits_ = 0;  // that were ended with the last handler
};

/// Calls `owner.on_signal(signal)`; for those who would have to wrap a function for each signal.
template <class T>
void tell_of_signal(event_loop& loop, int signal, T& owner) {
  struct handler final : signal_handler {
    handler(int s, T& o) noexcept : signal_handler(s), told(o) {}
    void call() override { told.on_signal(signal); }
    T& told;
  };
  auto& table = loop_access::local<signal_table>(loop);
  table.add(counted_pointer<signal_handler>(new handler(signal, owner)));
}

}  // namespace detail

inline void event_loop::set_signal_handler(int signal, std::function<void()> f) {
  if (closed_) throw_closed("add_signal_handler");
  if (!f) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "add_signal_handler was given no function");
  }
  struct handler final : detail::signal_handler {
    handler(int s, std::function<void()>&& c) : signal_handler(s), function(std::move(c)) {}
    void call() override { function(); }
    const std::function<void()> function;
  };
  auto& table = detail::loop_access::local<detail::signal_table>(*this);
  table.add(detail::counted_pointer<detail::signal_handler>(new handler(signal, std::move(f))));
}

inline bool event_loop::remove_signal_handler(int signal) noexcept {
  auto* table = detail::loop_access::find_local<detail::signal_table>(*this);
  return table != nullptr && table->remove(signal);
}

}  // namespace pulsar
