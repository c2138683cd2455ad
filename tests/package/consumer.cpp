// SPDX-License-Identifier: BSD-3-Clause
//
// What a user's first program needs: the headers are found, and so is what they stand on.
#include <pulsar/core/error.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/version.hpp>

#include <asio/io_context.hpp>
#include <asio/post.hpp>

#ifdef CONSUMER_HAS_COMMAND_LINE
#include <CLI/CLI.hpp>
#endif

#ifdef CONSUMER_HAS_TESTING
#define DOCTEST_CONFIG_IMPLEMENT
#include <pulsar/core/timeout.hpp>
#include <pulsar/testing.hpp>

CORO_TEST_CASE_SEEDS(3, "a user's coroutine") {
  auto& loop = pulsar::event_loop::current();
  co_await pulsar::sleep(std::chrono::hours(1));
  CHECK(loop.time().time_since_epoch() == std::chrono::hours(1));
}
#endif

#include <cstdlib>

#ifndef ASIO_STANDALONE
#error "pulsar::pulsar does not carry the definitions of asio::asio"
#endif

int main() {
#ifdef CONSUMER_HAS_TESTING
  if (doctest::Context().run() != 0) return EXIT_FAILURE;
#endif
#ifdef CONSUMER_HAS_COMMAND_LINE
  const CLI::App command_line("consumer");
#endif
  asio::io_context context;
  asio::post(context, [] { pulsar::log::info("pulsar {}", pulsar::version); });
  return context.run() == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
