// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `service`: an HTTP server in one event loop.
///
///     http::service web([](http::request&) { return http::response("Hello, World!"); });
///     web.serve(pulsar::listener(pulsar::address("127.0.0.1:8060")));
///     ...
///     co_await web.stop(30s);
///
/// It knows nothing of processes: a server with several workers hands each of them the listening
/// descriptor (`listener::adopt`).

#include <pulsar/apps/http/connection.hpp>
#include <pulsar/apps/http/handler.hpp>
#include <pulsar/core/accept.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/timeout.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar::http {

/// Belongs to its loop's thread. Destroying it closes every connection in the middle of what it
/// does; `stop` it first to spare them that.
class service {
 public:
  explicit service(http::handler handler,
                   connection_options options = {},
                   event_loop& loop = event_loop::current())
      : group_(std::make_shared<connection_group>(loop, std::move(handler), std::move(options))) {}
  service(const service&) = delete;
  service& operator=(const service&) = delete;
  ~service() { group_->abort(); }

  /// Serves the connections that arrive at `from`, beside those of other listeners, until `stop`.
  /// A listener that fails for good is told to the loop's exception handler.
  void serve(listener from) {
    accepting_.push_back(accept(group_->loop(), group_, std::move(from)));
  }

  /// Serves a connection that was accepted elsewhere.
  void serve(unique_fd connected) { serve_connection(group_, std::move(connected)).detach(); }

  /// Closes the listeners, lets every connection finish the request under way, and is done when
  /// all are closed. After `grace`, or when it is cancelled, those that are left are closed in the
  /// middle of what they do. May be called again with less grace.
  future<> stop(event_loop::duration grace = std::chrono::seconds(30)) {
    return finish(group_->loop(), group_, std::exchange(accepting_, {}), grace);
  }

  /// How many connections are open.
  std::size_t size() const noexcept { return group_->size(); }

  const connection_counters& counters() const noexcept { return group_->counters(); }

 private:
  static future<> accept(event_loop& loop, std::shared_ptr<connection_group> group, listener from) {
    try {
      // Named: see make.hpp.
      auto serve_each = [group](unique_fd connected) {
        serve_connection(group, std::move(connected)).detach();
      };
      co_await accept_each(loop, std::move(from), serve_each);
    } catch (...) {
      const auto why = std::current_exception();
      if (!pulsar::detail::is_cancelled(why)) {
        loop.call_exception_handler({"an HTTP server lost a listener", why, {}});
      }
    }
  }

  static future<> finish(event_loop&,
                         std::shared_ptr<connection_group> group,
                         std::vector<future<>> accepting,
                         event_loop::duration grace) {
    bool in_time = true;
    try {
      for (auto& each : accepting) each.cancel();
      for (auto& each : accepting) co_await each;
      group->drain();
      co_await with_timeout(group->ended(), grace);
    } catch (const std::system_error&) {
      in_time = false;
    }
    if (in_time) co_return;
    group->abort();
    co_await group->ended();
  }

  std::shared_ptr<connection_group> group_;
  std::vector<future<>> accepting_;
};

}  // namespace pulsar::http
