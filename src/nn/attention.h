// Grouped-query attention. What the cache remembers and how is its own
// business: the block says q, k, v and asks it to attend.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "nn/block.h"
#include "nn/rope.h"

namespace mlxlm {

struct AttentionOptions {
  int hidden = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int v_dim = 0; // 0: head_dim
  Rope rope = {}; // none: no positions
  Bias bias = Bias::none; // of q, k, v
  Bias out_bias = Bias::none;
  // Of width head_dim: head by head; otherwise over the whole projection.
  Norm q_norm = {}, k_norm = {};
  bool norm_after_rope = false;
  float scale = 0; // 0: head_dim ^ -0.5
  float softcap = 0; // cap * tanh(score / cap)
  int window = 0; // > 0: a token sees itself and window - 1 before
  bool chunked = false; // only those of its own chunk of `window` tokens
  bool sinks = false; // `sinks`: a logit a head that takes mass
  float clip = 0; // > 0: q, k, v are cut to [-clip, clip]
  // q_proj is twice as wide: each head's second half, through a sigmoid,
  // multiplies what attention returns (Qwen3-Next and later).
  bool gated_queries = false;
  // Queries grow beyond the original context, see query_temperature.
  float temperature = 0;
  int temperature_length = 0, temperature_first = 0;
  bool values_are_keys = false; // v is what k is before norm and rope
  // >= 0: no k and v of its own; attends to those of this memory layer.
  int source = -1;
  // The last thing done to queries, keys and values [1, N, H, D].
  using Change = std::function<mx::array(const mx::array&)>;
  Change on_q = {}, on_k = {}, on_v = {};
  // To what attention returned, [1, N, H, Dv], before the output projection;
  // x is the block's input.
  std::function<mx::array(const mx::array& y, const mx::array& x)> on_y = {};
  // Names. `fused`: one matrix with the rows of q, k and v instead of three.
  std::string q = "q_proj", k = "k_proj", v = "v_proj", o = "o_proj";
  std::string fused = {};
  // Its rows go group by group: the queries of a key-value head, its k, its v.
  bool fused_by_group = false;
};

BlockPtr attention(const Scope& s, const AttentionOptions& options);

} // namespace mlxlm
