# One interface target that every room links: warnings, sanitizers, definitions.
add_library(mlxlm_options INTERFACE)
target_include_directories(
  mlxlm_options INTERFACE "${PROJECT_SOURCE_DIR}/include"
                          "${PROJECT_SOURCE_DIR}/src")
target_compile_options(mlxlm_options INTERFACE -Wall -Wextra -Wno-unused-parameter
                                               -Wno-missing-field-initializers)
if(MLXLM_WERROR)
  target_compile_options(mlxlm_options INTERFACE -Werror)
endif()
if(MLXLM_SANITIZE)
  target_compile_options(
    mlxlm_options INTERFACE -fsanitize=${MLXLM_SANITIZE} -fno-omit-frame-pointer
                            -fno-sanitize-recover=all)
  target_link_options(mlxlm_options INTERFACE -fsanitize=${MLXLM_SANITIZE})
endif()
find_program(MLXLM_CCACHE ccache)
if(MLXLM_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${MLXLM_CCACHE}")
endif()
