// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Umbrella of `pulsar::tls`: streams that are encrypted and know who the other side is (OpenSSL).

#include <pulsar/tls/context.hpp>
#include <pulsar/tls/error.hpp>
#include <pulsar/tls/stream.hpp>
