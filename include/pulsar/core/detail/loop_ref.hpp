// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How what may outlive its loop refers to it.

#include <pulsar/core/event_loop.hpp>

namespace pulsar::detail {

/// A loop, or null once it is closed. It keeps the loop's own context, for the I/O objects that
/// stand behind it in a class.
class loop_ref {
 public:
  explicit loop_ref(event_loop& loop)
      : inbox_(loop_access::inbox(loop)), context_(loop_access::own_context(loop)) {}

  event_loop* get() const noexcept { return loop_access::owner(*inbox_); }

 private:
  counted_pointer<loop_inbox> inbox_;
  counted_pointer<counted> context_;
};

}  // namespace pulsar::detail
