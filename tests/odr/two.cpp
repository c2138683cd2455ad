// SPDX-License-Identifier: BSD-3-Clause
#include <all_headers.hpp>

#include "unit.hpp"

unit_view view_of_unit_two() {
  return {&pulsar::error_category(), &pulsar::detail::log_output, &pulsar::version};
}
