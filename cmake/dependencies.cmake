# SPDX-License-Identifier: MIT
# What pith builds on: the installed package first, its source only where there is none. The tags are the versions of
# Debian 12, so that both ways build the same code.
include(FetchContent)

# Found packages are visible to a project that adds this one, and links what a static pith needs.
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)

FetchContent_Declare(
  nlohmann_json
  GIT_REPOSITORY https://github.com/nlohmann/json.git
  GIT_TAG v3.11.2
  GIT_SHALLOW ON
  SYSTEM
  FIND_PACKAGE_ARGS)
FetchContent_Declare(
  PCRE2
  GIT_REPOSITORY https://github.com/PCRE2Project/pcre2.git
  GIT_TAG pcre2-10.42
  GIT_SHALLOW ON
  SYSTEM
  FIND_PACKAGE_ARGS)
FetchContent_Declare(
  utf8proc
  GIT_REPOSITORY https://github.com/JuliaStrings/utf8proc.git
  GIT_TAG v2.8.0
  GIT_SHALLOW ON
  SYSTEM
  FIND_PACKAGE_ARGS)
FetchContent_Declare(
  Eigen3
  GIT_REPOSITORY https://gitlab.com/libeigen/eigen.git
  GIT_TAG 3.4.0
  GIT_SHALLOW ON
  SYSTEM
  FIND_PACKAGE_ARGS)
FetchContent_Declare(
  CLI11
  GIT_REPOSITORY https://github.com/CLIUtils/CLI11.git
  GIT_TAG v2.1.2
  GIT_SHALLOW ON
  SYSTEM
  FIND_PACKAGE_ARGS)
FetchContent_Declare(
  GTest
  GIT_REPOSITORY https://github.com/google/googletest.git
  GIT_TAG release-1.12.1
  GIT_SHALLOW ON
  SYSTEM
  FIND_PACKAGE_ARGS)
FetchContent_Declare(
  benchmark
  GIT_REPOSITORY https://github.com/google/benchmark.git
  GIT_TAG v1.7.1
  GIT_SHALLOW ON
  SYSTEM
  FIND_PACKAGE_ARGS)

# Makes dependencies available without their own tests, tools and documentation; NAME_VERSION is theirs, where they are
# installed.
function(pith_depend)
  set(BUILD_SHARED_LIBS OFF)
  set(BUILD_TESTING OFF)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
  set(JSON_BuildTests OFF)
  set(PCRE2_BUILD_TESTS OFF)
  set(PCRE2_BUILD_PCRE2GREP OFF)
  set(EIGEN_BUILD_DOC OFF)
  set(EIGEN_BUILD_PKGCONFIG OFF)
  set(BENCHMARK_ENABLE_TESTING OFF)
  set(BENCHMARK_ENABLE_INSTALL OFF)
  set(INSTALL_GTEST OFF)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  FetchContent_MakeAvailable(${ARGN})
  foreach(name IN LISTS ARGN)
    set(${name}_VERSION "${${name}_VERSION}" PARENT_SCOPE)
  endforeach()
endfunction()

pith_depend(nlohmann_json PCRE2 utf8proc)
if(PITH_OPENMP)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  list(GET OpenMP_CXX_LIB_NAMES 0 PITH_OPENMP_RUNTIME)
endif()
if(PITH_BUILD_EXAMPLES)
  pith_depend(CLI11)
endif()

# PNG and GIF: a convenience of the command, never downloaded.
set(PITH_RASTER OFF)
if(PITH_BUILD_EXAMPLES AND PITH_PICTURES)
  find_package(PkgConfig QUIET)
  find_package(GIF QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(PANGOCAIRO QUIET IMPORTED_TARGET pangocairo)
  endif()
  if(GIF_FOUND AND TARGET PkgConfig::PANGOCAIRO)
    set(PITH_RASTER ON)
  else()
    message(STATUS "pith trace without --png and --gif: no pangocairo or no giflib here")
  endif()
endif()

# HTTP for `pith serve`, in the versions whose insides it knows; never downloaded.
set(PITH_SERVER OFF)
if(PITH_BUILD_EXAMPLES)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(HTTPLIB QUIET IMPORTED_TARGET cpp-httplib>=0.11 cpp-httplib<0.15)
  endif()
  if(TARGET PkgConfig::HTTPLIB)
    set(PITH_SERVER ON)
  else()
    message(STATUS "pith serve is left out: no cpp-httplib 0.11 to 0.14 here (Debian's libcpp-httplib-dev)")
  endif()
endif()
if(PITH_BUILD_TESTS)
  pith_depend(Eigen3 GTest)
endif()
if(PITH_BUILD_BENCH)
  pith_depend(benchmark)
endif()

# The two libraries that a static pith hands on have one name each, found or built. As imported targets they need not
# be part of pith's own export set.
function(pith_name_dependency name built)
  if(NOT TARGET ${name})
    add_library(${name} INTERFACE IMPORTED GLOBAL)
    target_link_libraries(${name} INTERFACE ${built})
  endif()
endfunction()
pith_name_dependency(PCRE2::8BIT pcre2-8-static)
pith_name_dependency(utf8proc::utf8proc utf8proc)
