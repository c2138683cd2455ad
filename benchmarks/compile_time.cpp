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
#include <functional>
#include <stdexcept>
#include <string>
#include <system_error>
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
        std::vector<double> ours;
        std::vector<double> theirs;
        const auto sampler = [&](const char* source, std::vector<double>& megabytes) {
          return [&compiler, &megabytes, source] {
            const cost one = compile(compiler, source);
            megabytes.push_back(one.megabytes);
            return one.seconds;
          };
        };
        const std::vector<std::function<double()>> samplers{sampler("asio_and_fmt.cpp", theirs),
                                                            sampler("hello_actor.cpp", ours)};
        if (time) {
          suite.compare_values({"Asio and fmt", {}, {}},
                               {{"compile_time", {}, bench::value_at_most(5, 3.5)}}, "s", samplers,
                               suite.asked().quick ? 1 : 9);
        } else {
          for (const auto& sample : samplers) sample();
        }
        if (memory) {
          suite.add({"compile_memory", bench::median(ours), "MB", bench::spread(ours),
                     "Asio and fmt", bench::median(theirs),
                     bench::median(ours) / bench::median(theirs), bench::value_at_most(500, 500)});
        }
      },
      {"--cxx"});
}
