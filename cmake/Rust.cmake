# The Rust shim (tokenizers, minijinja, llguidance) as one static library with a
# C header, built by cargo once for all presets. scripts/setup puts the cargo to use
# in .deps/bin; without it any cargo on PATH will do.
#   mlxlm_rust_library(TARGET CRATE_DIR)
function(mlxlm_rust_library target crate)
  find_program(MLXLM_CARGO NAMES cargo HINTS "${MLXLM_DEPS}/bin" REQUIRED)
  set(out "${PROJECT_SOURCE_DIR}/build/rust")
  set(library "${out}/release/lib${target}.a")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${crate}/src/*.rs")
  add_custom_command(
    OUTPUT "${library}"
    COMMAND "${CMAKE_COMMAND}" -E env "CARGO_TARGET_DIR=${out}" "${MLXLM_CARGO}" build
            --release --locked --quiet --manifest-path "${crate}/Cargo.toml"
    WORKING_DIRECTORY "${crate}" # for .cargo/config.toml
    DEPENDS ${sources} "${crate}/Cargo.toml" "${crate}/Cargo.lock" "${crate}/.cargo/config.toml"
            "${crate}/.cargo/rustc-unstable"
    COMMENT "cargo build ${target}"
    VERBATIM)
  add_custom_target(${target}_build DEPENDS "${library}")
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}_build)
  target_include_directories(${target} INTERFACE "${crate}/include")
  target_link_libraries(${target} INTERFACE "${library}" ${CMAKE_DL_LIBS} m)
endfunction()

if(EXISTS "${PROJECT_SOURCE_DIR}/rust/Cargo.toml")
  mlxlm_rust_library(mlxlm_rust "${PROJECT_SOURCE_DIR}/rust")
else()
  add_library(mlxlm_rust INTERFACE)
endif()
