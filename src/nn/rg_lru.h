// Griffin's recurrent block (RecurrentGemma): a short convolution and a gated
// linear recurrence, value by value, times the activation of a second branch.
#pragma once

#include "nn/block.h"
#include "nn/fused.h"

namespace mlxlm {

struct RgLruOptions {
  int hidden = 0, width = 0;
  int heads = 0; // blocks of the gates' matrices
  int kernel = 4;
  Activation act = Activation::gelu_tanh;
};

BlockPtr rg_lru(const Scope& s, const RgLruOptions& options);

} // namespace mlxlm
