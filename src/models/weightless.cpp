// NanoChat and Talkie: norms without weights, also behind the rope, which turns
// backwards, and behind the embedding. Talkie has learned gains instead, and
// adds the embedding again behind every layer.
#include <mlx/ops.h>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

AttentionOptions attention_options(
    const Fields& f,
    const Common& c,
    const Rope& rope) {
  auto a = c.attention();
  a.rope = rope;
  a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
  a.norm_after_rope = true;
  a.q_norm = a.k_norm = rms_norm(c.eps);
  return a;
}

DecoderOptions frame(const Common& c) {
  auto o = c.frame();
  o.norm = o.embed_norm = rms_norm(c.eps);
  return o;
}

// A parameter of one value.
float number(const Scope& s, const char* name) {
  return mx::array(*s.param(name, {1}, mx::float32)).item<float>();
}

} // namespace

ModelPtr nanochat(const Fields& f, const Scope& w) {
  auto c = Common::parse(
      with_defaults(f, {{"rms_norm_eps", 1e-5}, {"hidden_act", "relu2"}}));
  auto rope = Rope::from(f, c.head_dim, {.backwards = true});
  auto m = c.mlp();
  m.up = "fc1";
  m.down = "fc2";
  auto block = [&](int, const Scope& s) {
    return layer(
        Sublayer{
            rms_norm(c.eps),
            attention(s / "self_attn", attention_options(f, c, rope))},
        Sublayer{rms_norm(c.eps), plain_mlp(s / "mlp", m)});
  };
  auto o = frame(c);
  o.softcap = cap_field(f, "final_logit_softcapping", 15);
  return decoder(w, std::move(o), block);
}

std::vector<Rule> nanochat_rules(const Fields&, const TensorSource&) {
  return {
      rename("transformer.wte.*", "model.embed_tokens.*"),
      rename(
          "transformer.h.*.attn.c_proj.*", "model.layers.*.self_attn.o_proj.*"),
      rename("transformer.h.*.attn.c_q.*", "model.layers.*.self_attn.q_proj.*"),
      rename("transformer.h.*.attn.c_k.*", "model.layers.*.self_attn.k_proj.*"),
      rename("transformer.h.*.attn.c_v.*", "model.layers.*.self_attn.v_proj.*"),
      rename("transformer.h.*.mlp.c_fc.*", "model.layers.*.mlp.fc1.*"),
      rename("transformer.h.*.mlp.c_proj.*", "model.layers.*.mlp.fc2.*")};
}

ModelPtr talkie(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(
      f, {{"rms_norm_eps", 1.1920928955078125e-07}, {"head_dim", 128}}));
  auto rope = Rope::from(f, c.head_dim, {.theta = 1000000, .backwards = true});
  auto m = c.mlp();
  m.gate = "mlp_gate";
  m.up = "mlp_linear";
  m.down = "mlp_resid";
  auto block = [&](int, const Scope& s) {
    auto a = attention_options(f, c, rope);
    a.q = "attn_query";
    a.k = "attn_key";
    a.v = "attn_value";
    a.o = "attn_resid";
    auto gain = s.param("attn.head_gain.head_g", {c.heads});
    a.on_q = [gain](const mx::array& q) {
      return q * mx::reshape(*gain, {1, 1, -1, 1});
    };
    auto l = layer(
        Sublayer{
            .pre = rms_norm(c.eps),
            .op = attention(s / "attn", a),
            .scale = number(s, "attn_gain.a_g")},
        Sublayer{
            .pre = rms_norm(c.eps),
            .op = gated_mlp(s / "mlp", m),
            .scale = number(s, "mlp_gain.a_g")});
    auto skip = s.param("embed_skip.a_g", {1});
    l.end = [skip](const mx::array& h, const std::optional<mx::array>& side) {
      return h + *side * *skip;
    };
    return l;
  };
  auto o = frame(c);
  o.embed = "model.embed";
  o.layers = "model.blocks";
  o.logit_scale = number(w, "lm_head_gain.w_g");
  o.side = [](const Input&, const mx::array& h) { return h; };
  return decoder(w, std::move(o), block);
}

std::vector<Rule> talkie_rules(const Fields&, const TensorSource&) {
  return {
      rename("lm_head", "lm_head.weight"),
      drop("*rotary*"),
      drop("*cos"),
      drop("*sin")};
}

} // namespace mlxlm::models
