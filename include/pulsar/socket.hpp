// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Socket servers with workers.

#include <pulsar/apps/socket/server.hpp>
#include <pulsar/apps/socket/stream_server.hpp>
#include <pulsar/pulsar.hpp>
