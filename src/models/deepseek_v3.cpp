// DeepSeek-V3: latent attention; leading dense layers, then experts chosen by
// sigmoid scores inside groups, and a shared expert.
#include <cmath>

#include "models/common.h"
#include "models/families.h"
#include "nn/mla.h"

namespace mlxlm::models {

namespace {

// YaRN: the softmax scale grows with the context extension.
float yarn_scale(const Fields& f, int dim) {
  auto r = f.is_object("rope_parameters") ? f.sub("rope_parameters")
                                          : f.sub("rope_scaling");
  double scale = 1 / std::sqrt(static_cast<double>(dim));
  double all = r.opt<double>("mscale_all_dim", 0);
  auto type = r.opt("rope_type", r.opt("type", "default").c_str());
  if (all != 0 && type != "default") {
    double m = yarn_mscale(r.req<double>("factor"), all);
    scale *= m * m;
  }
  return static_cast<float>(scale);
}

} // namespace

ModelPtr deepseek_v3(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  MlaOptions a;
  a.hidden = c.hidden;
  a.heads = c.heads;
  a.q_rank = size_field(f, "q_lora_rank", 0);
  a.kv_rank = size_field(f, "kv_lora_rank");
  a.nope_dim = size_field(f, "qk_nope_head_dim");
  a.rope_dim = size_field(f, "qk_rope_head_dim");
  a.v_dim = size_field(f, "v_head_dim");
  a.rope = Rope::from(
      f,
      a.rope_dim,
      {.traditional = f.opt("rope_interleave", true), .dims = a.rope_dim});
  a.scale = yarn_scale(f, a.nope_dim + a.rope_dim);
  a.bias = bias_if(f.opt("attention_bias", false));

  int experts = size_field(f, "n_routed_experts", 0);
  int dense = size_field(f, "first_k_dense_replace", 0);
  int every = f.range("moe_layer_freq", 1, 1, 1 << 20);
  int expert_inner = size_field(f, "moe_intermediate_size", 0);
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = experts,
      .top_k = size_field(f, "num_experts_per_tok", 1),
      .score = RouterOptions::Score::sigmoid,
      .groups = size_field(f, "n_group", 1),
      .top_groups = size_field(f, "topk_group", 1),
      .pairs = true,
      .normalize = f.opt("norm_topk_prob", true),
      .normalize_eps = 1e-20f,
      .scale = f.opt("routed_scaling_factor", 1.0f),
      .correction = "gate.e_score_correction_bias"};
  m.experts = {
      .hidden = c.hidden,
      .inner = expert_inner,
      .experts = experts,
      .act = c.act};
  auto common = c.mlp();
  common.inner = expert_inner * size_field(f, "n_shared_experts", 0);

  auto block = [&](int i, const Scope& s) {
    bool sparse = experts > 0 && i >= dense && i % every == 0;
    auto at = s / "mlp";
    auto shared = [&] {
      return common.inner ? gated_mlp(at / "shared_experts", common) : nullptr;
    };
    auto ffn = sparse ? moe(at, m, shared()) : gated_mlp(at, c.mlp());
    return pre_norm_layer(s, c, mla(s / "self_attn", a), std::move(ffn));
  };
  return decoder(w, c.decoder(w), block);
}

std::vector<Rule> deepseek_v3_rules(const Fields& f, const TensorSource&) {
  auto rules = drop_prediction_layers(f);
  for (auto& r : expert_rules())
    rules.push_back(std::move(r));
  return rules;
}

} // namespace mlxlm::models
