// DeepSeek and its relatives: mixtures of experts with a shared one behind
// leading dense layers; from V2 on latent attention. Mistral 4 and
// GLM-4.7-Flash are built the same way, Youtu without experts.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

ModelPtr latent_decoder(
    const Scope& w,
    const Common& c,
    const MlaOptions& a,
    const MlpMaker& mlp) {
  auto block = [&](int i, const Scope& s) {
    return pre_norm_layer(s, c, mla(s / "self_attn", a), mlp(i, s / "mlp"));
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace

// The first: plain attention, softmax weights as they are.
ModelPtr deepseek(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto bias = bias_if(f.opt("attention_bias", false));
  auto mlp = deepseek_mlps(f, c, deepseek_mixture(f));
  return plain_decoder(w, c, mlp, [&](int, const Scope&, AttentionOptions& o) {
    o.rope = rope;
    o.bias = o.out_bias = bias;
  });
}

ModelPtr deepseek_v2(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto m = deepseek_mixture(f);
  m.router.scale = f.opt("routed_scaling_factor", 1.0f);
  if (f.opt("topk_method", "greedy") == "group_limited_greedy") {
    m.router.groups = size_field(f, "n_group");
    m.router.top_groups = size_field(f, "topk_group");
  }
  return latent_decoder(w, c, latent_attention(f, c), deepseek_mlps(f, c, m));
}

ModelPtr deepseek_v3(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  return latent_decoder(
      w, c, latent_attention(f, c), [&](int i, const Scope& s) {
        return sigmoid_experts(f, c, i, s);
      });
}

// Softmax scores inside groups; queries grow beyond the original context.
ModelPtr mistral4(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto a = latent_attention(f, c);
  auto scaling = f.sub("rope_parameters");
  a.temperature = scaling.opt("llama_4_scaling_beta", 0.0f);
  if (a.temperature != 0)
    a.temperature_length =
        scaling.range("original_max_position_embeddings", 1, 1 << 30);
  auto m = deepseek_mixture(f);
  m.router.groups = size_field(f, "n_group", 1);
  m.router.top_groups = size_field(f, "topk_group", 1);
  m.router.pairs = true;
  m.router.normalize = f.opt("norm_topk_prob", true);
  m.router.normalize_eps = 1e-20f;
  m.router.scale = f.opt("routed_scaling_factor", 1.0f);
  return latent_decoder(w, c, a, deepseek_mlps(f, c, m));
}

ModelPtr youtu(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  return latent_decoder(w, c, latent_attention(f, c), [&](int, const Scope& s) {
    return gated_mlp(s, m);
  });
}

} // namespace mlxlm::models
