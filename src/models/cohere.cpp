// Cohere (Command R): attention and MLP beside each other behind one LayerNorm
// without bias, interleaved rope. Cohere 2 turns only in its sliding layers.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

ModelPtr build(
    const Fields& f,
    const Scope& w,
    const Common& c,
    const Adjust& adjust) {
  float eps = f.opt("layer_norm_eps", 1e-5f);
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
    adjust(i, s / "self_attn", a);
    return layer(
        Sublayer{
            layer_norm(s, "input_layernorm", c.hidden, eps, Bias::none),
            attention(s / "self_attn", a)},
        Sublayer{
            .pre = {}, .op = gated_mlp(s / "mlp", c.mlp()), .beside = true});
  };
  DecoderOptions o;
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  o.norm = layer_norm(w, "model.norm", c.hidden, eps, Bias::none);
  o.logit_scale = f.opt("logit_scale", 0.0625f);
  return decoder(w, std::move(o), block);
}

} // namespace

ModelPtr cohere(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  auto rope = Rope::from(f, c.head_dim, {.traditional = true});
  bool normed = f.opt("use_qk_norm", false);
  float eps = f.opt("layer_norm_eps", 1e-5f);
  return build(f, w, c, [&](int, const Scope& s, AttentionOptions& o) {
    o.rope = rope;
    if (!normed) return;
    o.q_norm = head_layer_norm(s, "q_norm", c.heads, c.head_dim, eps);
    o.k_norm = head_layer_norm(s, "k_norm", c.kv_heads, c.head_dim, eps);
  });
}

ModelPtr cohere2(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  auto rope = Rope::from(f, c.head_dim, {.traditional = true});
  int pattern = f.range("sliding_window_pattern", 4, 1, 1 << 20);
  auto window =
      windows(f, c.depth, [&](int i) { return (i + 1) % pattern != 0; });
  return build(f, w, c, [&](int i, const Scope&, AttentionOptions& o) {
    o.window = window[i];
    if (window[i]) o.rope = rope;
  });
}

} // namespace mlxlm::models
