// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What an actor tells of itself: the result of `send(ref, pulsar::cmd::info)`.

#include <cstdint>
#include <string>
#include <vector>

namespace pulsar {

/// A plain value: it crosses processes.
struct actor_info {
  std::uint64_t id = 0;
  std::string name;
  std::string state;               ///< As `to_string(actor_state)`.
  std::int64_t process_id = 0;
  std::uint64_t uptime_ms = 0;
  std::uint64_t pending = 0;       ///< Commands that wait or are under way.
  std::uint64_t handled = 0;       ///< Commands that have ended.
  std::uint64_t refused = 0;       ///< Commands refused: mailbox full, too late, or stopping.
  std::vector<std::string> commands;
};

}  // namespace pulsar
