// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// Messages of 64 bytes that an echo server on TCP returns in one second of its CPU time, for 64
/// clients that each wait for theirs; with streams, and beside it with Asio's callbacks.
///
/// The server has one CPU, the clients, one thread that asks epoll, have another one. What a
/// message costs the server does not depend on how often it has to wait, as long as it mostly has
/// work.

#include <pulsar/core/listener.hpp>
#include <pulsar/core/server.hpp>

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/write.hpp>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/harness.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t message_size = 64;
constexpr int clients = 64;

// ---- the servers

pulsar::future<> echo(pulsar::stream peer) {
  std::array<char, 4096> room;
  for (;;) {
    const std::size_t n = co_await peer.read_some(room);
    if (n == 0) break;
    peer.write({room.data(), n});
    co_await peer.drain();
  }
}

// Where the bytes lie.
pulsar::future<> echo_in_place(pulsar::stream peer) {
  for (;;) {
    const bool more = co_await peer.fill();
    if (!more) break;
    peer.write(peer.buffered());
    peer.consume(peer.buffered().size());
    co_await peer.drain();
  }
}

template <pulsar::future<> (*Handler)(pulsar::stream)>
void serve_streams(pulsar::listener at) {
  pulsar::event_loop loop;
  auto running = loop.create_task([&]() -> pulsar::future<> {
    pulsar::server s = co_await pulsar::start_server(Handler, std::move(at));
    co_await s.wait_closed();
  });
  loop.run_until_complete(std::move(running));
}

/// One connection; its pending operation keeps it alive.
class asio_session : public std::enable_shared_from_this<asio_session> {
 public:
  explicit asio_session(asio::ip::tcp::socket socket) : socket_(std::move(socket)) {}

  void read() {
    socket_.async_read_some(asio::buffer(bytes_),
                            [self = shared_from_this()](std::error_code failure, std::size_t n) {
                              if (!failure) self->write(n);
                            });
  }

 private:
  void write(std::size_t n) {
    asio::async_write(socket_, asio::buffer(bytes_, n),
                      [self = shared_from_this()](std::error_code failure, std::size_t) {
                        if (!failure) self->read();
                      });
  }

  asio::ip::tcp::socket socket_;
  std::array<char, 4096> bytes_;
};

void accept_in_asio(asio::ip::tcp::acceptor& acceptor) {
  acceptor.async_accept([&acceptor](std::error_code failure, asio::ip::tcp::socket socket) {
    if (!failure) {
      socket.set_option(asio::ip::tcp::no_delay(true), failure);
      std::make_shared<asio_session>(std::move(socket))->read();
    }
    accept_in_asio(acceptor);
  });
}

void serve_asio(pulsar::listener at) {
  asio::io_context context(1);
  asio::ip::tcp::acceptor acceptor(context, asio::ip::tcp::v4(), ::dup(at.fd()));
  accept_in_asio(acceptor);
  context.run();
}

/// A server in a process of its own, on the first CPU.
class server_child {
 public:
  explicit server_child(void (*serve)(pulsar::listener)) {
    pulsar::listener at(pulsar::address("127.0.0.1:0"));
    where = at.local();
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    bench::pin(0);
    serve(std::move(at));
    ::_exit(1);
  }
  server_child(const server_child&) = delete;
  server_child& operator=(const server_child&) = delete;
  ~server_child() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }

  double cpu_seconds() const { return bench::cpu_seconds(pid_); }

  pulsar::address where;

 private:
  pid_t pid_ = -1;
};

// ---- the clients

pulsar::unique_fd connect_to(const pulsar::address& where) {
  const auto to = where.resolve();
  pulsar::unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd.get(), to.data(), static_cast<socklen_t>(to.size())) != 0) {
    throw std::system_error(errno, std::generic_category(), "connect");
  }
  return fd;
}

void send_message(int fd) {
  static const std::array<char, message_size> message{};
  if (::send(fd, message.data(), message.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(message_size)) {
    throw std::runtime_error("the server does not take a message");
  }
}

// False if it is not whole yet.
bool receive_message(int fd, std::size_t& missing) {
  std::array<char, message_size> room;
  const auto n = ::recv(fd, room.data(), missing, 0);
  if (n <= 0) throw std::runtime_error("the server does not answer");
  missing -= static_cast<std::size_t>(n);
  if (missing != 0) return false;
  missing = message_size;
  return true;
}

/// Clients that send their next message when the last one is back.
class load {
 public:
  explicit load(const pulsar::address& where) : poll_(::epoll_create1(EPOLL_CLOEXEC)) {
    for (std::uint32_t i = 0; i < clients; ++i) {
      sockets_.push_back(connect_to(where));
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u32 = i;
      ::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, sockets_.back().get(), &event);
    }
  }

  /// Exchanges messages for `seconds`; how many.
  double run(double seconds) {
    std::array<std::size_t, clients> missing;
    missing.fill(message_size);
    for (const auto& each : sockets_) send_message(each.get());
    std::uint64_t messages = 0;
    bool going = true;
    for (int open = clients; open > 0;) {
      std::array<epoll_event, clients> events;
      const int n = ::epoll_wait(poll_.get(), events.data(), clients, 5000);
      if (n <= 0) throw std::runtime_error("the server is silent");
      if (going) going = bench::wall_seconds() < until(seconds);
      for (int i = 0; i < n; ++i) {
        const auto index = events[static_cast<std::size_t>(i)].data.u32;
        const int fd = sockets_[index].get();
        if (!receive_message(fd, missing[index])) continue;
        ++messages;
        if (going) {
          send_message(fd);
        } else {
          --open;
        }
      }
    }
    until_ = 0;
    return static_cast<double>(messages);
  }

 private:
  double until(double seconds) {
    if (until_ == 0) until_ = bench::wall_seconds() + seconds;
    return until_;
  }

  pulsar::unique_fd poll_;
  std::vector<pulsar::unique_fd> sockets_;
  double until_ = 0;
};

struct contestant {
  explicit contestant(void (*serve)(pulsar::listener)) : server(serve), clients(server.where) {}

  double messages_per_cpu_second(double seconds) {
    const double before = server.cpu_seconds();
    const double messages = clients.run(seconds);
    return messages / (server.cpu_seconds() - before);
  }

  server_child server;
  load clients;
};

/// One client that waits for each answer. It shares the server's CPU and does not break in on it:
/// the server always waits for the next message, and a count of its instructions is the same again.
bench::kernel messages_in_turn(void (*serve)(pulsar::listener)) {
  const auto server = std::make_shared<server_child>(serve);
  const auto client = std::make_shared<pulsar::unique_fd>(connect_to(server->where));
  const auto here = std::make_shared<bench::pinned>(0);
  const sched_param none{};
  ::sched_setscheduler(0, SCHED_BATCH, &none);
  return [server, client, here](std::uint64_t messages) {
    return bench::timed([&] {
      std::size_t missing = message_size;
      for (; messages != 0; --messages) {
        send_message(client->get());
        while (!receive_message(client->get(), missing)) {
        }
      }
    });
  };
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    suite.count({"tcp_echo", [] { return messages_in_turn(&serve_streams<&echo>); }, {}, 4000});
    suite.count({"tcp_echo:in_place",
                 [] { return messages_in_turn(&serve_streams<&echo_in_place>); },
                 {},
                 4000});
    // Its costs are not ours to keep.
    if (!suite.asked().countable) {
      suite.count({"tcp_echo:yardstick", [] { return messages_in_turn(&serve_asio); }});
    }
    const bench::target goal = bench::ratio_at_least(0.95, 1.0);
    std::vector<bench::subject> subjects;
    std::vector<std::unique_ptr<contestant>> contestants;
    const auto add = [&](const char* name, void (*serve)(pulsar::listener)) {
      if (!suite.wants(name)) return;
      if (contestants.empty()) contestants.push_back(std::make_unique<contestant>(&serve_asio));
      contestants.push_back(std::make_unique<contestant>(serve));
      subjects.push_back({name, {}, goal});
    };
    add("tcp_echo", &serve_streams<&echo>);
    add("tcp_echo:in_place", &serve_streams<&echo_in_place>);
    if (subjects.empty()) return;

    const bench::pinned here(1);
    const double seconds = suite.asked().quick ? 0.1 : 1;
    std::vector<std::function<double()>> samplers;
    for (auto& each : contestants) {
      each->messages_per_cpu_second(0.1);  // warms up
      samplers.push_back([&each, seconds] { return each->messages_per_cpu_second(seconds); });
    }
    const int rounds = suite.asked().quick ? 1 : std::min(suite.asked().rounds, 9);
    suite.compare_values({"Asio's callbacks", {}, {}}, subjects, "req/cpu_s", samplers, rounds);
  });
}
