// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/address_format.hpp>

#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/log.hpp>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <sstream>
#include <string>
#include <string_view>

using pulsar::address;

TEST_SUITE("address_format") {
  TEST_CASE("an address is written as it is read") {
    for (const std::string_view text : {"127.0.0.1:8060", "[::1]:80", "[fe80::1]:0",
                                        "www.example.org:443", "unix:/run/app.sock"}) {
      CHECK(fmt::format("{}", address(text)) == text);
      std::ostringstream out;
      out << address(text);
      CHECK(out.str() == text);
    }
    CHECK(fmt::format("{}", address(":80")) == "0.0.0.0:80");
  }

  TEST_CASE("it takes the width and the fill of a text") {
    CHECK(fmt::format("{:>12}|", address("[::1]:80")) == "    [::1]:80|");
    CHECK(fmt::format("{:*<12}|", address("[::1]:80")) == "[::1]:80****|");
  }

  TEST_CASE("the unnamed end of a Unix connection has no path") {
    const auto ends = pulsar::socket_pair(SOCK_STREAM);
    const auto mine = pulsar::detail::address_of_socket(ends.first.get(), &::getsockname);
    CHECK(fmt::format("{}", mine) == "unix:");
  }

  TEST_CASE("an abstract name has an at sign where its zero byte is") {
    const std::string name = "pulsar-" + std::to_string(::getpid());
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    name.copy(where.sun_path + 1, name.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    const pulsar::unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&where), size) == 0);
    const auto mine = pulsar::detail::address_of_socket(fd.get(), &::getsockname);
    CHECK(fmt::format("{}", mine) == "unix:@" + name);
  }

  TEST_CASE("it can be logged") {
    static std::string seen;
    seen.clear();
    const auto before =
        pulsar::log::set_sink([](pulsar::log_level, std::string_view line) { seen += line; });
    pulsar::log::critical("listening on {}", address("[::1]:8060"));
    pulsar::log::set_sink(before);
    CHECK(seen.find("listening on [::1]:8060") != std::string::npos);
  }
}
