# mlxlm_install(PROGRAM): bin/PROGRAM, and below lib/mlxlm the MLX library with the
# libraries it loads. libmlx finds those by a path relative to itself, so the folders
# keep the layout they have in the wheels.
function(mlxlm_install program)
  if(NOT TARGET ${program})
    return()
  endif()
  if(APPLE)
    set(origin "@loader_path")
  else()
    set(origin "\$ORIGIN")
  endif()
  set_target_properties(${program} PROPERTIES INSTALL_RPATH "${origin}/../lib/mlxlm/mlx/lib")
  install(TARGETS ${program} RUNTIME DESTINATION bin)
  install(DIRECTORY "${MLXLM_MLX_ROOT}/lib/" DESTINATION lib/mlxlm/mlx/lib)
  get_filename_component(packages "${MLXLM_MLX_ROOT}" DIRECTORY)
  foreach(beside mlx_cpu.libs nvidia)
    if(EXISTS "${packages}/${beside}")
      install(DIRECTORY "${packages}/${beside}" DESTINATION lib/mlxlm
              PATTERN "include" EXCLUDE)
    endif()
  endforeach()
endfunction()
