# MLX from its binary wheel. The CPU and Metal wheels carry a CMake package; the
# CUDA wheel's package asks for a CUDA toolkit merely to configure, so for all of
# them the target is made here from the wheel's own paths: headers and libmlx.
if(NOT MLXLM_MLX)
  return()
endif()
if(NOT MLXLM_MLX_ROOT)
  file(GLOB candidates "${MLXLM_DEPS}/venv/lib/python3*/site-packages/mlx")
  if(NOT candidates)
    message(FATAL_ERROR "MLX: expected its wheel in ${MLXLM_DEPS}/venv, found none; "
                        "run scripts/setup, or set MLXLM_MLX_ROOT or MLXLM_MLX=OFF")
  endif()
  list(GET candidates 0 first)
  set(MLXLM_MLX_ROOT "${first}" CACHE PATH "The wheel's mlx folder (include/, lib/)")
endif()
# The wheel may have been moved or replaced since the last configure.
unset(MLXLM_MLX_LIBRARY CACHE)
find_library(MLXLM_MLX_LIBRARY mlx PATHS "${MLXLM_MLX_ROOT}/lib" NO_DEFAULT_PATH REQUIRED)
add_library(mlxlm_mlx INTERFACE)
target_include_directories(mlxlm_mlx SYSTEM INTERFACE "${MLXLM_MLX_ROOT}/include")
if(APPLE)
  target_include_directories(mlxlm_mlx SYSTEM INTERFACE "${MLXLM_MLX_ROOT}/include/metal_cpp")
endif()
target_link_libraries(mlxlm_mlx INTERFACE "${MLXLM_MLX_LIBRARY}")
