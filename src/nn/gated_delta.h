// Gated delta net (Qwen3-Next and later): a linear attention whose state
// forgets by a gate and corrects itself by the delta rule.
#pragma once

#include "nn/block.h"

namespace mlxlm {

struct GatedDeltaOptions {
  int hidden = 0;
  int key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  int kernel = 4;
  float eps = 1e-6f;
  // Two input matrices, `in_proj_qkvz` and `in_proj_ba`, whose rows are grouped
  // by key head (Qwen3-Next), instead of `in_proj_qkv`, `_z`, `_b`, `_a`.
  bool grouped = false;
};

BlockPtr gated_delta(const Scope& s, const GatedDeltaOptions& options);

// The recurrence S = g S + beta (v - g S k) k^T, y = S q, for q and k [B, L,
// Hk, Dk], v [B, L, Hv, Dv], g [B, L, Hv] or [B, L, Hv, Dk], beta [B, L, Hv],
// S [B, Hv, Dv, Dk] (float32); key heads repeat over value heads. Returns y [B,
// L, Hv, Dv] and the last S.
std::pair<mx::array, mx::array> delta_rule(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const mx::array& g,
    const mx::array& beta,
    const mx::array& state);

} // namespace mlxlm
