# mlxlm_room(NAME [MLX] [USES room...] [LINK target...])
#
# A room is a static library of every source below src/NAME. Files ending in
# _test.cpp go to the room's test program, *_bench.cpp are one benchmark each, and
# main.cpp is left to mlxlm_program.
# A room marked MLX exists only when MLXLM_MLX is on.
#
# With MLXLM_UNITY the compiler sees the sources of a target several at a time: most of
# a source's cost is the headers it reads, so a first build takes a third of the time.
# The clang preset compiles each source alone and so finds includes that are missing.
option(MLXLM_UNITY "Compile several sources of a room together" OFF)

# mlxlm_unity(TARGET SOURCE...): kernels that change the compiler's target for
# themselves stay alone.
function(mlxlm_unity target)
  if(NOT MLXLM_UNITY)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
  foreach(source ${ARGN})
    file(STRINGS "${source}" alone LIMIT_COUNT 1
         REGEX "foreach_target|#pragma GCC target|-inl\\.h")
    if(alone)
      set_source_files_properties("${source}" PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
  endforeach()
endfunction()

# mlxlm_test_options(TARGET): tests are compiled once and run for seconds.
function(mlxlm_test_options target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

function(mlxlm_room name)
  cmake_parse_arguments(ROOM "MLX" "" "USES;LINK" ${ARGN})
  if(ROOM_MLX AND NOT MLXLM_MLX)
    return()
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${name}/*.cpp")
  set(tests ${sources})
  set(benches ${sources})
  list(FILTER sources EXCLUDE REGEX "(_(test|bench)|/main)\\.cpp$")
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cpp$")

  set(target mlxlm_${name})
  if(sources)
    add_library(${target} STATIC ${sources})
    mlxlm_unity(${target} ${sources})
    set(scope PUBLIC)
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_link_libraries(${target} ${scope} mlxlm_options fmt::fmt
                                           nlohmann_json::nlohmann_json Threads::Threads)
  foreach(used ${ROOM_USES})
    target_link_libraries(${target} ${scope} mlxlm_${used})
  endforeach()
  if(ROOM_LINK)
    target_link_libraries(${target} ${scope} ${ROOM_LINK})
  endif()
  if(ROOM_MLX)
    target_link_libraries(${target} ${scope} mlxlm_mlx)
  endif()

  if(MLXLM_TESTS AND tests)
    add_executable(${name}_tests ${tests})
    mlxlm_unity(${name}_tests ${tests})
    mlxlm_test_options(${name}_tests)
    target_link_libraries(${name}_tests PRIVATE ${target} GTest::gtest GTest::gtest_main
                                                GTest::gmock)
    target_compile_definitions(${name}_tests
                               PRIVATE MLXLM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    add_test(NAME ${name} COMMAND ${name}_tests)
  endif()
  if(MLXLM_BENCHMARKS AND benches)
    find_package(benchmark REQUIRED)
    foreach(file ${benches})
      get_filename_component(bench "${file}" NAME_WE)
      add_executable(${bench} ${file})
      target_link_libraries(${bench} PRIVATE ${target} benchmark::benchmark
                                             benchmark::benchmark_main)
    endforeach()
  endif()
endfunction()

# mlxlm_program(ROOM EXECUTABLE USES room...): src/ROOM/main.cpp linked with the room
# of the other sources, so that the room's tests link them as well.
function(mlxlm_program room executable)
  cmake_parse_arguments(ROOM "" "" "USES" ${ARGN})
  set(main "${PROJECT_SOURCE_DIR}/src/${room}/main.cpp")
  if(NOT MLXLM_MLX OR NOT EXISTS "${main}")
    return()
  endif()
  find_package(CLI11 REQUIRED)
  mlxlm_room(${room} MLX USES ${ROOM_USES} LINK CLI11::CLI11)
  add_executable(${executable} "${main}")
  target_link_libraries(${executable} PRIVATE mlxlm_${room})
  execute_process(
    COMMAND git rev-parse --short HEAD
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
    OUTPUT_VARIABLE commit
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT commit)
    set(commit "no commit")
  endif()
  target_compile_definitions(${executable} PRIVATE MLXLM_COMMIT="${commit}")
endfunction()
