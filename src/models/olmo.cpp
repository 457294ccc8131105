// OLMo 2 and 3: norms behind attention and MLP only, q and k normed over the
// whole projection. OLMoE has norms in front, and experts; OLMo-Hybrid gated
// delta nets with norms in front in three of four layers.
#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"
#include "nn/gated_delta.h"

namespace mlxlm::models {

namespace {

AttentionOptions whole_norms(const Fields& f, const Common& c, const Scope& s) {
  auto o = c.attention();
  o.bias = o.out_bias = bias_if(f.opt("attention_bias", false));
  o.q_norm = rms_norm(s, "q_norm", c.heads * c.head_dim, c.eps);
  o.k_norm = rms_norm(s, "k_norm", c.kv_heads * c.head_dim, c.eps);
  return o;
}

} // namespace

ModelPtr olmo2(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  // Layers with a window keep the unscaled rope (OLMo 3).
  auto local = Rope::from(f, c.head_dim, {.scaled = false});
  auto window = f.has("sliding_window")
      ? windows(f, c.depth, [](int i) { return (i + 1) % 4 != 0; })
      : std::vector<int>(c.depth, 0);
  auto block = [&](int i, const Scope& s) {
    auto a = whole_norms(f, c, s / "self_attn");
    a.window = window[i];
    a.rope = window[i] ? local : rope;
    return post_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", c.mlp()));
  };
  return decoder(w, c.decoder(w), block);
}

ModelPtr olmo_hybrid(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto attends = attention_layers(f, c.depth, {"linear_attention"}, [&](int i) {
    return i % 4 == 3 || (c.depth < 4 && i + 1 == c.depth);
  });
  Rope rope; // published configs say that there is none
  if (f.sub("rope_parameters").has("rope_theta") || f.has("rope_theta"))
    rope = Rope::from(f, c.head_dim);
  GatedDeltaOptions o;
  o.hidden = c.hidden;
  int key_heads = f.range("linear_num_key_heads", c.heads, 1, 1 << 14);
  int key_dim = f.range(
      "linear_key_head_dim", 3 * c.hidden / (4 * key_heads), 1, 1 << 13);
  o.shape = delta_shape(f, {key_heads, c.heads, key_dim, 2 * key_dim});
  o.kernel = f.range("linear_conv_kernel_dim", 4, 2, 64);
  o.eps = 1e-5f;
  o.rate = f.opt("linear_allow_neg_eigval", true) ? 2 : 1;
  o.inputs = GatedDeltaOptions::Inputs::apart;
  auto block = [&](int i, const Scope& s) {
    auto mlp = gated_mlp(s / "mlp", c.mlp());
    if (!attends[i])
      return pre_norm_layer(
          s, c, gated_delta(s / "linear_attn", o), std::move(mlp));
    auto a = whole_norms(f, c, s / "self_attn");
    a.rope = rope;
    return post_norm_layer(s, c, attention(s / "self_attn", a), std::move(mlp));
  };
  return decoder(w, c.decoder(w), block);
}

std::vector<Rule> olmo_hybrid_rules(const Fields&, const TensorSource&) {
  return {
      rename("*.attention_layer_norm.*", "*.input_layernorm.*"),
      rename("*.feedforward_layer_norm.*", "*.post_attention_layernorm.*"),
      merge_axes("*_conv1d.weight")};
}

// The first OLMo: LayerNorms without parameters.
ModelPtr olmo(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  float eps = 1e-5f;
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
    a.clip = f.opt("clip_qkv", 0.0f);
    return layer(
        Sublayer{layer_norm(eps), attention(s / "self_attn", a)},
        Sublayer{layer_norm(eps), gated_mlp(s / "mlp", c.mlp())});
  };
  DecoderOptions o;
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  o.norm = layer_norm(eps);
  return decoder(w, std::move(o), block);
}

ModelPtr olmoe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  int experts = size_field(f, "num_experts");
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = experts,
      .routing = {
          .top_k = size_field(f, "num_experts_per_tok"),
          .normalize = f.opt("norm_topk_prob", false)}};
  m.experts = {
      .hidden = c.hidden, .inner = c.inner, .experts = experts, .act = c.act};
  auto block = [&](int, const Scope& s) {
    auto a = whole_norms(f, c, s / "self_attn");
    a.rope = rope;
    a.clip = f.opt("clip_qkv", 0.0f);
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), moe(s / "mlp", m));
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace mlxlm::models
