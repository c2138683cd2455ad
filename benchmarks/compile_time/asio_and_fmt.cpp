// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// The yardstick of compile_time: what of Asio and fmt any such program includes.

#include <asio/cancellation_signal.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>
#include <fmt/format.h>

int main() {
  asio::io_context context;
  asio::post(context, [] { fmt::print("hello\n"); });
  context.run();
}
