// Hunyuan with experts: norms of q and k behind the rotation, a shared MLP
// beside the experts; Hunyuan-Large lets several layers share keys and values.
#include <mlx/ops.h>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

BlockPtr layer_mlp(
    const Fields& f,
    const Common& c,
    bool normalize,
    int i,
    const Scope& s) {
  int experts = layer_field(f, "num_experts", i, 1);
  if (experts == 1) return gated_mlp(s, c.mlp());
  Mixture m;
  m.router = {
      .experts = experts,
      .routing =
          {.top_k = layer_field(f, "moe_topk", i, 1), .normalize = normalize},
      .name = "gate.wg"};
  m.inner = layer_field(f, "moe_intermediate_size", i, c.inner);
  m.shared = "shared_mlp";
  if (f.opt("use_mixed_mlp_moe", true))
    m.shared_inner = c.inner * layer_field(f, "num_shared_expert", i, 1, 64);
  return mixture(s, c, m);
}

// Layers i, i + 1 ... of a group of `factor` have the keys and values of the
// first, but norm weights of their own: keys are kept without a weight, which
// goes to the queries instead.
void share_keys(
    const Scope& s,
    const Common& c,
    int i,
    int factor,
    bool normed,
    AttentionOptions& o) {
  if (i % factor != 0) o.source = i - i % factor;
  if (!normed) return;
  auto weight = s.param("key_layernorm.weight", {c.head_dim});
  o.k_norm = rms_norm(c.eps);
  o.on_q = [weight](const mx::array& q) { return q * *weight; };
}

ModelPtr build(
    const Fields& f,
    const Scope& w,
    const Common& c,
    bool normalize) {
  auto rope = Rope::from(f, c.head_dim);
  auto bias = bias_if(f.opt("attention_bias", false));
  bool normed = f.opt("use_qk_norm", true);
  int factor =
      f.opt("use_cla", false) ? f.range("cla_share_factor", 2, 1, 1 << 10) : 1;
  auto mlp = [&](int i, const Scope& s) {
    return layer_mlp(f, c, normalize, i, s);
  };
  return plain_decoder(
      w, c, MlpMaker(mlp), [&](int i, const Scope& s, AttentionOptions& o) {
        o.rope = rope;
        o.bias = o.out_bias = bias;
        o.norm_after_rope = true;
        if (s.has("qkv_proj")) {
          o.fused = "qkv_proj";
          o.fused_by_group = true;
        }
        if (normed) {
          o.q_norm = rms_norm(s, "query_layernorm", c.head_dim, c.eps);
          if (factor == 1)
            o.k_norm = rms_norm(s, "key_layernorm", c.head_dim, c.eps);
        }
        if (factor > 1) share_keys(s, c, i, factor, normed, o);
      });
}

} // namespace

ModelPtr hunyuan(const Fields& f, const Scope& w) {
  return build(
      f, w, Common::parse(f.with({{"tie_word_embeddings", true}})), false);
}

ModelPtr hunyuan_v1_moe(const Fields& f, const Scope& w) {
  return build(f, w, Common::parse(f), true);
}

std::vector<Rule> hunyuan_rules(const Fields&, const TensorSource&) {
  std::vector<Rule> rules = {
      split("*.gate_and_up_proj.*", {"*.up_proj.*", "*.gate_proj.*"})};
  for (auto& r : expert_rules())
    rules.push_back(std::move(r));
  return rules;
}

} // namespace mlxlm::models
