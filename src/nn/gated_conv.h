// The short gated convolution of LFM2: [b, c, x] = in(h), out(c * conv(b * x)).
#pragma once

#include "nn/block.h"

namespace mlxlm {

struct GatedConvOptions {
  int hidden = 0;
  int kernel = 3; // taps
  Bias bias = Bias::none; // of the convolution and both projections
};

BlockPtr gated_conv(const Scope& s, const GatedConvOptions& options);

} // namespace mlxlm
