// Qwen2 (biases on q, k, v), Qwen3 (norms on every head's q and k) and their
// mixtures of experts.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

std::vector<int> qwen_windows(const Fields& f, int depth) {
  if (!f.opt("use_sliding_window", false)) return std::vector<int>(depth, 0);
  int from = size_field(f, "max_window_layers", 28);
  return windows(f, depth, [&](int i) { return i >= from; });
}

AttentionOptions qwen3_attention(
    const Scope& s,
    const Common& c,
    const Fields& f,
    const Rope& rope) {
  auto o = c.attention();
  o.rope = rope;
  o.bias = o.out_bias = bias_if(f.opt("attention_bias", false));
  o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
  o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
  return o;
}

// Whether layer i has experts instead of one MLP.
bool sparse(const Fields& f, int i, int experts) {
  auto dense = f.opt("mlp_only_layers", std::vector<int>{});
  int step = f.range("decoder_sparse_step", 1, 1, 1 << 20);
  bool listed = std::find(dense.begin(), dense.end(), i) != dense.end();
  return !listed && experts > 0 && (i + 1) % step == 0;
}

} // namespace

ModelPtr qwen2(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto window = qwen_windows(f, c.depth);
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.bias = Bias::required;
    a.window = window[i];
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", c.mlp()));
  };
  return decoder(w, c.decoder(w), block);
}

ModelPtr qwen3(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"head_dim", 128}}));
  auto rope = Rope::from(f, c.head_dim);
  auto window = qwen_windows(f, c.depth);
  auto block = [&](int i, const Scope& s) {
    auto a = qwen3_attention(s / "self_attn", c, f, rope);
    a.window = window[i];
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", c.mlp()));
  };
  return decoder(w, c.decoder(w), block);
}

ModelPtr qwen3_moe(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"head_dim", 128}}));
  auto rope = Rope::from(f, c.head_dim);
  auto window = qwen_windows(f, c.depth);
  // transformers 5 writes the other name.
  int experts =
      size_field(f, "num_experts", size_field(f, "num_local_experts", 0));
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = experts,
      .top_k = size_field(f, "num_experts_per_tok"),
      .normalize = f.opt("norm_topk_prob", false)};
  m.experts = {
      .hidden = c.hidden,
      .inner = size_field(f, "moe_intermediate_size"),
      .experts = experts,
      .act = c.act};
  auto block = [&](int i, const Scope& s) {
    auto a = qwen3_attention(s / "self_attn", c, f, rope);
    a.window = window[i];
    auto ffn = sparse(f, i, experts) ? moe(s / "mlp", m)
                                     : gated_mlp(s / "mlp", c.mlp());
    return pre_norm_layer(s, c, attention(s / "self_attn", a), std::move(ffn));
  };
  return decoder(w, c.decoder(w), block);
}

std::vector<Rule> qwen_moe_rules(const Fields&, const TensorSource&) {
  return expert_rules();
}

} // namespace mlxlm::models
