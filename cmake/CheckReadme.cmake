# SPDX-License-Identifier: BSD-3-Clause
#
# cmake -P cmake/CheckReadme.cmake
#
# A block of README.md that follows
#     <!-- from examples/01_hello_actor.cpp hello -->
# must equal the lines between "// [hello]" and "// [/hello]" of that file, without the indentation
# they share. A mark without a region name stands for the whole file.

cmake_minimum_required(VERSION 3.25)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH root)
if(DEFINED SOURCE_DIR)
  set(root "${SOURCE_DIR}")
endif()

# Takes the indentation of the first line off every line.
function(unindent variable)
  set(text "\n${${variable}}")
  if(text MATCHES "^\n( +)")
    string(REPLACE "\n${CMAKE_MATCH_1}" "\n" text "${text}")
  endif()
  string(SUBSTRING "${text}" 1 -1 text)
  set(${variable} "${text}" PARENT_SCOPE)
endfunction()

file(READ "${root}/README.md" rest)
set(failed FALSE)
set(blocks 0)
while(rest MATCHES "<!-- from ([^ \n]+)( ([^ \n]+))? -->\n+```[a-z+]*\n")
  set(mark "${CMAKE_MATCH_0}")
  set(file "${CMAKE_MATCH_1}")
  set(region "${CMAKE_MATCH_3}")
  string(FIND "${rest}" "${mark}" begin)
  string(LENGTH "${mark}" length)
  math(EXPR begin "${begin} + ${length}")
  string(SUBSTRING "${rest}" ${begin} -1 rest)
  string(FIND "${rest}" "```" end)
  if(end EQUAL -1)
    message(FATAL_ERROR "README.md: the block from ${file} does not end")
  endif()
  string(SUBSTRING "${rest}" 0 ${end} printed)
  string(SUBSTRING "${rest}" ${end} -1 rest)
  math(EXPR blocks "${blocks} + 1")

  if(NOT EXISTS "${root}/${file}")
    message("error: README.md shows ${file}, which does not exist")
    set(failed TRUE)
    continue()
  endif()
  file(READ "${root}/${file}" source)
  if(region)
    string(FIND "${source}" "// [${region}]\n" begin)
    string(FIND "${source}" "// [/${region}]" end)
    if(begin EQUAL -1 OR end LESS begin)
      message("error: ${file} has no region // [${region}] ... // [/${region}]")
      set(failed TRUE)
      continue()
    endif()
    string(LENGTH "// [${region}]\n" length)
    math(EXPR begin "${begin} + ${length}")
    math(EXPR length "${end} - ${begin}")
    string(SUBSTRING "${source}" ${begin} ${length} source)
    # The end mark may be indented.
    string(REGEX REPLACE "\n +$" "\n" source "${source}")
  endif()
  unindent(source)
  if(NOT printed STREQUAL source)
    message("error: README.md does not show ${file} ${region} as it is. In README.md:\n${printed}\n\
In ${file}:\n${source}")
    set(failed TRUE)
  endif()
endwhile()

# A mark that the pattern above does not match would be checked by nobody.
file(READ "${root}/README.md" text)
string(REGEX MATCHALL "<!-- from " marks "${text}")
list(LENGTH marks marks)
if(NOT marks EQUAL blocks)
  message("error: README.md has ${marks} marks \"<!-- from ... -->\", but ${blocks} of them are \
followed by a block")
  set(failed TRUE)
endif()
if(failed)
  message(FATAL_ERROR "README.md and the examples differ")
endif()
message("${blocks} blocks of README.md are as in their files")
