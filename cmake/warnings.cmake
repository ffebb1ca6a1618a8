# SPDX-License-Identifier: MIT
# The warnings of every target of this project; PITH_WERROR makes them errors.
function(pith_warnings target)
  target_compile_options(
    ${target}
    PRIVATE -Wall
            -Wextra
            -Wpedantic
            -Wconversion
            -Wsign-conversion
            -Wshadow
            $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
            $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
            $<$<COMPILE_LANGUAGE:CXX>:-Wold-style-cast>
            -Wcast-align
            -Wimplicit-fallthrough
            $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond>
            $<$<CXX_COMPILER_ID:GNU>:-Wlogical-op>
            # Options are set by name, the others keep their defaults.
            -Wno-missing-field-initializers
            # g++ 12 sees overlapping copies in plain concatenations of strings.
            $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
            $<$<BOOL:${PITH_WERROR}>:-Werror>)
  if(PITH_SANITIZE)
    # g++'s own checks of initialisation err where a sanitizer has put in its code.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  endif()
endfunction()
