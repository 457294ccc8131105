# What `cmake --install` puts below a prefix, to be moved as one folder:
#   bin/mlxlm                the program
#   lib/libmlxlm.so          the library; it exports namespace mlxlm and nothing else
#   lib/mlxlm/               MLX and what it loads. libmlx finds that by a path relative
#                            to itself, so the folders keep the layout of the wheels
#   include/mlxlm/           its headers, which need the standard library only
#   lib/cmake/mlxlm/         find_package(mlxlm), target mlxlm::mlxlm
#   share/                   manual page, shell completion, licence

# mlxlm_install(PROGRAM room...): the rooms that implement include/mlxlm
function(mlxlm_install program)
  if(NOT TARGET ${program})
    return()
  endif()
  include(CMakePackageConfigHelpers)
  if(APPLE)
    set(origin "@loader_path")
  else()
    set(origin "\$ORIGIN")
  endif()
  set_target_properties(${program} PROPERTIES INSTALL_RPATH "${origin}/../lib/mlxlm/mlx/lib")
  install(TARGETS ${program} RUNTIME DESTINATION bin)

  file(WRITE "${PROJECT_BINARY_DIR}/nothing.cpp" "// A library of other libraries' code.\n")
  add_library(mlxlm_library SHARED "${PROJECT_BINARY_DIR}/nothing.cpp")
  # Whole, for what nothing inside refers to; the rooms below come as needed. By their
  # files, and once more as rooms: CMake's WHOLE_ARCHIVE takes a room in twice when
  # another room uses it.
  list(TRANSFORM ARGN PREPEND mlxlm_)
  set(whole ${ARGN})
  list(TRANSFORM whole REPLACE "(.+)" "$<TARGET_FILE:\\1>")
  if(APPLE)
    list(TRANSFORM whole PREPEND "-Wl,-force_load,")
  else()
    set(whole -Wl,--whole-archive ${whole} -Wl,--no-whole-archive)
  endif()
  target_link_libraries(mlxlm_library PRIVATE ${whole} ${ARGN})
  target_include_directories(mlxlm_library INTERFACE "$<INSTALL_INTERFACE:include>")
  target_compile_features(mlxlm_library INTERFACE cxx_std_20)
  set_target_properties(
    mlxlm_library
    PROPERTIES OUTPUT_NAME mlxlm
               EXPORT_NAME mlxlm
               VERSION ${PROJECT_VERSION}
               SOVERSION ${PROJECT_VERSION_MAJOR}
               INSTALL_RPATH "${origin}/mlxlm/mlx/lib")
  if(NOT APPLE)
    set(exports "${PROJECT_SOURCE_DIR}/cmake/exports.map")
    target_link_options(mlxlm_library PRIVATE "-Wl,--version-script=${exports}")
    set_target_properties(mlxlm_library PROPERTIES LINK_DEPENDS "${exports}")
  endif()
  install(TARGETS mlxlm_library EXPORT mlxlm LIBRARY DESTINATION lib)
  install(DIRECTORY include/mlxlm DESTINATION include)
  set(package lib/cmake/mlxlm)
  install(EXPORT mlxlm FILE mlxlmConfig.cmake NAMESPACE mlxlm:: DESTINATION ${package})
  write_basic_package_version_file("${PROJECT_BINARY_DIR}/mlxlmConfigVersion.cmake"
                                   COMPATIBILITY SameMinorVersion)
  install(FILES "${PROJECT_BINARY_DIR}/mlxlmConfigVersion.cmake" DESTINATION ${package})

  install(DIRECTORY "${MLXLM_MLX_ROOT}/lib/" DESTINATION lib/mlxlm/mlx/lib)
  get_filename_component(packages "${MLXLM_MLX_ROOT}" DIRECTORY)
  foreach(beside mlx_cpu.libs nvidia)
    if(EXISTS "${packages}/${beside}")
      install(DIRECTORY "${packages}/${beside}" DESTINATION lib/mlxlm
              PATTERN "include" EXCLUDE)
    endif()
  endforeach()

  # The program writes its own manual and completion.
  install(FILES LICENSE DESTINATION share/doc/mlxlm)
  foreach(page "man|share/man/man1/mlxlm.1"
               "completion bash|share/bash-completion/completions/mlxlm"
               "completion zsh|share/zsh/site-functions/_mlxlm"
               "completion fish|share/fish/vendor_completions.d/mlxlm.fish")
    string(REPLACE "|" ";" page "${page}")
    list(GET page 0 command)
    list(GET page 1 file)
    string(REPLACE " " ";" command "${command}")
    install(
      CODE "
      set(file \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${file}\")
      get_filename_component(folder \"\${file}\" DIRECTORY)
      file(MAKE_DIRECTORY \"\${folder}\")
      message(STATUS \"Writing: \${file}\")
      execute_process(COMMAND \"$<TARGET_FILE:${program}>\" ${command}
                      OUTPUT_FILE \"\${file}\" COMMAND_ERROR_IS_FATAL ANY)")
  endforeach()
endfunction()
