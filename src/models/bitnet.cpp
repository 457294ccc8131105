// BitNet: Llama with ternary weights, a squared ReLU, and a norm before the
// output projections of attention and MLP.
#include <mlx/ops.h>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr bitnet(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"hidden_act", "relu2"}}), true);
  auto rope = Rope::from(
      f, c.head_dim, {.traditional = f.opt("rope_traditional", false)});
  auto bias = bias_if(f.opt("attention_bias", false));
  auto block = [&](int, const Scope& s) {
    auto at = s / "self_attn";
    auto a = c.attention();
    int width = c.heads * c.head_dim;
    a.rope = rope;
    a.bias = a.out_bias = bias;
    auto norm = rms_norm(at, "attn_sub_norm", width, c.eps);
    a.on_y = [norm, width](const mx::array& y, const mx::array&) {
      return norm(mx::reshape(y, {1, y.shape(1), width}));
    };
    auto m = c.mlp();
    m.bias = bias_if(f.opt("mlp_bias", false));
    m.inner_norm = rms_norm(s / "mlp", "ffn_sub_norm", c.inner, c.eps);
    return pre_norm_layer(s, c, attention(at, a), gated_mlp(s / "mlp", m));
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace mlxlm::models
