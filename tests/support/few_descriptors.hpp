// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// A process that has no descriptor left, or few.
///
///     const few_descriptors none(0);
///
/// UBSan looks at a type it has not seen yet with the help of two descriptors: let what is tested
/// happen once before.

#include <pulsar/core/descriptor.hpp>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>
#include <vector>

/// Leaves the process `left` descriptors while it lives.
struct few_descriptors {
  explicit few_descriptors(rlim_t left) {
    ::getrlimit(RLIMIT_NOFILE, &before);
    const auto highest = static_cast<rlim_t>(pulsar::open_descriptors().back());
    const rlimit wanted{highest + 1, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &wanted) == 0);
    while (pulsar::unique_fd filler{::dup(0)}) fillers.push_back(std::move(filler));
    for (rlim_t i = 0; i < left; ++i) fillers.pop_back();
  }
  few_descriptors(const few_descriptors&) = delete;
  few_descriptors& operator=(const few_descriptors&) = delete;
  ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before); }

  rlimit before{};
  std::vector<pulsar::unique_fd> fillers;
};
