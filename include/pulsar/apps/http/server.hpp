// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `http::server`: an application that answers HTTP with a number of workers.
///
///     int main(int argc, char** argv) {
///       pulsar::http::server hello([](pulsar::http::request&) {
///         return pulsar::http::response("Hello, World!");
///       });
///       return hello.run(argc, argv);
///     }
///
/// The listeners are opened once, in the master, and shared: no connection is refused while a worker
/// is replaced.

#include <pulsar/apps/application/application.hpp>
#include <pulsar/apps/http/handler.hpp>
#include <pulsar/apps/http/service.hpp>
#include <pulsar/core/address.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/log.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar::http {

/// Construct it in `main` and call `run` once; options are set before that. The command line says
/// where it listens, with how many workers of which kind, and how long it waits at a stop.
///
/// `main` runs in each worker process too, up to `run`: what the handler captures is made there
/// anew, and shared with no other worker. Workers that are threads call copies of the handler at
/// the same time: what those point to needs a lock.
class server : public application {
 public:
  /// `answer` is called for every request, in each worker: `response(request&)`, plain or a
  /// coroutine. It is copied for each worker that is a thread.
  template <class F>
  explicit server(F answer, std::string name = "server")
      : application(std::move(name), "HTTP server", &check_address),
        make_handler_([f = std::move(answer)] { return handler(f); }) {}

  /// The limits and time-outs of connections; before `run`.
  connection_options& options() noexcept { return options_; }

  /// The addresses it listens at; in the master, while it runs.
  std::vector<std::string> addresses() const {
    std::vector<std::string> out;
    for (const auto& l : listeners_) out.push_back(l.local().to_string());
    return out;
  }

 protected:
  std::unique_ptr<worker_body> make_worker() override {
    return std::make_unique<worker>(make_handler_(), options_);
  }

  std::vector<int> open() override {
    std::vector<int> fds;
    for (const auto& text : config().bind) {
      listeners_.emplace_back(address(text));
      fds.push_back(listeners_.back().fd());
    }
    return fds;
  }

  void when_ready() override {
    for (const auto& text : addresses()) {
      log::info("{} listens at {} with {} {} worker(s)", name(), text, config().workers,
                to_string(config().concurrency));
    }
  }

  void close() noexcept override { listeners_.clear(); }

 private:
  static void check_address(std::string_view text) { static_cast<void>(address(text)); }

  class worker final : public worker_body {
   public:
    worker(handler h, connection_options options)
        : handler_(std::move(h)), options_(std::move(options)) {}

    future<> start(std::vector<unique_fd> descriptors, bytes) override {
      service_.emplace(std::move(handler_), std::move(options_));
      for (auto& fd : descriptors) service_->serve(listener::adopt(std::move(fd)));
      return make_ready_future();
    }
    future<> stop(event_loop::duration grace) override {
      if (!service_) return make_ready_future();
      return service_->stop(grace);
    }

   private:
    handler handler_;
    connection_options options_;
    std::optional<service> service_;
  };

  std::function<handler()> make_handler_;
  connection_options options_;
  std::vector<listener> listeners_;
};

}  // namespace pulsar::http
