// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/connect.hpp>
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/server.hpp>
#include <pulsar/core/timeout.hpp>

#include <doctest/doctest.h>
#include <support/coro_test.hpp>
#include <support/death.hpp>
#include <support/futures.hpp>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using future_test::code_of;
using pulsar::address;
using pulsar::as_result;
using pulsar::connect;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::server;
using pulsar::start_server;
using pulsar::stream;
using pulsar::unique_fd;

namespace {

// Answers lines until QUIT.
future<> echo(stream peer) {
  for (;;) {
    const std::string line = co_await peer.read_line();
    if (line.empty() || line == "QUIT\n") break;
    peer.write(line);
    co_await peer.drain();
  }
  co_await peer.close();
}

future<> hold(stream peer) {
  const std::string all = co_await peer.read_to_end();
  CHECK(all.empty());
}

future<std::string> ask(stream& peer, std::string line) {
  peer.write(line + "\n");
  co_await peer.drain();
  std::string answer = co_await peer.read_line();
  if (!answer.empty()) answer.pop_back();
  co_return answer;
}

// Waits until `there()`, in turns of the loop.
template <class F>
future<> until(F there) {
  while (!there()) co_await pulsar::sleep(1ms);
}

// Takes its time to end, and says so.
future<> note_end(stream peer, std::vector<std::string>& to) {
  const auto ended = co_await as_result(peer.read_to_end());
  if (code_of(ended) == errc::cancelled) to.push_back("cancelled");
  co_await pulsar::sleep(1ms);
  to.push_back("ended");
}

// Swallows so many cancellations, and says so.
future<> swallow(stream peer, int times, std::shared_ptr<std::vector<std::string>> to) {
  for (int seen = 0; seen < times;) {
    const auto read = co_await as_result(pulsar::with_timeout(peer.read_line(), 1h));
    if (code_of(read) != errc::cancelled) co_return;
    ++seen;
  }
  to->push_back("ended after " + std::to_string(times));
}

enum class way { ends, fails, cancelled, swallows };

// The body of a server: has it serve `client`, and ends.
future<> be_served(server& at, stream& client, future<>& self, way how) {
  client = co_await connect(at.addresses()[0]);
  co_await until([&] { return at.size() == 1; });
  if (how == way::fails) throw pulsar::error(errc::malformed);
  if (how == way::ends) co_return;
  self.cancel();
  try {
    co_await pulsar::sleep(1h);
  } catch (const pulsar::error&) {
    if (how != way::swallows) throw;
  }
}

struct log_lines {
  log_lines() {
    text.clear();
    before = pulsar::log::set_sink([](pulsar::log_level, std::string_view line) { text += line; });
  }
  log_lines(const log_lines&) = delete;
  log_lines& operator=(const log_lines&) = delete;
  ~log_lines() { pulsar::log::set_sink(before); }

  static std::size_t count(std::string_view what) {
    std::size_t n = 0;
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
    return n;
  }

  static inline std::string text;
  pulsar::log_sink before;
};

std::string scratch_path(const char* name) {
  return "/tmp/pulsar_server_test_" + std::to_string(::getpid()) + "_" + name;
}

}  // namespace

TEST_SUITE("server") {
  CORO_TEST_CASE_REAL(
      "E1 E2: its address is the one the system chose, and connections are counted") {
    server at = co_await start_server(&echo, "127.0.0.1:0");
    CHECK(at.addresses().size() == 1);
    CHECK(at.addresses()[0].port() != 0);
    CHECK(at.size() == 0);
    CHECK(at.accepted() == 0);
    {
      stream client = co_await connect(at.addresses()[0]);
      const std::string answer = co_await ask(client, "one");
      CHECK(answer == "one");
      CHECK(at.size() == 1);
    }
    co_await until([&] { return at.size() == 0; });
    CHECK(at.accepted() == 1);
  }

  CORO_TEST_CASE_REAL(
      "E4 E5: a client asks twice, and connects again after the server has closed") {
    server at = co_await start_server(&echo, "127.0.0.1:0");
    stream client = co_await connect(at.addresses()[0]);
    std::string answer = co_await ask(client, "ciao");
    CHECK(answer == "ciao");
    answer = co_await ask(client, "pippo");
    CHECK(answer == "pippo");
    answer = co_await ask(client, "QUIT");
    CHECK(answer.empty());
    CHECK(client.at_end());
    client = co_await connect(at.addresses()[0]);
    answer = co_await ask(client, "ciao");
    CHECK(answer == "ciao");
    CHECK(at.accepted() == 2);
  }

  CORO_TEST_CASE_REAL("it listens on several addresses, of several kinds") {
    std::vector<address> where;
    where.emplace_back("127.0.0.1:0");
    where.emplace_back("127.0.0.2:0");
    where.emplace_back("unix:" + scratch_path("several"));
    server at = co_await start_server(&echo, where);
    CHECK(at.addresses().size() == 3);
    for (const auto& each : at.addresses()) {
      stream client = co_await connect(each);
      const std::string answer = co_await ask(client, "x");
      CHECK(answer == "x");
    }
  }

  CORO_TEST_CASE_REAL("a name stands for the addresses of it that this machine has") {
    server at = co_await start_server(&echo, "localhost:0");
    CHECK(!at.addresses().empty());
    stream client = co_await connect(at.addresses()[0]);
    const std::string answer = co_await ask(client, "x");
    CHECK(answer == "x");
  }

  CORO_TEST_CASE_REAL("close lets handlers go on, and wait_closed waits for them") {
    server at = co_await start_server(&echo, "127.0.0.1:0");
    const address where = at.addresses()[0];
    stream client = co_await connect(where);
    std::string answer = co_await ask(client, "x");
    at.close();
    CHECK(at.is_closed());
    auto closed = at.wait_closed();
    co_await pulsar::sleep(5ms);
    CHECK_FALSE(closed.done());
    answer = co_await ask(client, "still there");
    CHECK(answer == "still there");
    const auto refused = co_await as_result(connect(where));
    CHECK(code_of(refused) == std::errc::connection_refused);
    client = stream();
    co_await std::move(closed);
    CHECK(at.size() == 0);
    co_await at.wait_closed();
  }

  CORO_TEST_CASE_REAL("a server that is closed, dropped or replaced has left its address at once") {
    const auto is_free = [](const address& where) {
      const auto numbers = where.resolve();
      const pulsar::unique_fd fd(::socket(numbers.data()->sa_family, SOCK_STREAM, 0));
      return ::connect(fd.get(), numbers.data(), static_cast<socklen_t>(numbers.size())) != 0 &&
             pulsar::listener(where).local() == where;
    };
    std::vector<address> where;
    where.emplace_back("127.0.0.1:0");
    where.emplace_back("unix:" + scratch_path("left"));
    server at = co_await start_server(&hold, where);
    where = at.addresses();
    stream client = co_await connect(where[0]);
    at.close();
    CHECK(::access(where[1].path().c_str(), F_OK) != 0);
    for (const auto& each : where) CHECK(is_free(each));
    at = co_await start_server(&hold, where);
    at = server();
    for (const auto& each : where) CHECK(is_free(each));
    {
      server gone = co_await start_server(&hold, where);
      co_await pulsar::sleep(1ms);
    }
    for (const auto& each : where) CHECK(is_free(each));
  }

  CORO_TEST_CASE_REAL("descriptors that come behind a close are not the server's") {
    server at = co_await start_server(&echo, "127.0.0.1:0");
    co_await pulsar::sleep(0ms);
    at.close();
    // The number of the socket is this one's next, in the same turn.
    server next = co_await start_server(&echo, "127.0.0.1:0");
    co_await at.wait_closed();
    stream client = co_await connect(next.addresses()[0]);
    const std::string answer = co_await ask(client, "x");
    CHECK(answer == "x");
  }

  CORO_TEST_CASE_REAL("a handler may close its server before it first waits") {
    server at;
    const auto closes = [&at](stream peer) {
      at.close();
      return echo(std::move(peer));
    };
    at = co_await start_server(closes, "127.0.0.1:0");
    stream client = co_await connect(at.addresses()[0]);
    const std::string answer = co_await ask(client, "x");
    CHECK(answer == "x");
    client = stream();
    co_await at.wait_closed();
  }

  CORO_TEST_CASE_REAL("cancel_connections ends what is left") {
    server at = co_await start_server(&hold, "127.0.0.1:0");
    stream client = co_await connect(at.addresses()[0]);
    co_await until([&] { return at.size() == 1; });
    at.close();
    at.cancel_connections();
    co_await at.wait_closed();
    const std::string end = co_await client.read();
    CHECK(end.empty());
  }

  CORO_TEST_CASE_REAL("a server that goes closes and cancels") {
    stream client;
    address where;
    {
      server at = co_await start_server(&hold, "127.0.0.1:0");
      where = at.addresses()[0];
      client = co_await connect(where);
      co_await until([&] { return at.size() == 1; });
    }
    const std::string end = co_await client.read();
    CHECK(end.empty());
    const auto refused = co_await as_result(connect(where));
    CHECK(code_of(refused) == std::errc::connection_refused);
  }

  // ---- the end, and what handlers refer to until then

  CORO_TEST_CASE_REAL("stop cancels the handlers, and is done when the last has ended") {
    const auto done = future_test::new_steps();
    const auto handler = [done](stream peer) { return note_end(std::move(peer), *done); };
    server at = co_await start_server(handler, "127.0.0.1:0");
    stream client = co_await connect(at.addresses()[0]);
    co_await until([&] { return at.size() == 1; });
    co_await at.stop();
    CHECK(at.is_closed());
    CHECK(at.size() == 0);
    CHECK(*done == std::vector<std::string>{"cancelled", "ended"});
    const std::string end = co_await client.read();
    CHECK(end.empty());
    co_await at.stop();
  }

  CORO_TEST_CASE_REAL("with grace stop lets a handler end by itself") {
    const auto done = future_test::new_steps();
    const auto handler = [done](stream peer) { return note_end(std::move(peer), *done); };
    server at = co_await start_server(handler, "127.0.0.1:0");
    stream client = co_await connect(at.addresses()[0]);
    co_await until([&] { return at.size() == 1; });
    auto stopping = at.stop(1h);
    co_await pulsar::sleep(2ms);
    CHECK_FALSE(stopping.done());
    client.abort();
    co_await std::move(stopping);
    CHECK(*done == std::vector<std::string>{"ended"});
  }

  CORO_TEST_CASE_REAL("the grace ends in time, or by cancelling, and the handlers are waited for") {
    for (const auto grace : {1ms, 3'600'000ms}) {
      const auto done = future_test::new_steps();
      const auto handler = [done](stream peer) { return note_end(std::move(peer), *done); };
      server at = co_await start_server(handler, "127.0.0.1:0");
      stream client = co_await connect(at.addresses()[0]);
      co_await until([&] { return at.size() == 1; });
      auto stopping = at.stop(grace);
      if (grace < 1s) {
        co_await std::move(stopping);
      } else {
        CHECK(stopping.cancel());
        co_await pulsar::sleep(0ms);
        CHECK(stopping.cancel());  // while it waits for the handler
        const auto stopped = co_await as_result(std::move(stopping));
        CHECK(code_of(stopped) == errc::cancelled);
      }
      CHECK(*done == std::vector<std::string>{"cancelled", "ended"});
    }
  }

  CORO_TEST_CASE("stop cancels again who swallows that, every second, and warns every five") {
    auto& loop = event_loop::current();
    const log_lines log;
    const auto done = future_test::new_steps();
    const auto handler = [done, calls = std::make_shared<int>(0)](stream peer) {
      return swallow(std::move(peer), ++*calls == 1 ? 8 : 2, done);
    };
    const pulsar::detail::counted_pointer<pulsar::detail::server_core> core(
        new pulsar::detail::server_core(loop, handler, 10, {}));
    core->addresses.emplace_back("127.0.0.1:9431");
    auto first = pulsar::memory_pair();
    auto second = pulsar::memory_pair();
    pulsar::detail::serve_stream(loop, core, std::move(first.first)).detach();
    pulsar::detail::serve_stream(loop, core, std::move(second.first)).detach();
    const auto start = loop.time();
    auto stopping = pulsar::detail::stop_server(loop, core, 2s);
    co_await pulsar::sleep(3500ms);
    CHECK(*done == std::vector<std::string>{"ended after 2"});
    CHECK(log.count("127.0.0.1:9431: 2 cancelled handlers do not end, ") == 1);
    CHECK(log.count("errc::cancelled") == 1);
    co_await std::move(stopping);
    CHECK(*done == std::vector<std::string>{"ended after 2", "ended after 8"});
    CHECK(log.count("127.0.0.1:9431: 1 cancelled handler does not end, ") == 1);
    CHECK(log.count("errc::cancelled") == 2);
    CHECK(loop.time() == start + 9s);
  }

  CORO_TEST_CASE_REAL("under with_server handlers may use what goes behind it, however it ends") {
    for (const way how : {way::ends, way::fails, way::cancelled, way::swallows}) {
      stream client;
      std::error_code code;
      {
        std::vector<std::string> done;
        const auto handler = [&done](stream peer) { return note_end(std::move(peer), done); };
        future<> running;
        const auto body = [&, how](server& at) { return be_served(at, client, running, how); };
        running = pulsar::with_server(start_server(handler, "127.0.0.1:0"), body);
        try {
          co_await running;
        } catch (const pulsar::error& e) {
          code = e.code();
        }
        CHECK(done == std::vector<std::string>{"cancelled", "ended"});
      }
      if (how == way::ends) CHECK(code == std::error_code());
      if (how == way::fails) CHECK(code == errc::malformed);
      if (how == way::cancelled || how == way::swallows) CHECK(code == errc::cancelled);
    }
  }

  CORO_TEST_CASE_REAL("what keeps a server from starting is told by with_server") {
    const auto body = [](server& at) { return at.wait_closed(); };
    const auto failed =
        co_await as_result(pulsar::with_server(start_server(&echo, "192.0.2.1:0"), body));
    CHECK(code_of(failed) == std::errc::address_not_available);
  }

  CORO_TEST_CASE_REAL("over the bound of connections the next waits until one has ended") {
    pulsar::server_options options;
    options.most_connections = 2;
    server at = co_await start_server(&echo, "127.0.0.1:0", options);
    stream first = co_await connect(at.addresses()[0]);
    stream second = co_await connect(at.addresses()[0]);
    stream third = co_await connect(at.addresses()[0]);
    std::string answer = co_await ask(first, "1");
    answer = co_await ask(second, "2");
    auto waits = ask(third, "3");
    co_await pulsar::sleep(5ms);
    CHECK_FALSE(waits.done());
    CHECK(at.size() == 2);
    first = stream();
    answer = co_await std::move(waits);
    CHECK(answer == "3");
    CHECK(at.accepted() == 3);
  }

  TEST_CASE("a handler that fails is logged with its peer, and ends its connection alone") {
    const log_lines log;
    event_loop loop;
    std::vector<std::string> expected;
    const auto body = [](std::vector<std::string>& lines) -> future<> {
      const auto fail = [](stream peer) -> future<> {
        const std::string line = co_await peer.read_line();
        throw std::runtime_error("no such thing as " + line.substr(0, line.size() - 1));
      };
      server at = co_await start_server(fail, "127.0.0.1:0");
      const std::string where = at.addresses()[0].to_string();
      for (int i = 0; i < 2; ++i) {
        stream client = co_await connect(at.addresses()[0]);
        lines.push_back(where + ": the handler of " + client.local_address().to_string() +
                        " failed: no such thing as a unicorn");
        const std::string answer = co_await ask(client, "a unicorn");
        CHECK(answer.empty());
      }
      const std::string path = "unix:" + scratch_path("nameless");
      server local = co_await start_server(fail, path);
      stream client = co_await connect(path);
      lines.push_back(path + ": the handler of a connection failed: no such thing as a pegasus");
      const std::string answer = co_await ask(client, "a pegasus");
      CHECK(answer.empty());
    };
    loop.run_until_complete([&] { return body(expected); });
    for (const auto& line : expected) CHECK_MESSAGE(log.count(line) == 1, log.text);
  }

  TEST_CASE("a peer that resets is no error of the server") {
    const log_lines log;
    event_loop loop;
    const auto body = []() -> future<> {
      server at = co_await start_server(&hold, "127.0.0.1:0");
      {
        stream client = co_await connect(at.addresses()[0]);
        co_await until([&] { return at.size() == 1; });
        client.abort();
      }
      co_await until([&] { return at.size() == 0; });
      stream client = co_await connect(at.addresses()[0]);
      co_await until([&] { return at.accepted() == 2; });
    };
    loop.run_until_complete(body);
    CHECK_MESSAGE(log.text.empty(), log.text);
  }

  TEST_CASE("a flood of failing handlers does not flood the log") {
    const log_lines log;
    event_loop loop;
    const auto body = []() -> future<> {
      const auto fail = [](stream) -> future<> { throw std::runtime_error("no"); };
      server at = co_await start_server(fail, "127.0.0.1:0");
      for (int i = 0; i < 100; ++i) {
        stream client = co_await connect(at.addresses()[0]);
        const auto end = co_await as_result(client.read());
        CHECK((!end || end->empty()));
      }
    };
    loop.run_until_complete(body);
    std::size_t lines = 0;
    for (const char c : log.text) lines += c == '\n' ? 1 : 0;
    CHECK(lines >= 10);
    CHECK(lines <= 30);
    CHECK(log.text.find("(no more of them in this second)") != std::string::npos);
  }

  CORO_TEST_CASE_REAL("an address that is taken is told, and one without room refused") {
    server at = co_await start_server(&echo, "127.0.0.1:0");
    const auto taken = co_await as_result(start_server(&echo, at.addresses()[0]));
    CHECK(code_of(taken) == std::errc::address_in_use);
    const auto none = co_await as_result(start_server(&echo, std::vector<address>()));
    CHECK(code_of(none) == std::errc::invalid_argument);
  }

  CORO_TEST_CASE_REAL("it takes over sockets that listen already") {
    pulsar::listener mine(address("127.0.0.1:0"));
    const address where = mine.local();
    server at = co_await start_server(&echo, std::move(mine));
    CHECK(at.addresses()[0] == where);
    stream client = co_await connect(where);
    const std::string answer = co_await ask(client, "x");
    CHECK(answer == "x");
  }

  CORO_TEST_CASE_REAL("with reuse_port several servers share an address") {
    pulsar::server_options options;
    options.listen.reuse_port = true;
    server one = co_await start_server(&echo, "127.0.0.1:0", options);
    server two = co_await start_server(&echo, one.addresses()[0], options);
    for (int i = 0; i < 20; ++i) {
      stream client = co_await connect(one.addresses()[0]);
      const std::string answer = co_await ask(client, "x");
      CHECK(answer == "x");
    }
    CHECK(one.accepted() + two.accepted() == 20);
  }

  TEST_CASE("IPv6 is listened on, alone or with IPv4") {
    event_loop loop;
    try {
      const pulsar::listener probe(address("[::1]:0"));
    } catch (const pulsar::error&) {
      MESSAGE("this machine has no IPv6");
      return;
    }
    const auto body = []() -> future<> {
      for (const bool alone : {true, false}) {
        pulsar::server_options options;
        options.listen.ipv6_only = alone;
        server at = co_await start_server(&echo, "[::]:0", options);
        const std::string port = std::to_string(at.addresses()[0].port());
        stream client = co_await connect("[::1]:" + port);
        const std::string answer = co_await ask(client, "x");
        CHECK(answer == "x");
        const auto r = co_await as_result(connect("127.0.0.1:" + port));
        CHECK(static_cast<bool>(r) == !alone);
      }
    };
    loop.run_until_complete(body);
  }

  TEST_CASE("the backlog is the one that was asked for") {
    event_loop loop;
    const auto body = []() -> future<> {
      pulsar::server_options options;
      options.listen.backlog = 1;
      options.most_connections = 1;
      server at = co_await start_server(&hold, "127.0.0.1:0", options);
      std::vector<stream> clients;
      for (;;) {
        auto r = co_await as_result(pulsar::with_timeout(connect(at.addresses()[0]), 50ms));
        if (!r) break;
        clients.push_back(std::move(*r));
      }
      CHECK(clients.size() <= 4);
    };
    loop.run_until_complete(body);
  }

  TEST_CASE("a client that is stopped in the middle makes the writer wait, and goes on later") {
    event_loop loop;
    const auto body = []() -> future<> {
      constexpr std::size_t size = 8'000'000;
      struct shared {
        std::size_t sent = 0;
        bool stalled = false;
        bool done = false;
      };
      static shared state;
      state = shared();
      const auto flood = [](stream peer) -> future<> {
        const std::string chunk(10'000, 'x');
        while (state.sent < size) {
          peer.write(chunk);
          state.sent += chunk.size();
          const auto r = co_await as_result(pulsar::with_timeout(peer.drain(), 100ms));
          if (!r) {
            CHECK(peer.unsent() <= 64 * 1024 + chunk.size());
            state.stalled = true;
            co_await peer.drain();
          }
        }
        co_await peer.close();
        state.done = true;
      };
      server at = co_await start_server(flood, "127.0.0.1:0");
      const auto to = at.addresses()[0].resolve();
      const pid_t child = ::fork();
      if (child == 0) {
        const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
        if (::connect(fd, to.data(), static_cast<socklen_t>(to.size())) != 0) ::_exit(1);
        ::raise(SIGSTOP);
        std::size_t got = 0;
        static char room[65536];
        for (;;) {
          const auto n = ::read(fd, room, sizeof room);
          if (n <= 0) break;
          got += static_cast<std::size_t>(n);
        }
        ::_exit(got == size ? 0 : 2);
      }
      co_await until([] { return state.stalled; });
      CHECK(state.sent < size);
      ::kill(child, SIGCONT);
      co_await until([] { return state.done; });
      int status = -1;
      co_await until([&] { return ::waitpid(child, &status, WNOHANG) == child; });
      CHECK(status == 0);
    };
    loop.run_until_complete(body);
  }

  TEST_CASE("a client that is killed ends its handler") {
    event_loop loop;
    const auto body = []() -> future<> {
      server at = co_await start_server(&hold, "127.0.0.1:0");
      const auto to = at.addresses()[0].resolve();
      const pid_t child = ::fork();
      if (child == 0) {
        const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
        if (::connect(fd, to.data(), static_cast<socklen_t>(to.size())) != 0) ::_exit(1);
        for (;;) ::pause();
      }
      co_await until([&] { return at.size() == 1; });
      ::kill(child, SIGKILL);
      co_await until([&] { return at.size() == 0; });
      ::waitpid(child, nullptr, 0);
    };
    loop.run_until_complete(body);
  }

  CORO_TEST_CASE_REAL("a hundred clients at once are served each") {
    server at = co_await start_server(&echo, "127.0.0.1:0");
    std::vector<stream> clients;
    for (int i = 0; i < 100; ++i) {
      stream one = co_await connect(at.addresses()[0]);
      clients.push_back(std::move(one));
    }
    for (auto& each : clients) each.write("hello\n");
    for (auto& each : clients) {
      const std::string line = co_await each.read_line();
      CHECK(line == "hello\n");
    }
    CHECK(at.size() == 100);
  }

  TEST_CASE("a loop on a user's context closes in the middle of everything") {
    asio::io_context context;
    {
      event_loop loop(context);
      const auto body = [](int& answers) -> future<> {
        server at = co_await start_server(&echo, "127.0.0.1:0");
        stream idle = co_await connect(at.addresses()[0]);
        stream client = co_await connect(at.addresses()[0]);
        for (;;) {
          const std::string answer = co_await ask(client, "x");
          if (answer == "x") ++answers;
        }
      };
      int answers = 0;
      auto running = loop.create_task([&] { return body(answers); });
      while (answers < 10) {
        if (context.stopped()) context.restart();
        REQUIRE(context.run_one_for(5s) > 0);
      }
      loop.close();
      CHECK(running.done());
    }
    context.restart();
    context.poll();
  }

#ifndef NDEBUG
  TEST_CASE("asking a server that is none ends the program with a sentence") {
    const auto end = death_of([] { pulsar::server().close(); });
    CHECK(end.aborted);
    CHECK(end.text.find("never started") != std::string::npos);
  }
#endif

  TEST_CASE("a server outlives its loop") {
    server left;
    {
      event_loop loop;
      const auto body = [](server& to) -> future<> {
        to = co_await start_server(&echo, "127.0.0.1:0");
      };
      loop.run_until_complete([&] { return body(left); });
    }
    CHECK_THROWS_AS(left.wait_closed().detach(), pulsar::error);
    left.close();
    left.cancel_connections();
  }
}
