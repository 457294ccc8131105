// Mamba: a selective state space in which every channel has a step width of its
// own and all channels share what they write and read.
#pragma once

#include "nn/block.h"
#include "nn/fused.h"

namespace mlxlm {

struct MambaOptions {
  int hidden = 0, inner = 0;
  int state = 0; // values a channel remembers
  int rank = 0; // of the step widths' projection
  int kernel = 4; // taps of the convolution
  Bias proj_bias = Bias::none;
  Bias conv_bias = Bias::required;
  Activation act = Activation::silu;
  // Of the step widths, B and C before they are used (Jamba, Falcon-Mamba).
  Norm dt_norm = {}, b_norm = {}, c_norm = {};
};

BlockPtr mamba(const Scope& s, const MambaOptions& options);

} // namespace mlxlm
