// Attends to pages: a pass' query rows, split over threads, and how partial
// results join. The arithmetic is in page_attend.cpp and packed_attend.cpp.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <vector>

#include "runtime/kernels/attention/paged.h"

namespace mlxlm::kernels {

// This pass' keys and values, of which a row may see its own as they are.
struct PassRows {
  mx::array k, v;
};

// Evaluated: q [1, N, H, k_dim], the rows, which are in their pages, and out
// [1, N, H, v_dim]. sinks [H] or none.
void attend_paged(
    const PagedAttention& op,
    const mx::array& q,
    const std::optional<PassRows>& rows,
    const std::vector<float>& sinks,
    mx::array& out);

} // namespace mlxlm::kernels
