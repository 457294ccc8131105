// Gated delta net (Qwen3-Next and later): a linear attention whose state
// forgets by a gate a head and corrects itself by the delta rule.
#pragma once

#include "nn/delta_mixer.h"

namespace mlxlm {

struct GatedDeltaOptions {
  int hidden = 0;
  DeltaShape shape;
  int kernel = 4;
  float eps = 1e-6f;
  float rate = 1; // of writing, times a sigmoid; 2: may turn states round
  // `grouped`: two matrices, `in_proj_qkvz` and `in_proj_ba`, whose rows are
  // grouped by key head (Qwen3-Next). `fused`: `in_proj_qkv`, `_z`, `_b`, `_a`.
  // `apart`: `q_proj`, `k_proj`, `v_proj`, `g_proj`, `b_proj`, `a_proj`, a
  // convolution each, and other names (OLMo-Hybrid).
  enum class Inputs { grouped, fused, apart } inputs = Inputs::fused;
};

BlockPtr gated_delta(const Scope& s, const GatedDeltaOptions& options);

// The recurrence S = g S, S += beta (v - S k) k^T, y = S q; see
// kernels::delta_rule. Any float type but for S.
std::pair<mx::array, mx::array> delta_rule(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const mx::array& g,
    const mx::array& beta,
    const mx::array& state);

} // namespace mlxlm
