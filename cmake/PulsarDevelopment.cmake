# SPDX-License-Identifier: BSD-3-Clause
#
# What only our own tests, examples and benchmarks need; nothing here reaches a user of the library.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
add_compile_definitions(ASIO_NO_DEPRECATED)

find_program(PULSAR_CCACHE ccache DOC "The compiler cache; empty for none")
mark_as_advanced(PULSAR_CCACHE)
if(PULSAR_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${PULSAR_CCACHE}")
endif()

# Every component there is: for examples, benchmarks and whatever includes all headers.
add_library(pulsar_everything INTERFACE)
get_property(components GLOBAL PROPERTY pulsar_made_components)
list(TRANSFORM components PREPEND pulsar:: OUTPUT_VARIABLE component_targets)
target_link_libraries(pulsar_everything INTERFACE ${component_targets})

# The sanitizers of GCC 12 and Clang 16 cannot start where the kernel randomises addresses by more
# than 28 bits: such programs run without randomisation, which their children inherit.
set(PULSAR_TEST_LAUNCHER "")
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=" AND EXISTS /proc/sys/vm/mmap_rnd_bits)
  file(READ /proc/sys/vm/mmap_rnd_bits random_bits)
  string(STRIP "${random_bits}" random_bits)
  find_program(PULSAR_SETARCH setarch)
  mark_as_advanced(PULSAR_SETARCH)
  if(random_bits GREATER 28 AND PULSAR_SETARCH)
    execute_process(COMMAND "${PULSAR_SETARCH}" -R true RESULT_VARIABLE result ERROR_QUIET)
    if(result EQUAL 0)
      set(PULSAR_TEST_LAUNCHER "${PULSAR_SETARCH}" -R)
    endif()
  endif()
endif()

# One ctest over several builds needs names that differ between them.
set(PULSAR_TEST_PREFIX "" CACHE STRING "Begins the name of every test, as in \"tsan.\"")
set(PULSAR_SANITIZER_ENVIRONMENT
    "ASAN_OPTIONS=check_initialization_order=1:detect_stack_use_after_return=1"
    "UBSAN_OPTIONS=print_stacktrace=1" "TSAN_OPTIONS=second_deadlock_stack=1:history_size=4")

# pulsar_add_test(<name> [LABELS <label>...] [TIMEOUT <seconds>] COMMAND <command>...)
function(pulsar_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "TIMEOUT" "LABELS;COMMAND")
  if(NOT test_TIMEOUT)
    set(test_TIMEOUT 300)
  endif()
  add_test(NAME ${PULSAR_TEST_PREFIX}${name} COMMAND ${test_COMMAND})
  set_tests_properties(
    ${PULSAR_TEST_PREFIX}${name}
    PROPERTIES TIMEOUT ${test_TIMEOUT} LABELS "${test_LABELS}" ENVIRONMENT
               "${PULSAR_SANITIZER_ENVIRONMENT}")
endfunction()
