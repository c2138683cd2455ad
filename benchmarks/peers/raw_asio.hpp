// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The same server with Asio's callbacks: what the reactor below pulsar costs by itself.

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/write.hpp>

#include "peer.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

namespace bench {

namespace detail {

/// One connection; its pending operation keeps it alive.
class raw_asio_session : public std::enable_shared_from_this<raw_asio_session> {
 public:
  explicit raw_asio_session(asio::ip::tcp::socket socket) : socket_(std::move(socket)) {}

  void read() {
    socket_.async_read_some(asio::buffer(bytes_),
                            [self = shared_from_this()](std::error_code ec, std::size_t n) {
                              if (ec) return;
                              const std::string_view request(self->bytes_.data(), n);
                              if (request.ends_with("\r\n\r\n")) return self->write();
                              self->read();
                            });
  }

 private:
  void write() {
    asio::async_write(socket_, asio::buffer(peer_answer),
                      [self = shared_from_this()](std::error_code ec, std::size_t) {
                        if (!ec) self->read();
                      });
  }

  asio::ip::tcp::socket socket_;
  std::array<char, 4096> bytes_;
};

inline void raw_asio_accept(asio::ip::tcp::acceptor& listener) {
  listener.async_accept([&listener](std::error_code ec, asio::ip::tcp::socket socket) {
    if (!ec) {
      socket.set_option(asio::ip::tcp::no_delay(true), ec);
      std::make_shared<raw_asio_session>(std::move(socket))->read();
    }
    raw_asio_accept(listener);
  });
}

}  // namespace detail

/// Serves until it is killed.
[[noreturn]] inline void raw_asio(std::uint16_t port, int workers) {
  const int fd = peer_listener(port);
  peer_workers(workers, [fd] {
    asio::io_context context(1);
    asio::ip::tcp::acceptor listener(context, asio::ip::tcp::v4(), fd);
    detail::raw_asio_accept(listener);
    context.run();
  });
}

}  // namespace bench
