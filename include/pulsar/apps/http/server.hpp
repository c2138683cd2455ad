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
/// How it listens and what its workers share: see apps/socket/server.hpp.

#include <pulsar/apps/http/handler.hpp>
#include <pulsar/apps/http/service.hpp>
#include <pulsar/apps/socket/server.hpp>
#include <pulsar/core/listener.hpp>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pulsar::http {

/// Construct it in `main` and call `run` once; options are set before that. The command line says
/// where it listens, with how many workers of which kind, and how long it waits at a stop.
///
/// `main` runs in each worker process too, up to `run`: what the handler captures is made there
/// anew, and shared with no other worker. Workers that are threads call copies of the handler at
/// the same time: what those point to needs a lock.
class server : public socket_server {
 public:
  /// `answer` is called for every request, in each worker: `response(request&)`, plain or a
  /// coroutine. It is copied for each worker that is a thread.
  template <class F>
  explicit server(F answer, std::string name = "server")
      : socket_server(std::move(name), "HTTP server"),
        make_handler_([f = std::move(answer)] { return handler(f); }) {}

  /// The limits and time-outs of connections; before `run`.
  connection_options& options() noexcept { return options_; }

 protected:
  std::unique_ptr<socket_service> make_service() override {
    return std::make_unique<worker_service>(make_handler_(), options_);
  }

 private:
  class worker_service final : public socket_service {
   public:
    worker_service(handler h, connection_options options)
        : service_(std::move(h), std::move(options)) {}

    future<> start(std::vector<listener> at) override {
      for (auto& each : at) service_.serve(std::move(each));
      return make_ready_future();
    }
    future<> stop(event_loop::duration grace) override { return service_.stop(grace); }

   private:
    service service_;
  };

  std::function<handler()> make_handler_;
  connection_options options_;
};

}  // namespace pulsar::http
