// SPDX-License-Identifier: BSD-3-Clause
#include <all_headers.hpp>

#include "unit.hpp"

#include <cstdio>

unit_view view_of_unit_one() {
  return {&pulsar::error_category(), &pulsar::detail::log_output, &pulsar::version};
}

int main() {
  if (view_of_unit_one() == view_of_unit_two()) return 0;
  std::fputs("an object that must be one differs between two translation units\n", stderr);
  return 1;
}
