// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Feeds a message to the parser as a connection would that reads it in pieces, and tells what
/// came out as one text that can be compared.
///
///     CHECK(feed(message, every_byte(message.size())) == feed(message, {}));
///
/// Each piece is read into a new block of exactly the bytes there are: a view that was not
/// rebased, or a byte read too many, is seen by the address sanitizer.

#include <pulsar/apps/http/limits.hpp>
#include <pulsar/apps/http/parser.hpp>
#include <pulsar/apps/http/request.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace http_test {

namespace http = pulsar::http;

/// Whether the bytes that chunked coding added are given up after each piece.
enum class trimming { no, yes };

/// "GET /a ? 1.1 host=h keep-alive body=": everything a request says.
inline std::string dump(const http::request& request) {
  std::string out;
  const auto put = [&out](std::string_view name, std::string_view value) {
    out.append(out.empty() ? "" : " ").append(name).append(value);
  };
  put("", request.method_name());
  put("", request.target());
  put("path=", request.path());
  put("query=", request.query());
  put("", to_string(request.version()));
  put("host=", request.host());
  put("", request.keep_alive() ? "keep-alive" : "close");
  if (request.expects_continue()) put("", "expects-continue");
  if (!request.upgrade().empty()) put("upgrade=", request.upgrade());
  if (!request.content_type().empty()) put("type=", request.content_type());
  if (const auto length = request.content_length()) put("length=", std::to_string(*length));
  for (const auto [name, value] : request.headers()) {
    put("[", name);
    out.append("|").append(value).append("]");
  }
  put("body=", request.body());
  for (const auto [name, value] : request.trailers()) {
    put("trailer[", name);
    out.append("|").append(value).append("]");
  }
  return out;
}

/// False if a view of the request is not within [data, data + size).
inline bool lies_within(const http::request& request, const char* data, std::size_t size) {
  const auto inside = [&](std::string_view text) {
    return text.empty() || (text.data() >= data && text.data() + text.size() <= data + size);
  };
  bool good = inside(request.method_name()) && inside(request.target()) &&
              inside(request.query()) && inside(request.host()) && inside(request.upgrade()) &&
              inside(request.content_type()) && inside(request.body());
  // The path of a target without one is a constant.
  good = good && (inside(request.path()) || request.path() == "/" || request.path() == "*");
  for (const auto [name, value] : request.headers()) good = good && inside(name) && inside(value);
  for (const auto [name, value] : request.trailers()) good = good && inside(name) && inside(value);
  return good;
}

/// What became of the first message of some bytes.
struct outcome {
  std::error_code error;
  std::string request;  ///< `dump` of it, if it was complete
  std::string rest;     ///< the bytes behind it, if it was complete
  bool within = true;

  bool operator==(const outcome&) const = default;
};

/// Reads `input` in pieces that end at each of `cuts` (ascending) and at its end.
inline outcome feed(std::string_view input,
                    const std::vector<std::size_t>& cuts = {},
                    const http::limits& bounds = {},
                    trimming trims = trimming::no) {
  http::parser parser(bounds);
  http::request request;
  std::unique_ptr<char[]> data;
  std::size_t size = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i <= cuts.size(); ++i) {
    const std::string_view piece =
        input.substr(at, (i < cuts.size() ? cuts[i] : input.size()) - at);
    at += piece.size();
    if (trims == trimming::yes && i != 0) size = parser.trim();
    auto grown = std::make_unique<char[]>(size + piece.size());
    std::copy_n(data.get(), size, grown.get());
    std::copy_n(piece.begin(), piece.size(), grown.get() + size);
    data = std::move(grown);
    size += piece.size();
    switch (parser.parse(data.get(), size, request)) {
      case http::progress::incomplete: break;
      case http::progress::failed: return {parser.error(), {}, {}, true};
      case http::progress::complete: {
        std::string rest(data.get() + parser.consumed(), size - parser.consumed());
        return {{},
                dump(request),
                rest.append(input.substr(at)),
                lies_within(request, data.get(), parser.consumed())};
      }
    }
  }
  return {parser.finish(), {}, {}, true};
}

/// Cuts behind each byte.
inline std::vector<std::size_t> every_byte(std::size_t size) {
  std::vector<std::size_t> cuts(size);
  std::iota(cuts.begin(), cuts.end(), std::size_t{1});
  return cuts;
}

}  // namespace http_test
