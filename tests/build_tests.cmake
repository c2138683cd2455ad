# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the build itself.

set(scripts ${PROJECT_SOURCE_DIR}/cmake)

# ---- layers, scenarios, README

pulsar_add_test(layers LABELS build COMMAND ${CMAKE_COMMAND} -P ${scripts}/CheckLayers.cmake)
pulsar_add_test(scenarios LABELS build
                COMMAND ${CMAKE_COMMAND} -P ${scripts}/CheckScenarios.cmake)

if(EXISTS ${PROJECT_SOURCE_DIR}/README.md)
  pulsar_add_test(readme LABELS build COMMAND ${CMAKE_COMMAND} -P ${scripts}/CheckReadme.cmake)
endif()

# ---- every header stands alone: a file that includes nothing else compiles

# An unused inline function costs no code generation, so these objects are as cheap as a syntax
# check, but know when they are out of date.
get_property(headers GLOBAL PROPERTY pulsar_headers)
set(sources "")
foreach(header IN LISTS headers)
  cmake_path(RELATIVE_PATH header BASE_DIRECTORY ${PROJECT_SOURCE_DIR}/include)
  string(REGEX REPLACE "[/.]" "_" name ${header})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/self_contained/${name}.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include <${header}>\n")
  list(APPEND sources ${source})
endforeach()
add_library(self_contained OBJECT EXCLUDE_FROM_ALL ${sources})
target_link_libraries(self_contained PRIVATE pulsar_everything)
target_compile_options(self_contained PRIVATE -g0 -fno-sanitize=all)
set(keep_going "")
if(CMAKE_GENERATOR MATCHES "Ninja")
  set(keep_going -- -k 0)
elseif(CMAKE_GENERATOR MATCHES "Makefiles")
  set(keep_going -- -k)
endif()
pulsar_add_test(
  headers.self_contained
  LABELS build
  TIMEOUT 1200
  COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --target self_contained ${keep_going})
set_tests_properties(${PULSAR_TEST_PREFIX}headers.self_contained PROPERTIES PROCESSORS 2)

# ---- projects that use the library

set(consumer_options -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DCMAKE_BUILD_TYPE=Debug
                     -DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER})
set(staged ${CMAKE_CURRENT_BINARY_DIR}/package/staged)

# pulsar_add_consumer(<name> <source folder> [<option>...]): configures, builds and runs `consumer`.
function(pulsar_add_consumer name source)
  pulsar_add_test(
    package.${name}
    LABELS build
    COMMAND
      ${CMAKE_CTEST_COMMAND} --build-and-test ${CMAKE_CURRENT_SOURCE_DIR}/package/${source}
      ${CMAKE_CURRENT_BINARY_DIR}/package/${name} --build-generator ${CMAKE_GENERATOR}
      --build-options ${consumer_options} ${ARGN} --test-command consumer)
endfunction()

# pulsar_add_refused_consumer(<name> <message> [<option>...]): configuring must fail with <message>.
function(pulsar_add_refused_consumer name message)
  pulsar_add_test(
    package.${name}
    LABELS build
    COMMAND
      ${CMAKE_COMMAND} --fresh -S ${CMAKE_CURRENT_SOURCE_DIR}/package/find_package -B
      ${CMAKE_CURRENT_BINARY_DIR}/package/${name} -G ${CMAKE_GENERATOR} ${consumer_options}
      -DCMAKE_PREFIX_PATH=${staged} ${ARGN})
  set_tests_properties(
    ${PULSAR_TEST_PREFIX}package.${name} PROPERTIES PASS_REGULAR_EXPRESSION "${message}"
                                                    FIXTURES_REQUIRED package)
endfunction()

pulsar_add_consumer(add_subdirectory add_subdirectory -DPULSAR_SOURCE_DIR=${PROJECT_SOURCE_DIR})

if(PULSAR_INSTALL)
  pulsar_add_test(package.install LABELS build COMMAND ${CMAKE_COMMAND} --install
                                                       ${PROJECT_BINARY_DIR} --prefix ${staged})
  set_tests_properties(${PULSAR_TEST_PREFIX}package.install PROPERTIES FIXTURES_SETUP package)

  # Headers that were installed before and are gone from the sources must not be found.
  file(REMOVE_RECURSE ${staged})
  pulsar_add_test(package.complete LABELS build COMMAND ${CMAKE_COMMAND} -DSTAGED=${staged} -P
                                                        ${scripts}/CheckInstalled.cmake)
  pulsar_add_consumer(find_package find_package -DCMAKE_PREFIX_PATH=${staged})
  pulsar_add_consumer(find_component find_package -DCMAKE_PREFIX_PATH=${staged}
                      -DCONSUMER_COMPONENTS=http)
  # Who asks for no component needs none of their packages.
  pulsar_add_consumer(no_needless_package find_package -DCMAKE_PREFIX_PATH=${staged}
                      -DCMAKE_DISABLE_FIND_PACKAGE_CLI11=ON)
  set(consumers complete find_package find_component no_needless_package)
  if(TARGET pulsar::testing)
    pulsar_add_consumer(find_testing find_package -DCMAKE_PREFIX_PATH=${staged}
                        -DCONSUMER_COMPONENTS=testing)
    list(APPEND consumers find_testing)
  endif()
  foreach(name IN LISTS consumers)
    set_tests_properties(${PULSAR_TEST_PREFIX}package.${name} PROPERTIES FIXTURES_REQUIRED package)
  endforeach()

  pulsar_add_refused_consumer(unknown_component "pulsar has no component \"htpp\"; it has: pulsar"
                              -DCONSUMER_COMPONENTS=htpp)
  pulsar_add_refused_consumer(
    missing_package "pulsar::application needs CLI11 2 or" -DCONSUMER_COMPONENTS=http
    -DCMAKE_DISABLE_FIND_PACKAGE_CLI11=ON)
  math(EXPR next "${PROJECT_VERSION_MINOR} + 1")
  pulsar_add_refused_consumer(
    other_version "with requested version \"${PROJECT_VERSION_MAJOR}.${next}\""
    -DCONSUMER_VERSION=${PROJECT_VERSION_MAJOR}.${next})
endif()

# ---- the first thing a user runs

pulsar_add_test(
  quickstart.without_apt
  LABELS build
  COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/package/quickstart_without_apt.sh
          ${scripts}/quickstart.sh ${CMAKE_CURRENT_BINARY_DIR}/package/quickstart)
