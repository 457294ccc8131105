// Rows of latent pages without attention: kept, and read back by attention that
// chooses what it sees.
#pragma once

#include <mlx/array.h>

#include <cstddef>
#include <vector>

#include "runtime/kernels/attention/page_layout.h"
#include "runtime/kernels/attention/paged.h"

namespace mlxlm::kernels {

struct PagedRows {
  PageLayout layout; // latent
  std::size_t layer_offset; // of this layer's part in a page
  std::vector<PagedSegment> segments;
  // Of this layer's rows in packed pages, as in PagedAttention.
  std::shared_ptr<const PackedLayout> packed = {};
  std::size_t packed_offset = 0;
};

// rows [1, N, k_dim]; the result is evaluated once they are in their pages.
mx::array keep_rows(
    PagedRows op,
    const mx::array& rows,
    const std::vector<mx::array>& after);
// Everything the one segment's sequence has, its tokens of this pass included:
// [offset + count, k_dim] in the pages' type.
mx::array read_rows(PagedRows op, const std::vector<mx::array>& after);

} // namespace mlxlm::kernels
