// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/http/service.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>
#include <sys/resource.h>

#include "talk.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace http_test;
using pulsar::address;
using pulsar::future;
using pulsar::listener;
using pulsar::unique_fd;

namespace {

http::response hello(http::request&) { return "Hello, World!"; }

http::connection_options with(http::timeouts timeouts) {
  http::connection_options options;
  options.timeouts = timeouts;
  return options;
}

// A service that listens, with its loop.
struct house {
  explicit house(http::handler handler, http::connection_options options = {}) {
    web.emplace(std::move(handler), std::move(options), loop);
    where = listen();
  }

  address listen(const address& at = address("127.0.0.1:0")) {
    listener door(at);
    const address local = door.local();
    web->serve(std::move(door));
    return local;
  }

  client connect() { return client(loop, connect_to(where)); }

  bool closed() {
    return run_until(loop, [this] { return web->size() == 0; });
  }

  event_loop loop;
  std::optional<http::service> web;
  address where;
};

bool can_connect(const address& where) {
  const auto at = where.resolve();
  const unique_fd fd(::socket(at.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(fd.get(), at.data(), static_cast<socklen_t>(at.size())) == 0;
}

struct gate {
  future<http::response> wait() {
    promises.emplace_back();
    return promises.back().get_future();
  }
  std::vector<pulsar::promise<http::response>> promises;
};

}  // namespace

TEST_SUITE("service") {
  TEST_CASE("whatever arrives at its listeners is served") {
    house house(&hello);
    const address second = house.listen();
    const auto path =
        std::filesystem::temp_directory_path() / ("pulsar_service_" + std::to_string(::getpid()));
    const address local = house.listen(address("unix:" + path.string()));
    for (const auto& where : {house.where, second, local, house.where}) {
      client client(house.loop, connect_to(where));
      client.send(get("/"));
      CHECK(client.next().body == "Hello, World!");
    }
    CHECK(house.web->counters().connections == 4);
    CHECK(house.web->counters().requests == 4);
    CHECK(house.closed());
  }

  TEST_CASE("it serves connections that were accepted elsewhere") {
    house house(&hello);
    auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
    pulsar::set_non_blocking(theirs.get());
    house.web->serve(std::move(theirs));
    client client(house.loop, std::move(mine));
    client.send(get("/"));
    CHECK(client.next().code == 200);
    CHECK(house.web->size() == 1);
  }

  TEST_CASE("many clients are served at once and leave no descriptor behind") {
    house house(&hello);
    CHECK(run_until(house.loop, [] { return true; }));
    const auto before = pulsar::open_descriptors();
    for (int round = 0; round < 20; ++round) {
      std::vector<client> clients;
      for (int i = 0; i < 50; ++i) clients.push_back(house.connect());
      for (auto& each : clients) each.send(get("/"));
      for (auto& each : clients) CHECK(each.next().code == 200);
    }
    CHECK(house.closed());
    CHECK(house.web->counters().connections == 1000);
    CHECK(pulsar::open_descriptors() == before);
  }

  // -- stop ----------------------------------------------------------------------

  TEST_CASE("stop closes the listeners at once and is done when nothing is open") {
    house house(&hello);
    const address second = house.listen();
    run_for(house.loop, 5ms);
    auto stopping = house.web->stop();
    CHECK(run_until(house.loop, [&] { return stopping.done(); }));
    stopping.result();
    CHECK_FALSE(can_connect(house.where));
    CHECK_FALSE(can_connect(second));
  }

  TEST_CASE("stop waits for the request under way, whose answer says that it is the last") {
    gate gate;
    house house([&](http::request&) { return gate.wait(); });
    auto client = house.connect();
    client.send(get("/"));
    REQUIRE(run_until(house.loop, [&] { return gate.promises.size() == 1; }));
    auto stopping = house.web->stop();
    REQUIRE(run_until(house.loop, [&] { return !can_connect(house.where); }));
    run_for(house.loop, 20ms);
    CHECK_FALSE(stopping.done());
    gate.promises[0].set_value("done");
    const auto answer = client.next();
    CHECK(answer.body == "done");
    CHECK(answer.has("Connection: close"));
    client.close();
    CHECK(run_until(house.loop, [&] { return stopping.done(); }));
    stopping.result();
  }

  TEST_CASE("stop does not wait for idle clients longer than for a request on its way") {
    house house(&hello, with({.keep_alive = 10s, .drain = 30ms}));
    auto client = house.connect();
    client.send(get("/"));
    client.next();
    auto stopping = house.web->stop();
    const auto began = event_loop::clock::now();
    CHECK(client.ends());
    CHECK(run_until(house.loop, [&] { return stopping.done(); }));
    CHECK(event_loop::clock::now() - began < 5s);
  }

  TEST_CASE("under load a stop loses no request that was sent before") {
    house house(&hello, with({.drain = 1s}));
    std::vector<client> clients;
    for (int i = 0; i < 30; ++i) clients.push_back(house.connect());
    for (auto& each : clients) {
      each.send(get("/"));
      CHECK(each.next().code == 200);
      each.send(get("/"));
    }
    auto stopping = house.web->stop();
    for (auto& each : clients) {
      CHECK(each.next().code == 200);
      each.close();
    }
    CHECK(run_until(house.loop, [&] { return stopping.done(); }));
  }

  TEST_CASE("when the grace is over the rest is cut off") {
    gate gate;
    bool cancelled = false;
    house house([&](http::request&) -> future<http::response> {
      try {
        co_return co_await gate.wait();
      } catch (const pulsar::error&) {
        cancelled = true;
        throw;
      }
    });
    auto client = house.connect();
    client.send(get("/"));
    REQUIRE(run_until(house.loop, [&] { return gate.promises.size() == 1; }));
    auto stopping = house.web->stop(40ms);
    const auto began = event_loop::clock::now();
    CHECK(run_until(house.loop, [&] { return stopping.done(); }));
    CHECK(event_loop::clock::now() - began >= 35ms);
    CHECK(cancelled);
    CHECK(client.ended());
    CHECK(house.web->size() == 0);
  }

  TEST_CASE("a second stop with less grace hurries the first one") {
    gate gate;
    house house([&](http::request&) { return gate.wait(); });
    auto client = house.connect();
    client.send(get("/"));
    REQUIRE(run_until(house.loop, [&] { return gate.promises.size() == 1; }));
    auto patient = house.web->stop(1h);
    run_for(house.loop, 10ms);
    auto hurried = house.web->stop(0s);
    CHECK(run_until(house.loop, [&] { return patient.done() && hurried.done(); }));
    patient.result();
    hurried.result();
  }

  TEST_CASE("cancelling a stop cuts everything off") {
    gate gate;
    house house([&](http::request&) { return gate.wait(); });
    auto client = house.connect();
    client.send(get("/"));
    REQUIRE(run_until(house.loop, [&] { return gate.promises.size() == 1; }));
    auto stopping = house.web->stop(1h);
    SUBCASE("at once") {}
    SUBCASE("later") { run_for(house.loop, 10ms); }
    stopping.cancel();
    CHECK(run_until(house.loop, [&] { return stopping.done(); }));
    CHECK(client.ended());
    CHECK_FALSE(can_connect(house.where));
  }

  TEST_CASE("destroying a service cuts off its connections and closes its listeners") {
    house house(&hello);
    auto client = house.connect();
    client.send(get("/"));
    client.next();
    house.web.reset();
    CHECK(client.ends());
    CHECK(run_until(house.loop, [&] { return !can_connect(house.where); }));
  }

  // -- trouble -------------------------------------------------------------------

  TEST_CASE("without a descriptor left those who are connected are served, the others later") {
    const log_keeper log;
    house house(&hello);
    auto client = house.connect();
    client.send(get("/"));
    CHECK(client.next().code == 200);
    const unique_fd late(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    {
      rlimit before{};
      ::getrlimit(RLIMIT_NOFILE, &before);
      const rlimit few{static_cast<rlim_t>(pulsar::open_descriptors().back()) + 1, before.rlim_max};
      // UBSan looks at a type it has not seen yet with the help of two descriptors.
      pulsar::log::error("{} {}", house.where.to_string(), log.text());
      house.loop.run_until_complete([] { return pulsar::sleep(1ms); });
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
      std::vector<unique_fd> fillers;
      while (unique_fd filler{::dup(0)}) fillers.push_back(std::move(filler));
      const auto to = house.where.resolve();
      const bool connected =
          ::connect(late.get(), to.data(), static_cast<socklen_t>(to.size())) == 0;
      run_for(house.loop, 150ms);
      client.send(get("/"));
      const auto answer = client.next();
      fillers.clear();
      ::setrlimit(RLIMIT_NOFILE, &before);
      CHECK(connected);
      CHECK(answer.code == 200);
      CHECK(house.web->size() == 1);
      CHECK(log.has("cannot accept connections"));
    }
    REQUIRE(run_until(house.loop, [&] { return house.web->size() == 2; }));
    http_test::client served(house.loop, unique_fd(::dup(late.get())));
    served.send(get("/"));
    CHECK(served.next().code == 200);
  }

  TEST_CASE("a listener that fails for good is told to the loop, and the others go on") {
    house house(&hello);
    std::vector<std::string> told;
    house.loop.set_exception_handler([&](const pulsar::failure_report& report) {
      told.push_back(report.message + ": " + pulsar::detail::describe(report.exception));
    });
    listener door(address("127.0.0.1:0"));
    const std::string name = door.local().to_string();
    const unique_fd same(::dup(door.fd()));
    house.web->serve(std::move(door));
    ::shutdown(same.get(), SHUT_RDWR);
    REQUIRE(run_until(house.loop, [&] { return !told.empty(); }));
    CHECK(told[0].find("cannot accept connections on " + name) != std::string::npos);
    auto client = house.connect();
    client.send(get("/"));
    CHECK(client.next().code == 200);
  }

  TEST_CASE("its counters tell what became of connections and requests") {
    const log_keeper log;
    house house([](http::request& request) -> http::response {
      if (request.path() == "/bad") throw std::runtime_error("bad");
      return "good";
    });
    auto one = house.connect();
    one.send(get("/") + get("/bad") + get("/"));
    for (int i = 0; i < 3; ++i) one.next();
    auto two = house.connect();
    two.send("nonsense\r\n\r\n");
    two.next();
    const auto& counters = house.web->counters();
    CHECK(counters.connections == 2);
    CHECK(counters.requests == 3);
    CHECK(counters.failed == 1);
    CHECK(counters.refused == 1);
    CHECK(house.web->size() == 2);
  }
}
