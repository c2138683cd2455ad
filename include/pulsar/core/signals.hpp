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

/// The handlers of one loop.
class signal_table final : public loop_extension {
 public:
  explicit signal_table(event_loop& loop) : loop_(loop), set_(loop.context()) {}

  void add(int signal, std::function<void()> f) {
    counted_pointer<entry> e(new entry(signal, std::move(f)));
    set_.add(signal);  // throws for what cannot be caught
    if (!first_) wait();
    auto& at = find(signal);
    if (at) at = at->next;
    e->next = first_;
    first_ = e;
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
  struct entry : counted {
    entry(int s, std::function<void()> f) : signal(s), call(std::move(f)) {}
    const int signal;
    const std::function<void()> call;
    counted_pointer<entry> next;
  };

  // Called also when the loop is gone.
  struct handler {
    counted_pointer<loop_inbox> inbox;
    unsigned wait;

    void operator()(std::error_code ec, int signal) const {
      event_loop* const loop = loop_access::owner(*inbox);
      if (loop == nullptr) return;
      auto& table = *loop_access::find_local<signal_table>(*loop);
      if (!ec && wait == table.waits_) table.call(signal);
    }
  };

  void wait() { set_.async_wait(handler{loop_access::inbox(loop_), waits_}); }

  void call(int signal) {
    wait();
    const counted_pointer<entry> e = find(signal);  // it may remove itself
    if (!e) return;
    loop_access::run_as_batch(loop_, [&] {
      try {
        e->call();
      } catch (...) {
        report_callback_failure(loop_);
      }
    });
  }

  counted_pointer<entry>& find(int signal) noexcept {
    auto* at = &first_;
    while (*at && (*at)->signal != signal) at = &(*at)->next;
    return *at;
  }

  event_loop& loop_;
  asio::basic_signal_set<asio::io_context::executor_type> set_;
  counted_pointer<entry> first_;
  unsigned waits_ = 0;  // that were ended with the last handler
};

}  // namespace detail

inline void event_loop::set_signal_handler(int signal, std::function<void()> f) {
  if (closed_) throw_closed("add_signal_handler");
  if (!f) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "add_signal_handler was given no function");
  }
  detail::loop_access::local<detail::signal_table>(*this).add(signal, std::move(f));
}

inline bool event_loop::remove_signal_handler(int signal) noexcept {
  auto* table = detail::loop_access::find_local<detail::signal_table>(*this);
  return table != nullptr && table->remove(signal);
}

}  // namespace pulsar
