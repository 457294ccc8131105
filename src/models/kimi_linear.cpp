// Kimi-Linear: three Kimi delta attentions to one latent attention without
// positions; DeepSeek-V3's experts.
#include <algorithm>

#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"
#include "nn/kda.h"
#include "nn/mla.h"

namespace mlxlm::models {

namespace {

// Its config in DeepSeek's words.
Fields kimi_names(const Fields& f) {
  auto out = with_aliases(
      f,
      {{"n_routed_experts", "num_experts"},
       {"num_experts_per_tok", "num_experts_per_token"},
       {"n_shared_experts", "num_shared_experts"},
       {"n_group", "num_expert_group"},
       {"norm_topk_prob", "moe_renormalize"}});
  if (!f.opt("use_grouped_topk", true))
    out = out.with({{"n_group", 1}, {"topk_group", 1}});
  if (f.has("head_dim"))
    out = with_defaults(
        out,
        {{"qk_nope_head_dim", f.req<int>("head_dim")},
         {"v_head_dim", f.req<int>("head_dim")}});
  return with_defaults(out, {{"rms_norm_eps", 1e-5}, {"qk_rope_head_dim", 0}});
}

KdaOptions delta_options(const Fields& f, const Common& c) {
  auto own = f.sub("linear_attn_config");
  auto size = [&](const char* key, const char* other, int fallback) {
    return own.range(key, f.range(other, fallback, 1, 1 << 14), 1, 1 << 14);
  };
  KdaOptions o;
  o.hidden = c.hidden;
  o.heads = size("num_heads", "linear_num_key_heads", 32);
  o.head_dim = size("head_dim", "linear_key_head_dim", 128);
  o.kernel = size("short_conv_kernel_size", "linear_conv_kernel_dim", 4);
  o.eps = c.eps;
  o.lower_bound = f.find<float>("forget_gate_lower_bound");
  return o;
}

// The lists count layers from one.
std::vector<bool> kimi_attends(const Fields& f, int depth) {
  auto linear =
      f.sub("linear_attn_config").find<std::vector<int>>("kda_layers");
  return attention_layers(
      f, depth, {"kda_attention", "linear_attention"}, [&](int i) {
        if (!linear) return i > 0 && i % 4 == 0;
        return std::find(linear->begin(), linear->end(), i + 1) ==
            linear->end();
      });
}

Mixture kimi_experts(const Fields& f) {
  auto m = sigmoid_mixture(f);
  if (f.opt("moe_router_activation_func", "sigmoid") == "softmax")
    m.router.routing.score = Routing::Score::softmax;
  m.router.correction = "e_score_correction_bias";
  return m;
}

} // namespace

ModelPtr kimi_linear(const Fields& fields, const Scope& w) {
  auto f = kimi_names(fields);
  auto c = Common::parse(f);
  auto attention = kimi_attends(f, c.depth);
  auto mlp = deepseek_mlps(f, c, kimi_experts(f));
  auto latent = latent_attention(f.with({{"attention_bias", false}}), c);
  latent.rope = {};
  auto delta = delta_options(f, c);
  auto block = [&](int i, const Scope& s) {
    auto at = s / "self_attn";
    return pre_norm_layer(
        s,
        c,
        attention[i] ? mla(at, latent) : kda(at, delta),
        mlp(i, s / "mlp"));
  };
  return decoder(w, c.decoder(w), block);
}

std::vector<Rule> kimi_linear_rules(
    const Fields& f,
    const TensorSource& source) {
  auto rules = expert_rules(
      {{"w1", "gate_proj"}, {"w2", "down_proj"}, {"w3", "up_proj"}});
  for (auto& rule : expert_rules())
    rules.push_back(rule);
  rules.push_back(rename("*.block_sparse_moe.*", "*.mlp.*"));
  rules.push_back(rename(
      "*.mlp.gate.e_score_correction_bias", "*.mlp.e_score_correction_bias"));
  for (std::string name : {"q", "k", "v"}) {
    rules.push_back(rename(
        "*." + name + "_conv.conv.weight", "*." + name + "_conv1d.weight"));
    rules.push_back(merge_axes("*." + name + "_conv1d.weight"));
  }
  flatten(rules, source, "*.self_attn.A_log");
  flatten(rules, source, "*.self_attn.dt_bias");
  rules.push_back(drop("model.mtp*"));
  for (auto& rule : drop_prediction_layers(f, source))
    rules.push_back(rule);
  return rules;
}

} // namespace mlxlm::models
