# SPDX-License-Identifier: BSD-3-Clause
#
# cmake -DFILE=case.cpp -DCOMPILER=g++ -DFLAGS="-std=c++20 ..." -P cmake/CheckCompileFail.cmake
#
# Compiling FILE must fail, and the diagnostics must match what its first lines say:
#     // expect: <CMake regular expression>     (any number of lines, each must match)
#     // max-lines: 15                          (the most lines the compiler may print)

cmake_minimum_required(VERSION 3.25)

file(READ "${FILE}" rest)
set(expectations 0)
set(most "")
# The locale decides how GCC quotes names, and in which language it speaks.
separate_arguments(flags UNIX_COMMAND "${FLAGS}")
execute_process(
  COMMAND "${CMAKE_COMMAND}" -E env LC_ALL=C "${COMPILER}" ${flags} -c "${FILE}" -o /dev/null
  RESULT_VARIABLE result
  OUTPUT_VARIABLE output
  ERROR_VARIABLE output)

if(result EQUAL 0)
  message(FATAL_ERROR "${FILE} compiles, but it must not")
endif()
set(failed FALSE)
while(rest MATCHES "^// (expect|max-lines): ([^\n]*)\n")
  set(word "${CMAKE_MATCH_1}")
  set(value "${CMAKE_MATCH_2}")
  string(LENGTH "${CMAKE_MATCH_0}" length)
  string(SUBSTRING "${rest}" ${length} -1 rest)
  if(word STREQUAL "max-lines")
    set(most "${value}")
    continue()
  endif()
  math(EXPR expectations "${expectations} + 1")
  if(NOT output MATCHES "${value}")
    message("error: nothing in the diagnostics matches \"${value}\"")
    set(failed TRUE)
  endif()
endwhile()
if(expectations EQUAL 0)
  message(FATAL_ERROR "${FILE}: the first line must be // expect: <regular expression>")
endif()
string(REGEX MATCHALL "\n" newlines "${output}")
list(LENGTH newlines lines)
if(most AND lines GREATER most)
  message("error: the diagnostics have ${lines} lines, more than ${most}")
  set(failed TRUE)
endif()
message("${output}")
if(failed)
  message(FATAL_ERROR "${FILE} fails, but not as it must")
endif()
