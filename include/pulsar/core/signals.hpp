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
#include <map>
#include <memory>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

/// The handlers of one loop.
class signal_table final : public loop_extension {
 public:
  explicit signal_table(event_loop& loop) noexcept : loop_(loop) {}

  void add(int signal, std::function<void()> f) {
    auto e = std::make_shared<entry>(loop_.context(), std::move(f));
    e->set.add(signal);  // throws for what cannot be caught
    remove(signal);      // only now: between two handlers the signal would have its default action
    entries_[signal] = e;
    wait(loop_, e);
  }

  bool remove(int signal) noexcept {
    const auto found = entries_.find(signal);
    if (found == entries_.end()) return false;
    std::error_code ignored;
    found->second->set.clear(ignored);
    entries_.erase(found);
    return true;
  }

  ~signal_table() override {
    while (!entries_.empty()) remove(entries_.begin()->first);
  }

 private:
  struct entry {
    entry(asio::io_context& context, std::function<void()> f) : set(context), call(std::move(f)) {}
    asio::basic_signal_set<asio::io_context::executor_type> set;
    std::function<void()> call;
  };

  static void wait(event_loop& loop, const std::shared_ptr<entry>& e) {
    e->set.async_wait([&loop, weak = std::weak_ptr(e)](std::error_code ec, int) {
      const auto self = weak.lock();
      if (ec || self == nullptr) return;
      wait(loop, self);
      loop_access::run_as_batch(loop, [&] {
        try {
          self->call();
        } catch (...) {
          report_callback_failure(loop);
        }
      });
    });
  }

  event_loop& loop_;
  std::map<int, std::shared_ptr<entry>> entries_;
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
