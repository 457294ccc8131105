// What passes need besides weights and what sequences remember.
#pragma once

#include <cstddef>

#include "weights/scope.h"

namespace mlxlm {

struct WorkspaceShape {
  int vocab = 0;
  int step_tokens = 512; // of one pass
  int sequences = 32; // that run together
};

// At most, on a CPU: results that wait for the kernels after them, what the
// recorded decode passes make, what MLX keeps for its own operations.
std::size_t workspace_bytes(
    const ParameterTable& parameters,
    const WorkspaceShape& shape);

// Of MLX's own cache of buffers; results of our kernels are not in it
// (runtime/memory/results.h).
constexpr std::size_t mlx_cache_bytes = std::size_t{4} << 20;

} // namespace mlxlm
