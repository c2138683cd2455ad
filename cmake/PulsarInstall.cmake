# SPDX-License-Identifier: BSD-3-Clause
#
# Installs the headers and a package in which each component is an export set of its own: the
# packages of a component are looked for only when it is asked for.

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(pulsar_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/pulsar)

set(PULSAR_CONFIG_TABLE "")
get_property(components GLOBAL PROPERTY pulsar_made_components)
foreach(component IN LISTS components)
  get_property(target GLOBAL PROPERTY pulsar_${component}_target)
  get_property(lower GLOBAL PROPERTY pulsar_${component}_components)
  get_property(packages GLOBAL PROPERTY pulsar_${component}_packages)
  install(
    TARGETS ${target}
    EXPORT pulsar-${component}
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(
    EXPORT pulsar-${component}
    NAMESPACE pulsar::
    FILE pulsar-${component}.cmake
    DESTINATION ${pulsar_package_dir})
  string(APPEND PULSAR_CONFIG_TABLE "set(_pulsar_${component}_components \"${lower}\")\n"
         "set(_pulsar_${component}_packages \"${packages}\")\n")
endforeach()
set(PULSAR_CONFIG_COMPONENTS "${components}")

configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/pulsar-config.cmake.in" "${PROJECT_BINARY_DIR}/pulsar-config.cmake"
  INSTALL_DESTINATION ${pulsar_package_dir}
  NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/pulsar-config-version.cmake"
  COMPATIBILITY SameMinorVersion
  ARCH_INDEPENDENT)
install(
  FILES "${PROJECT_BINARY_DIR}/pulsar-config.cmake"
        "${PROJECT_BINARY_DIR}/pulsar-config-version.cmake"
        "${CMAKE_CURRENT_LIST_DIR}/Findasio.cmake"
  DESTINATION ${pulsar_package_dir})
