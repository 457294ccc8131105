// Qwen2 (biases on q, k, v), Qwen3 (norms on every head's q and k) and their
// mixtures of experts.
#include <algorithm>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// One entry more than there are layers, for what predicts further tokens.
std::vector<int> qwen_windows(const Fields& f, int depth) {
  if (!f.opt("use_sliding_window", false))
    return std::vector<int>(depth + 1, 0);
  int from = size_field(f, "max_window_layers", 28);
  auto out = windows(f, depth, [&](int i) { return i >= from; });
  out.push_back(0);
  return out;
}

Adjust qwen2_attention(const Fields& f, const Common& c) {
  auto rope = Rope::from(f, c.head_dim);
  auto window = qwen_windows(f, c.depth);
  auto bias = bias_if(f.opt("qkv_bias", true));
  return [=](int i, const Scope&, AttentionOptions& o) {
    o.rope = rope;
    o.bias = bias;
    o.window = window[i];
  };
}

Adjust qwen3_attention(const Fields& f, const Common& c) {
  auto rope = Rope::from(f, c.head_dim);
  auto window = qwen_windows(f, c.depth);
  auto bias = bias_if(f.opt("attention_bias", false));
  return [=](int i, const Scope& s, AttentionOptions& o) {
    o.rope = rope;
    o.bias = o.out_bias = bias;
    o.window = window[i];
    o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
    o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
  };
}

MoeOptions qwen_experts(const Fields& f, const Common& c) {
  // transformers 5 writes the other name.
  int count =
      size_field(f, "num_experts", size_field(f, "num_local_experts", 0));
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = count,
      .routing = {
          .top_k = size_field(f, "num_experts_per_tok"),
          .normalize = f.opt("norm_topk_prob", false)}};
  m.experts = {
      .hidden = c.hidden,
      .inner = size_field(f, "moe_intermediate_size"),
      .experts = count,
      .act = c.act};
  return m;
}

// Whether layer i has experts instead of one MLP.
bool sparse(const Fields& f, int i, int experts) {
  auto dense = f.opt("mlp_only_layers", std::vector<int>{});
  int step = f.range("decoder_sparse_step", 1, 1, 1 << 20);
  bool listed = std::find(dense.begin(), dense.end(), i) != dense.end();
  return !listed && experts > 0 && (i + 1) % step == 0;
}

ModelPtr mixture(
    const Fields& f,
    const Scope& w,
    const Common& c,
    const Adjust& adjust) {
  auto m = qwen_experts(f, c);
  auto shared = c.mlp();
  shared.inner = size_field(f, "shared_expert_intermediate_size", 0);
  auto sparse_mlp = [&](const Scope& s) {
    if (shared.inner == 0) return moe(s, m);
    return moe(
        s,
        m,
        gated_mlp(s / "shared_expert", shared),
        s.linear("shared_expert_gate", c.hidden, 1));
  };
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    auto at = s / "self_attn";
    adjust(i, at, a);
    auto mlp = sparse(f, i, m.router.experts) ? sparse_mlp(s / "mlp")
                                              : gated_mlp(s / "mlp", c.mlp());
    return pre_norm_layer(s, c, attention(at, a), std::move(mlp));
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace

ModelPtr qwen2(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  return plain_decoder(w, c, c.mlp(), qwen2_attention(f, c));
}

ModelPtr qwen3(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"head_dim", 128}}));
  return plain_decoder(w, c, c.mlp(), qwen3_attention(f, c));
}

ModelPtr qwen2_moe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  return mixture(f, w, c, qwen2_attention(f, c));
}

ModelPtr qwen3_moe(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"head_dim", 128}}));
  return mixture(f, w, c, qwen3_attention(f, c));
}

// MiMo is Qwen2 with layers that predict further tokens.
ModelPtr mimo(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  c.prediction.hidden_first = true;
  return plain_decoder(w, c, c.mlp(), qwen2_attention(f, c));
}

std::vector<Rule> mimo_rules(const Fields&, const TensorSource&) {
  return {drop("model.mtp_layers.*")};
}

PredictionNames mimo_prediction(const Fields&) {
  return prediction_names(
      "model.mtp_layers.0",
      {{"token_layernorm", "token_norm"},
       {"hidden_layernorm", "hidden_norm"},
       {"input_proj", "proj"},
       {"final_layernorm", "norm"}});
}

} // namespace mlxlm::models
