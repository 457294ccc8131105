// OLMo 2 and 3: norms behind attention and MLP only, q and k normed over the
// whole projection. OLMoE has norms in front, and experts.
#include "models/common.h"
#include "models/families.h"

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
    auto norm = [&](const char* name) {
      return rms_norm(s, name, c.hidden, c.eps);
    };
    return layer(
        Sublayer{
            {},
            attention(s / "self_attn", a),
            norm("post_attention_layernorm")},
        Sublayer{
            {},
            gated_mlp(s / "mlp", c.mlp()),
            norm("post_feedforward_layernorm")});
  };
  return decoder(w, c.decoder(w), block);
}

ModelPtr olmoe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  int experts = size_field(f, "num_experts");
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = experts,
      .top_k = size_field(f, "num_experts_per_tok"),
      .normalize = f.opt("norm_topk_prob", false)};
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
