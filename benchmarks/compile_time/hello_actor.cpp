// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// The subject of compile_time: a program with one actor.

#include <pulsar/pulsar.hpp>

#include <fmt/format.h>

#include <string>

using namespace pulsar::literals;

class greeter : public pulsar::actor<greeter> {
 public:
  std::string greet(std::string name) { return "hello " + name; }
  using commands = pulsar::commands<&greeter::greet>;
};

pulsar::future<> app() {
  auto ref = co_await pulsar::spawn<greeter>();
  fmt::print("{}\n", co_await send(ref, "greet"_cmd, "world"));
}

int main(int argc, char** argv) { return pulsar::run(argc, argv, app); }
