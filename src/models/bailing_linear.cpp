// Ling and Ring with linear attention in all but every few layers: lightning
// attention beside plain attention (Ring-linear) or latent attention (Ling
// 2.5), Kimi delta attention beside gated latent attention (Ling 3).
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"
#include "nn/kda.h"
#include "nn/lightning.h"
#include "nn/mla.h"

namespace mlxlm::models {

namespace {

// Configs in DeepSeek's words.
Fields renamed(const Fields& f) {
  return with_aliases(
      f,
      {{"n_routed_experts", "num_experts"},
       {"num_experts_per_tok", "num_experts_per_token"},
       {"n_shared_experts", "num_shared_experts"},
       {"n_group", "num_expert_group"},
       {"norm_topk_prob", "moe_renormalize"},
       {"score_function", "scoring_func"}});
}

// `score`: of a config that names none.
MlpMaker experts(const Fields& f, const Common& c, const char* score) {
  auto m = sigmoid_mixture(f);
  auto said = f.opt("score_function", score);
  if (said == "softmax") m.router.routing.score = Routing::Score::softmax;
  m.router.name = "gate.gate_proj";
  bool corrected = f.opt("moe_router_enable_expert_bias", said == "sigmoid");
  m.router.correction = corrected ? "gate.expert_bias" : "";
  if (f.has("moe_shared_expert_intermediate_size"))
    m.shared_inner = size_field(f, "moe_shared_expert_intermediate_size") *
        f.range("n_shared_experts", 0, 0, 1 << 10);
  if (!f.opt("moe_router_enable_shared_expert", true)) m.shared_inner = 0;
  return deepseek_mlps(f, c, m);
}

// One attention behind every group of layers, and in those left over.
std::vector<bool> attends(const Fields& f, int depth) {
  int group = f.range("layer_group_size", 1, 1 << 16);
  return attention_layers(f, depth, {"linear_attention"}, [=](int i) {
    return (i + 1) % group == 0 || i >= depth / group * group;
  });
}

LightningOptions lightning_options(
    const Fields& f,
    const Common& c,
    int head_dim,
    int place,
    const Scope& s) {
  LightningOptions o;
  o.hidden = c.hidden;
  o.heads = c.heads;
  o.head_dim = head_dim;
  o.slopes = lightning_slopes(
      c.heads,
      1 - static_cast<double>(place) / std::max(1, c.depth - 1) + 1e-5);
  o.bias = bias_if(f.opt("use_qkv_bias", false));
  o.out_bias = bias_if(f.opt("use_bias", false));
  o.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  if (f.opt("use_qk_norm", true)) {
    o.q_norm = rms_norm(s, "query_layernorm", head_dim, c.eps);
    o.k_norm = rms_norm(s, "key_layernorm", head_dim, c.eps);
  }
  o.norm_groups = f.range("group_norm_size", 1, 1 << 16);
  o.eps = c.eps;
  if (s.has("o_proj")) o.o = "o_proj";
  return o;
}

BlockPtr plain_attention(const Fields& f, const Common& c, const Scope& s) {
  auto o = c.attention();
  o.fused = "query_key_value";
  o.o = "dense";
  o.rope = Rope::from(
      f, c.head_dim, {.traditional = f.opt("rope_traditional", false)});
  o.bias = bias_if(f.opt("use_qkv_bias", false));
  o.out_bias = bias_if(f.opt("use_bias", false));
  if (f.opt("use_qk_norm", false)) {
    o.q_norm = rms_norm(s, "query_layernorm", c.head_dim, c.eps);
    o.k_norm = rms_norm(s, "key_layernorm", c.head_dim, c.eps);
  }
  return attention(s, o);
}

BlockPtr latent(const Fields& f, const Common& c, bool gated, const Scope& s) {
  auto o = latent_attention(f, c);
  o.bias = bias_if(f.opt("use_qkv_bias", false));
  o.head_gate = gated;
  o.eps = c.eps;
  o.o = "dense";
  return mla(s, o);
}

BlockPtr delta(const Fields& f, const Common& c, const Scope& s) {
  KdaOptions o;
  o.hidden = c.hidden;
  o.heads = f.range("linear_num_heads", c.heads, 1, 1 << 14);
  o.head_dim = f.range("linear_head_dim", c.head_dim, 1, 1 << 13);
  int kernel = f.range("linear_conv_kernel_dim", 4, 2, 64);
  o.kernel = f.range("short_conv_kernel_size", kernel, 2, 64);
  o.eps = c.eps;
  if (f.opt("kda_safe_gate", true))
    o.lower_bound = f.opt("kda_lower_bound", -5.0f);
  return kda(s, o);
}

DecoderOptions frame(const Fields& f, const Common& c, const Scope& w) {
  // Experts whose activations are cut off have no reference.
  for (const char* key :
       {"swiglu_limit", "swiglu_limits", "swiglu_limits_shared"})
    if (f.has(key) && f.req<Json>(key) != Json(0))
      fail(
          ErrorKind::config,
          f.where(key),
          "expected no limit of activations, found {}",
          printable(f.req<Json>(key).dump(), 80));
  auto o = c.decoder(w);
  o.embed = "model.word_embeddings";
  o.unit_columns = f.opt("norm_head", false);
  return o;
}

} // namespace

ModelPtr bailing_hybrid(const Fields& fields, const Scope& w) {
  auto f = renamed(fields);
  auto c = Common::parse(f);
  auto attention = attends(f, c.depth);
  auto mlp = experts(f, c, "sigmoid");
  auto first = std::find(attention.begin(), attention.end(), false);
  auto probe = w / "model.layers" / int(first - attention.begin());
  // Ling 2.5's fused projection; Ling 3 has none.
  bool fixed = probe.has("attention.query_key_value");
  auto rope = Rope::from(f, c.head_dim, {.partial = 0.5});
  auto block = [&](int i, const Scope& s) {
    auto at = s / "attention";
    BlockPtr mixer;
    if (attention[i]) {
      mixer = latent(f, c, !fixed, at);
    } else if (fixed) {
      auto o = lightning_options(f, c, c.head_dim, i, at);
      o.rope = rope;
      mixer = lightning(at, o);
    } else {
      mixer = delta(f, c, at);
    }
    return pre_norm_layer(s, c, std::move(mixer), mlp(i, s / "mlp"));
  };
  return decoder(w, frame(f, c, w), block);
}

ModelPtr bailing_moe_linear(const Fields& fields, const Scope& w) {
  auto f = renamed(fields);
  auto c = Common::parse(f);
  auto attention = attends(f, c.depth);
  auto mlp = experts(f, c, "softmax");
  int head_dim = c.hidden / c.heads;
  auto known = f.with({{"use_qk_norm", f.opt("use_qk_norm", false)}});
  auto rope = Rope::from(
      f, head_dim, {.traditional = f.opt("rope_traditional", false)});
  auto block = [&](int i, const Scope& s) {
    auto at = s / "attention";
    auto mix = [&] {
      auto o = lightning_options(known, c, head_dim, std::max(0, i - 1), at);
      o.rope = rope;
      return lightning(at, o);
    };
    return pre_norm_layer(
        s,
        c,
        attention[i] ? plain_attention(f, c, at) : mix(),
        mlp(i, s / "mlp"));
  };
  return decoder(w, frame(f, c, w), block);
}

std::vector<Rule> bailing_linear_rules(
    const Fields& f,
    const TensorSource& source) {
  auto rules = expert_rules();
  rules.push_back(rename("*.mlp.gate.weight", "*.mlp.gate.gate_proj.weight"));
  rules.push_back(rename("*.mlp.gate.bias", "*.mlp.gate.gate_proj.bias"));
  rules.push_back(merge_axes("*_conv1d.weight"));
  flatten(rules, source, "*.attention.A_log");
  flatten(rules, source, "*.attention.dt_bias");
  for (auto& rule : drop_prediction_layers(f, source))
    rules.push_back(rule);
  return rules;
}

} // namespace mlxlm::models
