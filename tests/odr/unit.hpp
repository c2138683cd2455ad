// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// What each unit sees of things that must exist once in a program.
struct unit_view {
  const void* category;
  const void* log_output;
  const void* version;

  bool operator==(const unit_view&) const = default;
};

unit_view view_of_unit_one();
unit_view view_of_unit_two();
