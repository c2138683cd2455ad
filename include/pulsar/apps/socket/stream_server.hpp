// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `stream_server`: an application that calls a coroutine for each connection.
///
///     pulsar::future<> echo(pulsar::stream peer) {
///       for (;;) {
///         const std::string line = co_await peer.read_line();
///         if (line.empty()) break;
///         peer.write(line);
///         co_await peer.drain();
///       }
///       co_await peer.close();
///     }
///     int main(int argc, char** argv) {
///       return pulsar::stream_server(&echo, "echo").run(argc, argv);
///     }

#include <pulsar/apps/socket/server.hpp>
#include <pulsar/core/server.hpp>
#include <pulsar/core/stream.hpp>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pulsar {

/// See `socket_server` for where it listens and what its workers share, and `start_server` for what
/// becomes of a handler that fails. At a stop the handlers have the grace of the command line;
/// those that are left are cancelled.
class stream_server : public socket_server {
 public:
  /// Called for each connection, in a worker: `future<>(stream)`. Copied for each worker.
  using handler = std::function<future<>(stream)>;

  explicit stream_server(handler serve, std::string name = "server", std::string about = {})
      : socket_server(std::move(name), std::move(about)), serve_(std::move(serve)) {}

  /// What holds in each worker; before `run`. `listen` has no effect.
  server_options& options() noexcept { return options_; }

 protected:
  std::unique_ptr<socket_service> make_service() override {
    return std::make_unique<service>(serve_, options_);
  }

 private:
  class service final : public socket_service {
   public:
    service(handler serve, const server_options& options)
        : serve_(std::move(serve)), options_(options) {}

    future<> start(std::vector<listener> at) override { return begin(*this, std::move(at)); }
    future<> stop(event_loop::duration grace) override {
      if (!started_) return make_ready_future();
      return server_.stop(grace);
    }

   private:
    template <class Self>
    static future<> begin(Self& self, std::vector<listener> at) {
      self.server_ = co_await start_server(self.serve_, std::move(at), self.options_);
      self.started_ = true;
    }

    handler serve_;
    server_options options_;
    server server_;
    bool started_ = false;
  };

  handler serve_;
  server_options options_;
};

}  // namespace pulsar
