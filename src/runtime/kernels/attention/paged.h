// Attention over pages in place, on the CPU: one primitive keeps this pass'
// rows and attends for every segment of the step. A query's result does not
// depend on what else is in the pass, nor on how its sequence was cut into
// passes, bit for bit.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <optional>
#include <vector>

#include "runtime/kernels/attention/packed_layout.h"
#include "runtime/kernels/attention/page_layout.h"
#include "runtime/kernels/attention/reference.h"

namespace mlxlm::kernels {

struct PagedSegment {
  // The sequence's pages by number, null where no query looks; shared ownership
  // keeps them from being reused while the primitive waits.
  std::shared_ptr<const std::vector<std::byte*>> pages;
  int first; // of its tokens in the pass
  int count;
  int offset; // position of the first
  // Which pages are packed; null: none.
  std::shared_ptr<const std::vector<std::uint8_t>> packed = {};
  bool apart = false; // as in AttentionShape
};

struct PagedAttention {
  PageLayout layout;
  std::size_t layer_offset; // of this layer's part in a page
  AttentionShape shape;
  // Read when the kernel runs; one list serves every layer of a pass.
  std::shared_ptr<const std::vector<PagedSegment>> segments;
  // Of this layer's rows in packed pages, and where they lie there.
  std::shared_ptr<const PackedLayout> packed = {};
  std::size_t packed_offset = 0;
};

struct PagedResult {
  mx::array out; // [1, N, H, v_dim] in q's type
  mx::array written; // evaluated once the rows are in their pages
};

// q [1, N, H, k_dim]; k, v [1, N, kv_heads, dim], none: only attends (v is not
// read when the layout is latent). sinks [H]. `after`: earlier writes to wait
// for.
PagedResult paged_attention(
    PagedAttention op,
    const mx::array& q,
    const std::optional<std::pair<mx::array, mx::array>>& rows,
    const std::optional<mx::array>& sinks,
    const std::vector<mx::array>& after);

} // namespace mlxlm::kernels
