// Granite: Llama with four multipliers (embedding, score, residual, logits);
// GraniteMoE has experts whose gate and up come in one tensor.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

using MakeMlp = std::function<BlockPtr(const Scope& s)>;

ModelPtr build(
    const Fields& f,
    const Scope& w,
    const Common& c,
    const MakeMlp& mlp) {
  auto rope = Rope::from(f, c.head_dim);
  float residual = f.opt("residual_multiplier", 1.0f);
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.scale = f.opt("attention_multiplier", 1.0f);
    a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
    auto l = pre_norm_layer(s, c, attention(s / "self_attn", a), mlp(s));
    for (auto& part : l.parts)
      part.scale = residual;
    return l;
  };
  auto o = c.decoder(w);
  o.embed_scale = f.opt("embedding_multiplier", 1.0f);
  o.logit_scale = 1 / f.opt("logits_scaling", 1.0f);
  return decoder(w, std::move(o), block);
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
  int experts = size_field(f, "num_local_experts");
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = experts,
      .top_k = size_field(f, "num_experts_per_tok"),
      .normalize = true,
      .name = "router.layer"};
  m.experts = {
      .hidden = c.hidden, .inner = c.inner, .experts = experts, .act = c.act};
  return build(
      f, w, c, [&](const Scope& s) { return moe(s / "block_sparse_moe", m); });
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
          "*.block_sparse_moe.switch_mlp.down_proj.*")};
}

} // namespace mlxlm::models
