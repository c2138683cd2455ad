// SPDX-License-Identifier: BSD-3-Clause
// A child for the tests: does what its first argument says and reports on standard output.

#include <pulsar/core/descriptor.hpp>

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

namespace {

// One line a descriptor: number, device and inode of what it is.
void print_descriptors() {
  for (const int fd : pulsar::open_descriptors()) {
    struct stat what {};
    ::fstat(fd, &what);
    std::printf("%d %llu:%llu\n", fd, static_cast<unsigned long long>(what.st_dev),
                static_cast<unsigned long long>(what.st_ino));
  }
}

// Signals that the kernel lists as blocked, ignored and caught, but for the two that the C library
// keeps to itself.
void print_signals() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    for (const std::string_view name : {"SigBlk:\t", "SigIgn:\t", "SigCgt:\t"}) {
      if (!line.starts_with(name)) continue;
      auto set = std::stoull(line.substr(name.size()), nullptr, 16);
      set &= ~(3ULL << 31);
      std::printf("%.6s", line.c_str());
      for (int signal = 1; signal <= 64; ++signal) {
        if ((set >> (signal - 1) & 1) != 0) std::printf(" %d", signal);
      }
      std::printf("\n");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "descriptors") {
    print_descriptors();
  } else if (what == "signals") {
    print_signals();
  } else if (what == "environment") {
    for (char** entry = environ; *entry != nullptr; ++entry) std::printf("%s\n", *entry);
  } else if (what == "arguments") {
    for (int i = 0; i < argc; ++i) std::printf("%s\n", argv[i]);
  } else if (what == "place") {
    char path[4096];
    std::printf("%s\n%d\n", ::getcwd(path, sizeof path), ::getpgrp() == ::getpid());
  } else if (what == "exit") {
    return std::atoi(argv[2]);
  } else if (what == "kill") {
    ::signal(std::atoi(argv[2]), SIG_DFL);
    ::raise(std::atoi(argv[2]));
  } else if (what == "until-end-of-input") {
    char byte;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {
    }
    return 7;
  } else if (what == "leave-orphan") {
    // The grandchild is handed to the nearest subreaper when this process ends.
    const pid_t orphan = ::fork();
    if (orphan == 0) ::_exit(9);
    std::printf("%d\n", orphan);
  } else {
    return 64;
  }
  return 0;
}
