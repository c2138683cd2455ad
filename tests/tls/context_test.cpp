// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/tls/context.hpp>

#include <doctest/doctest.h>
#include <support/certificates.hpp>

#include <string>
#include <system_error>

namespace tls = pulsar::tls;

namespace {

template <class F>
std::string failure_of(F f) {
  try {
    f();
  } catch (const pulsar::error& e) {
    CHECK(e.code() == std::errc::invalid_argument);
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_SUITE("tls.context") {
  TEST_CASE("a client trusts the system, or one file") {
    const certificates::authority ca("test");
    const auto system = tls::context::client();
    const auto own = tls::context::client({.ca_file = ca.file()});
    const auto nobody = tls::context::client({.verify = false});
  }

  TEST_CASE("files that cannot be used are named") {
    const certificates::authority ca("test");
    const auto mine = ca.issue("localhost", "DNS:localhost");
    const auto other = ca.issue("localhost", "DNS:localhost");
    std::string what = failure_of([] {
      tls::context::server({.certificate_file = "/nonexistent.pem", .key_file = "/k.pem"});
    });
    CHECK_MESSAGE(
        what.find("cannot read the certificate chain in /nonexistent.pem: No such file") == 0,
        what);
    what = failure_of([&] {
      tls::context::server(
          {.certificate_file = mine.certificate_file(), .key_file = other.key_file()});
    });
    CHECK_MESSAGE(what.find("cannot use the private key in " + other.key_file() +
                            " with the certificate in " + mine.certificate_file()) == 0,
                  what);
    CHECK_MESSAGE(what.find("key values mismatch") != std::string::npos, what);
    what = failure_of([&] { tls::context::client({.ca_file = mine.key_file()}); });
    CHECK_MESSAGE(what.find("cannot read the certificates of authorities in ") == 0, what);
    what = failure_of([&] { tls::context::server({}); });
    CHECK_MESSAGE(what.find("certificate_file and key_file go together") == 0, what);
    what = failure_of([&] {
      tls::context::server({.certificate_file = mine.certificate_file(),
                            .key_file = mine.key_file(),
                            .alpn = "h2,,http/1.1"});
    });
    CHECK_MESSAGE(what.find("alpn wants names of protocols") == 0, what);
  }

  TEST_CASE("a reload that fails leaves what was there") {
    const certificates::authority ca("test");
    auto mine = ca.issue("localhost", "DNS:localhost");
    auto context = tls::context::server(
        {.certificate_file = mine.certificate_file(), .key_file = mine.key_file()});
    context.reload();
    std::FILE* const broken = std::fopen(mine.key_file().c_str(), "w");
    std::fputs("no key\n", broken);
    std::fclose(broken);
    CHECK(failure_of([&] { context.reload(); }) != "no error");
  }

  TEST_CASE("names of protocols go over the wire behind their lengths") {
    CHECK(tls::detail::alpn_list("h2,http/1.1") == "\x02h2\x08http/1.1");
    CHECK(tls::detail::alpn_list("").empty());
  }
}
