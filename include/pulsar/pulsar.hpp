// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// All of the core and the actors.

#include <pulsar/actors/actor.hpp>
#include <pulsar/actors/arbiter.hpp>
#include <pulsar/actors/builtin.hpp>
#include <pulsar/actors/command.hpp>
#include <pulsar/actors/concurrency.hpp>
#include <pulsar/actors/info.hpp>
#include <pulsar/actors/monitor.hpp>
#include <pulsar/actors/process.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/actors/registry.hpp>
#include <pulsar/actors/run.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/actors/spawn.hpp>
#include <pulsar/actors/state.hpp>
#include <pulsar/core/async_condition.hpp>
#include <pulsar/core/async_event.hpp>
#include <pulsar/core/async_mutex.hpp>
#include <pulsar/core/async_queue.hpp>
#include <pulsar/core/async_semaphore.hpp>
#include <pulsar/core/codec.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/executor.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/operation.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/signals.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>
#include <pulsar/core/when_any.hpp>
#include <pulsar/version.hpp>
