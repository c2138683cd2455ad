// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The public header, by the name that our own tests use.

#include <pulsar/testing/coro_test.hpp>

namespace coro_test = pulsar::testing;
