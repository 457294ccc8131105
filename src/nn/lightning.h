// Lightning attention: a linear attention with a fixed decay for each head,
// earlier tokens forgotten at a rate that grows with the head and falls with
// the layer. A prompt runs in chunks, as matrix products.
#pragma once

#include <string>
#include <vector>

#include "nn/block.h"
#include "nn/fused.h"
#include "nn/rope.h"

namespace mlxlm {

struct LightningOptions {
  int hidden = 0, heads = 0, head_dim = 0;
  std::vector<float> slopes = {}; // a head: its state decays by e^-slope
  Bias bias = Bias::none, out_bias = Bias::none;
  float scale = 1; // of queries
  Rope rope = {};
  Norm q_norm = {}, k_norm = {}; // of each head
  bool activated = false; // silu of q, k and v (MiniMax)
  bool by_head = false; // the fused rows go head by head, its q, k and v
  // Of what it read, in groups; then times the sigmoid of `gate`.
  int norm_groups = 1;
  float eps = 1e-5f;
  std::string qkv = "query_key_value", gate = "g_proj", norm = "g_norm";
  std::string o = "dense";
};

BlockPtr lightning(const Scope& s, const LightningOptions& options);

// Slopes as ALiBi spreads them, times `factor`.
std::vector<float> lightning_slopes(int heads, double factor);

} // namespace mlxlm
