// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `socket_server`: an application that listens, and whose workers serve who connects.
///
///     class feed : public pulsar::socket_server {
///      public:
///       feed() : socket_server("feed", "the news") {}
///      protected:
///       std::unique_ptr<pulsar::socket_service> make_service() override { ... }
///     };
///     int main(int argc, char** argv) { return feed().run(argc, argv); }
///
/// The listeners are opened once, in the master, and shared by all workers: no connection is
/// refused while a worker is replaced. For a coroutine a connection see stream_server.hpp.

#include <pulsar/apps/application/application.hpp>
#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/log.hpp>

#include <fmt/format.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar {

/// What a worker of a `socket_server` does with those who connect. Made, called and destroyed in
/// the worker's thread, while its loop runs.
class socket_service {
 public:
  socket_service() = default;
  socket_service(const socket_service&) = delete;
  socket_service& operator=(const socket_service&) = delete;
  virtual ~socket_service() = default;

  /// Begins to accept; the worker is ready when it is done. What it throws keeps the worker from
  /// starting.
  virtual future<> start(std::vector<listener> at) = 0;

  /// Stops accepting and is done when no connection is left, soon after `grace` at the latest. May
  /// be called again with less.
  virtual future<> stop(event_loop::duration grace) = 0;
};

/// Construct it in `main` and call `run` once. The command line says where it listens (`--bind`),
/// with how many workers of which kind, and how long it waits at a stop.
///
/// `main` runs in each worker process too, up to `run`: what a service refers to is made there
/// anew, and shared with no other worker. Workers that are threads share it, so that it needs a
/// lock.
class socket_server : public application {
 public:
  /// As for `application`.
  explicit socket_server(std::string name, std::string about = {})
      : application(std::move(name), std::move(about), &check_address) {}

  /// The addresses it listens at, with the ports that the system chose for 0; in the master, while
  /// it runs.
  std::vector<std::string> addresses() const {
    std::vector<std::string> out;
    for (const auto& l : listeners_) out.push_back(l.local().to_string());
    return out;
  }

 protected:
  /// What serves in one worker. Called there, when its loop runs; from several threads at a time if
  /// workers are threads.
  virtual std::unique_ptr<socket_service> make_service() = 0;

  std::unique_ptr<worker_body> make_worker() final { return std::make_unique<worker>(*this); }

  std::vector<int> open() override {
    std::vector<int> fds;
    for (const auto& text : config().bind) {
      try {
        listeners_.emplace_back(address(text));
      } catch (const std::system_error& e) {
        throw std::runtime_error(fmt::format("{} (--bind sets the addresses)", e.what()));
      }
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
    explicit worker(socket_server& of) noexcept : of_(of) {}

    future<> start(std::vector<unique_fd> descriptors, bytes) override {
      std::vector<listener> at;
      for (auto& fd : descriptors) at.push_back(listener::adopt(std::move(fd)));
      service_ = of_.make_service();
      return service_->start(std::move(at));
    }
    future<> stop(event_loop::duration grace) override {
      if (service_ == nullptr) return make_ready_future();
      return service_->stop(grace);
    }

   private:
    socket_server& of_;
    std::unique_ptr<socket_service> service_;
  };

  std::vector<listener> listeners_;
};

}  // namespace pulsar
