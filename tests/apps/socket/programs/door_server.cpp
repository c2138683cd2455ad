// SPDX-License-Identifier: BSD-3-Clause
// What server_test.cpp starts: a service of its own, which tells who connects how many listeners it
// has and closes. With DOOR=locked it cannot start.
#include <pulsar/socket.hpp>

#include <sys/socket.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

class door : public pulsar::socket_service {
 public:
  pulsar::future<> start(std::vector<pulsar::listener> at) override {
    if (std::getenv("DOOR") != nullptr) throw std::runtime_error("the door is locked");
    const std::string text = std::to_string(at.size()) + "\n";
    for (auto& each : at) {
      const auto tell = [text](pulsar::unique_fd connected) {
        static_cast<void>(::send(connected.get(), text.data(), text.size(), MSG_NOSIGNAL));
      };
      accepting_.push_back(
          pulsar::accept_each(pulsar::event_loop::current(), std::move(each), tell));
    }
    return pulsar::make_ready_future();
  }

  pulsar::future<> stop(pulsar::event_loop::duration) override {
    accepting_.clear();
    return pulsar::make_ready_future();
  }

 private:
  std::vector<pulsar::future<>> accepting_;
};

class door_server : public pulsar::socket_server {
 public:
  door_server() : socket_server("door_server", "Tells how many doors there are") {}

 protected:
  std::unique_ptr<pulsar::socket_service> make_service() override {
    return std::make_unique<door>();
  }
};

}  // namespace

int main(int argc, char** argv) { return door_server().run(argc, argv); }
