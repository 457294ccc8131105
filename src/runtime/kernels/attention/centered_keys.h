// Keys that are differences from centers (key_center.h), stretched
// (key_stretch.h), in plain MLX operations.
#pragma once

#include <mlx/array.h>

#include <vector>

#include "runtime/kernels/attention/row_coder.h"

namespace mlxlm::kernels::reference {

// Of pages [pages, kv_heads, k_dim].
struct PageHeads {
  mx::array center; // the first, halves
  mx::array stretch; // steps, int8
};

// What keys are multiplied by.
mx::array stretch_factors(const mx::array& steps);
// kernels::move_stretch of rows [..., dim]; negative energies of queries are
// not known and move nothing.
mx::array moved_stretch(
    const mx::array& query_energy,
    const mx::array& key_energy,
    const mx::array& steps);
// Mean squares [kv_heads, dim] of a token's queries, of q [1, N, H, dim].
mx::array query_energy(const mx::array& q, int token, int kv_heads);
// What RowCoder::encode_rotated gives of keys [n, kv_heads, dim], stretched and
// rotated, from a page's token `token` on; before: the same of the tokens up to
// there; first: the page's first center [1, kv_heads, dim].
std::vector<mx::array> encode_centered(
    const RowCoder& coder,
    const mx::array& keys,
    int token,
    const std::vector<mx::array>& before,
    const mx::array& first);
// The keys [pages * tokens, kv_heads, k_dim] of whole pages.
mx::array centered_keys(
    const RowCoder& coder,
    const std::vector<mx::array>& coded,
    const PageHeads& heads);

} // namespace mlxlm::kernels::reference
