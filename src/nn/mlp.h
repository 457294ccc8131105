// Multilayer perceptrons: act(gate) * up, gate and up apart or fused, and the
// plain up, act, down.
#pragma once

#include <functional>
#include <string>

#include "nn/block.h"
#include "nn/fused.h"

namespace mlxlm {

struct MlpOptions {
  int hidden = 0, inner = 0;
  Activation act = Activation::silu;
  Bias bias = Bias::none;
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  // One matrix with the rows of gate, then up, instead of two.
  std::string fused = {};
  Norm inner_norm = {}; // before `down`
  // Instead of act(gate) * up.
  std::function<mx::array(const mx::array& gate, const mx::array& up)> join =
      {};
};

BlockPtr gated_mlp(const Scope& s, const MlpOptions& options);
// down(act(up(x)))
BlockPtr plain_mlp(const Scope& s, const MlpOptions& options);

} // namespace mlxlm
