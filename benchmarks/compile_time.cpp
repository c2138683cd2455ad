// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// CPU time and memory that the compiler needs for a program with one actor, at -O0. Beside it a
/// program with Asio and fmt alone. The sources stand in compile_time/.

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/harness.hpp"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct cost {
  double seconds;
  double megabytes;
};

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
}

/// Compiles `source` as a user would, without what a cache may know.
cost compile(const std::string& compiler, const std::string& source) {
  const fs::path here = fs::path(__FILE__).parent_path();
  std::vector<std::string> command{compiler,
                                   "-std=c++20",
                                   "-O0",
                                   "-c",
                                   "-o",
                                   "/dev/null",
                                   "-I",
                                   (here.parent_path() / "include").string(),
                                   (here / "compile_time" / source).string()};
  std::vector<char*> arguments;
  for (auto& each : command) arguments.push_back(each.data());
  arguments.push_back(nullptr);
  pid_t child = -1;
  const int failure =
      ::posix_spawnp(&child, compiler.c_str(), nullptr, nullptr, arguments.data(), environ);
  if (failure != 0) {
    throw std::system_error(failure, std::generic_category(),
                            compiler + " (name the compiler with --cxx)");
  }
  int status = 0;
  rusage used{};
  while (::wait4(child, &status, 0, &used) < 0) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "wait4");
  }
  if (status != 0) {
    throw std::runtime_error(fmt::format("{} does not compile {}", compiler, source));
  }
  return {seconds(used.ru_utime) + seconds(used.ru_stime),
          static_cast<double>(used.ru_maxrss) / 1024};
}

std::string default_compiler() {
  const char* named = std::getenv("CXX");
  if (named != nullptr && *named != '\0') return named;
#if defined(__clang__)
  return fmt::format("clang++-{}", __clang_major__);
#else
  return "g++";
#endif
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(
      argc, argv,
      [](bench::suite& suite) {
        const bool time = suite.wants("compile_time");
        const bool memory = suite.wants("compile_memory");
        if (!time && !memory) return;
        ::setenv("CCACHE_DISABLE", "1", 1);
        const std::string compiler = suite.own("cxx", default_compiler());
        const int rounds = suite.asked().quick ? 1 : 9;
        if (time) {
          suite.compare_values({"Asio and fmt", {}, {}},
                               {{"compile_time", {}, bench::value_at_most(5, 3.5)}}, "s",
                               {[&] { return compile(compiler, "asio_and_fmt.cpp").seconds; },
                                [&] { return compile(compiler, "hello_actor.cpp").seconds; }},
                               rounds);
        }
        if (memory) {
          // The compiler's memory is the same every time.
          suite.compare_values({"Asio and fmt", {}, {}},
                               {{"compile_memory", {}, bench::value_at_most(500, 500)}}, "MB",
                               {[&] { return compile(compiler, "asio_and_fmt.cpp").megabytes; },
                                [&] { return compile(compiler, "hello_actor.cpp").megabytes; }},
                               1);
        }
      },
      {"--cxx"});
}
