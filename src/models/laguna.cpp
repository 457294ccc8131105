// Laguna and Mellum: layers that slide turn otherwise than those that see
// everything; norms of q and k; experts. Laguna's layers differ in their number
// of heads, whose results are gated.
#include <mlx/ops.h>

#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

using Activate = std::function<mx::array(const mx::array&)>;

mx::array softplus(const mx::array& x) {
  auto wide = mx::astype(x, mx::float32);
  return mx::astype(mx::logaddexp(wide, mx::array(0.0f)), x.dtype());
}

// Values a head that gate what attention returned; 0: no gate.
int gate_width(const Fields& f, int head_dim) {
  constexpr auto key = "gating";
  if (!f.has(key)) return 1;
  auto value = f.req<Json>(key);
  if (value.is_boolean()) return value == true ? 1 : 0;
  auto name = f.req<std::string>(key);
  if (name == "per-head") return 1;
  if (name == "per-element") return head_dim;
  fail(
      ErrorKind::config,
      f.where(key),
      "expected true, false, per-head or per-element, found \"{}\"",
      printable(name));
}

Activate laguna_scores(const Fields& f) {
  auto name = f.opt("moe_router_score_func", "sigmoid");
  if (name != "sigmoid" && name != "sqrtsoftplus")
    fail(
        ErrorKind::config,
        f.where("moe_router_score_func"),
        "expected sigmoid or sqrtsoftplus, found \"{}\"",
        printable(name));
  float softcap = f.opt("moe_router_logit_softcapping", 0.0f);
  return [=, sigmoid = name == "sigmoid"](const mx::array& logits) {
    auto cap = mx::array(softcap);
    auto x = softcap > 0 ? mx::tanh(logits / cap) * cap : logits;
    return sigmoid ? mx::sigmoid(x) : mx::sqrt(softplus(x));
  };
}

Mixture laguna_experts(const Fields& f) {
  constexpr auto on_input = "moe_apply_router_weight_on_input";
  if (f.opt(on_input, false))
    fail(ErrorKind::config, f.where(on_input), "expected false, found true");
  Mixture m;
  m.router = {
      .experts = size_field(f, "num_experts"),
      .routing =
          {.top_k = size_field(f, "num_experts_per_tok"),
           .normalize = true,
           .scale = f.opt("moe_routed_scaling_factor", 1.0f)},
      .correction = "gate.e_score_correction_bias",
      .scores = laguna_scores(f)};
  m.inner = size_field(f, "moe_intermediate_size");
  m.shared_inner = size_field(f, "shared_expert_intermediate_size");
  m.shared = "shared_expert";
  return m;
}

struct Ropes {
  Rope full, sliding;
  const Rope& of(int window) const {
    return window ? sliding : full;
  }
};

} // namespace

ModelPtr laguna(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto window = windows(f, c.depth, [](int) { return false; });
  // What a config without `rope_parameters` means.
  bool plain = !f.is_object("rope_parameters");
  Ropes ropes{
      Rope::from(
          f,
          c.head_dim,
          {.layer_type = "full_attention",
           .theta = plain ? 500000.0 : 10000.0,
           .partial = plain ? 0.5 : 1}),
      Rope::from(f, c.head_dim, {.layer_type = "sliding_attention"})};
  bool biased = f.opt("attention_bias", false);
  int width = gate_width(f, c.head_dim);
  auto mlp = mixed_mlps(f, c, laguna_experts(f), [](int i) { return i > 0; });
  return plain_decoder(
      w, c, mlp, [&](int i, const Scope& s, AttentionOptions& o) {
        o.heads = layer_field(
            f, "num_attention_heads_per_layer", i, c.heads, 1 << 14);
        o.window = window[i];
        o.rope = ropes.of(window[i]);
        o.bias = bias_if(f.opt("qkv_bias", biased));
        o.out_bias = bias_if(biased);
        o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
        o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
        if (width)
          o.on_y = output_gate(
              s.linear("g_proj", c.hidden, o.heads * width), softplus);
      });
}

ModelPtr mellum(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto window = windows(f, c.depth, [](int) { return false; });
  Ropes ropes{
      Rope::from(f, c.head_dim, {.layer_type = "full_attention"}),
      Rope::from(f, c.head_dim, {.layer_type = "sliding_attention"})};
  auto bias = bias_if(f.opt("attention_bias", false));
  Mixture m;
  m.router = {
      .experts =
          size_field(f, "num_experts", size_field(f, "num_local_experts", 0)),
      .routing = {
          .top_k = size_field(f, "num_experts_per_tok"),
          .normalize = f.opt("norm_topk_prob", true)}};
  m.inner = size_field(f, "moe_intermediate_size");
  auto mlp = mixed_mlps(f, c, m, [](int) { return true; });
  return plain_decoder(
      w, c, mlp, [&](int i, const Scope& s, AttentionOptions& o) {
        o.window = window[i];
        o.rope = ropes.of(window[i]);
        o.bias = o.out_bias = bias;
        o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
        o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
      });
}

std::vector<Rule> laguna_rules(const Fields& f, const TensorSource& source) {
  auto rules = sigmoid_expert_rules(f, source);
  rules.push_back(rename(
      "*.mlp.experts.e_score_correction_bias",
      "*.mlp.gate.e_score_correction_bias"));
  rules.push_back(rename("*.mlp.shared_experts.*", "*.mlp.shared_expert.*"));
  return rules;
}

} // namespace mlxlm::models
