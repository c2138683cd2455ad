// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/socket/server.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <support/running_server.hpp>
#include <support/scratch_directory.hpp>
#include <sys/socket.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

using server_tests::connect_to;
using server_tests::eventually;

constexpr const char* program = PULSAR_TEST_PROGRAMS_DIR "/door_server";

std::string told_at(int port) {
  const auto s = connect_to(port);
  if (!s) return {};
  std::string text;
  for (char c = 0; ::recv(s.get(), &c, 1, 0) == 1;) text += c;
  return text;
}

/// What a program that is to fail says, and its exit code.
struct failure {
  int code;
  std::string text;
};
failure failure_of(const std::vector<std::string>& arguments,
                   const std::vector<pulsar::environment_change>& environment = {}) {
  const scratch_directory dir;
  const std::string path = dir.path("said");
  const pulsar::unique_fd out(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  pulsar::child_options options;
  options.executable = program;
  options.arguments = arguments;
  options.environment = environment;
  options.standard_output = pulsar::null_device;
  options.standard_error = out.get();
  auto child = pulsar::spawn_child(options);
  const int code = child.wait().code;
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return {code, text.str()};
}

}  // namespace

TEST_SUITE("socket_server") {
  TEST_CASE("each worker's service is given every address of --bind") {
    const int second = server_tests::free_port();
    server_tests::running_server server(
        program, {"--bind", "127.0.0.1:" + std::to_string(second), "--workers", "2"});
    CHECK(eventually([&] { return told_at(server.port()) == "2\n"; }));
    CHECK(told_at(second) == "2\n");
    server.process().signal(SIGTERM);
    CHECK(to_string(server.process().wait()) == "exit code 0");
    CHECK_FALSE(connect_to(server.port()));
    CHECK_FALSE(connect_to(second));
  }

  TEST_CASE("an address in use is named with the flag that sets it, and the exit code is 1") {
    server_tests::running_server server(program);
    REQUIRE(eventually([&] { return !told_at(server.port()).empty(); }));
    const std::string taken = "127.0.0.1:" + std::to_string(server.port());
    const auto [code, text] = failure_of({"door_server", "--bind", taken});
    CHECK(code == 1);
    CHECK(text.find(taken + " is in use: stop the other program or choose another address") !=
          std::string::npos);
    CHECK(text.find("--bind") != std::string::npos);
    CHECK(told_at(server.port()) == "1\n");
  }

  TEST_CASE("what is no address is refused before anything starts, with exit code 2") {
    CHECK(server_tests::exit_code_of(program, {"door_server", "--bind", "127.0.0.1:99999"}) == 2);
    CHECK(server_tests::exit_code_of(program, {"door_server", "--bind", "unix:"}) == 2);
  }

  TEST_CASE("a service that cannot start ends the program with its reason and exit code 3") {
    const std::string free = "127.0.0.1:" + std::to_string(server_tests::free_port());
    const auto [code, text] = failure_of({"door_server", "--bind", free}, {{"DOOR", "locked"}});
    CHECK(code == 3);
    CHECK(text.find("the door is locked") != std::string::npos);
  }
}
