// MiniCPM: Llama with scaled embeddings, residual branches and logits; MiniCPM3
// with latent attention.
#include <cmath>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

using MakeAttention = std::function<BlockPtr(const Scope& s)>;

ModelPtr build_minicpm(
    const Fields& f,
    const Scope& w,
    const Common& c,
    const MakeAttention& attention) {
  float depth = std::sqrt(static_cast<float>(c.depth));
  float residual = f.opt("scale_depth", depth) / depth;
  auto block = [&](int, const Scope& s) {
    auto l = pre_norm_layer(
        s, c, attention(s / "self_attn"), gated_mlp(s / "mlp", c.mlp()));
    for (auto& part : l.parts)
      part.scale = residual;
    return l;
  };
  auto o = c.decoder(w);
  o.embed_scale = f.opt("scale_emb", 1.0f);
  int base = size_field(f, "dim_model_base", c.hidden);
  o.logit_scale = static_cast<float>(base) / static_cast<float>(c.hidden);
  return decoder(w, std::move(o), block);
}

} // namespace

ModelPtr minicpm(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  auto a = c.attention();
  a.rope = Rope::from(f, c.head_dim);
  a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
  return build_minicpm(
      f, w, c, [&](const Scope& s) { return attention(s, a); });
}

ModelPtr minicpm3(const Fields& config, const Scope& w) {
  // Configs that do not say whether the head is the embedding come with either.
  auto c = Common::parse(config, !w.has("lm_head"));
  auto f = with_defaults(config, {{"v_head_dim", c.hidden / c.heads}});
  auto a = latent_attention(f, c, false);
  return build_minicpm(f, w, c, [&](const Scope& s) { return mla(s, a); });
}

} // namespace mlxlm::models
