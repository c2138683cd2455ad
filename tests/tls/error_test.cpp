// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/tls/error.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace tls = pulsar::tls;

TEST_SUITE("tls.error") {
  TEST_CASE("every code has a message of its own") {
    std::set<std::string> messages;
    int value = 1;
    for (;; ++value) {
      const std::string message = tls::error_category().message(value);
      if (message == "unknown TLS error") break;
      CHECK(!message.empty());
      CHECK(messages.insert(message).second);
    }
    CHECK(value == static_cast<int>(tls::errc::malformed) + 1);
  }

  TEST_CASE("a code names its category and says what to do") {
    const std::error_code code = tls::errc::unknown_issuer;
    CHECK(std::string(code.category().name()) == "pulsar.tls");
    CHECK(code.message().find("ca_file") != std::string::npos);
    CHECK(code != tls::errc::self_signed);
  }
}
