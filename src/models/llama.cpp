// Llama and what differs from it by options: Mistral (windows), Ministral 3
// (queries that grow with the position), SmolLM3 (layers without positions).
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

using Adjust = std::function<void(int index, AttentionOptions& o)>;

ModelPtr build(
    const Fields& f,
    const Scope& w,
    const Common& c,
    Bias mlp_bias,
    const Adjust& adjust) {
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    adjust(i, a);
    auto m = c.mlp();
    m.bias = mlp_bias;
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", m));
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace

ModelPtr llama(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto bias = bias_if(f.opt("attention_bias", false));
  auto mlp_bias = bias_if(f.opt("mlp_bias", false));
  return build(f, w, c, mlp_bias, [&](int, AttentionOptions& o) {
    o.rope = rope;
    o.bias = o.out_bias = bias;
  });
}

ModelPtr mistral(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto window = windows(f, c.depth, [](int) { return true; });
  auto scaling = f.sub("rope_parameters");
  float beta = scaling.opt("llama_4_scaling_beta", 0.0f);
  return build(f, w, c, Bias::none, [&](int i, AttentionOptions& o) {
    o.rope = rope;
    o.window = window[i];
    if (beta == 0) return;
    o.temperature = beta;
    o.temperature_length =
        scaling.range("original_max_position_embeddings", 1, 1 << 30);
  });
}

ModelPtr smollm3(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  auto rope = Rope::from(f, c.head_dim, {.theta = 2000000});
  auto bias = bias_if(f.opt("attention_bias", false));
  auto mlp_bias = bias_if(f.opt("mlp_bias", false));
  int interval = f.range("no_rope_layer_interval", 4, 1, 1 << 20);
  bool slides = f.opt("use_sliding_window", false);
  // 1: the layer turns its queries and keys.
  auto turns = f.opt("no_rope_layers", std::vector<int>{});
  auto window = windows(
      f, c.depth, [&](int i) { return slides && (i + 1) % interval != 0; });
  return build(f, w, c, mlp_bias, [&](int i, AttentionOptions& o) {
    bool turn = i < static_cast<int>(turns.size()) ? turns[i] != 0
                                                   : (i + 1) % interval != 0;
    if (turn) o.rope = rope;
    o.window = slides ? window[i] : 0;
    o.bias = o.out_bias = bias;
  });
}

} // namespace mlxlm::models
