// Any Asio operation in a coroutine of pulsar.
#include <pulsar/pulsar.hpp>

#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

using asio::ip::tcp;

pulsar::future<> echo_once(tcp::acceptor acceptor) {
  tcp::socket peer = co_await acceptor.async_accept(pulsar::use_future);
  std::string text(64, '\0');
  auto got = co_await peer.async_read_some(asio::buffer(text), pulsar::use_future);
  co_await asio::async_write(peer, asio::buffer(text, got), pulsar::use_future);
}

// [asio]
pulsar::future<std::string> ask(tcp::endpoint server, std::string text) {
  tcp::socket socket(pulsar::event_loop::current().context());
  co_await socket.async_connect(server, pulsar::use_future);
  co_await asio::async_write(socket, asio::buffer(text), pulsar::use_future);
  auto done = co_await asio::async_read(socket, asio::buffer(text), pulsar::use_result);
  co_return std::get<0>(done) ? "failed" : text;
}
// [/asio]

int main() {
  pulsar::event_loop loop;
  tcp::acceptor acceptor(loop.context(), {asio::ip::address_v4::loopback(), 0});
  const auto where = acceptor.local_endpoint();
  loop.run_until_complete([&]() -> pulsar::future<> {
    return when_all(echo_once(std::move(acceptor)), ask(where, "hello")).then([](auto both) {
      fmt::print("{}\n", std::get<1>(both));
    });
  });
}
// output:
// hello
