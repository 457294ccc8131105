# One interface target that every room links: warnings, sanitizers, dead-code
# removal. Warnings are errors with the compilers that ./test was run with.
set(known_compiler OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
    message(FATAL_ERROR "compiler: expected GCC 12 or newer, found "
                        "${CMAKE_CXX_COMPILER_VERSION}; set CXX")
  elseif(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15)
    set(known_compiler ON)
  endif()
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 20)
  set(known_compiler ON)
endif()
option(MLXLM_WERROR "Warnings are errors" ${known_compiler})

add_library(mlxlm_options INTERFACE)
target_include_directories(mlxlm_options INTERFACE "${PROJECT_SOURCE_DIR}/include"
                                                   "${PROJECT_SOURCE_DIR}/src")
target_compile_options(
  mlxlm_options INTERFACE -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
                          -ffunction-sections -fdata-sections)
if(MLXLM_WERROR)
  target_compile_options(mlxlm_options INTERFACE -Werror)
  # What these say depends on what the optimizer has inlined, and from GCC 13 on they
  # are wrong about std::variant and std::vector (bugs 105562, 107852).
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    foreach(guess maybe-uninitialized array-bounds stringop-overflow)
      target_compile_options(mlxlm_options INTERFACE -Wno-error=${guess})
    endforeach()
  endif()
endif()
if(APPLE)
  target_link_options(mlxlm_options INTERFACE -Wl,-dead_strip)
else()
  target_link_options(mlxlm_options INTERFACE -Wl,--gc-sections)
endif()
if(MLXLM_SANITIZE)
  target_compile_options(
    mlxlm_options INTERFACE -fsanitize=${MLXLM_SANITIZE} -fno-omit-frame-pointer
                            -fno-sanitize-recover=all)
  target_link_options(mlxlm_options INTERFACE -fsanitize=${MLXLM_SANITIZE})
endif()
if(MLXLM_FUZZ)
  target_compile_options(mlxlm_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
find_program(MLXLM_CCACHE ccache)
if(MLXLM_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${MLXLM_CCACHE}")
endif()
