// Multi-head latent attention (DeepSeek): keys and values are compressed to one
// latent row a token, which is all the cache keeps. Attention runs in the
// latent space: the key projection is applied to the queries, the value
// projection to the result.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "nn/block.h"
#include "nn/indexer.h"
#include "nn/rope.h"

namespace mlxlm {

struct MlaOptions {
  int hidden = 0, heads = 0;
  int q_rank = 0; // 0: queries straight from the hidden state
  int kv_rank = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;
  Rope rope = {};
  float scale = 0; // 0: (nope_dim + rope_dim) ^ -0.5
  float latent_scale = 1; // of the normed latent row (LongCat)
  float eps = 1e-6f;
  Bias bias = Bias::none; // of the down projections and the output
  float temperature = 0; // see query_temperature
  int temperature_length = 0;
  bool head_gate = false; // `g_proj`: what a head returns, times a sigmoid
  std::string o = "o_proj";
  // Sparse attention: with an indexer, which writes its choice down, or with
  // the choice of an earlier layer.
  std::optional<IndexerOptions> indexer = {};
  ChoicePtr choice = {};
};

// Understands `kv_b_proj` (published checkpoints) and its halves by head,
// `embed_q` and `unembed_out` (MLX).
BlockPtr mla(const Scope& s, const MlaOptions& options);

} // namespace mlxlm
