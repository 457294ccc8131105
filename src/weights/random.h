// Seeded random tensors, and plain matrices as encoded ones.
#pragma once

#include <cstdint>
#include <string>

#include "weights/format.h"

namespace mlxlm {

// f32 values that depend on seed and name only. Matrices keep the size of what
// they multiply (deviation 1/sqrt(inputs)), norm weights lie around 1, the rest
// is small.
RowTensor random_tensor(
    std::uint64_t seed,
    const std::string& name,
    const Shape64& shape);

// A tensor of f32, f16 or bf16, [rows, cols] or [experts, rows, cols]. Throws
// Error(weights) for others.
EncodedMatrix dense_matrix(RowTensor tensor);

} // namespace mlxlm
