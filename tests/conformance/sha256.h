// SHA-256 (FIPS 180-4), to recognise the model that goldens were recorded from.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace mlxlm::conformance {

// Lower-case hexadecimal.
std::string sha256(std::span<const std::byte> bytes);

} // namespace mlxlm::conformance
