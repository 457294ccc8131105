// Granite: Llama with four multipliers (embedding, score, residual, logits);
// GraniteMoE has experts whose gate and up come in one tensor; Granite 4 has
// Mamba-2 in most layers and an MLP beside the experts.
#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"

namespace mlxlm::models {

namespace {

using MakeMlp = std::function<BlockPtr(const Scope& s)>;
using MakeMixer = std::function<BlockPtr(int index, const Scope& s)>;

BlockPtr attends(
    const Fields& f,
    const Common& c,
    const Rope& rope,
    const Scope& s) {
  auto a = c.attention();
  a.rope = rope;
  a.scale = f.opt("attention_multiplier", 1.0f);
  a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
  return attention(s / "self_attn", a);
}

ModelPtr build(
    const Fields& f,
    const Scope& w,
    const Common& c,
    const MakeMixer& mixer,
    const MakeMlp& mlp) {
  float residual = f.opt("residual_multiplier", 1.0f);
  auto block = [&](int i, const Scope& s) {
    auto l = pre_norm_layer(s, c, mixer(i, s), mlp(s));
    for (auto& part : l.parts)
      part.scale = residual;
    return l;
  };
  auto o = c.decoder(w);
  o.embed_scale = f.opt("embedding_multiplier", 1.0f);
  o.logit_scale = 1 / f.opt("logits_scaling", 1.0f);
  return decoder(w, std::move(o), block);
}

ModelPtr build(
    const Fields& f,
    const Scope& w,
    const Common& c,
    const MakeMlp& mlp) {
  auto rope = Rope::from(f, c.head_dim);
  auto mixer = [&](int, const Scope& s) { return attends(f, c, rope, s); };
  return build(f, w, c, mixer, mlp);
}

BlockPtr experts(
    const Fields& f,
    const Common& c,
    const Scope& s,
    BlockPtr shared = nullptr) {
  int count = size_field(f, "num_local_experts");
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = count,
      .routing =
          {.top_k = size_field(f, "num_experts_per_tok"), .normalize = true},
      .name = "router.layer"};
  m.experts = {
      .hidden = c.hidden, .inner = c.inner, .experts = count, .act = c.act};
  return moe(s / "block_sparse_moe", m, std::move(shared));
}

// The dense MLP: published files have it under `shared_mlp`, MLX's apart.
BlockPtr shared_mlp(const Fields& f, const Common& c, const Scope& s) {
  auto m = c.mlp();
  if ((s / "mlp").has("gate_proj")) {
    m.bias = bias_if(f.opt("mlp_bias", false));
    return gated_mlp(s / "mlp", m);
  }
  m.inner = size_field(f, "shared_intermediate_size", c.inner);
  m.fused = "input_linear";
  m.down = "output_linear";
  return gated_mlp(s / "shared_mlp", m);
}

} // namespace

ModelPtr granite(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  return build(
      f, w, c, [&](const Scope& s) { return gated_mlp(s / "mlp", m); });
}

ModelPtr granitemoe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  return build(f, w, c, [&](const Scope& s) { return experts(f, c, s); });
}

ModelPtr granitemoehybrid(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  Rope rope;
  if (f.opt("position_embedding_type", "nope") == std::string("rope"))
    rope = Rope::from(f, c.head_dim);
  auto attention = attention_layers(
      f, c.depth, {"mamba", "linear_attention"}, [](int) { return false; });
  int inner = c.hidden * f.range("mamba_expand", 2, 1, 64);
  auto mixer = [&](int i, const Scope& s) {
    return attention[i]
        ? attends(f, c, rope, s)
        : mamba2(s / "mamba", mamba2_options(f, c, bamba_keys, inner));
  };
  bool sparse = size_field(f, "num_local_experts", 0) > 0;
  return build(f, w, c, mixer, [&](const Scope& s) {
    auto common = shared_mlp(f, c, s);
    return sparse ? experts(f, c, s, std::move(common)) : std::move(common);
  });
}

std::vector<Rule> granitemoe_rules(const Fields&, const TensorSource&) {
  return {
      split(
          "*.block_sparse_moe.input_linear.weight",
          {"*.block_sparse_moe.switch_mlp.gate_proj.weight",
           "*.block_sparse_moe.switch_mlp.up_proj.weight"},
          1),
      rename(
          "*.block_sparse_moe.output_linear.*",
          "*.block_sparse_moe.switch_mlp.down_proj.*"),
      merge_axes("*.conv1d.weight")};
}

} // namespace mlxlm::models
