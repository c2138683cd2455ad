// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// Parsing one request that is whole in the buffer: the short one of wrk and the long one of a
/// browser. Beside it a memchr for each line end of the same bytes, which no parser can avoid.

#include <pulsar/apps/http/parser.hpp>
#include <pulsar/apps/http/request.hpp>

#include "support/harness.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

namespace http = pulsar::http;

constexpr std::string_view short_request =
    "GET / HTTP/1.1\r\n"
    "Host: 127.0.0.1:8060\r\n"
    "\r\n";

constexpr std::string_view long_request =
    "GET /articles/2026/11/coroutines?page=2&sort=date HTTP/1.1\r\n"
    "Host: www.example.org\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Referer: https://www.example.org/articles/2026/11/\r\n"
    "Connection: keep-alive\r\n"
    "Cookie: session=3f9a1c77e0b24d5f8a6b1c2d3e4f5061; theme=dark; consent=necessary\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "If-Modified-Since: Fri, 20 Nov 2026 10:00:00 GMT\r\n"
    "\r\n";

bench::kernel parse(std::string_view bytes) {
  return [text = std::string(bytes)](std::uint64_t requests) mutable {
    http::parser parser;
    http::request request;
    return bench::timed([&] {
      for (; requests != 0; --requests) {
        bench::do_not_optimize(text);
        if (parser.parse(text.data(), text.size(), request) != http::progress::complete) {
          throw std::runtime_error("the request of the benchmark is refused");
        }
        bench::do_not_optimize(request);
      }
    });
  };
}

bench::kernel find_lines(std::string_view bytes) {
  return [text = std::string(bytes)](std::uint64_t requests) mutable {
    return bench::timed([&] {
      for (; requests != 0; --requests) {
        bench::do_not_optimize(text);
        const char* at = text.data();
        const char* const end = at + text.size();
        std::size_t lines = 0;
        while (at != end) {
          const void* found = std::memchr(at, '\n', static_cast<std::size_t>(end - at));
          if (found == nullptr) break;
          at = static_cast<const char*>(found) + 1;
          ++lines;
        }
        bench::do_not_optimize(lines);
      }
    });
  };
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    const bench::pinned here(0);
    suite.compare({"memchr of each line", [] { return find_lines(short_request); }, {}},
                  {{"http_parser:short", [] { return parse(short_request); }, {}}});
    suite.compare({"memchr of each line", [] { return find_lines(long_request); }, {}},
                  {{"http_parser:long", [] { return parse(long_request); }, {}}});
  });
}
