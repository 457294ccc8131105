// An array as row after row: itself where it is that already. MLX's contiguous
// copies what lies in a buffer that is much larger, as all results of our
// kernels do (runtime/memory/results.h).
#pragma once

#include <mlx/array.h>

namespace mlxlm::kernels {

mlx::core::array packed_rows(const mlx::core::array& x);

} // namespace mlxlm::kernels
