# SPDX-License-Identifier: BSD-3-Clause
#
# pulsar_layer(): one component of the library, an INTERFACE target with its headers as a file set.

list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")

if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
   OR (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 16))
  message(
    FATAL_ERROR
      "pulsar needs GCC 12 or Clang 16, this is ${CMAKE_CXX_COMPILER_ID} "
      "${CMAKE_CXX_COMPILER_VERSION} (${CMAKE_CXX_COMPILER}): choose another one with "
      "-DCMAKE_CXX_COMPILER=...")
endif()

# pulsar_layer(<name>
#   [OPTIONAL]                                left out, with a message, if its packages are missing
#   FOLDERS <folder of include/pulsar>...     all headers below them
#   [COMPONENTS <lower component>...]
#   [PACKAGES <package>:<least version>:<its Debian package>...]
#   [LINKS <target>...])
#
# Makes pulsar::<name>. As a subproject any component whose packages are missing is left out, with a
# message; `pulsar` itself is never left out.
function(pulsar_layer name)
  cmake_parse_arguments(layer "OPTIONAL" "" "FOLDERS;COMPONENTS;PACKAGES;LINKS" ${ARGN})

  foreach(lower IN LISTS layer_COMPONENTS)
    if(NOT TARGET pulsar::${lower})
      message(STATUS "pulsar::${name} is left out: it needs pulsar::${lower}")
      return()
    endif()
  endforeach()
  foreach(package IN LISTS layer_PACKAGES)
    string(REPLACE ":" ";" package "${package}")
    list(POP_FRONT package package_name package_version package_debian)
    # GLOBAL: who uses pulsar by add_subdirectory must see the packages' targets.
    find_package(${package_name} ${package_version} QUIET GLOBAL)
    if(NOT ${package_name}_FOUND)
      set(sentence "pulsar::${name} needs ${package_name} ${package_version} or later, which was \
not found (on Debian: apt-get install ${package_debian})")
      if((PROJECT_IS_TOP_LEVEL AND NOT layer_OPTIONAL) OR name STREQUAL "pulsar")
        message(FATAL_ERROR "${sentence}")
      endif()
      message(STATUS "${sentence}: left out")
      return()
    endif()
  endforeach()

  set(include ${PROJECT_SOURCE_DIR}/include)
  set(patterns ${layer_FOLDERS})
  list(TRANSFORM patterns PREPEND "${include}/pulsar/")
  list(TRANSFORM patterns APPEND "/*.hpp")
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${patterns})
  file(GLOB umbrellas CONFIGURE_DEPENDS "${include}/pulsar/*.hpp")
  foreach(umbrella IN LISTS umbrellas)
    cmake_path(GET umbrella STEM owner)
    if(NOT owner IN_LIST pulsar_components)
      set(owner pulsar)
    endif()
    if(owner STREQUAL name)
      list(APPEND headers "${umbrella}")
    endif()
  endforeach()

  # The target of the component `pulsar` is plain `pulsar`, the others carry the prefix so that
  # they do not collide with those of the project above.
  if(name STREQUAL "pulsar")
    set(target pulsar)
  else()
    set(target pulsar_${name})
  endif()
  set(lower ${layer_COMPONENTS})
  list(TRANSFORM lower PREPEND pulsar::)
  add_library(${target} INTERFACE)
  add_library(pulsar::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(${target} INTERFACE cxx_std_20)
  target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS "${include}" FILES ${headers})
  target_link_libraries(${target} INTERFACE ${lower} ${layer_LINKS})

  # What PulsarInstall, the tests and the examples ask for.
  set_property(GLOBAL APPEND PROPERTY pulsar_made_components ${name})
  set_property(GLOBAL APPEND PROPERTY pulsar_headers ${headers})
  set_property(GLOBAL PROPERTY pulsar_${name}_target ${target})
  set_property(GLOBAL PROPERTY pulsar_${name}_components ${layer_COMPONENTS})
  set_property(GLOBAL PROPERTY pulsar_${name}_packages ${layer_PACKAGES})
  foreach(folder IN LISTS layer_FOLDERS)
    set_property(GLOBAL PROPERTY pulsar_folder_${folder} pulsar::${name})
  endforeach()
endfunction()
