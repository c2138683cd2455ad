# SPDX-License-Identifier: BSD-3-Clause
#
# cmake -DFILE=example.cpp -P cmake/CheckExample.cmake -- <program> [<argument>...]
#
# Runs the program: it must end with 0 and print what stands, each line behind "//", below the line
# "// output:" at the end of FILE.

cmake_minimum_required(VERSION 3.25)

set(command "")
set(found FALSE)
foreach(i RANGE 1 ${CMAKE_ARGC})
  if(found AND i LESS CMAKE_ARGC)
    list(APPEND command "${CMAKE_ARGV${i}}")
  elseif("${CMAKE_ARGV${i}}" STREQUAL "--")
    set(found TRUE)
  endif()
endforeach()

file(READ "${FILE}" text)
string(FIND "${text}" "\n// output:\n" begin REVERSE)
if(begin EQUAL -1)
  message(FATAL_ERROR "${FILE} has no block // output:")
endif()
string(LENGTH "\n// output:" length)
math(EXPR begin "${begin} + ${length}")
string(SUBSTRING "${text}" ${begin} -1 expected)
string(REGEX REPLACE "\n// ?" "\n" expected "${expected}")
string(SUBSTRING "${expected}" 1 -1 expected)

execute_process(COMMAND ${command} RESULT_VARIABLE result OUTPUT_VARIABLE output
                ERROR_VARIABLE errors)
string(REGEX REPLACE "\n+$" "" expected "${expected}")
string(REGEX REPLACE "\n+$" "" output "${output}")
if(NOT result EQUAL 0 OR NOT output STREQUAL expected)
  message(FATAL_ERROR "ended with ${result} and printed:\n${output}\n----\n${FILE} promises 0 and:\n\
${expected}\n---- standard error:\n${errors}")
endif()
