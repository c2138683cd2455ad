# SPDX-License-Identifier: BSD-3-Clause
#
# cmake -P cmake/CheckLayers.cmake
#
# Fails when a header includes a higher floor, when headers include each other in a circle, or when
# one breaks the skeleton every header has. Warns of long headers and of headers without a test.

cmake_minimum_required(VERSION 3.25)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH root)
if(DEFINED SOURCE_DIR)
  set(root "${SOURCE_DIR}")
endif()

# Lower ones first: a header includes headers of its own folder and of those before it.
set(order core actors testing tls apps/application apps/socket apps/http)
# Beside the floors: these know the core and nothing else.
set(beside tls)
set(longest 400)

set(failures "")
set(warnings "")

# The folder of a header, as in `order`; empty for an umbrella.
function(folder_of header result)
  string(REGEX REPLACE "/detail/" "/" plain "${header}")
  cmake_path(GET plain PARENT_PATH folder)
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

file(GLOB_RECURSE headers RELATIVE "${root}/include/pulsar" "${root}/include/pulsar/*.hpp")
if(NOT headers)
  message(FATAL_ERROR "no headers below ${root}/include/pulsar")
endif()
list(SORT headers)

foreach(header IN LISTS headers)
  file(READ "${root}/include/pulsar/${header}" text)
  # Semicolons and brackets are syntax to CMake's lists.
  string(REGEX REPLACE "[][;]" "," text "${text}")
  set(here "include/pulsar/${header}")

  if(NOT text MATCHES "^// SPDX-License-Identifier: BSD-3-Clause\n#pragma once\n")
    list(APPEND failures "${here}: does not begin with the licence line and #pragma once")
  endif()
  if(text MATCHES "\n#include <asio\\.hpp>")
    list(APPEND failures "${here}: includes <asio.hpp>: name the Asio headers it needs")
  endif()
  if(text MATCHES "\n#include \"([^\"]*)\"")
    list(APPEND failures "${here}: includes \"${CMAKE_MATCH_1}\": write <pulsar/...>")
  endif()

  folder_of("${header}" folder)
  set(rank -1)
  if(folder)
    list(FIND order "${folder}" rank)
    if(rank EQUAL -1)
      list(APPEND failures
           "${here}: the folder ${folder} has no place in the order of cmake/CheckLayers.cmake")
      continue()
    endif()
  endif()

  string(REGEX MATCHALL "\n#include <pulsar/[^>]+>" includes "${text}")
  set(includes_of_${header} "")
  foreach(include IN LISTS includes)
    string(REGEX REPLACE ".*<pulsar/([^>]+)>" "\\1" include "${include}")
    if(NOT include IN_LIST headers)
      list(APPEND failures "${here}: includes <pulsar/${include}>, which does not exist")
      continue()
    endif()
    # detail/x.hpp, detail/x_calls.hpp and detail/x_members.hpp may hold the second half of x.hpp,
    # which includes them at its end.
    string(REPLACE "/detail/" "/" owner "${header}")
    string(REGEX REPLACE "_(calls|members)\\.hpp$" ".hpp" owner "${owner}")
    if(NOT include STREQUAL owner)
      list(APPEND includes_of_${header} "${include}")
    endif()
    if(NOT folder)
      continue()
    endif()
    folder_of("${include}" included_folder)
    list(FIND order "${included_folder}" included_rank)
    if(included_folder STREQUAL "" AND NOT include STREQUAL "version.hpp")
      list(APPEND failures "${here}: includes the umbrella <pulsar/${include}>")
    elseif(included_rank GREATER rank)
      list(APPEND failures "${here}: ${folder} may not include ${included_folder} \
(<pulsar/${include}>): ${included_folder} stands above it")
    elseif(folder IN_LIST beside AND NOT included_folder MATCHES "^(core|${folder})?$")
      list(APPEND failures "${here}: ${folder} may not include ${included_folder} \
(<pulsar/${include}>): it stands beside the floors, on the core alone")
    endif()
  endforeach()

  if(NOT header MATCHES "/detail/")
    string(REGEX MATCHALL "\n" newlines "${text}")
    list(LENGTH newlines lines)
    if(lines GREATER longest)
      list(APPEND warnings "${here}: ${lines} lines, more than ${longest}: move machinery to \
${folder}/detail/ or split the idea")
    endif()
    string(REGEX REPLACE "\\.hpp$" "_test.cpp" test "${header}")
    if(folder AND NOT EXISTS "${root}/tests/${test}")
      list(APPEND warnings "${here}: has no tests/${test}")
    endif()
  endif()
endforeach()

# The umbrella of the core has all of it.
foreach(header IN LISTS headers)
  if(header MATCHES "^core/[^/]+$" AND NOT header IN_LIST includes_of_core.hpp)
    list(APPEND failures "include/pulsar/core.hpp: does not include <pulsar/${header}>")
  endif()
endforeach()

# Take away headers that include none of those left, until nothing is left or a circle is.
set(left ${headers})
set(taken TRUE)
while(left AND taken)
  set(taken FALSE)
  foreach(header IN LISTS left)
    set(free TRUE)
    foreach(include IN LISTS includes_of_${header})
      if(include IN_LIST left)
        set(free FALSE)
      endif()
    endforeach()
    if(free)
      list(REMOVE_ITEM left "${header}")
      set(taken TRUE)
    endif()
  endforeach()
endwhile()
if(left)
  list(JOIN left " " circle)
  list(APPEND failures "headers include each other in a circle, or stand on one: ${circle}")
endif()

foreach(warning IN LISTS warnings)
  message("warning: ${warning}")
endforeach()
foreach(failure IN LISTS failures)
  message("error: ${failure}")
endforeach()
list(LENGTH headers count)
list(LENGTH failures failed)
list(LENGTH warnings warned)
message("${count} headers: ${failed} errors, ${warned} warnings")
if(failures)
  message(FATAL_ERROR "the layers are not as they should be")
endif()
