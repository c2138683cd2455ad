// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/tls/context.hpp>

#include <doctest/doctest.h>
#include <openssl/pem.h>
#include <openssl/ui.h>
#include <support/certificates.hpp>

#include <string>
#include <string_view>
#include <system_error>

namespace tls = pulsar::tls;

namespace {

template <class F>
std::string failure_of(F f) {
  try {
    f();
  } catch (const pulsar::error& e) {
    const bool missing = e.code() == std::errc::no_such_file_or_directory;
    CHECK((missing || e.code() == std::errc::invalid_argument));
    return e.what();
  }
  return "no error";
}

// Answers for the terminal, and counts the questions.
struct prompts {
  prompts() : method(UI_create_method("counts")) {
    asked() = 0;
    UI_method_set_opener(method, [](UI*) { return ++asked(); });
    UI_method_set_reader(method, [](UI*, UI_STRING*) { return 0; });
    UI_set_default_method(method);
  }
  prompts(const prompts&) = delete;
  prompts& operator=(const prompts&) = delete;
  ~prompts() {
    UI_set_default_method(UI_OpenSSL());
    UI_destroy_method(method);
  }
  static int& asked() {
    static int count = 0;
    return count;
  }
  UI_METHOD* const method;
};

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
    try {
      tls::context::client({.ca_file = "/nonexistent.pem"});
      FAIL("it was read");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == std::errc::no_such_file_or_directory);
      CHECK(std::string_view(e.what()) ==
            "cannot read the certificates of authorities in /nonexistent.pem: "
            "No such file or directory");
    }
    what = failure_of([&] { tls::context::server({}); });
    CHECK_MESSAGE(what.find("certificate_file and key_file go together") == 0, what);
    what = failure_of([&] {
      tls::context::server({.certificate_file = mine.certificate_file(),
                            .key_file = mine.key_file(),
                            .alpn = "h2,,http/1.1"});
    });
    CHECK_MESSAGE(what.find("alpn wants names of protocols") == 0, what);
  }

  TEST_CASE("a protected key wants its pass phrase, which nobody is asked for") {
    const prompts terminal;
    const certificates::authority ca("test");
    const auto mine = ca.issue("localhost", "DNS:localhost", {}, "open sesame");
    tls::server_options options;
    options.certificate_file = mine.certificate_file();
    options.key_file = mine.key_file();
    std::string what = failure_of([&] { tls::context::server(options); });
    CHECK(what.find("the private key in " + mine.key_file() +
                    " is protected: give its pass_phrase") == 0);
    const std::string too_long(100'000, 'x');
    for (const std::string& wrong : {std::string("open barley"), too_long}) {
      options.pass_phrase = wrong;
      what = failure_of([&] { tls::context::server(options); });
      CHECK(what.find("pass_phrase does not open the private key in " + mine.key_file()) == 0);
    }
    options.pass_phrase = "open sesame";
    auto made = tls::context::server(options);
    made.reload();
    const auto client = tls::context::client({.ca_file = ca.file(),
                                              .certificate_file = mine.certificate_file(),
                                              .key_file = mine.key_file(),
                                              .pass_phrase = "open sesame"});
    const auto other = ca.issue("localhost", "DNS:localhost");
    const std::string others_file = other.certificate_file();
    options.certificate_file = others_file;
    what = failure_of([&] { tls::context::server(options); });
    CHECK_MESSAGE(what.find("key values mismatch") != std::string::npos, what);
    CHECK(terminal.asked() == 0);
  }

  TEST_CASE("what is protected in other files is asked for as little") {
    const prompts terminal;
    const certificates::authority ca("test");
    const auto mine = ca.issue("localhost", "DNS:localhost");
    const certificates::scratch_file closed;
    std::FILE* const from = std::fopen(ca.file().c_str(), "r");
    const certificates::certificate_pointer certificate(
        PEM_read_X509(from, nullptr, nullptr, nullptr));
    std::fclose(from);
    std::FILE* const out = std::fopen(closed.name().c_str(), "w");
    unsigned char key[] = "open sesame";
    PEM_ASN1_write(reinterpret_cast<i2d_of_void*>(&i2d_X509), PEM_STRING_X509, out,
                   certificate.get(), EVP_aes_128_cbc(), key, sizeof key - 1, nullptr, nullptr);
    std::fclose(out);
    CHECK(failure_of([&] { tls::context::client({.ca_file = closed.name()}); }) != "no error");
    tls::server_options options;
    options.certificate_file = closed.name();
    options.key_file = mine.key_file();
    CHECK(failure_of([&] { tls::context::server(options); }) != "no error");
    options.certificate_file = mine.certificate_file();
    options.client_ca_file = closed.name();
    CHECK(failure_of([&] { tls::context::server(options); }) != "no error");
    CHECK(terminal.asked() == 0);
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
