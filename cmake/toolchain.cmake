# SPDX-License-Identifier: MIT
# How this build runs: output folders, ccache, sanitizers. A host project that adds pith keeps its own choices.
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
  set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
  endif()

  find_program(PITH_CCACHE ccache)
  if(PITH_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${PITH_CCACHE}")
  endif()
endif()

set(pith_instrumentation)
if(PITH_SANITIZE)
  list(APPEND pith_instrumentation -fsanitize=${PITH_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
endif()
# Before the dependencies, so that those built from source are instrumented as well.
add_compile_options(${pith_instrumentation})
add_link_options(${pith_instrumentation})

# What a search by libFuzzer is led by: which edges and comparisons an input meets.
if(PITH_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "PITH_FUZZ needs clang: libFuzzer is part of it (found ${CMAKE_CXX_COMPILER_ID})")
  endif()
  set(pith_coverage -fsanitize=fuzzer-no-link)
endif()

# With sanitizers, code around the library takes longer to optimise than it then takes to run; tests, beyond -O1, always.
function(pith_unoptimised target)
  if(PITH_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  endif()
endfunction()

function(pith_test_code target)
  pith_unoptimised(${target})
  if(NOT PITH_SANITIZE)
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
endfunction()
