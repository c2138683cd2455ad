// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Streams on what is no socket: `event_loop::connect_read_pipe`, `connect_write_pipe` (PEP 3156).
///
///     auto in = co_await loop.connect_read_pipe(STDIN_FILENO);
///     auto out = co_await loop.connect_write_pipe(STDOUT_FILENO);
///     for (std::string line; !(line = co_await in.read_line()).empty(); ) {
///       out.write(line);
///       co_await out.drain();
///     }
///
/// Pipes, FIFOs, terminals and other devices are waited for; files, which the system cannot wait
/// for, are read and written as they are, so that `program < file` is no special case.
///
/// A descriptor that is given by its number stays the caller's: the stream works on a copy of it.
/// What others share is not changed under them: a pipe or terminal that blocks is opened once more,
/// because O_NONBLOCK belongs to the open file, which the shell or a child may have as well. Where
/// that cannot be done (sockets, devices, terminals of another user) the open file is non-blocking
/// for all until the last stream on it is gone. Of a socket the end of a stream shuts down nothing,
/// unless the stream writes to it and was given the descriptor itself.

#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/pipe.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/stream.hpp>

#include <utility>

namespace pulsar {

/// A stream that reads from `fd`; a FIFO that nobody has opened to write yet is waited for. Throws
/// `pulsar::error`: the system's for what is not open, `std::errc::invalid_argument` for what
/// cannot be read from. `options`: a `stream_options`.
template <class Options>
future<stream> event_loop::connect_read_pipe(int fd, Options options) {
  check_open("connect_read_pipe");
  return detail::pipe_stream(*this, fd, unique_fd(), detail::pipe_end::reads, options);
}

/// The same, which owns the descriptor.
template <class Options>
future<stream> event_loop::connect_read_pipe(unique_fd fd, Options options) {
  check_open("connect_read_pipe");
  const int number = fd.get();
  return detail::pipe_stream(*this, number, std::move(fd), detail::pipe_end::reads, options);
}

/// A stream that writes to `fd`; its `write_eof` closes it. From now on the program ignores
/// SIGPIPE, unless it does something with it: who writes to a pipe that nobody reads is told
/// `std::errc::broken_pipe`. Otherwise as `connect_read_pipe`.
template <class Options>
future<stream> event_loop::connect_write_pipe(int fd, Options options) {
  check_open("connect_write_pipe");
  return detail::pipe_stream(*this, fd, unique_fd(), detail::pipe_end::writes, options);
}

/// The same, which owns the descriptor.
template <class Options>
future<stream> event_loop::connect_write_pipe(unique_fd fd, Options options) {
  check_open("connect_write_pipe");
  const int number = fd.get();
  return detail::pipe_stream(*this, number, std::move(fd), detail::pipe_end::writes, options);
}

}  // namespace pulsar
