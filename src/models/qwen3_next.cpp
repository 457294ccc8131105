// Qwen3-Next and Qwen3.5: three gated delta nets to one gated attention; an
// MLP, or experts beside a shared one that a sigmoid weighs.
#include "core/check.h"
#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"
#include "nn/gated_delta.h"

namespace mlxlm::models {

namespace {

BlockPtr gated_attention(const Fields& f, const Common& c, const Scope& s) {
  auto o = c.attention();
  o.rope = Rope::from(f, c.head_dim, {.partial = 0.25});
  o.bias = o.out_bias = bias_if(f.opt("attention_bias", false));
  o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
  o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
  o.gated_queries = true;
  return attention(s, o);
}

BlockPtr linear_attention(const Fields& f, const Common& c, const Scope& s) {
  GatedDeltaOptions o;
  o.hidden = c.hidden;
  o.shape = delta_shape(f, {});
  o.kernel = f.range("linear_conv_kernel_dim", 4, 2, 64);
  o.eps = c.eps;
  if (s.has("in_proj_qkvz")) o.inputs = GatedDeltaOptions::Inputs::grouped;
  return gated_delta(s, o);
}

BlockPtr next_experts(const Fields& f, const Common& c, const Scope& s) {
  int count = size_field(f, "num_experts");
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = count,
      .routing = {
          .top_k = size_field(f, "num_experts_per_tok"),
          .normalize = f.opt("norm_topk_prob", true)}};
  m.experts = {
      .hidden = c.hidden,
      .inner = size_field(f, "moe_intermediate_size"),
      .experts = count,
      .act = c.act};
  auto shared = c.mlp();
  shared.inner = size_field(f, "shared_expert_intermediate_size");
  return moe(
      s,
      m,
      gated_mlp(s / "shared_expert", shared),
      s.linear("shared_expert_gate", c.hidden, 1));
}

} // namespace

ModelPtr qwen3_next(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"head_dim", 256}}));
  int interval = f.range("full_attention_interval", 4, 1, 1 << 20);
  auto kinds = layer_types(
      f, c.depth, {"linear_attention", "full_attention"}, [&](int i) {
        return (i + 1) % interval ? "linear_attention" : "full_attention";
      });
  auto dense = f.opt("mlp_only_layers", std::vector<int>{});
  int step = f.range("decoder_sparse_step", 1, 1, 1 << 20);
  int count = size_field(f, "num_experts", 0);
  auto block = [&](int i, const Scope& s) {
    bool attends = i == c.depth || kinds[i] == "full_attention";
    bool listed = std::find(dense.begin(), dense.end(), i) != dense.end();
    bool sparse = count > 0 && !listed && (i + 1) % step == 0;
    auto mixer = attends ? gated_attention(f, c, s / "self_attn")
                         : linear_attention(f, c, s / "linear_attn");
    auto ffn =
        sparse ? next_experts(f, c, s / "mlp") : gated_mlp(s / "mlp", c.mlp());
    return pre_norm_layer(s, c, std::move(mixer), std::move(ffn));
  };
  return decoder(w, c.decoder(w), block);
}

PredictionNames qwen3_next_prediction(const Fields&) {
  auto out = prediction_names(
      "mtp",
      {{"pre_fc_norm_embedding", "token_norm"},
       {"pre_fc_norm_hidden", "hidden_norm"},
       {"fc", "proj"},
       {"norm", "norm"},
       {"layers.0", "block"}});
  out.rules.back() = drop("mtp.*"); // layers of later tokens still
  for (auto wrapped : {"model.mtp.*", "language_model.mtp.*"})
    out.rules.insert(out.rules.begin(), rename(wrapped, "mtp.*"));
  return out;
}

std::vector<Rule> qwen3_next_rules(const Fields&, const TensorSource& source) {
  // Published files store norm weights less one, MLX's with it; their
  // convolutions differ as well, [C, 1, K] and [C, K, 1].
  bool published = false;
  for (const auto& name : source.names()) {
    if (name.find("linear_attn.conv1d.weight") == std::string::npos) continue;
    const auto* view = source.find(name);
    published = view && !view->shape.empty() && view->shape.back() != 1;
    break;
  }
  auto rules = expert_rules();
  rules.push_back(merge_axes("*.conv1d.weight"));
  rules.push_back(drop("mtp.*"));
  rules.push_back(drop("*.mtp.*"));
  if (published)
    for (auto name :
         {"*layernorm.weight",
          "model.norm.weight",
          "*.q_norm.weight",
          "*.k_norm.weight",
          "prediction.token_norm.weight",
          "prediction.hidden_norm.weight",
          "prediction.norm.weight"})
      rules.push_back(offset(name, 1));
  return rules;
}

} // namespace mlxlm::models
