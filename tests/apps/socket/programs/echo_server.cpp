// SPDX-License-Identifier: BSD-3-Clause
// What stream_server_test.cpp starts, stops and kills: a line comes back, behind some there is
// more.
#include <pulsar/socket.hpp>

#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <string>

namespace {

pulsar::future<> echo(pulsar::stream peer) {
  for (;;) {
    const std::string line = co_await peer.read_line();
    if (line.empty()) break;
    if (line == "throw\n") throw std::runtime_error("as it was told");
    peer.write(line == "pid\n" ? std::to_string(::getpid()) + "\n" : line);
    co_await peer.drain();
    if (line == "slow\n") {
      co_await pulsar::sleep(std::chrono::milliseconds(300));
      peer.write("done\n");
      co_await peer.drain();
    }
  }
  co_await peer.close();
}

}  // namespace

int main(int argc, char** argv) {
  return pulsar::stream_server(&echo, "echo_server", "Gives lines back").run(argc, argv);
}
