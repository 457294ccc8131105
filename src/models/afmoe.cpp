// AF-MoE (Arcee Trinity): norms before and behind attention and MLP,
// attention's output gated, positions in the sliding layers only.
#include <mlx/ops.h>

#include <cmath>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

Mixture experts(const Fields& f) {
  Mixture m;
  bool sigmoid = f.opt("score_func", "sigmoid") == "sigmoid";
  using Score = Routing::Score;
  m.router = {
      .experts = size_field(f, "num_experts", 0),
      .routing =
          {.top_k = size_field(f, "num_experts_per_tok", 0),
           .score = sigmoid ? Score::sigmoid : Score::softmax,
           .groups = size_field(f, "n_group", 1),
           .top_groups = size_field(f, "topk_group", 1),
           .pairs = true,
           .normalize = f.opt("route_norm", true),
           .normalize_eps = 1e-20f,
           .scale = f.opt("route_scale", 1.0f)},
      .name = "router.gate",
      .correction = "expert_bias"};
  m.inner = size_field(f, "moe_intermediate_size");
  m.shared_inner = m.inner * f.range("num_shared_experts", 0, 0, 64);
  return m;
}

} // namespace

ModelPtr afmoe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  int every = f.range("global_attn_every_n_layers", 4, 1, 1 << 20);
  auto window =
      windows(f, c.depth, [&](int i) { return (i + 1) % every != 0; });
  int dense = size_field(f, "num_dense_layers", 0);
  auto mlp = mixed_mlps(f, c, experts(f), [=](int i) { return i >= dense; });
  auto block = [&](int i, const Scope& s) {
    auto norm = [&](const char* name) {
      return rms_norm(s, name, c.hidden, c.eps);
    };
    auto at = s / "self_attn";
    auto a = c.attention();
    a.window = window[i];
    if (a.window) a.rope = rope;
    a.q_norm = rms_norm(at, "q_norm", c.head_dim, c.eps);
    a.k_norm = rms_norm(at, "k_norm", c.head_dim, c.eps);
    a.on_y = output_gate(
        at.linear("gate_proj", c.hidden, c.heads * c.head_dim),
        [](const mx::array& g) { return mx::sigmoid(g); });
    return layer(
        Sublayer{
            norm("input_layernorm"),
            attention(at, a),
            norm("post_attention_layernorm")},
        Sublayer{
            norm("pre_mlp_layernorm"),
            mlp(i, s / "mlp"),
            norm("post_mlp_layernorm")});
  };
  auto o = c.decoder(w);
  if (f.opt("mup_enabled", false))
    o.embed_scale = std::sqrt(static_cast<float>(c.hidden));
  return decoder(w, std::move(o), block);
}

} // namespace mlxlm::models
