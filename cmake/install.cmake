# SPDX-License-Identifier: MIT
# What an installed pith consists of: library, headers, package configurations for CMake and pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/pith")
set(templates "${PROJECT_SOURCE_DIR}/cmake")

# A host in C links a static library without its C++ compiler, and has to be told what that would have brought.
set(cxx_runtime ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(REMOVE_ITEM cxx_runtime c gcc gcc_s)
list(REMOVE_DUPLICATES cxx_runtime)
get_target_property(PITH_LIBRARY_TYPE pith TYPE)
if(PITH_LIBRARY_TYPE STREQUAL STATIC_LIBRARY)
  target_link_libraries(pith PRIVATE "$<INSTALL_INTERFACE:$<$<LINK_LANGUAGE:C>:${cxx_runtime}>>")
endif()

install(
  TARGETS pith
  EXPORT pith-targets
  FILE_SET HEADERS)
install(
  EXPORT pith-targets
  NAMESPACE pith::
  DESTINATION ${package_dir})

configure_package_config_file(${templates}/pith-config.cmake.in pith-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(pith-config-version.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES ${PROJECT_BINARY_DIR}/pith-config.cmake ${PROJECT_BINARY_DIR}/pith-config-version.cmake
        ${templates}/FindPCRE2.cmake ${templates}/Findutf8proc.cmake
  DESTINATION ${package_dir})

# For pkg-config too, a static library brings what it needs to be linked; a shared one has it already.
file(RELATIVE_PATH PITH_PC_PREFIX "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
set(PITH_PC_REQUIRES "Requires.private")
set(PITH_PC_LIBS)
if(PITH_LIBRARY_TYPE STREQUAL STATIC_LIBRARY)
  set(PITH_PC_REQUIRES "Requires")
  set(PITH_PC_LIBS ${PITH_OPENMP_RUNTIME} ${cxx_runtime})
  list(TRANSFORM PITH_PC_LIBS PREPEND " -l")
  list(JOIN PITH_PC_LIBS "" PITH_PC_LIBS)
endif()
configure_file(${templates}/pith.pc.in pith.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pith.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
