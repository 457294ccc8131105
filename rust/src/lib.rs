//! The Rust pieces of mlx-cpp-lm behind `include/mlxlm_rust.h`.
#![warn(clippy::all)]
#![feature(alloc_error_hook)]

mod bpe;
mod ffi;
mod filters;
mod grammar;
mod line;
mod meter;
mod model;
mod pystr;
mod python;
mod rewrite;
mod strftime;
mod template;
mod tokenizer;
