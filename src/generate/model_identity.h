// Which weights a model has, without reading all of them.
#pragma once

#include <string>

namespace mlxlm {

// A hash of the sizes, times and samples of a model's files (a folder's
// safetensors and JSON, or a .gguf file): copies whose weights differ have
// different ones. Throws Error(io).
std::string weights_identity(const std::string& path);

} // namespace mlxlm
