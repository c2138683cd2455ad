// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/error.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <system_error>

namespace http = pulsar::http;

TEST_SUITE("http::errc") {
  TEST_CASE("each error has a message of its own, a condition and a status of refusal") {
    std::set<std::string> seen;
    for (int value = 1; value <= static_cast<int>(http::errc::unsupported_version); ++value) {
      const std::error_code code = static_cast<http::errc>(value);
      CAPTURE(value);
      CHECK(code.message() != "unknown HTTP error");
      CHECK(seen.insert(code.message()).second);
      CHECK((code == std::errc::bad_message || code == std::errc::message_size ||
             code == std::errc::not_supported));
      const int status = static_cast<int>(http::status_of(code));
      CHECK((status == 400 || status == 413 || status == 414 || status == 431 || status == 501 ||
             status == 505));
    }
    CHECK(std::error_code(99, http::error_category()).message() == "unknown HTTP error");
    CHECK(std::error_code(http::errc::bad_host).category().name() == std::string("pulsar.http"));
  }

  TEST_CASE("what is too large is told by its status") {
    CHECK(http::status_of(http::errc::body_too_large) == http::status::content_too_large);
    CHECK(http::status_of(http::errc::target_too_long) == http::status::uri_too_long);
    CHECK(http::status_of(http::errc::header_too_large) ==
          http::status::request_header_fields_too_large);
    CHECK(http::status_of(http::errc::too_many_headers) ==
          http::status::request_header_fields_too_large);
    CHECK(std::error_code(http::errc::body_too_large) == std::errc::message_size);
  }

  TEST_CASE("what is not known here is told by its status") {
    CHECK(http::status_of(http::errc::unknown_method) == http::status::not_implemented);
    CHECK(http::status_of(http::errc::unknown_transfer_coding) == http::status::not_implemented);
    CHECK(http::status_of(http::errc::unsupported_version) ==
          http::status::http_version_not_supported);
    CHECK(http::status_of(http::errc::bad_header_name) == http::status::bad_request);
    CHECK(std::error_code(http::errc::unknown_method) == std::errc::not_supported);
    CHECK(std::error_code(http::errc::bad_chunk) == std::errc::bad_message);
  }

  TEST_CASE("an error of another category is the server's own") {
    CHECK(http::status_of(std::make_error_code(std::errc::no_space_on_device)) ==
          http::status::internal_server_error);
  }
}
