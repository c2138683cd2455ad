// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/connection.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>

#include "talk.hpp"

#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace http_test;
using pulsar::future;

namespace {

http::response hello(http::request&) { return "Hello, World!"; }

// Tells what was asked for.
http::response echo(http::request& request) {
  std::string text(request.method_name());
  text.append(" ").append(request.target()).append(" ").append(request.body());
  return text;
}

http::connection_options with(http::timeouts timeouts) {
  http::connection_options options;
  options.timeouts = timeouts;
  return options;
}

// What suspended handlers wait for: settled by the test.
struct gate {
  future<http::response> wait() {
    ++waiting;
    promises.emplace_back();
    return promises.back().get_future();
  }

  std::vector<pulsar::promise<http::response>> promises;
  int waiting = 0;
};

}  // namespace

TEST_SUITE("connection") {
  // -- requests and answers ----------------------------------------------------

  TEST_CASE("a request is answered, with the headers that a server owes") {
    site site(&hello);
    auto client = site.connect();
    client.send(get("/"));
    const auto answer = client.next();
    CHECK(answer.head.starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(answer.has("Content-Length: 13"));
    CHECK(answer.has("Content-Type: text/plain; charset=utf-8"));
    CHECK(answer.has("Server: pulsar"));
    const auto date = answer.head.find("\r\nDate: ");
    REQUIRE(date != std::string::npos);
    CHECK(answer.head.substr(date + 8 + 25, 6) == " GMT\r\n");
    CHECK(answer.body == "Hello, World!");
    CHECK(client.received().empty());
  }

  TEST_CASE("the name in the header Server is an option, and none is sent if it is empty") {
    http::connection_options options;
    SUBCASE("another one") {
      options.server = "mine/1";
      site site(&hello, options);
      auto client = site.connect();
      client.send(get("/"));
      CHECK(client.next().has("Server: mine/1"));
    }
    SUBCASE("none") {
      options.server.clear();
      site site(&hello, options);
      auto client = site.connect();
      client.send(get("/"));
      CHECK(client.next().head.find("Server") == std::string::npos);
    }
  }

  TEST_CASE("a request that comes byte by byte is answered as one that comes whole") {
    site site(&echo);
    auto client = site.connect();
    const std::string text =
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (const char c : text) {
      client.send({&c, 1});
      run_until(site.loop, [&] { return site.loop.context().poll_one() == 0; });
    }
    CHECK(client.next().body == "POST /a abc");
    CHECK(site.group->counters().requests == 1);
  }

  TEST_CASE("a connection is kept for further requests") {
    site site(&echo);
    auto client = site.connect();
    for (int i = 0; i < 5; ++i) {
      client.send(get("/" + std::to_string(i)));
      const auto answer = client.next();
      CHECK(answer.body == "GET /" + std::to_string(i) + " ");
      CHECK(answer.head.find("Connection") == std::string::npos);
    }
    CHECK_FALSE(client.ended());
    CHECK(site.group->counters().connections == 1);
    CHECK(site.group->counters().requests == 5);
    CHECK(site.group->size() == 1);
  }

  TEST_CASE("the connection is closed where the client or HTTP/1.0 wants it so") {
    site site(&echo);
    SUBCASE("Connection: close") {
      auto client = site.connect();
      client.send(get("/", "Connection: close\r\n"));
      CHECK(client.next().has("Connection: close"));
      CHECK(client.ends());
    }
    SUBCASE("HTTP/1.0") {
      auto client = site.connect();
      client.send("GET / HTTP/1.0\r\n\r\n");
      const auto answer = client.next();
      CHECK(answer.head.starts_with("HTTP/1.1 200 OK\r\n"));
      CHECK(answer.has("Connection: close"));
      CHECK(client.ends());
    }
    SUBCASE("not HTTP/1.0 with keep-alive") {
      auto client = site.connect();
      for (int i = 0; i < 2; ++i) {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        CHECK(client.next().has("Connection: keep-alive"));
      }
      CHECK_FALSE(client.ended());
      client.close();
    }
    CHECK(site.all_closed());
  }

  TEST_CASE("what follows a request with Connection: close is ignored") {
    site site(&echo);
    auto client = site.connect();
    client.send(get("/last", "Connection: close\r\n") + get("/more"));
    CHECK(client.next().body == "GET /last ");
    CHECK(client.ends());
    CHECK(site.group->counters().requests == 1);
  }

  TEST_CASE("a handler may close the connection") {
    site site([](http::request&) { return http::response("bye").close(); });
    auto client = site.connect();
    client.send(get("/1") + get("/2"));
    const auto answer = client.next();
    CHECK(answer.body == "bye");
    CHECK(answer.has("Connection: close"));
    CHECK(client.ends());
    client.close();
    CHECK(site.all_closed());
    CHECK(site.group->counters().requests == 1);
  }

  TEST_CASE("a client that is still sending when its handler closes can read the answer") {
    site site([](http::request&) { return http::response("bye").close(); });
    auto client = site.connect();
    client.tolerate_a_closed_server();
    // More than the server reads at once: closing with unread bytes would reset the connection.
    client.send(get("/1") + std::string(1'000'000, 'x'));
    CHECK(client.next().body == "bye");
    CHECK(client.ends());
  }

  TEST_CASE("HEAD gets the headers of GET and no body") {
    site site(&hello);
    auto client = site.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + get("/"));
    const auto head = client.next(with_body::no);
    CHECK(head.code == 200);
    CHECK(head.has("Content-Length: 13"));
    CHECK(client.next().body == "Hello, World!");
  }

  TEST_CASE("it speaks over Unix sockets too") {
    site site(&echo);
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    pulsar::set_non_blocking(theirs.get());
    site.serve(std::move(theirs));
    client client(site.loop, std::move(mine));
    client.send(get("/unix"));
    CHECK(client.next().body == "GET /unix ");
  }

  // -- bodies --------------------------------------------------------------------

  TEST_CASE("a body reaches the handler whole, in whatever pieces and coding it comes") {
    site site(&echo);
    auto client = site.connect();
    const std::string body(100'000, 'b');
    client.send("PUT /l HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + body);
    CHECK(client.next().body == "PUT /l " + body);

    std::string chunked = "PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 1000; ++i) chunked += "64\r\n" + std::string(100, 'b') + "\r\n";
    client.send(chunked + "0\r\n\r\n" + get("/next"));
    CHECK(client.next().body == "PUT /c " + body);
    CHECK(client.next().body == "GET /next ");
  }

  TEST_CASE("a body up to the limit is taken, and one byte more is 413") {
    http::connection_options options;
    options.limits.body = 1000;
    site site(&echo, options);
    auto client = site.connect();
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" +
                std::string(1000, 'b'));
    CHECK(client.next().code == 200);
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n");
    CHECK(client.next().code == 413);
    CHECK(client.ends());
  }

  TEST_CASE("a client that waits for \"100 Continue\" gets it once, when its body is due") {
    site site(&echo);
    auto client = site.connect();
    client.send(get("/first") +
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    CHECK(client.next().body == "GET /first ");
    const auto interim = client.next();
    CHECK(interim.head == "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("bo");
    run_for(site.loop, 20ms);
    client.send("dy");
    const auto answer = client.next();
    CHECK(answer.code == 200);
    CHECK(answer.body == "PUT / body");

    client.send("PUT /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
    CHECK(client.next().code == 100);
    client.send("x");
    CHECK(client.next().body == "PUT /2 x");
  }

  TEST_CASE("a body that comes at once, or is too large, gets its final answer alone") {
    site site(&echo);
    auto client = site.connect();
    client.send(
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody");
    CHECK(client.next().code == 200);
    client.send(
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n");
    CHECK(client.next().code == 413);
  }

  // -- pipelining ----------------------------------------------------------------

  TEST_CASE("a hundred pipelined requests are answered in order, with one write") {
    std::optional<http::handler> handler;
    SUBCASE("by a function") { handler.emplace(&echo); }
    SUBCASE("by a coroutine that need not wait") {
      handler.emplace(
          [](http::request& request) -> future<http::response> { co_return echo(request); });
    }
    site site(std::move(*handler));
    auto client = site.connect();
    std::string all;
    for (int i = 0; i < 100; ++i) all += get("/" + std::to_string(i));
    REQUIRE(client.send_some(all) == all.size());
    for (int i = 0; i < 100; ++i) CHECK(client.next().body == "GET /" + std::to_string(i) + " ");
    CHECK(client.segments() == 1);
    CHECK(client.received().empty());
  }

  TEST_CASE("requests may be cut anywhere") {
    site site(&echo);
    std::string all;
    std::string expected;
    std::mt19937 random(7);
    const auto below = [&random](std::size_t n) { return random() % n; };
    for (int i = 0; i < 60; ++i) {
      const std::string body(below(3000), static_cast<char>('a' + i % 26));
      const std::string target = "/" + std::to_string(i);
      switch (i % 3) {
        case 0: all += get(target); break;
        case 1:
          all += "PUT " + target +
                 " HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) +
                 "\r\n\r\n" + body;
          break;
        default:
          all += "PUT " + target + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
          for (const char c : body.substr(0, 40)) all += std::string("1\r\n") + c + "\r\n";
          all += "0\r\n\r\n";
          break;
      }
      expected += (i % 3 == 0 ? "GET " : "PUT ") + target + " " +
                  (i % 3 == 0 ? "" : body.substr(0, i % 3 == 1 ? body.size() : 40)) + ";";
    }
    for (int round = 0; round < 5; ++round) {
      auto client = site.connect();
      std::string answers;
      int n = 0;
      for (std::size_t at = 0; at < all.size();) {
        const std::size_t size = std::min(all.size() - at, 1 + below(round < 3 ? 40 : 4000));
        client.send(std::string_view(all).substr(at, size));
        at += size;
        site.loop.context().restart();
        site.loop.context().poll();
      }
      for (; n < 60; ++n) answers += client.next().body + ";";
      CHECK(answers == expected);
    }
  }

  // -- handlers ------------------------------------------------------------------

  TEST_CASE("answers keep their order when a handler suspends, and those before it do not wait") {
    gate gate;
    site site([&](http::request& request) -> future<http::response> {
      if (request.path() == "/slow") co_return co_await gate.wait();
      co_return std::string(request.path());
    });
    auto client = site.connect();
    client.send(get("/1") + get("/slow") + get("/2"));
    CHECK(client.next().body == "/1");
    REQUIRE(run_until(site.loop, [&] { return gate.waiting == 1; }));
    run_for(site.loop, 20ms);
    CHECK(client.received().empty());
    CHECK(site.group->counters().requests == 2);
    gate.promises[0].set_value("slow");
    CHECK(client.next().body == "slow");
    CHECK(client.next().body == "/2");
  }

  TEST_CASE("a connection that is handed over by a handler gets no answer of another one") {
    std::optional<pulsar::unique_fd> theirs;
    http_test::site* place = nullptr;
    site site([&](http::request& request) -> http::response {
      if (request.path() == "/adopt") place->serve(std::move(*theirs));
      return std::string(request.path());
    });
    place = &site;
    auto [mine, other] = pulsar::socket_pair(SOCK_STREAM);
    pulsar::set_non_blocking(other.get());
    theirs = std::move(other);
    client adopted(site.loop, std::move(mine));
    auto client = site.connect();
    client.send(get("/secret") + get("/adopt"));
    CHECK(client.next().body == "/secret");
    CHECK(client.next().body == "/adopt");
    CHECK(adopted.received().empty());
    adopted.send(get("/mine"));
    CHECK(adopted.next().body == "/mine");
    CHECK(adopted.received().empty());
  }

  TEST_CASE("the request is there until a suspended handler has ended") {
    site site([](http::request& request) -> future<http::response> {
      co_await pulsar::sleep(20ms);
      co_return echo(request);
    });
    auto client = site.connect();
    client.send("PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" + get("/y"));
    client.send(std::string(5000, 'z'));  // waits in the socket
    CHECK(client.next().body == "PUT /x body");
    CHECK(client.next().body == "GET /y ");
  }

  TEST_CASE("a suspended handler of one connection holds up no other") {
    gate gate;
    site site([&](http::request& request) -> future<http::response> {
      if (request.path() == "/slow") co_return co_await gate.wait();
      co_return "fast";
    });
    auto one = site.connect();
    auto two = site.connect();
    one.send(get("/slow"));
    two.send(get("/"));
    CHECK(two.next().body == "fast");
    REQUIRE(run_until(site.loop, [&] { return gate.waiting == 1; }));
    gate.promises[0].set_value("slow");
    CHECK(one.next().body == "slow");
  }

  TEST_CASE("an exception becomes 500, is logged with the request, and the connection goes on") {
    const log_keeper log;
    const auto check = [&log](http::handler handler, std::string_view logged) {
      site site(std::move(handler));
      auto client = site.connect();
      client.send(get("/bad?q=1") + get("/good"));
      const auto answer = client.next();
      CHECK(answer.code == 500);
      CHECK(answer.body == "500 Internal Server Error\n");
      CHECK(client.next().body == "good");
      CHECK(site.group->counters().failed == 1);
      CHECK(site.group->counters().requests == 2);
      CHECK_MESSAGE(log.has(logged), log.text());
    };
    SUBCASE("of a function") {
      check(
          [](http::request& request) -> http::response {
            if (request.path() == "/bad") throw std::runtime_error("out of luck");
            return "good";
          },
          "GET /bad?q=1: out of luck");
    }
    SUBCASE("of a coroutine at once") {
      check(
          [](http::request& request) -> future<http::response> {
            if (request.path() == "/bad") throw std::runtime_error("out of luck");
            co_return "good";
          },
          "GET /bad?q=1: out of luck");
    }
    SUBCASE("of a coroutine later") {
      check(
          [](http::request& request) -> future<http::response> {
            co_await pulsar::sleep(1ms);
            if (request.path() == "/bad") throw std::runtime_error("out of luck");
            co_return "good";
          },
          "GET /bad?q=1: out of luck");
    }
    SUBCASE("that is no std::exception") {
      check(
          [](http::request& request) -> http::response {
            if (request.path() == "/bad") throw 42;
            return "good";
          },
          "GET /bad?q=1: an exception that is no std::exception");
    }
    CHECK(log.lines() == 1);
  }

  TEST_CASE("a status that is not final becomes 500, and the connection goes on") {
    const log_keeper log;
    std::optional<http::handler> handler;
    const auto answer = [](http::request& request) {
      return request.path() == "/good" ? http::response("good")
                                       : http::response(std::stoi(std::string(request.query())));
    };
    SUBCASE("of a function") { handler.emplace(answer); }
    SUBCASE("of a coroutine") {
      handler.emplace([answer](http::request& request) -> future<http::response> {
        co_await pulsar::sleep(1ms);
        co_return answer(request);
      });
    }
    site site(std::move(*handler));
    auto client = site.connect();
    for (const int code : {100, 101, 103, 199}) {
      client.send(get("/early?" + std::to_string(code)) + get("/good"));
      CHECK(client.next().code == 500);
      CHECK(client.next().body == "good");
      CHECK(log.has("GET /early?" + std::to_string(code) + ": the handler answered " +
                    std::to_string(code) + ", which is no final status: 200 to 599 are"));
    }
    CHECK(site.group->counters().failed == 4);
  }

  TEST_CASE("a log that fails costs nobody an answer, and nothing of one reaches another") {
    const auto before = pulsar::log::set_sink(
        [](pulsar::log_level, std::string_view) { throw std::runtime_error("disk full"); });
    {
      site site([](http::request& request) -> http::response {
        if (request.path() == "/bad") throw std::runtime_error("out of luck");
        return std::string(request.path());
      });
      auto one = site.connect();
      auto two = site.connect();
      one.send(get("/secret") + get("/bad") + get("/"));
      const auto secret = one.next();
      const auto bad = one.next();
      const auto good = one.next();
      two.send(get("/public"));
      const auto other = two.next();
      pulsar::log::set_sink(before);
      CHECK(secret.body == "/secret");
      CHECK(bad.code == 500);
      CHECK(good.body == "/");
      CHECK(other.body == "/public");
      CHECK(two.received().empty());
    }
    pulsar::log::set_sink(before);
  }

  TEST_CASE("failures of handlers are logged ten times a second, and the others counted") {
    const log_keeper log;
    site site([](http::request&) -> http::response { throw std::runtime_error("out of luck"); });
    auto client = site.connect();
    std::string all;
    for (int i = 0; i < 1000; ++i) all += get("/");
    const auto began = event_loop::clock::now();
    client.send(all);
    for (int i = 0; i < 1000; ++i) CHECK(client.next().code == 500);
    const auto seconds = (event_loop::clock::now() - began) / 1s + 1;
    CHECK(log.lines() >= 10);
    CHECK(log.lines() <= 10 * seconds + 10);
    const bool all_at_once = log.lines() == 10;
    run_for(site.loop, 1010ms);
    client.send(get("/"));
    client.next();
    if (all_at_once) CHECK(log.has("out of luck (and 990 failures not logged before)"));
    CHECK(log.has(" failures not logged before)"));
    CHECK(site.group->counters().failed == 1001);
  }

  TEST_CASE("of a long target the log has the beginning") {
    const log_keeper log;
    site site([](http::request&) -> http::response { throw std::runtime_error("out of luck"); });
    auto client = site.connect();
    client.send(get("/" + std::string(199, 'a')) + get("/" + std::string(4000, 'b')));
    client.next();
    client.next();
    CHECK(log.has("GET /" + std::string(199, 'a') + ": out of luck"));
    CHECK(log.has("GET /" + std::string(199, 'b') + "...: out of luck"));
    CHECK_FALSE(log.has(std::string(200, 'b')));
  }

  // -- what is refused -----------------------------------------------------------

  TEST_CASE("what is no request is refused with its status, then the connection is closed") {
    struct refused {
      std::string text;
      int code;
    };
    http::connection_options options;
    options.limits.request_line = 100;
    options.limits.header_line = 100;
    options.limits.headers = 5;
    options.limits.body = 100;
    const std::vector<refused> all{
        {"nonsense\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {get("/", "Content-Length: -1\r\n"), 400},
        {get("/", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400},
        {get("/", "Content-Length: 101\r\n"), 413},
        {get("/" + std::string(200, 'a')), 414},
        {get("/", "X: " + std::string(200, 'a') + "\r\n"), 431},
        {get("/", "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\n"), 431},
        {"BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 501},
        {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505},
    };
    for (const auto& [text, code] : all) {
      CAPTURE(text);
      site site(&echo, options);
      auto client = site.connect();
      client.send(get("/good") + text + get("/behind"));
      CHECK(client.next().body == "GET /good ");
      const auto answer = client.next();
      CHECK(answer.code == code);
      CHECK(answer.has("Connection: close"));
      CHECK(answer.body.starts_with(std::to_string(code)));
      CHECK(client.ends());
      CHECK(site.group->counters().requests == 1);
      CHECK(site.group->counters().refused == 1);
      client.close();
      CHECK(site.all_closed());
    }
  }

  TEST_CASE("CONNECT is 501 and the end of the connection, and no handler sees it") {
    site site(&echo);
    auto client = site.connect();
    client.send("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n" + get("/behind"));
    const auto answer = client.next();
    CHECK(answer.code == 501);
    CHECK(answer.has("Connection: close"));
    CHECK(answer.body == "501 Not Implemented: no tunnels here\n");
    CHECK(client.ends());
    CHECK(site.group->counters().requests == 0);
    CHECK(site.group->counters().refused == 1);
  }

  TEST_CASE("a refusal of HEAD has no body, as soon as the method is known") {
    http::connection_options options;
    options.limits.request_line = 100;
    options.limits.header_line = 100;
    options.timeouts.head = 50ms;
    const std::pair<std::string_view, int> all[] = {
        {"HEAD / HTTP/1.1\r\n\r\n", 400},
        {"HEAD / HTTP/1.1\r\nHost: h\r\nbad header\r\n\r\n", 400},
        {"HEAD nowhere HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999999\r\n\r\n", 413},
        {"HEAD / HTTP/2.0\r\nHost: h\r\n\r\n", 505},
        {"HEAD / HTTP/1.1\r\nHost: ", 408},
    };
    for (const auto& [text, code] : all) {
      CAPTURE(text);
      site site(&echo, options);
      auto client = site.connect();
      client.send(get("/good"));
      client.next();
      client.send(text);
      const auto answer = client.next(with_body::no);
      CHECK(answer.code == code);
      CHECK(answer.head.find("\r\nContent-Length: ") != std::string::npos);
      CHECK(client.ends());  // nothing behind the head
    }
    site site(&echo, options);
    auto client = site.connect();
    client.send("HEAD /" + std::string(200, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(client.next(with_body::no).code == 414);
    CHECK(client.ends());
    auto other = site.connect();
    other.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /\r\n\r\n");
    CHECK(other.next(with_body::no).code == 200);
    CHECK(other.next().body.starts_with("400 "));  // of the next request, which is no HEAD
  }

  TEST_CASE("what cannot be served is closed and logged, and its future does not fail") {
    const log_keeper log;
    site site(&echo);
    auto serving = http::serve_connection(site.group, pulsar::unique_fd());
    REQUIRE(run_until(site.loop, [&] { return serving.done(); }));
    CHECK(serving.exception() == nullptr);
    CHECK(site.group->size() == 0);
    CHECK(log.has("closed a connection that could not be served: "));
    CHECK(log.lines() == 1);
  }

  TEST_CASE("a client that goes on sending what is refused can read why") {
    site site(&echo);
    auto client = site.connect();
    client.tolerate_a_closed_server();
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n");
    const std::string piece(64 * 1024, 'x');
    for (int i = 0; i < 300; ++i) client.send(piece);
    const auto answer = client.next();
    CHECK(answer.code == 413);
    CHECK(client.ends());
    client.close();
    CHECK(site.all_closed());
  }

  TEST_CASE("a refused client that neither reads on nor closes is left after the time for that") {
    site site(&echo, with({.linger = 50ms}));
    auto client = site.connect();
    client.send("nonsense\r\n\r\n");
    CHECK(client.next().code == 400);
    CHECK(client.ends());
    CHECK(site.group->size() == 1);  // half open
    CHECK(site.all_closed());
  }

  TEST_CASE("a refused client that never stops sending is left after that time too") {
    site site(&echo, with({.linger = 50ms}));
    auto client = site.connect();
    client.tolerate_a_closed_server();
    client.send("nonsense\r\n\r\n");
    CHECK(client.next().code == 400);
    // The server finds bytes whenever it looks.
    const std::string piece(64 * 1024, 'x');
    CHECK(run_until(site.loop, [&] {
      while (site.group->size() > 0 && client.send_some(piece) == piece.size()) {
      }
      return site.group->size() == 0;
    }));
  }

  // -- slow clients --------------------------------------------------------------

  TEST_CASE("for a client that does not read no more than one large response is made") {
    const std::string large(10'000'000, 'L');
    site site([&](http::request&) { return http::response(large); });
    auto client = site.connect(64 * 1024);
    std::string all;
    for (int i = 0; i < 5; ++i) all += get("/");
    client.send(all);
    run_for(site.loop, 50ms);
    CHECK(site.group->counters().requests == 1);
    for (int i = 0; i < 5; ++i) {
      const auto answer = client.next();
      CHECK(answer.body.size() == large.size());
      CHECK((answer.body == large));
    }
    CHECK(site.group->counters().requests == 5);
    CHECK(client.received().empty());
  }

  TEST_CASE("for a client that does not read no more than one large response is awaited") {
    const std::string large(10'000'000, 'L');
    site site([&](http::request&) -> future<http::response> {
      co_await pulsar::sleep(1ms);
      co_return large;
    });
    auto client = site.connect(64 * 1024);
    client.send(get("/") + get("/") + get("/"));
    run_for(site.loop, 50ms);
    CHECK(site.group->counters().requests == 1);
    for (int i = 0; i < 3; ++i) CHECK((client.next().body == large));
  }

  TEST_CASE("large and small responses in a row keep their order and their bytes") {
    site site([](http::request& request) {
      const auto size = std::stoul(std::string(request.path().substr(1)));
      return http::response(std::string(size, static_cast<char>('a' + size % 26)))
          .header("X-Large", std::string(size % 7 * 3000, 'h'));
    });
    auto client = site.connect(4096);
    std::string all;
    const std::vector<std::size_t> sizes{1,      16'383, 16'384, 16'385, 5,  400'000,
                                         65'536, 0,      70'000, 12'000, 13, 1'000'000};
    for (const auto size : sizes) all += get("/" + std::to_string(size));
    client.send(all);
    for (const auto size : sizes) {
      const auto answer = client.next();
      CHECK(answer.body.size() == size);
      CHECK((answer.body == std::string(size, static_cast<char>('a' + size % 26))));
    }
  }

  TEST_CASE("from a client that sends and does not read nothing more is taken") {
    site site([](http::request&) { return http::response(std::string(10'000, 's')); });
    auto client = site.connect();
    const std::string one = get("/", "X: " + std::string(4000, 'x') + "\r\n");
    std::string some;
    for (int i = 0; i < 100; ++i) some += one;
    // Until the sockets between the two are full.
    std::size_t sent = 0;
    int stuck = 0;
    std::string_view rest = some;
    REQUIRE(run_until(site.loop, [&] {
      const std::size_t n = client.send_some(rest);
      stuck = n == 0 ? stuck + 1 : 0;
      sent += n;
      rest.remove_prefix(n);
      if (rest.empty()) rest = some;
      return stuck > 50;
    }));
    const auto taken = site.group->counters().requests;
    run_for(site.loop, 30ms);
    CHECK(site.group->counters().requests == taken);
    sent += rest.size();
    REQUIRE(run_until(site.loop, [&] {
      client.received();
      rest.remove_prefix(client.send_some(rest));
      return rest.empty();
    }));
    const std::size_t requests = sent / one.size();
    CHECK(taken < requests);
    for (std::size_t i = 0; i < requests; ++i) {
      if (client.next().body.size() != 10'000) FAIL("a broken answer");
    }
    CHECK(client.received().empty());
    CHECK(site.group->counters().requests == requests);
  }

  TEST_CASE("a client that takes no byte for the time allowed is left") {
    const std::string large(10'000'000, 'L');
    site site([&](http::request&) { return http::response(large); }, with({.write = 60ms}));
    auto client = site.connect(4096);
    client.send(get("/"));
    REQUIRE(run_until(site.loop, [&] { return site.group->counters().requests == 1; }));
    CHECK(site.all_closed());
  }

  TEST_CASE("a slow client that does take some bytes is not left") {
    const std::string large(3'000'000, 'L');
    site site([&](http::request&) { return http::response(large); }, with({.write = 500ms}));
    auto client = site.connect(4096);
    client.send(get("/"));
    const auto began = event_loop::clock::now();
    std::size_t got = 0;
    std::array<char, 50'000> bytes;
    while (event_loop::clock::now() - began < 1100ms) {
      run_for(site.loop, 40ms);
      const auto n = ::recv(client.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      REQUIRE(n > 0);
      got += static_cast<std::size_t>(n);
    }
    CHECK(site.group->size() == 1);
    CHECK(got < large.size());
  }

  // -- time ----------------------------------------------------------------------

  TEST_CASE("an idle connection is closed after the time for that, without a word") {
    site site(&hello, with({.keep_alive = 60ms}));
    auto client = site.connect();
    client.send(get("/"));
    client.next();
    const auto began = event_loop::clock::now();
    CHECK(client.ends());
    CHECK(event_loop::clock::now() - began >= 55ms);
    CHECK(site.all_closed());
  }

  TEST_CASE("each request begins the idle time anew") {
    site site(&hello, with({.keep_alive = 500ms}));
    auto client = site.connect();
    for (int i = 0; i < 6; ++i) {
      client.send(get("/"));
      client.next();
      run_for(site.loop, 100ms);
    }
    CHECK_FALSE(client.ended());
  }

  TEST_CASE("a client that never asks anything is left, without a word") {
    site site(&hello, with({.head = 50ms}));
    auto client = site.connect();
    CHECK(client.ends());
    CHECK(site.all_closed());
  }

  TEST_CASE("headers that do not end in time are 408, however steadily they trickle") {
    site site(&hello, with({.head = 100ms}));
    auto client = site.connect();
    client.tolerate_a_closed_server();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX: ");
    const auto began = event_loop::clock::now();
    REQUIRE(run_until(site.loop, [&] {
      client.send_some("x");
      run_for(site.loop, 10ms);
      return !client.received().empty();
    }));
    CHECK(event_loop::clock::now() - began >= 95ms);
    CHECK(event_loop::clock::now() - began < 5s);
    CHECK(client.next().code == 408);
    CHECK(site.group->counters().refused == 1);
    CHECK(site.group->counters().requests == 0);
  }

  TEST_CASE("headers that follow a request at once have their whole time") {
    site site(&hello, with({.head = 1000ms}));
    auto client = site.connect();
    client.send("GET / HTT");
    run_for(site.loop, 550ms);
    client.send("P/1.1\r\nHost: h\r\n\r\nGET / HTT");
    CHECK(client.next().code == 200);
    run_for(site.loop, 550ms);
    client.send("P/1.1\r\nHost: h\r\n\r\n");
    CHECK(client.next().code == 200);
  }

  TEST_CASE(
      "a body that does not go on in time is 408, and one that does has as long as it takes") {
    site site(&echo, with({.body = 500ms}));
    auto slow = site.connect();
    auto stuck = site.connect();
    const std::string head = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n";
    slow.send(head);
    stuck.send(head + "1");
    for (const char c : std::string_view("123456")) {
      run_for(site.loop, 100ms);
      slow.send({&c, 1});
    }
    CHECK(slow.next().body == "PUT / 123456");
    const auto answer = stuck.next();
    CHECK(answer.code == 408);
    CHECK(answer.has("Connection: close"));
  }

  TEST_CASE("no time is kept while a handler works") {
    site site(
        [](http::request&) -> future<http::response> {
          co_await pulsar::sleep(150ms);
          co_return "late";
        },
        with({.keep_alive = 20ms, .head = 20ms, .body = 20ms, .write = 20ms}));
    auto client = site.connect();
    client.send(get("/"));
    CHECK(client.next().body == "late");
  }

  TEST_CASE("a time of zero means for ever") {
    site site(&hello, with({.keep_alive = 0ms, .head = 0ms, .body = 0ms, .write = 0ms}));
    auto client = site.connect();
    run_for(site.loop, 30ms);
    client.send(get("/"));
    client.next();
    run_for(site.loop, 30ms);
    client.send("GET / HTTP/1.1\r\n");
    run_for(site.loop, 30ms);
    client.send("Host: h\r\n\r\n");
    CHECK(client.next().code == 200);
  }

  // -- clients that go away ------------------------------------------------------

  TEST_CASE("a client that closes, at whatever moment, leaves nothing behind") {
    site site(&echo);
    const std::string request = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";
    for (std::size_t size = 0; size <= request.size(); ++size) {
      auto polite = site.connect();
      polite.send(std::string_view(request).substr(0, size));
      auto rude = site.connect();
      rude.send(std::string_view(request).substr(0, size));
      if (size % 2 == 0) run_for(site.loop, 1ms);
      polite.close();
      rude.reset();
    }
    CHECK(site.all_closed());
  }

  TEST_CASE("a client that sends and shuts down its side is answered") {
    site site(&echo);
    auto client = site.connect();
    client.send(get("/1") + get("/2"));
    client.shut_down();
    CHECK(client.next().body == "GET /1 ");
    CHECK(client.next().body == "GET /2 ");
    CHECK(client.ends());
    CHECK(site.all_closed());
  }

  TEST_CASE("a request that ends before it is whole is 400, and never handed on") {
    site site(&echo);
    for (const std::string_view part :
         {"GET / HTTP/1.1\r\nHos", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbod",
          "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"}) {
      CAPTURE(part);
      auto client = site.connect();
      client.send(part);
      client.shut_down();
      CHECK(client.next().code == 400);
      CHECK(client.ends());
    }
    CHECK(site.all_closed());
    CHECK(site.group->counters().requests == 0);
    CHECK(site.group->counters().refused == 3);
  }

  TEST_CASE("a client that is gone when its answer is ready does no harm") {
    gate gate;
    site site([&](http::request&) { return gate.wait(); });
    for (int i = 0; i < 4; ++i) {
      auto client = site.connect();
      client.send(get("/") + get("/next"));
      REQUIRE(run_until(site.loop, [&] { return gate.waiting == i + 1; }));
      if (i % 2 == 0) {
        client.reset();
      } else {
        client.close();
      }
      run_for(site.loop, 5ms);
    }
    CHECK(site.group->size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      gate.promises[i].set_value(http::response(std::string(i < 2 ? 10 : 1'000'000, 'x')));
    }
    // Those that were closed, not reset, may have their second request begun.
    REQUIRE(run_until(site.loop, [&] {
      for (std::size_t i = 4; i < gate.promises.size(); ++i) {
        if (!gate.promises[i].done()) gate.promises[i].set_value("x");
      }
      return site.group->size() == 0;
    }));
  }

  TEST_CASE("a client that resets the connection in the middle of a large response is let go") {
    const std::string large(10'000'000, 'L');
    site site([&](http::request&) { return http::response(large); });
    auto client = site.connect(4096);
    client.send(get("/"));
    run_for(site.loop, 20ms);
    client.reset();
    CHECK(site.all_closed());
  }

  // -- the end -------------------------------------------------------------------

  TEST_CASE("draining finishes the request under way, says so, and closes") {
    gate gate;
    site site([&](http::request&) { return gate.wait(); });
    auto client = site.connect();
    client.send(get("/1") + get("/2"));
    REQUIRE(run_until(site.loop, [&] { return gate.waiting == 1; }));
    site.group->drain();
    run_for(site.loop, 20ms);
    CHECK_FALSE(client.ended());
    gate.promises[0].set_value("done");
    const auto answer = client.next();
    CHECK(answer.body == "done");
    CHECK(answer.has("Connection: close"));
    CHECK(client.ends());
    CHECK(gate.waiting == 1);
    CHECK(site.all_closed());
  }

  TEST_CASE("draining leaves an idle connection time for a request that is on its way") {
    site site(&hello, with({.drain = 400ms}));
    auto silent = site.connect();
    auto asking = site.connect();
    auto fresh = site.connect();
    for (auto* each : {&silent, &asking}) {
      each->send(get("/"));
      each->next();
    }
    site.group->drain();
    asking.send(get("/"));
    fresh.send(get("/"));
    CHECK(asking.next().has("Connection: close"));
    CHECK(fresh.next().has("Connection: close"));
    CHECK(silent.ends());
    CHECK(asking.ends());
    asking.close();
    fresh.close();
    CHECK(site.all_closed());
  }

  TEST_CASE("draining does not wait for ever for a request that has only begun") {
    site site(&hello, with({.head = 100ms, .drain = 20ms}));
    auto client = site.connect();
    client.send("GET / HT");
    run_for(site.loop, 10ms);
    site.group->drain();
    CHECK(client.next().code == 408);
    client.close();
    CHECK(site.all_closed());
  }

  TEST_CASE("whoever waits for the end of all connections is told") {
    site site(&hello);
    CHECK(site.group->ended().done());
    auto client = site.connect();
    auto one = site.group->ended();
    auto two = site.group->ended();
    run_for(site.loop, 5ms);
    CHECK_FALSE(one.done());
    client.close();
    CHECK(run_until(site.loop, [&] { return one.done() && two.done(); }));
  }

  TEST_CASE("aborting closes connections in the middle of anything, and cancels handlers") {
    gate gate;
    bool cancelled = false;
    const std::string large(10'000'000, 'L');
    site site([&](http::request& request) -> future<http::response> {
      if (request.path() == "/large") co_return large;
      try {
        co_return co_await gate.wait();
      } catch (const pulsar::error& e) {
        cancelled = e.code() == pulsar::errc::cancelled;
        throw;
      }
    });
    const log_keeper log;
    auto idle = site.connect();
    auto reading = site.connect();
    auto handling = site.connect();
    auto writing = site.connect(4096);
    auto lingering = site.connect();
    reading.send("GET / HT");
    handling.send(get("/"));
    writing.send(get("/large"));
    lingering.send("nonsense\r\n\r\n");
    lingering.next();
    REQUIRE(run_until(site.loop, [&] { return gate.waiting == 1; }));
    run_for(site.loop, 20ms);
    CHECK(site.group->size() == 5);
    site.group->abort();
    CHECK(site.all_closed());
    CHECK(cancelled);
    CHECK(handling.ended());
    CHECK(handling.received().empty());
    CHECK(log.lines() == 0);
  }

  TEST_CASE("a handler that turns its cancellation into an answer does no harm") {
    gate gate;
    site site([&](http::request&) -> future<http::response> {
      try {
        co_await gate.wait();
      } catch (const pulsar::error&) {
      }
      co_return "too late";
    });
    auto client = site.connect();
    client.send(get("/"));
    REQUIRE(run_until(site.loop, [&] { return gate.waiting == 1; }));
    site.group->abort();
    CHECK(site.all_closed());
  }

  TEST_CASE("a handler that fails as cancelled on its own is answered with 500") {
    const log_keeper log;
    site site([](http::request&) -> future<http::response> {
      co_await pulsar::sleep(1ms);
      throw pulsar::error(pulsar::errc::cancelled);
    });
    auto client = site.connect();
    client.send(get("/"));
    CHECK(client.next().code == 500);
  }

  TEST_CASE("cancelling the future of a connection closes it") {
    site site(&hello);
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    pulsar::set_non_blocking(theirs.get());
    auto serving = http::serve_connection(site.group, std::move(theirs));
    client client(site.loop, std::move(mine));
    client.send(get("/"));
    CHECK(client.next().code == 200);
    serving.cancel();
    CHECK(client.ends());
    CHECK(serving.done());
  }

  TEST_CASE("a loop that is closed under open connections leaves no descriptor behind") {
    const auto before = pulsar::open_descriptors();
    {
      gate gate;
      const std::string large(10'000'000, 'L');
      const log_keeper log;
      std::vector<client> clients;
      {
        site site([&](http::request& request) -> future<http::response> {
          if (request.path() == "/large") co_return large;
          co_return co_await gate.wait();
        });
        for (const std::string& text :
             {std::string(), std::string("GET / HT"), get("/"), get("/large")}) {
          clients.push_back(site.connect(4096));
          clients.back().send(text);
        }
        REQUIRE(run_until(site.loop, [&] { return gate.waiting == 1; }));
        run_for(site.loop, 10ms);
        const auto began = event_loop::clock::now();
        site.loop.close(10s);
        CHECK(event_loop::clock::now() - began < 5s);
        CHECK(site.group->size() == 0);
      }
    }
    CHECK(pulsar::open_descriptors() == before);
  }
}
