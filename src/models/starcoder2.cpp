// StarCoder2: LayerNorms, biases everywhere, a plain MLP, a window.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr starcoder2(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  auto rope = Rope::from(f, c.head_dim);
  auto window = windows(f, c.depth, [](int) { return true; });
  auto bias = bias_if(f.opt("use_bias", true));
  float eps = f.opt("norm_epsilon", 1e-5f);
  auto m = c.mlp();
  m.act = activation(f, "hidden_act", "gelu_pytorch_tanh");
  m.bias = bias;
  m.up = "c_fc";
  m.down = "c_proj";
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.window = window[i];
    a.bias = a.out_bias = bias;
    return layer(
        Sublayer{
            layer_norm(s, "input_layernorm", c.hidden, eps),
            attention(s / "self_attn", a)},
        Sublayer{
            layer_norm(s, "post_attention_layernorm", c.hidden, eps),
            plain_mlp(s / "mlp", m)});
  };
  DecoderOptions o;
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  o.norm = layer_norm(w, "model.norm", c.hidden, eps);
  return decoder(w, std::move(o), block);
}

} // namespace mlxlm::models
