// What this library is and what it runs on.
#pragma once

#include <string>

namespace mlxlm {

// "0.1.0"
std::string version();
// The array engine's version, "0.32.4". Starts nothing.
std::string engine_version();
// "cpu", "metal" or "cuda": where models run. Starts the array engine.
std::string device();

} // namespace mlxlm
