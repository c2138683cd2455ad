# SPDX-License-Identifier: BSD-3-Clause
#
# Finds standalone Asio, for which neither its authors nor Debian ship a package file.
#
# Makes asio::asio, with ASIO_STANDALONE and the thread library, and coroutines for Clang. An
# asio::asio that exists already is taken as it is. Set asio_ROOT or asio_INCLUDE_DIR where the
# headers are elsewhere.

if(TARGET asio::asio)
  set(asio_FOUND TRUE)
  return()
endif()

find_path(asio_INCLUDE_DIR asio/version.hpp)
mark_as_advanced(asio_INCLUDE_DIR)
if(asio_INCLUDE_DIR)
  file(STRINGS "${asio_INCLUDE_DIR}/asio/version.hpp" asio_version_line
       REGEX "^#define ASIO_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+" asio_version_number "${asio_version_line}")
  math(EXPR asio_version_major "${asio_version_number} / 100000")
  math(EXPR asio_version_minor "${asio_version_number} / 100 % 1000")
  math(EXPR asio_version_patch "${asio_version_number} % 100")
  set(asio_VERSION "${asio_version_major}.${asio_version_minor}.${asio_version_patch}")
endif()

find_package(Threads QUIET)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  asio
  REQUIRED_VARS asio_INCLUDE_DIR Threads_FOUND
  VERSION_VAR asio_VERSION)

if(asio_FOUND)
  add_library(asio::asio INTERFACE IMPORTED)
  target_include_directories(asio::asio SYSTEM INTERFACE "${asio_INCLUDE_DIR}")
  target_compile_definitions(asio::asio INTERFACE ASIO_STANDALONE)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND asio_VERSION VERSION_LESS 1.24)
    # It looks for the coroutines of the Coroutines TS alone there, and so finds none.
    target_compile_definitions(asio::asio INTERFACE ASIO_HAS_CO_AWAIT)
  endif()
  target_link_libraries(asio::asio INTERFACE Threads::Threads)
endif()
