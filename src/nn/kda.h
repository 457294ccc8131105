// Kimi delta attention: a gated delta net with a forget gate for every key
// channel and a sigmoid before the output (Kimi-Linear, Ling 3).
#pragma once

#include <optional>

#include "nn/delta_mixer.h"

namespace mlxlm {

struct KdaOptions {
  int hidden = 0, heads = 0, head_dim = 0;
  int kernel = 4;
  float eps = 1e-6f;
  // The least log-decay, reached by a sigmoid; none: exp(A) softplus, without
  // bound.
  std::optional<float> lower_bound = {};
};

// The gates `f` and `g` come from one matrix each (`f_proj`) or from two of the
// rank head_dim (`f_a_proj`, `f_b_proj`), whichever the checkpoint has.
BlockPtr kda(const Scope& s, const KdaOptions& options);

} // namespace mlxlm
