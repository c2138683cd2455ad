// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/protocol.hpp>
#include <pulsar/core/transport.hpp>

#include <doctest/doctest.h>

#include <system_error>

TEST_SUITE("protocol") {
  TEST_CASE("one that overrides nothing ignores the bytes and closes at the end") {
    pulsar::protocol quiet;
    pulsar::transport none;
    quiet.connection_made(none);
    quiet.data_received({});
    quiet.pause_writing();
    quiet.resume_writing();
    CHECK_FALSE(quiet.eof_received());
    quiet.connection_lost(std::make_error_code(std::errc::connection_reset));
  }

  TEST_CASE("one for datagrams ignores them, and errors") {
    pulsar::datagram_protocol quiet;
    quiet.datagram_received({}, pulsar::address::endpoint());
    quiet.error_received(std::make_error_code(std::errc::connection_refused));
    quiet.pause_writing();
    quiet.resume_writing();
    quiet.connection_lost({});
  }
}
