// TurboQuant keys are kept as differences from a center that follows them. What
// the keys of a head share moves every score of a row alike, so softmax does
// not see it, but a codebook would spend its levels on it.
//
// Of `center_block` keys that share a center, each moves the next block's
// center by `center_step` of its difference, as it was decoded; so the center
// follows from what pages hold, however tokens were cut into passes. A page
// begins with its first center, a sequence with its first key. All of this is
// of keys as they are stretched (key_stretch.h) and rotated in their page. The
// scores need no other center:
//   s[t] = q . difference[t]
//   q . key[t] = q . first + center_step * (s of all blocks before) + s[t]
#pragma once

#include <algorithm>
#include <cstddef>

#include "runtime/kernels/attention/page_layout.h"

namespace mlxlm::kernels {

class PackedLayout;

constexpr int center_block = 4;
// Measured on SmolLM2: keys resemble those shortly before them more than a
// long mean.
constexpr float center_step = 0.1f;

// Tokens of a page before the block of `token`.
inline int tokens_before_block(int token) {
  return token / center_block * center_block;
}

// The center of the keys behind the page's first `tokens`, stretched and
// rotated [k_dim].
void key_center(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int tokens,
    float* out);

// A layer's part of the page before, packed or not; null: none.
struct PageBefore {
  const std::byte* packed = nullptr;
  const std::byte* plain = nullptr;
  const PageLayout* plain_layout = nullptr;
};
// To be called before a packed page's first row of a head is stored, which is
// first_key [k_dim].
// query_energy [k_dim]: mean squares of the queries of the page's first token,
// where the page measures its stretch; null: it is the page's before.
void begin_page(
    const PackedLayout& layout,
    std::byte* layer,
    int head,
    const PageBefore& before,
    const float* first_key,
    const float* query_energy = nullptr);

} // namespace mlxlm::kernels
