// LFM2: short gated convolutions and a few attentions; an MLP, or, in LFM2-MoE
// after the first layers, experts.
#include <algorithm>

#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"
#include "nn/gated_conv.h"

namespace mlxlm::models {

namespace {

Common lfm2_common(const Fields& f) {
  auto known = with_aliases(
      f,
      {{"tie_word_embeddings", "tie_embedding"}, {"rms_norm_eps", "norm_eps"}});
  auto c = Common::parse(with_defaults(known, {{"rms_norm_eps", 1e-5}}), true);
  c.inner = size_field(f, "block_ff_dim", c.inner);
  return c;
}

// Two thirds of the stated width, times a factor, rounded up to a multiple.
int adjusted(const Fields& f, int inner) {
  if (!f.opt("block_auto_adjust_ff_dim", true)) return inner;
  inner = 2 * inner / 3;
  inner = static_cast<int>(f.opt("block_ffn_dim_multiplier", 1.0) * inner);
  int multiple = f.range("block_multiple_of", 256, 1, 1 << 20);
  return (inner + multiple - 1) / multiple * multiple;
}

BlockPtr full_attention(const Common& c, const Rope& rope, const Scope& s) {
  auto o = c.attention();
  o.rope = rope;
  o.q_norm = rms_norm(s, "q_layernorm", c.head_dim, c.eps);
  o.k_norm = rms_norm(s, "k_layernorm", c.head_dim, c.eps);
  o.o = "out_proj";
  return attention(s, o);
}

ModelPtr build(
    const Fields& f,
    const Scope& w,
    const Common& c,
    const MlpMaker& mlp) {
  auto rope = Rope::from(f, c.head_dim, {.theta = 1e6});
  auto listed = f.find<std::vector<int>>("full_attn_idxs");
  auto attends =
      attention_layers(f, c.depth, {"conv", "short_conv"}, [&](int i) {
        return !listed ||
            std::find(listed->begin(), listed->end(), i) != listed->end();
      });
  GatedConvOptions conv;
  conv.hidden = c.hidden;
  conv.kernel = f.range("conv_L_cache", 3, 2, 64);
  conv.bias = bias_if(f.opt("conv_bias", false));
  auto block = [&](int i, const Scope& s) {
    return layer(
        Sublayer{
            rms_norm(s, "operator_norm", c.hidden, c.eps),
            attends[i] ? full_attention(c, rope, s / "self_attn")
                       : gated_conv(s / "conv", conv)},
        Sublayer{
            rms_norm(s, "ffn_norm", c.hidden, c.eps),
            mlp(i, s / "feed_forward")});
  };
  return decoder(w, c.decoder(w, "model.embedding_norm"), block);
}

} // namespace

ModelPtr lfm2(const Fields& f, const Scope& w) {
  auto c = lfm2_common(f);
  c.inner = adjusted(f, c.inner);
  return build(
      f, w, c, [&](int, const Scope& s) { return gated_mlp(s, c.mlp()); });
}

ModelPtr lfm2_moe(const Fields& f, const Scope& w) {
  auto c = lfm2_common(f);
  auto m =
      sigmoid_mixture(with_aliases(f, {{"n_routed_experts", "num_experts"}}));
  m.router.routing.normalize_eps = 1e-6f;
  m.router.correction = f.opt("use_expert_bias", true) ? "expert_bias" : "";
  int dense = f.range("num_dense_layers", 2, 0, 4096);
  return build(f, w, c, mixed_mlps(f, c, m, [=](int i) { return i >= dense; }));
}

std::vector<Rule> lfm2_rules(const Fields&, const TensorSource&) {
  auto rules = expert_rules(
      {{"w1", "gate_proj"}, {"w2", "down_proj"}, {"w3", "up_proj"}});
  for (auto& rule : expert_rules())
    rules.push_back(rule);
  rules.push_back(rename("*.feed_forward.w1.*", "*.feed_forward.gate_proj.*"));
  rules.push_back(rename("*.feed_forward.w2.*", "*.feed_forward.down_proj.*"));
  rules.push_back(rename("*.feed_forward.w3.*", "*.feed_forward.up_proj.*"));
  rules.push_back(merge_axes("*.conv.conv.weight"));
  return rules;
}

} // namespace mlxlm::models
