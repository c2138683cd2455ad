# SPDX-License-Identifier: BSD-3-Clause
#
# cmake -P cmake/CheckScenarios.cmake
#
# The scenarios of the reference implementation have ids (C6, D5). A test that shows one begins its
# name with it, "C6 C7: ...". Lists the ids of tests/scenarios.txt that have neither a test nor a
# reason there, and fails if there are any, or if an id has both.

cmake_minimum_required(VERSION 3.25)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH root)
if(DEFINED SOURCE_DIR)
  set(root "${SOURCE_DIR}")
endif()

# ---- what must be shown

set(wanted "")
set(excused "")
set(faults "")
file(STRINGS "${root}/tests/scenarios.txt" lines)
foreach(line IN LISTS lines)
  if(line MATCHES "^(#.*)?$")
    continue()
  elseif(line MATCHES "^range ([A-Z]) ([0-9]+) ([0-9]+)$")
    foreach(number RANGE ${CMAKE_MATCH_2} ${CMAKE_MATCH_3})
      list(APPEND wanted "${CMAKE_MATCH_1}${number}")
    endforeach()
  elseif(line MATCHES "^([A-Z][0-9]+) \\| none \\| .+$")
    list(APPEND excused "${CMAKE_MATCH_1}")
  else()
    list(APPEND faults "tests/scenarios.txt: neither a range nor an id with its reason: ${line}")
  endif()
endforeach()

# ---- what the tests show

set(shown "")
file(GLOB_RECURSE tests "${root}/tests/*_test.cpp")
foreach(test IN LISTS tests)
  # The name may stand in the line behind.
  file(READ "${test}" text)
  string(REGEX MATCHALL "TEST_CASE(_REAL)?\\([ \n]*\"[A-Z][0-9]+( [A-Z][0-9]+)*: " names "${text}")
  foreach(name IN LISTS names)
    string(REGEX MATCHALL "[A-Z][0-9]+" ids "${name}")
    list(APPEND shown ${ids})
  endforeach()
endforeach()

# ---- what is missing

set(missing "")
foreach(id IN LISTS wanted)
  if(id IN_LIST shown AND id IN_LIST excused)
    list(APPEND faults "${id} has a test, and in tests/scenarios.txt a reason for having none")
  elseif(NOT id IN_LIST shown AND NOT id IN_LIST excused)
    list(APPEND missing ${id})
  endif()
endforeach()
foreach(id IN LISTS shown excused)
  if(NOT id IN_LIST wanted)
    list(APPEND faults "${id} is in no range of tests/scenarios.txt")
  endif()
endforeach()

list(REMOVE_DUPLICATES shown)
list(LENGTH wanted wanted_count)
list(LENGTH shown shown_count)
list(LENGTH excused excused_count)
message(STATUS "${wanted_count} scenarios: ${shown_count} with tests, ${excused_count} with a reason")
foreach(fault IN LISTS faults)
  message(STATUS "${fault}")
endforeach()
if(missing)
  list(JOIN missing " " missing)
  message(FATAL_ERROR "neither a test nor a reason in tests/scenarios.txt: ${missing}")
endif()
if(faults)
  message(FATAL_ERROR "the scenarios and their tests do not agree")
endif()
