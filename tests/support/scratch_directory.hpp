// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// A directory for the sockets and files of one test.

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

/// Made under /tmp, and removed with all that is in it.
class scratch_directory {
 public:
  scratch_directory() {
    char name[] = "/tmp/pulsar-test-XXXXXX";
    if (::mkdtemp(name) == nullptr) throw std::system_error(errno, std::system_category(), name);
    path_ = name;
  }
  scratch_directory(const scratch_directory&) = delete;
  scratch_directory& operator=(const scratch_directory&) = delete;
  ~scratch_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  /// The address of a Unix socket in it.
  std::string unix_socket() const { return "unix:" + path("socket"); }

 private:
  std::string path_;
};
