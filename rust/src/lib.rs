//! The Rust pieces of mlx-cpp-lm behind `include/mlxlm_rust.h`.
#![warn(clippy::all)]

mod bpe;
mod ffi;
mod line;
mod model;
mod pystr;
mod python;
mod strftime;
mod template;
mod tokenizer;
