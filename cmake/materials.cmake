# SPDX-License-Identifier: MIT
# A list of what the program is made of is written beside it when it is linked (SPDX): pith.spdx.json.
function(pith_list_materials target)
  if(PITH_SANITIZE OR CMAKE_CROSSCOMPILING)
    return()
  endif()
  # "10.42" of a header that defines MAJOR and MINOR, and PATCH at times.
  function(version_in header prefix out)
    set(version)
    find_file(found ${header} NO_CACHE)
    foreach(part MAJOR MINOR PATCH)
      set(line)
      if(found)
        file(STRINGS ${found} line REGEX "^#define +${prefix}${part} +[0-9]+")
      endif()
      if(line MATCHES "${prefix}${part} +([0-9]+)")
        list(APPEND version ${CMAKE_MATCH_1})
      endif()
    endforeach()
    list(JOIN version "." version)
    set(${out} ${version} PARENT_SCOPE)
  endfunction()
  version_in(pcre2.h PCRE2_ pcre2)
  version_in(utf8proc.h UTF8PROC_VERSION_ utf8proc)

  set(gcc "GPL-3.0-or-later WITH GCC-exception-3.1|https://gcc.gnu.org")
  set(known
      "libpcre2-8|PCRE2|${pcre2}|BSD-3-Clause|https://github.com/PCRE2Project/pcre2"
      "libutf8proc|utf8proc|${utf8proc}|MIT AND Unicode-DFS-2015|https://github.com/JuliaStrings/utf8proc"
      "libcpp-httplib|cpp-httplib|${HTTPLIB_cpp-httplib_VERSION}|MIT|https://github.com/yhirose/cpp-httplib"
      "libgomp|libgomp|${CMAKE_CXX_COMPILER_VERSION}|${gcc}"
      "libstdc++|libstdc++|${CMAKE_CXX_COMPILER_VERSION}|${gcc}"
      "libgif|giflib|${GIF_VERSION}|MIT|https://giflib.sourceforge.net")
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(FILTER known EXCLUDE REGEX "^lib(gomp|stdc)")
  endif()
  set(inside "nlohmann_json|${nlohmann_json_VERSION}|MIT|https://github.com/nlohmann/json"
             "CLI11|${CLI11_VERSION}|BSD-3-Clause|https://github.com/CLIUtils/CLI11")
  list(JOIN known "," known)
  list(JOIN inside "," inside)
  set(out $<TARGET_FILE_DIR:${target}>/$<TARGET_FILE_BASE_NAME:${target}>.spdx.json)
  add_custom_command(
    TARGET ${target}
    POST_BUILD
    COMMAND ${CMAKE_COMMAND} -D PROGRAM=$<TARGET_FILE:${target}> -D OUT=${out} -D NAME=pith -D
            VERSION=${PROJECT_VERSION} -D "KNOWN=${known}" -D "INSIDE=${inside}" -P
            ${PROJECT_SOURCE_DIR}/cmake/sbom.cmake
    VERBATIM)
  if(PITH_INSTALL)
    include(GNUInstallDirs)
    install(FILES ${out} DESTINATION ${CMAKE_INSTALL_DOCDIR})
  endif()
endfunction()
