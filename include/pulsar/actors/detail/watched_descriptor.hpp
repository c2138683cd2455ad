// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How the machinery waits for descriptors: for readiness alone, with system calls of its own. One
// operation of Asio then serves the lines, the control sockets and the ends of children; each
// other one costs a program a hundred functions.
//
//     auto waited = co_await d.async_wait(asio::posix::descriptor_base::wait_read, use_result);

#include <pulsar/core/operation.hpp>

#include <asio/io_context.hpp>
#include <asio/posix/basic_stream_descriptor.hpp>

namespace pulsar::detail {

/// Owns its descriptor, unless it is told to `release` it.
using watched_descriptor = asio::posix::basic_stream_descriptor<asio::io_context::executor_type>;

}  // namespace pulsar::detail
