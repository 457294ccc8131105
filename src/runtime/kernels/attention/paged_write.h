// A pass' rows go to their pages, plain or packed.
#pragma once

#include <mlx/array.h>

#include "runtime/kernels/attention/paged.h"

namespace mlxlm::kernels {

// Evaluated: q [1, N, H, k_dim], which tells what queries weigh; k, v [1, N,
// kv_heads, dim] (v is not read when the layout is latent).
void write_pages(
    const PagedAttention& op,
    const mx::array& q,
    const mx::array& k,
    const mx::array& v);

} // namespace mlxlm::kernels
