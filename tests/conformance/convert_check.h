// Direction `convert` of family `quantized`.
#pragma once

#include <string>

#include "conformance.h"

namespace mlxlm::conformance {

// Converts the case's source with the case's parameters and compares the folder
// with the recorded one: config.json, and every tensor bit for bit. What
// differs first; empty when nothing does.
std::string conversion_difference(const Case& c);

} // namespace mlxlm::conformance
