// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// How large a message may be: what a peer can make a server remember.
///
///     http::parser parser({.body = 64 << 20});   // uploads of up to 64 MiB
///
/// Each field is one setting of the server. The sum of them bounds a connection's memory.

#include <cstdint>

namespace pulsar::http {

/// Bounds of one request; what is over them is refused before it is stored.
struct limits {
  /// Bytes of the request line without its line end, default 8190. Over it: 414.
  std::uint32_t request_line = 8190;
  /// Bytes of one header line, name and value, without its line end, default 8190. Over it: 431.
  std::uint32_t header_line = 8190;
  /// Header and trailer lines, default 100. Over it: 431.
  std::uint32_t headers = 100;
  /// Bytes of all header lines together, and again of all trailer lines, default 64 KiB.
  /// Over it: 431.
  std::uint32_t header_bytes = 64 * 1024;
  /// Bytes of a body after chunks are decoded, default 1 MiB. Over it: 413.
  std::uint64_t body = 1024 * 1024;
  /// Bytes of chunk extensions, beyond one for each byte of the body, default 16 KiB.
  /// Over it: 413.
  std::uint32_t chunk_extensions = 16 * 1024;
};

}  // namespace pulsar::http
