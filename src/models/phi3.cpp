// Phi-3, 3.5 and Phi-4-mini: a Llama layer with q, k, v in one matrix and gate,
// up in another; long rope.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr phi3(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto window = windows(f, c.depth, [](int) { return true; });
  auto bias = bias_if(f.opt("attention_bias", false));
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.window = window[i];
    a.bias = a.out_bias = bias;
    a.fused = "qkv_proj";
    auto m = c.mlp();
    m.fused = "gate_up_proj";
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", m));
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace mlxlm::models
