// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Everything for tests of what one writes with pulsar. Needs doctest; without it include
/// <pulsar/testing/virtual_time.hpp> and <pulsar/testing/seeds.hpp>, which serve any framework.

#include <pulsar/testing/coro_test.hpp>
#include <pulsar/testing/seeds.hpp>
#include <pulsar/testing/virtual_time.hpp>
