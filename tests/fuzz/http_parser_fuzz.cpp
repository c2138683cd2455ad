// SPDX-License-Identifier: BSD-3-Clause
//
// Any bytes, as the requests of one connection: what comes out must not depend on how they were
// cut into reads, views must lie within the message, and what was taken must be fit to be sent.
#include <pulsar/apps/http/headers.hpp>
#include <pulsar/apps/http/parser.hpp>
#include <pulsar/apps/http/response.hpp>

#include "../apps/http/feed.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

namespace http = pulsar::http;
using http_test::feed;
using http_test::outcome;
using http_test::trimming;

void require(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", sentence);
  std::abort();
}

/// Places that depend on the input alone: a failure is found again.
std::vector<std::size_t> some_cuts(std::string_view input) {
  std::uint64_t hash = 14'695'981'039'346'656'037U;
  for (const char c : input) hash = (hash ^ static_cast<unsigned char>(c)) * 1'099'511'628'211U;
  std::vector<std::size_t> cuts;
  for (std::size_t at = 0; at < input.size();) {
    hash = hash * 6'364'136'223'846'793'005U + 1;
    at += 1 + (hash >> 33) % 40;
    if (at < input.size()) cuts.push_back(at);
  }
  return cuts;
}

void compare_cuts(std::string_view input, const http::limits& bounds) {
  const outcome whole = feed(input, {}, bounds);
  require(whole.within, "a view lies outside the message");
  const auto bytes = http_test::every_byte(input.size());
  require(feed(input, bytes, bounds) == whole, "byte by byte it is another message");
  require(feed(input, bytes, bounds, trimming::yes) == whole, "trimmed it is another message");
  const auto cuts = some_cuts(input);
  require(feed(input, cuts, bounds) == whole, "cut into pieces it is another message");
  require(feed(input, cuts, bounds, trimming::yes) == whole, "pieces trimmed are another message");
}

/// One parser and one request for all messages, as a connection has them.
void run_connection(std::string_view input) {
  std::vector<char> data(input.begin(), input.end());
  http::parser parser;
  http::request request;
  std::size_t at = 0;
  for (;;) {
    const outcome expected = feed(input.substr(at));
    const auto got = parser.parse(data.data() + at, data.size() - at, request);
    if (got != http::progress::complete) {
      const auto error = got == http::progress::failed ? parser.error() : parser.finish();
      require(error == expected.error, "a used parser fails otherwise than a new one");
      return;
    }
    require(http_test::dump(request) == expected.request,
            "a used request has something of the old");
    require(parser.consumed() != 0, "a message took no byte");
    http::header_block block;
    for (const auto [name, value] : request.headers()) block.add(name, value);
    std::size_t n = 0;
    for (const auto [name, value] : block) {
      const auto sent = request.headers()[n++];
      require(name == sent.name && value == sent.value, "a header is sent otherwise than it came");
    }
    require(n == request.headers().size(), "a header became several");
    at += parser.consumed();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  compare_cuts(input, {});
  compare_cuts(input, {.request_line = 40,
                       .header_line = 30,
                       .headers = 4,
                       .header_bytes = 90,
                       .body = 20,
                       .chunk_extensions = 5});
  run_connection(input);
  return 0;
}
