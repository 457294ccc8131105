# mlxlm_embed(TARGET FOLDER): compiles every file below FOLDER into TARGET, as
# mlxlm::page::static_files() of page/static_file.h. Files are told by their names;
# the generator runs again when one of them changes.
#
# The same file is the generator: cmake -D folder=… -D out=… -P cmake/Embed.cmake
if(NOT CMAKE_SCRIPT_MODE_FILE)
  function(mlxlm_embed target folder)
    file(GLOB_RECURSE files CONFIGURE_DEPENDS "${folder}/*")
    if(NOT files)
      message(FATAL_ERROR "mlxlm_embed: expected files in ${folder}, found none")
    endif()
    set(out "${PROJECT_BINARY_DIR}/embedded/${target}.cpp")
    add_custom_command(
      OUTPUT "${out}"
      COMMAND "${CMAKE_COMMAND}" -D "folder=${folder}" -D "out=${out}" -P
              "${PROJECT_SOURCE_DIR}/cmake/Embed.cmake"
      DEPENDS ${files} "${PROJECT_SOURCE_DIR}/cmake/Embed.cmake"
      COMMENT "Embedding ${folder}"
      VERBATIM)
    target_sources(${target} PRIVATE "${out}")
    # Numbers, nothing to be found by looking closely.
    set_source_files_properties("${out}" PROPERTIES COMPILE_OPTIONS "-O0;-g0")
  endfunction()
  return()
endif()

file(GLOB_RECURSE files RELATIVE "${folder}" "${folder}/*")
list(SORT files)
set(arrays "")
set(rows "")
set(index 0)
foreach(name IN LISTS files)
  file(READ "${folder}/${name}" bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  file(SHA256 "${folder}/${name}" hash)
  string(SUBSTRING "${hash}" 0 32 hash)
  string(APPEND arrays "constexpr unsigned char file_${index}[] = {${bytes}};\n")
  string(APPEND rows "    {\"/${name}\", file_${index}, \"\\\"${hash}\\\"\"},\n")
  math(EXPR index "${index} + 1")
endforeach()
file(WRITE "${out}" "// Written by cmake/Embed.cmake.
#include \"page/static_file.h\"

namespace mlxlm::page {
namespace {

${arrays}
constexpr StaticFile files[] = {
${rows}};

} // namespace

std::span<const StaticFile> static_files() {
  return files;
}

} // namespace mlxlm::page
")
