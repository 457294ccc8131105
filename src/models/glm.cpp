// GLM and GLM-4 (0414): interleaved rope on half the head, gate and up in one
// matrix; GLM-4 also norms what attention and MLP give.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

AttentionOptions glm_attention(const Fields& f, const Common& c) {
  auto o = c.attention();
  o.rope = Rope::from(f, c.head_dim, {.traditional = true, .partial = 0.5});
  o.bias = bias_if(f.opt("attention_bias", false));
  return o;
}

MlpOptions glm_mlp(const Common& c) {
  auto m = c.mlp();
  m.fused = "gate_up_proj";
  return m;
}

} // namespace

ModelPtr glm(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto a = glm_attention(f, c);
  return plain_decoder(
      w, c, glm_mlp(c), [&](int, const Scope&, AttentionOptions& o) { o = a; });
}

ModelPtr glm4(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto a = glm_attention(f, c);
  auto block = [&](int, const Scope& s) {
    auto l = pre_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", glm_mlp(c)));
    l.parts[0].post = rms_norm(s, "post_self_attn_layernorm", c.hidden, c.eps);
    l.parts[1].post = rms_norm(s, "post_mlp_layernorm", c.hidden, c.eps);
    return l;
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace mlxlm::models
