// EXAONE 3 (Llama under other names) and 4 (norms behind the blocks, q/k norms,
// positions in the sliding layers only).
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr exaone(const Fields& f, const Scope& w) {
  auto c = Common::parse(f.with(
      {{"num_hidden_layers", f.range("num_layers", 1, 4096)},
       {"rms_norm_eps", f.opt("layer_norm_epsilon", 1e-5)},
       {"hidden_act", f.opt("activation_function", "silu")}}));
  auto rope = Rope::from(f, c.head_dim);
  return plain_decoder(
      w, c, c.mlp(), [&](int, const Scope&, AttentionOptions& o) {
        o.rope = rope;
      });
}

std::vector<Rule> exaone_rules(const Fields&, const TensorSource&) {
  return {
      rename("transformer.h.*", "model.layers.*"),
      rename("transformer.wte.*", "model.embed_tokens.*"),
      rename("transformer.ln_f.*", "model.norm.*"),
      rename("*.ln_1.*", "*.input_layernorm.*"),
      rename("*.ln_2.*", "*.post_attention_layernorm.*"),
      rename("*.attn.attention.out_proj.*", "*.self_attn.o_proj.*"),
      rename("*.attn.attention.*", "*.self_attn.*"),
      rename("*.mlp.c_fc_0.*", "*.mlp.gate_proj.*"),
      rename("*.mlp.c_fc_1.*", "*.mlp.up_proj.*"),
      rename("*.mlp.c_proj.*", "*.mlp.down_proj.*"),
      drop("*.rotary.inv_freq")};
}

ModelPtr exaone4(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  bool slides = size_field(f, "sliding_window", 0) > 0;
  auto window = slides
      ? windows(f, c.depth, [](int i) { return (i + 1) % 4 != 0; })
      : std::vector<int>(c.depth, 0);
  auto block = [&](int i, const Scope& s) {
    auto at = s / "self_attn";
    auto a = c.attention();
    a.window = window[i];
    if (!slides || window[i]) a.rope = rope;
    a.q_norm = rms_norm(at, "q_norm", c.head_dim, c.eps);
    a.k_norm = rms_norm(at, "k_norm", c.head_dim, c.eps);
    return post_norm_layer(
        s, c, attention(at, a), gated_mlp(s / "mlp", c.mlp()));
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace mlxlm::models
