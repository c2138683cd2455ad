// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Messages, good and bad, and what the parser must make of each; also the seeds of the fuzzer.
///
///     for (const auto& c : http_test::good_messages()) CHECK(feed(c.input).request == c.request);

#include <pulsar/apps/http/error.hpp>

#include <string>
#include <vector>

namespace http_test {

struct good_message {
  const char* what;
  std::string input;
  std::string request;  ///< as `dump` prints it
  std::string rest{};   ///< what stands behind the message
};

struct bad_message {
  const char* what;
  std::string input;
  pulsar::http::errc error;
};

inline std::vector<good_message> good_messages() {
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string posted =
      "POST / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] [Transfer-Encoding|chunked] body=";
  return {
      // -- request lines
      {"the smallest request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] body="},
      {"path and query", "GET /a/b%20c?x=1&y=?/2 HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET /a/b%20c?x=1&y=?/2 path=/a/b%20c query=x=1&y=?/2 HTTP/1.1 host=a keep-alive [Host|a] "
       "body="},
      {"empty query", "GET /a? HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET /a? path=/a query= HTTP/1.1 host=a keep-alive [Host|a] body="},
      {"two slashes are a path", "GET //a HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET //a path=//a query= HTTP/1.1 host=a keep-alive [Host|a] body="},
      {"marks that browsers leave alone", "GET /a|b\"<>\\^`{}[] HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET /a|b\"<>\\^`{}[] path=/a|b\"<>\\^`{}[] query= HTTP/1.1 host=a keep-alive [Host|a] "
       "body="},
      {"absolute form", "GET http://b.example:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET http://b.example:81/p?q path=/p query=q HTTP/1.1 host=b.example:81 keep-alive [Host|a] "
       "body="},
      {"absolute form without a path", "GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET HTTPS://b path=/ query= HTTP/1.1 host=b keep-alive [Host|a] body="},
      {"absolute form with a query and no path", "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET http://b?q path=/ query=q HTTP/1.1 host=b keep-alive [Host|a] body="},
      {"absolute form with an address", "GET http://[::1]:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET http://[::1]:80/ path=/ query= HTTP/1.1 host=[::1]:80 keep-alive [Host|a] body="},
      {"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
       "OPTIONS * path=* query= HTTP/1.1 host=a keep-alive [Host|a] body="},
      {"the whole server in absolute form", "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
       "OPTIONS http://b path=* query= HTTP/1.1 host=b keep-alive [Host|a] body="},
      {"authority form", "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
       "CONNECT b:443 path= query= HTTP/1.1 host=b:443 keep-alive [Host|b:443] body="},
      {"an empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] body="},
      {"two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] body="},
      {"the methods", "PATCH / HTTP/1.1\r\nHost: a\r\n\r\n",
       "PATCH / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] body="},
      // -- versions and the fate of the connection
      {"HTTP/1.0 closes", "GET / HTTP/1.0\r\n\r\n",
       "GET / path=/ query= HTTP/1.0 host= close body="},
      {"HTTP/1.0 that is kept", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
       "GET / path=/ query= HTTP/1.0 host= keep-alive [Connection|Keep-Alive] body="},
      {"a later minor version counts as 1.1", "GET / HTTP/1.7\r\nHost: a\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] body="},
      {"close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a close [Host|a] [Connection|close] body="},
      {"close wins in a list",
       "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive , CLOSE,te\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a close [Host|a] [Connection|keep-alive , CLOSE,te] "
       "body="},
      {"close in the second of two headers",
       "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a close [Host|a] [Connection|keep-alive] "
       "[Connection|close] body="},
      {"a word that contains close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] [Connection|closed] body="},
      {"upgrade",
       "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive upgrade=websocket [Host|a] "
       "[Upgrade|websocket] [Connection|keep-alive, Upgrade] body="},
      {"upgrade that the connection does not name",
       "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] [Upgrade|websocket] body="},
      // -- headers
      {"blanks around a value", "GET / HTTP/1.1\r\nHost: \t a \t\r\nX:b  c\r\nY:\r\nZ: \t \r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] [X|b  c] [Y|] [Z|] body="},
      {"every mark of a token", "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: 1\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] [!#$%&'*+-.^_`|~09azAZ|1] body="},
      {"bytes over 127 and tabs in a value",
       "GET / HTTP/1.1\r\nHost: a\r\nX: \xff\x80 \t\xc3\xa9\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] [X|\xff\x80 \t\xc3\xa9] body="},
      {"repeated and long names",
       "GET / HTTP/1.1\r\nhOsT: a\r\nAccept: 1\r\naccept: 2\r\n"
       "A-Name-That-Is-Longer-Than-One-Step-Of-The-Scanner: "
       "a value that is longer than one block of the scanner, which is 64 bytes, and then "
       "some\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [hOsT|a] [Accept|1] [accept|2] "
       "[A-Name-That-Is-Longer-Than-One-Step-Of-The-Scanner|"
       "a value that is longer than one block of the scanner, which is 64 bytes, and then some] "
       "body="},
      {"a browser",
       "GET /books?page=2 HTTP/1.1\r\nHost: www.example.com:8060\r\nConnection: keep-alive\r\n"
       "Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko\r\n"
       "Accept: text/html,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate\r\n"
       "Accept-Language: en-GB,en;q=0.8\r\nCookie: a=1; b=\"two\"\r\n\r\n",
       "GET /books?page=2 path=/books query=page=2 HTTP/1.1 host=www.example.com:8060 keep-alive "
       "[Host|www.example.com:8060] [Connection|keep-alive] [Upgrade-Insecure-Requests|1] "
       "[User-Agent|Mozilla/5.0 (X11; Linux x86_64) Gecko] "
       "[Accept|text/html,application/xml;q=0.9,*/*;q=0.8] [Accept-Encoding|gzip, deflate] "
       "[Accept-Language|en-GB,en;q=0.8] [Cookie|a=1; b=\"two\"] body="},
      // -- hosts
      {"a host with a port", "GET / HTTP/1.1\r\nHost: a-b.c_d:65535\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a-b.c_d:65535 keep-alive [Host|a-b.c_d:65535] body="},
      {"a host with an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a: keep-alive [Host|a:] body="},
      {"a host that is an address", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=[2001:db8::1]:80 keep-alive [Host|[2001:db8::1]:80] "
       "body="},
      {"a host with an encoded byte", "GET / HTTP/1.1\r\nHost: a%C3%a9b\r\n\r\n",
       "GET / path=/ query= HTTP/1.1 host=a%C3%a9b keep-alive [Host|a%C3%a9b] body="},
      // -- bodies of known length
      {"a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
       "POST / path=/ query= HTTP/1.1 host=a keep-alive length=5 [Host|a] [Content-Length|5] "
       "body=hello"},
      {"a body of binary data and its type",
       std::string(
           "PUT / HTTP/1.1\r\nHost: a\r\nContent-Type: x/y\r\nContent-Length: 005\r\n\r\n") +
           std::string("\0\r\n\xff\n", 5),
       std::string("PUT / path=/ query= HTTP/1.1 host=a keep-alive type=x/y length=5 [Host|a] "
                   "[Content-Type|x/y] [Content-Length|005] body=") +
           std::string("\0\r\n\xff\n", 5)},
      {"an empty body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
       "POST / path=/ query= HTTP/1.1 host=a keep-alive length=0 [Host|a] [Content-Length|0] "
       "body="},
      {"a body in HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab",
       "POST / path=/ query= HTTP/1.0 host= close length=2 [Content-Length|2] body=ab"},
      {"a body that a client announces",
       "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
       "POST / path=/ query= HTTP/1.1 host=a keep-alive expects-continue length=1 [Host|a] "
       "[Expect|100-Continue] [Content-Length|1] body=x"},
      {"an expectation of HTTP/1.0 is none",
       "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
       "POST / path=/ query= HTTP/1.0 host= close length=1 [Expect|100-continue] "
       "[Content-Length|1] body=x"},
      {"the next request behind a body",
       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\n",
       "POST / path=/ query= HTTP/1.1 host=a keep-alive length=2 [Host|a] [Content-Length|2] "
       "body=ab",
       "GET / HTTP/1.1\r\n"},
      {"the next request behind a head", "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\n",
       "GET / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] body=", "POST /b HTTP/1.1\r\n"},
      // -- chunks
      {"chunks", post + "5\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n0\r\n\r\n",
       posted + "hello, world"},
      {"no chunk", post + "0\r\n\r\n", posted},
      {"sizes in any case and with zeros",
       post + "000A\r\n0123456789\r\nb\r\n0123456789a\r\n000\r\n\r\n",
       posted + "01234567890123456789a"},
      {"chunks that look like the end", post + "5\r\n0\r\n\r\n\r\n0\r\n\r\n", posted + "0\r\n\r\n"},
      {"the coding in any case",
       "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  CHUNKED \r\n\r\n1\r\nx\r\n0\r\n\r\n",
       "POST / path=/ query= HTTP/1.1 host=a keep-alive [Host|a] [Transfer-Encoding|CHUNKED] "
       "body=x"},
      {"an extension", post + "1;a\r\nx\r\n0;last\r\n\r\n", posted + "x"},
      {"extensions with values", post + "1;a=b;c=\"d;\\\"e=\\\\\"\r\nx\r\n0\r\n\r\n", posted + "x"},
      {"blanks around the marks of extensions",
       post + "1 ; a\t= b ;\tc = \"d\" ; e\r\nx\r\n0\t;\ta\r\n\r\n", posted + "x"},
      {"the next request behind chunks", post + "1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
       posted + "x", "GET / HTTP/1.1\r\n"},
      {"trailers", post + "3\r\nabc\r\n0\r\nDigest: 1\r\nX-Sum:  2 \r\n\r\nrest",
       posted + "abc trailer[Digest|1] trailer[X-Sum|2]", "rest"},
  };
}

inline std::vector<bad_message> bad_messages() {
  using pulsar::http::errc;
  const auto line = [](const std::string& text) { return text + "\r\nHost: a\r\n\r\n"; };
  const auto with = [](const std::string& text) {
    return "GET / HTTP/1.1\r\nHost: a\r\n" + text + "\r\n\r\n";
  };
  const auto hosted = [](const std::string& text) {
    return "GET / HTTP/1.1\r\nHost:" + text + "\r\n\r\n";
  };
  const auto chunks = [](const std::string& text) {
    return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + text;
  };
  const std::string nul(1, '\0');
  return {
      // -- request lines
      {"three empty lines", "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", errc::bad_method},
      {"an empty line of LF alone", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", errc::bad_line_end},
      {"an empty line of CR alone", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", errc::bad_line_end},
      {"a blank first", line(" GET / HTTP/1.1"), errc::bad_method},
      {"a tab behind the method", line("GET\t/ HTTP/1.1"), errc::bad_method},
      {"a method alone", "GET\r\n\r\n", errc::bad_method},
      {"a method with a mark", line("GE(T / HTTP/1.1"), errc::bad_method},
      {"a hand-shake of TLS", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
       errc::bad_method},
      {"a method in small letters", line("get / HTTP/1.1"), errc::unknown_method},
      {"another method", line("PROPFIND / HTTP/1.1"), errc::unknown_method},
      {"two blanks behind the method", line("GET  / HTTP/1.1"), errc::bad_target},
      {"a tab behind the target", line("GET /\tHTTP/1.1"), errc::bad_target},
      {"two blanks behind the target", line("GET /  HTTP/1.1"), errc::bad_version},
      {"a blank in the target", line("GET /a b HTTP/1.1"), errc::bad_version},
      {"a relative target", line("GET a/b HTTP/1.1"), errc::bad_target},
      {"an empty query as target", line("GET ? HTTP/1.1"), errc::bad_target},
      {"a byte over 127 in the target", line("GET /\xc3\xa9 HTTP/1.1"), errc::bad_target},
      {"NUL in the target", line("GET /" + nul + " HTTP/1.1"), errc::bad_target},
      {"DEL in the target", line("GET /\x7f HTTP/1.1"), errc::bad_target},
      {"a fragment", line("GET /a#b HTTP/1.1"), errc::bad_target},
      {"an asterisk for GET", line("GET * HTTP/1.1"), errc::bad_target},
      {"an asterisk and more", line("OPTIONS *a HTTP/1.1"), errc::bad_target},
      {"authority form for GET", line("GET b:443 HTTP/1.1"), errc::bad_target},
      {"a path for CONNECT", line("CONNECT / HTTP/1.1"), errc::bad_target},
      {"CONNECT without a port", line("CONNECT b HTTP/1.1"), errc::bad_target},
      {"CONNECT with an empty port", line("CONNECT b: HTTP/1.1"), errc::bad_target},
      {"CONNECT to port 0", line("CONNECT b:0 HTTP/1.1"), errc::bad_target},
      {"CONNECT in absolute form", line("CONNECT http://b:443/ HTTP/1.1"), errc::bad_target},
      {"another scheme", line("GET ftp://b/ HTTP/1.1"), errc::bad_target},
      {"a scheme without slashes", line("GET http:b HTTP/1.1"), errc::bad_target},
      {"absolute form without a host", line("GET http:///a HTTP/1.1"), errc::bad_host},
      {"absolute form with a user", line("GET http://u:p@b/ HTTP/1.1"), errc::bad_host},
      {"absolute form with a port out of range", line("GET http://b:65536/ HTTP/1.1"),
       errc::bad_host},
      {"no version", line("GET /"), errc::bad_version},
      {"a version without a number", line("GET / HTTP"), errc::bad_version},
      {"a version in small letters", line("GET / http/1.1"), errc::bad_version},
      {"a version of two digits", line("GET / HTTP/1.10"), errc::bad_version},
      {"a version with a comma", line("GET / HTTP/1,1"), errc::bad_version},
      {"a blank behind the version", line("GET / HTTP/1.1 "), errc::bad_version},
      {"HTTP/2", line("GET / HTTP/2.0"), errc::unsupported_version},
      {"HTTP/0.9", line("GET / HTTP/0.9"), errc::unsupported_version},
      {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", errc::unsupported_version},
      {"LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", errc::bad_line_end},
      {"CR behind the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n", errc::bad_line_end},
      // -- lines and names
      {"LF behind a header", "GET / HTTP/1.1\r\nHost: a\n\r\n", errc::bad_line_end},
      {"LF for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", errc::bad_line_end},
      {"CR for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\rx", errc::bad_line_end},
      {"CR within a value", with("X: a\rb"), errc::bad_line_end},
      {"two CR behind a header", with("X: a\r"), errc::bad_line_end},
      {"a name alone", with("X\nY: b"), errc::bad_line_end},
      {"a name without a colon", with("Xabc"), errc::bad_header_name},
      {"an empty name", with(": b"), errc::bad_header_name},
      {"a blank before the colon", with("X : b"), errc::bad_header_name},
      {"a tab before the colon", with("X\t: b"), errc::bad_header_name},
      {"a blank in a name", with("X Y: b"), errc::bad_header_name},
      {"a bracket in a name", with("X(Y: b"), errc::bad_header_name},
      {"a byte over 127 in a name", with("X\xc3: b"), errc::bad_header_name},
      {"NUL in a name", with("X" + nul + "Y: b"), errc::bad_header_name},
      {"a folded header", with("X: a\r\n b"), errc::folded_header},
      {"a header folded by a tab", with("X: a\r\n\tb"), errc::folded_header},
      {"a blank before the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
       errc::folded_header},
      {"NUL in a value", with("X: a" + nul + "b"), errc::bad_header_value},
      {"BEL in a value", with("X: a\ab"), errc::bad_header_value},
      {"DEL in a value", with("X: a\x7f"), errc::bad_header_value},
      // -- hosts
      {"no host", "GET / HTTP/1.1\r\nX: a\r\n\r\n", errc::missing_host},
      {"no header", "GET / HTTP/1.1\r\n\r\n", errc::missing_host},
      {"two hosts", with("Host: a"), errc::repeated_header},
      {"two hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n",
       errc::repeated_header},
      {"an empty host", hosted(""), errc::bad_host},
      {"a blank host", hosted(" \t "), errc::bad_host},
      {"a host that is a port", hosted(" :80"), errc::bad_host},
      {"a host with a user", hosted(" u@a"), errc::bad_host},
      {"a host with a path", hosted(" a/b"), errc::bad_host},
      {"a host with a query", hosted(" a?b"), errc::bad_host},
      {"a list of hosts", hosted(" a, b"), errc::bad_host},
      {"hosts with a comma alone", hosted(" a,b"), errc::bad_host},
      {"a blank in a host", hosted(" a b"), errc::bad_host},
      {"a port that is no number", hosted(" a:8o"), errc::bad_host},
      {"a port with a sign", hosted(" a:+80"), errc::bad_host},
      {"a port out of range", hosted(" a:65536"), errc::bad_host},
      {"two ports", hosted(" a:80:80"), errc::bad_host},
      {"an address without brackets", hosted(" ::1"), errc::bad_host},
      {"an address that is none", hosted(" [12345::1]"), errc::bad_host},
      {"an address that is not closed", hosted(" [::1"), errc::bad_host},
      {"text behind an address", hosted(" [::1]a"), errc::bad_host},
      {"a host with a broken encoding", hosted(" a%4"), errc::bad_host},
      {"a host with a wrong encoding", hosted(" a%4g"), errc::bad_host},
      {"a byte over 127 in a host", hosted(" \xc3\xa9"), errc::bad_host},
      {"a broken host in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", errc::bad_host},
      // -- lengths
      {"a length with a sign", with("Content-Length: +5"), errc::bad_content_length},
      {"a negative length", with("Content-Length: -5"), errc::bad_content_length},
      {"a length in base 16", with("Content-Length: 0x5"), errc::bad_content_length},
      {"an empty length", with("Content-Length:"), errc::bad_content_length},
      {"a list of lengths", with("Content-Length: 5, 5"), errc::bad_content_length},
      {"a length with a blank", with("Content-Length: 1 0"), errc::bad_content_length},
      {"a length with a point", with("Content-Length: 5.0"), errc::bad_content_length},
      {"two lengths", with("Content-Length: 5\r\nContent-Length: 6"), errc::repeated_header},
      {"two equal lengths", with("Content-Length: 5\r\ncontent-length: 5"), errc::repeated_header},
      {"two types", with("Content-Type: a/b\r\nContent-Type: a/b"), errc::repeated_header},
      {"a length over the limit", with("Content-Length: 1048577"), errc::body_too_large},
      {"a length that no machine holds", with("Content-Length: 99999999999999999999999999999999"),
       errc::body_too_large},
      {"a length and chunks", with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
       errc::ambiguous_length},
      {"chunks and a length", with("Transfer-Encoding: chunked\r\nContent-Length: 5"),
       errc::ambiguous_length},
      // -- codings
      {"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       errc::bad_transfer_encoding},
      {"an empty coding", with("Transfer-Encoding:"), errc::bad_transfer_encoding},
      {"the coding identity", with("Transfer-Encoding: identity"), errc::bad_transfer_encoding},
      {"a coding that is like chunked", with("Transfer-Encoding: xchunked"),
       errc::bad_transfer_encoding},
      {"a coding with a parameter", with("Transfer-Encoding: chunked;a=b"),
       errc::bad_transfer_encoding},
      {"a coding in quotes", with("Transfer-Encoding: \"chunked\""), errc::bad_transfer_encoding},
      {"chunked twice", with("Transfer-Encoding: chunked, chunked"), errc::bad_transfer_encoding},
      {"chunked in two headers", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
       errc::bad_transfer_encoding},
      {"chunked before another", with("Transfer-Encoding: chunked, gzip"),
       errc::bad_transfer_encoding},
      {"an empty element before chunked", with("Transfer-Encoding: , chunked"),
       errc::bad_transfer_encoding},
      {"a comma behind chunked", with("Transfer-Encoding: chunked,"), errc::bad_transfer_encoding},
      {"gzip alone", with("Transfer-Encoding: gzip"), errc::bad_transfer_encoding},
      {"gzip before chunked", with("Transfer-Encoding: gzip;q=1, chunked"),
       errc::unknown_transfer_coding},
      // -- chunks
      {"a size with a sign", chunks("+1\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a negative size", chunks("-1\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a size with 0x", chunks("0x1\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a size with an underscore", chunks("1_0\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a blank before a size", chunks(" 1\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a blank behind a size", chunks("1 \r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a blank within a size", chunks("1 0\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"no size", chunks("\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"an extension without a size", chunks(";a\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a size that is no number", chunks("g\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a size of too many digits", chunks("00000000000000001\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"LF behind a size", chunks("1\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"CR behind a size", chunks("1\rx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"data longer than its size", chunks("1\r\nxy\r\n0\r\n\r\n"), errc::bad_chunk},
      {"LF behind data", chunks("1\r\nx\n0\r\n\r\n"), errc::bad_chunk},
      {"no line end behind data", chunks("1\r\nx0\r\n\r\n"), errc::bad_chunk},
      {"an empty extension", chunks("1;\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"an extension without a name", chunks("1;=a\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"an extension without its value", chunks("1;a=\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a blank behind an extension", chunks("1;a \r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"LF in an extension", chunks("1;a\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"LF in a quoted extension", chunks("1;a=\"\n\"\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"CR in a quoted extension", chunks("1;a=\"\\\r\"\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"text behind a quoted extension", chunks("1;a=\"b\"c\r\nx\r\n0\r\n\r\n"), errc::bad_chunk},
      {"a chunk over the limit", chunks("100001\r\n"), errc::body_too_large},
      {"a chunk that no machine holds", chunks("ffffffffffffffff\r\n"), errc::body_too_large},
      {"chunks over the limit", chunks("1\r\nx\r\n100000\r\n"), errc::body_too_large},
      {"LF behind the last chunk", chunks("0\r\n\n"), errc::bad_line_end},
      {"text behind the last chunk", chunks("0\r\nGET / HTTP/1.1\r\n\r\n"), errc::bad_header_name},
      // -- trailers
      {"a length as trailer", chunks("0\r\nContent-Length: 5\r\n\r\n"), errc::forbidden_trailer},
      {"a coding as trailer", chunks("0\r\nX: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
       errc::forbidden_trailer},
      {"a host as trailer", chunks("0\r\nHOST: b\r\n\r\n"), errc::forbidden_trailer},
      {"a credential as trailer", chunks("0\r\nAuthorization: Basic x\r\n\r\n"),
       errc::forbidden_trailer},
      {"a condition as trailer", chunks("0\r\nIf-Match: x\r\n\r\n"), errc::forbidden_trailer},
      {"an address as trailer", chunks("0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"),
       errc::forbidden_trailer},
      {"a trailer without a colon", chunks("0\r\nX\r\n\r\n"), errc::bad_header_name},
      {"a trailer with NUL", chunks("0\r\nX: " + nul + "\r\n\r\n"), errc::bad_header_value},
      {"a folded trailer", chunks("0\r\nX: a\r\n b\r\n\r\n"), errc::folded_header},
      // -- messages that break off
      {"a method that breaks off", "GE", errc::truncated},
      {"a request line that breaks off", "GET / HTTP/1.1\r", errc::truncated},
      {"a head that breaks off", "GET / HTTP/1.1\r\nHost: a\r\n\r", errc::truncated},
      {"a body that breaks off", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
       errc::truncated},
      {"chunks that break off", chunks("5\r\nhell"), errc::truncated},
      {"chunks without the last one", chunks("5\r\nhello\r\n"), errc::truncated},
      {"a last chunk without its end", chunks("5\r\nhello\r\n0\r\n"), errc::truncated},
      {"trailers that break off", chunks("0\r\nX: a\r\n"), errc::truncated},
  };
}

}  // namespace http_test
