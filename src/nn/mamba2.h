// Mamba-2: a selective state space with one decay a head. A prompt runs in
// chunks, as matrix products; single tokens step the state.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "nn/block.h"
#include "nn/fused.h"

namespace mlxlm {

struct Mamba2Options {
  int hidden = 0, heads = 0, head_dim = 0;
  int state = 0; // values a head remembers for each of its inputs
  int groups = 1; // heads that share their B and C
  int kernel = 4; // taps of the convolution
  Bias proj_bias = Bias::none, out_bias = Bias::none;
  Bias conv_bias = Bias::required;
  Activation act = Activation::silu; // after the convolution
  float dt_min = 0, dt_max = std::numeric_limits<float>::infinity();
  float eps = 1e-5f;
  int norm_groups = 1; // of the norm over the heads' outputs
  bool norm = true; // false: y * silu(z) and no more
  bool gate_first = true; // norm(y * silu(z)), else norm(y) * silu(z)
  // Of the projection's parts z, x, B, C and dt (Falcon-H1); none: ones.
  std::vector<float> multipliers = {};
};

BlockPtr mamba2(const Scope& s, const Mamba2Options& options);

// The recurrence h = exp(dt a) h + dt x B, y = h C + D x, for x [B, L, H, P],
// dt [B, L, H] (after softplus), a [H] (negative), b and c [B, L, G, S], d [H]
// and h [B, H, P, S], all float32. Returns y [B, L, H, P] and the last h.
std::pair<mx::array, mx::array> state_space(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h,
    int chunk = 64);

} // namespace mlxlm
