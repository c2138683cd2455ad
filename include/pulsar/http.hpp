// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The HTTP server and what it is built on.

#include <pulsar/apps/http/connection.hpp>
#include <pulsar/apps/http/handler.hpp>
#include <pulsar/apps/http/request.hpp>
#include <pulsar/apps/http/response.hpp>
#include <pulsar/apps/http/server.hpp>
#include <pulsar/apps/http/service.hpp>
#include <pulsar/pulsar.hpp>
