// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The stages of an actor's life.

#include <cstddef>
#include <string_view>

namespace pulsar {

/// From birth to end; an actor takes commands while it is `running`.
enum class actor_state {
  initial,     ///< Constructed.
  starting,    ///< `on_start` runs; commands wait in the mailbox.
  running,     ///< Takes commands.
  stopping,    ///< The mailbox is closed; commands in flight have their grace.
  closed,      ///< None is left; the object is about to go.
  terminated,  ///< Gone.
};

/// "initial", "starting", "running", "stopping", "closed", "terminated".
constexpr std::string_view to_string(actor_state state) noexcept {
  constexpr std::string_view names[] = {"initial",  "starting", "running",
                                        "stopping", "closed",   "terminated"};
  return names[static_cast<std::size_t>(state)];
}

}  // namespace pulsar
