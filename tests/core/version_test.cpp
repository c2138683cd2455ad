// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/version.hpp>

#include <doctest/doctest.h>

#include <string>

TEST_SUITE("version") {
  TEST_CASE("F20: the text says the same as the three numbers") {
    const std::string numbers = std::to_string(PULSAR_VERSION_MAJOR) + "." +
                                std::to_string(PULSAR_VERSION_MINOR) + "." +
                                std::to_string(PULSAR_VERSION_PATCH);
    CHECK(pulsar::version == numbers);
  }
}
