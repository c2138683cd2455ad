// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What runs in a loop in debug mode, so that whoever holds it up can be named. A loop that is not
// in debug mode pays a look at a pointer.

#include <chrono>
#include <source_location>
#include <typeinfo>

namespace pulsar::detail {

/// Times what runs between two of its calls. One thread.
class step_watch {
 public:
  enum class kind { none, inner, callback, coroutine, protocol };

  /// What ran before has ended and something else begins. `where`: of a callback where it was given
  /// to the loop, of a coroutine the await behind which it goes on. `type`: of a protocol.
  void begin(kind what,
             std::source_location where = {},
             const std::type_info* type = nullptr) noexcept;

  /// Nothing that it knows of runs.
  void end() noexcept;

  /// A call of a protocol, inside of what goes on behind it.
  class protocol_call;

  std::chrono::steady_clock::duration limit = std::chrono::milliseconds(100);

 private:
  kind what_ = kind::none;
  std::source_location where_;
  const std::type_info* type_ = nullptr;
  std::chrono::steady_clock::time_point since_;
};

/// Of the loop in debug mode that runs in this thread; null if there is none.
inline constinit thread_local step_watch* this_step = nullptr;

class step_watch::protocol_call {
 public:
  explicit protocol_call(const std::type_info& type) noexcept {
    if (this_step == nullptr) [[likely]] return;
    before_ = this_step->what_;
    where_ = this_step->where_;
    this_step->begin(kind::protocol, {}, &type);
  }
  protocol_call(const protocol_call&) = delete;
  protocol_call& operator=(const protocol_call&) = delete;
  ~protocol_call() {
    if (this_step != nullptr) [[unlikely]] this_step->begin(before_, where_);
  }

 private:
  kind before_ = kind::none;
  std::source_location where_;
};

}  // namespace pulsar::detail
