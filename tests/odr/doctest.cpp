// SPDX-License-Identifier: BSD-3-Clause
// What the headers of the component `testing` call.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
