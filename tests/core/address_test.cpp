// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/address.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using pulsar::address;

namespace {

std::string refusal_of(std::string_view text) {
  try {
    static_cast<void>(address(text));
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return {};
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

TEST_SUITE("address") {
  TEST_CASE("an address is read and written in the same form") {
    for (const std::string text :
         {"127.0.0.1:8060", "0.0.0.0:80", "localhost:0", "example.org:65535", "[::1]:8060",
          "[fe80::1]:1", "unix:/run/app.sock", "unix:relative.sock", "unix:with:colons"}) {
      CAPTURE(text);
      CHECK(address(text).to_string() == text);
    }
  }

  TEST_CASE("what is left out has its default") {
    CHECK(address().to_string() == "127.0.0.1:8060");
    CHECK(address("localhost").to_string() == "localhost:8060");
    CHECK(address("10.0.0.1").to_string() == "10.0.0.1:8060");
    CHECK(address("[::1]").to_string() == "[::1]:8060");
    CHECK(address(":9000").to_string() == "0.0.0.0:9000");
  }

  TEST_CASE("its parts can be asked for") {
    const address tcp("[::1]:70");
    CHECK_FALSE(tcp.is_unix());
    CHECK(tcp.host() == "::1");
    CHECK(tcp.port() == 70);
    CHECK(tcp.path().empty());
    const address local("unix:/tmp/x");
    CHECK(local.is_unix());
    CHECK(local.path() == "/tmp/x");
    CHECK(local.host().empty());
    CHECK(local.port() == 0);
    CHECK(address("a:1") == address("a:1"));
    CHECK_FALSE(address("a:1") == address("a:2"));
  }

  TEST_CASE("text that is no address is refused with a sentence that quotes it and says why") {
    struct refused {
      std::string_view text;
      std::string_view why;
    };
    const std::vector<refused> all{
        {"", "write HOST:PORT"},
        {":", "the port is missing"},
        {"localhost:", "the port is missing"},
        {"localhost:http", "the port is not a number"},
        {"localhost:-1", "the port is not a number"},
        {"localhost:+1", "the port is not a number"},
        {"localhost: 1", "the port is not a number"},
        {"localhost:65536", "the port is over 65535"},
        {"localhost:99999999999999999999", "the port is over 65535"},
        {"8060", "a port alone is written :8060"},
        {"::1", "an IPv6 address stands in brackets"},
        {"::1:8060", "an IPv6 address stands in brackets"},
        {"[::1", "the bracket is not closed"},
        {"[::1]8060", "only :PORT may follow"},
        {"[127.0.0.1]:80", "no IPv6 address"},
        {"[]:80", "no IPv6 address"},
        {"[::g]:80", "no IPv6 address"},
        {"http://localhost:80", "it is a URL"},
        {"256.0.0.1:80", "neither a name nor an IPv4 address"},
        {"1.2.3:80", "neither a name nor an IPv4 address"},
        {"a..b:80", "neither a name nor an IPv4 address"},
        {".a:80", "neither a name nor an IPv4 address"},
        {"a b:80", "neither a name nor an IPv4 address"},
        {"a/b", "neither a name nor an IPv4 address"},
        {"*:80", "neither a name nor an IPv4 address"},
        {"unix:", "the path of the Unix socket is missing"},
    };
    for (const auto& [text, why] : all) {
      CAPTURE(text);
      const std::string sentence = refusal_of(text);
      CHECK(sentence.starts_with("\"" + std::string(text) + "\" is no address: "));
      CHECK_MESSAGE(contains(sentence, why), sentence);
    }
    CHECK(contains(refusal_of(std::string_view("unix:a\0b", 8)), "NUL"));
    CHECK(contains(refusal_of(std::string(254, 'a') + ":80"), "neither a name"));
  }

  TEST_CASE("the path of a Unix socket fits the system's structure or is refused") {
    const std::string longest(107, 'p');
    const auto endpoint = address("unix:" + longest).resolve();
    CHECK(address::of(endpoint).path() == longest);
    CHECK(contains(refusal_of("unix:" + longest + "p"), "at most 107 bytes"));
  }

  TEST_CASE("what was resolved says the same again") {
    for (const std::string text :
         {"127.0.0.1:8060", "[::1]:443", "[2001:db8::2]:0", "unix:/run/app.sock"}) {
      CAPTURE(text);
      CHECK(address::of(address(text).resolve()).to_string() == text);
    }
    CHECK(address("127.0.0.1:1").resolve().data()->sa_family == AF_INET);
    CHECK(address("[::1]:1").resolve().data()->sa_family == AF_INET6);
    CHECK(address("unix:x").resolve().data()->sa_family == AF_UNIX);
  }

  TEST_CASE("a name is looked up, and its IPv4 address comes first") {
    const auto endpoint = address("localhost:81").resolve();
    CHECK(address::of(endpoint).to_string() == "127.0.0.1:81");
  }

  TEST_CASE("a name that nobody knows is an error that names it") {
    try {
      static_cast<void>(address("no-such-host.invalid:80").resolve());
      FAIL("no error");
    } catch (const pulsar::error& e) {
      const std::string what = e.what();
      CHECK_MESSAGE(contains(what, "no-such-host.invalid:80"), what);
      CHECK((e.code() == asio::error::host_not_found ||
             e.code() == asio::error::host_not_found_try_again));
    }
  }

  TEST_CASE("the unnamed end of a Unix connection is an address without a path") {
    sockaddr_un unnamed{};
    unnamed.sun_family = AF_UNIX;
    address::endpoint at;
    std::memcpy(at.data(), &unnamed, sizeof(sa_family_t));
    at.resize(sizeof(sa_family_t));
    CHECK(address::of(at).is_unix());
    CHECK(address::of(at).path().empty());
  }

  TEST_CASE("an endpoint may be as long as the system's largest, and not shorter than its own") {
    const auto storage_of = [](const char* text) {
      const auto at = address(text).resolve();
      sockaddr_storage whole{};
      std::memcpy(&whole, at.data(), at.size());
      return whole;
    };
    for (const std::string text : {"127.0.0.1:80", "[::1]:80", "unix:/run/app.sock"}) {
      CAPTURE(text);
      auto whole = storage_of(text.c_str());
      const auto* const data = reinterpret_cast<sockaddr*>(&whole);
      CHECK(address::of(address::endpoint(data, sizeof whole)).to_string() == text);
      if (whole.ss_family == AF_UNIX) continue;
      CHECK_THROWS_AS(address::of(address::endpoint(data, 8)), std::invalid_argument);
    }
    CHECK_THROWS_AS(address::of(address::endpoint(address().resolve().data(), 0)),
                    std::invalid_argument);
    sockaddr_storage full{};
    std::memset(&full, 'x', sizeof full);
    full.ss_family = AF_UNIX;
    const address::endpoint longest(reinterpret_cast<sockaddr*>(&full), sizeof full);
    CHECK(address::of(longest).path().size() <= sizeof(sockaddr_un::sun_path));
    sockaddr_un abstract{};
    abstract.sun_family = AF_UNIX;
    std::memcpy(abstract.sun_path, "\0name", 5);
    const auto* const name = reinterpret_cast<sockaddr*>(&abstract);
    CHECK(address::of(address::endpoint(name, sizeof(sa_family_t) + 5)).path() ==
          std::string("\0name", 5));
  }

  TEST_CASE("an endpoint of another family is refused") {
    address::endpoint at;
    at.data()->sa_family = AF_NETLINK;
    CHECK_THROWS_AS(address::of(at), std::invalid_argument);
  }
}
