# SPDX-License-Identifier: BSD-3-Clause
#
# cmake -DSTAGED=<install prefix> -P cmake/CheckInstalled.cmake
#
# Every header of include/ must be installed: one in a folder that no pulsar_layer() names is not.

cmake_minimum_required(VERSION 3.25)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH root)

file(GLOB_RECURSE headers RELATIVE "${root}/include" "${root}/include/*.hpp")
file(GLOB_RECURSE installed RELATIVE "${STAGED}/include" "${STAGED}/include/*.hpp")
list(REMOVE_ITEM headers ${installed})
if(headers)
  list(JOIN headers " " headers)
  message(FATAL_ERROR "not installed: ${headers}. Name their folder in a pulsar_layer() of "
                      "CMakeLists.txt")
endif()
list(LENGTH installed count)
if(count EQUAL 0)
  message(FATAL_ERROR "nothing is installed below ${STAGED}/include")
endif()
message("all ${count} headers are installed")
