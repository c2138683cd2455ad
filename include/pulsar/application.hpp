// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Settings and applications.

#include <pulsar/apps/application/application.hpp>
#include <pulsar/apps/application/settings.hpp>
#include <pulsar/pulsar.hpp>
