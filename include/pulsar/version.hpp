// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The version of the library: this file is its only place (CMake reads it from here).

/// Major version: source compatibility of the public API.
#define PULSAR_VERSION_MAJOR 0
/// Minor version: new features; before 1.0 also changes of the API.
#define PULSAR_VERSION_MINOR 1
/// Patch version: mended faults only.
#define PULSAR_VERSION_PATCH 0

namespace pulsar {

/// The version as text, as `--version` prints it.
inline constexpr const char* version = "0.1.0";

}  // namespace pulsar
