// LongCat-Flash: a layer holds two latent attentions and two MLPs; a mixture of
// experts reads after the first attention and joins when the layer ends. Some
// of the experts to choose from compute nothing: they hand the token on.
#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

class ZeroExpertMoe : public Block {
 public:
  ZeroExpertMoe(
      const Scope& s,
      const RouterOptions& router,
      const ExpertOptions& experts)
      : router_(s / "router", router),
        experts_(s / "switch_mlp", experts),
        count_(experts.experts) {}

  mx::array operator()(const mx::array& x, const Step&, LayerCache*)
      const override {
    auto rows = mx::squeeze(x, 0); // [T, hidden]
    auto [ids, weights] = router_(rows);
    auto zero = mx::greater_equal(ids, mx::array(count_, ids.dtype()));
    auto none = mx::array(0.0f);
    auto real = mx::where(zero, mx::array(0, ids.dtype()), ids);
    auto parts = experts_(rows, real); // [T, k, hidden]
    auto as = [&](const mx::array& w) { return mx::astype(w, x.dtype()); };
    auto w = mx::expand_dims(as(mx::where(zero, none, weights)), -1);
    auto kept = as(mx::sum(mx::where(zero, weights, none), -1, true));
    return mx::expand_dims(mx::sum(parts * w, 1) + rows * kept, 0);
  }

 private:
  Router router_;
  Experts experts_;
  int count_;
};

MlaOptions longcat_attention(const Fields& f, const Common& c) {
  auto a = latent_attention(f, c);
  auto growth = [&](int rank) {
    return std::sqrt(static_cast<float>(c.hidden) / static_cast<float>(rank));
  };
  // A factor of all queries is one of the scores.
  if (a.q_rank && f.opt("mla_scale_q_lora", true)) a.scale *= growth(a.q_rank);
  if (f.opt("mla_scale_kv_lora", true)) a.latent_scale = growth(a.kv_rank);
  return a;
}

void check_zero_experts(const Fields& f) {
  auto type = f.opt("zero_expert_type", "identity");
  if (type != "identity")
    fail(
        ErrorKind::config,
        f.where("zero_expert_type"),
        "expected \"identity\", found \"{}\"",
        printable(type));
}

} // namespace

ModelPtr longcat_flash(const Fields& config, const Scope& w) {
  auto f = config.with(
      {{"num_hidden_layers", size_field(config, "num_layers")},
       {"intermediate_size", size_field(config, "ffn_hidden_size")}});
  check_zero_experts(f);
  auto c = latent_common(f);
  auto a = longcat_attention(f, c);
  ExpertOptions experts{
      .hidden = c.hidden,
      .inner = size_field(f, "expert_ffn_hidden_size"),
      .experts = size_field(f, "n_routed_experts"),
      .act = c.act};
  RouterOptions router{
      .hidden = c.hidden,
      .experts = experts.experts + size_field(f, "zero_expert_num", 0),
      .routing =
          {.top_k = size_field(f, "moe_topk"),
           .normalize = f.opt("norm_topk_prob", false),
           .normalize_eps = 1e-20f,
           .scale = f.opt("routed_scaling_factor", 1.0f)},
      .name = "classifier",
      .bias = bias_if(f.opt("router_bias", false)),
      .correction = "e_score_correction_bias"};
  auto norm = [&](const Scope& s, const char* name, int i) {
    return rms_norm(s / name, std::to_string(i), c.hidden, c.eps);
  };
  auto block = [&](int i, const Scope& s) {
    if (i == c.depth) // what predicts further tokens
      return pre_norm_layer(
          s, c, mla(s / "self_attn", a), gated_mlp(s / "mlp", c.mlp()));
    auto at = [&](const char* name, int i) { return s / name / i; };
    return layer(
        Sublayer{norm(s, "input_layernorm", 0), mla(at("self_attn", 0), a)},
        Sublayer{
            norm(s, "post_attention_layernorm", 0),
            gated_mlp(at("mlps", 0), c.mlp())},
        Sublayer{
            .op = std::make_unique<ZeroExpertMoe>(s / "mlp", router, experts),
            .beside = true,
            .late = true},
        Sublayer{norm(s, "input_layernorm", 1), mla(at("self_attn", 1), a)},
        Sublayer{
            norm(s, "post_attention_layernorm", 1),
            gated_mlp(at("mlps", 1), c.mlp())});
  };
  return decoder(w, c.decoder(w), block);
}

PredictionNames longcat_flash_prediction(const Fields&) {
  auto out = prediction_names(
      "model.mtp.layers.0",
      {{"enorm.m", "token_norm"},
       {"hnorm.m", "hidden_norm"},
       {"eh_proj", "proj"},
       {"transformer_layer.mlp", "block.mlp"}});
  out.rules.insert(
      out.rules.begin(), rename("model.mtp.norm.*", "prediction.norm.*"));
  return out;
}

std::vector<Rule> longcat_flash_rules(const Fields&, const TensorSource&) {
  auto rules = expert_rules();
  rules.push_back(drop("model.mtp.*"));
  return rules;
}

} // namespace mlxlm::models
