// Llama and what differs from it by options of attention: Mistral (windows),
// Ministral 3 (queries that grow with the position), SmolLM3 (layers without
// positions), Seed-OSS, ERNIE 4.5, Helium, InternLM3, Hunyuan
// (norms of q and k behind the rope).
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// Llama with biases of q, k, v, of the output and of the MLP.
ModelPtr biased(
    const Fields& f,
    const Scope& w,
    const Common& c,
    Bias qkv,
    Bias out,
    Bias mlp,
    bool traditional = false) {
  auto rope = Rope::from(f, c.head_dim, {.traditional = traditional});
  auto m = c.mlp();
  m.bias = mlp;
  return plain_decoder(w, c, m, [&](int, const Scope&, AttentionOptions& o) {
    o.rope = rope;
    o.bias = qkv;
    o.out_bias = out;
  });
}

} // namespace

ModelPtr llama(const Fields& f, const Scope& w) {
  auto bias = bias_if(f.opt("attention_bias", false));
  return biased(
      f, w, Common::parse(f), bias, bias, bias_if(f.opt("mlp_bias", false)));
}

ModelPtr seed_oss(const Fields& f, const Scope& w) {
  return biased(
      f,
      w,
      Common::parse(f),
      bias_if(f.opt("attention_bias", true)),
      bias_if(f.opt("attention_out_bias", false)),
      bias_if(f.opt("mlp_bias", false)));
}

ModelPtr ernie4_5(const Fields& f, const Scope& w) {
  auto bias = bias_if(f.opt("use_bias", false));
  return biased(f, w, Common::parse(f, true), bias, bias, bias, true);
}

ModelPtr helium(const Fields& f, const Scope& w) {
  auto bias = bias_if(f.opt("attention_bias", false));
  return biased(
      f,
      w,
      Common::parse(f),
      bias,
      Bias::none,
      bias_if(f.opt("mlp_bias", false)),
      true);
}

ModelPtr internlm3(const Fields& f, const Scope& w) {
  // Whether the output has a bias, its two sources tell differently.
  return biased(
      f,
      w,
      Common::parse(f),
      bias_if(f.opt("qkv_bias", false)),
      Bias::optional,
      bias_if(f.opt("bias", false)));
}

ModelPtr hunyuan_v1_dense(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto bias = bias_if(f.opt("attention_bias", false));
  bool normed = f.opt("use_qk_norm", true);
  return plain_decoder(
      w, c, c.mlp(), [&](int, const Scope& s, AttentionOptions& o) {
        o.rope = rope;
        o.bias = o.out_bias = bias;
        if (!normed) return;
        o.norm_after_rope = true;
        o.q_norm = rms_norm(s, "query_layernorm", c.head_dim, c.eps);
        o.k_norm = rms_norm(s, "key_layernorm", c.head_dim, c.eps);
      });
}

ModelPtr mistral(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto window = windows(f, c.depth, [](int) { return true; });
  auto scaling = f.sub("rope_parameters");
  float beta = scaling.opt("llama_4_scaling_beta", 0.0f);
  return plain_decoder(
      w, c, c.mlp(), [&](int i, const Scope&, AttentionOptions& o) {
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
  int interval = f.range("no_rope_layer_interval", 4, 1, 1 << 20);
  bool slides = f.opt("use_sliding_window", false);
  // 1: the layer turns its queries and keys.
  auto turns = f.opt("no_rope_layers", std::vector<int>{});
  auto window = windows(
      f, c.depth, [&](int i) { return slides && (i + 1) % interval != 0; });
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  return plain_decoder(w, c, m, [&](int i, const Scope&, AttentionOptions& o) {
    bool turn = i < static_cast<int>(turns.size()) ? turns[i] != 0
                                                   : (i + 1) % interval != 0;
    if (turn) o.rope = rope;
    o.window = slides ? window[i] : 0;
    o.bias = o.out_bias = bias;
  });
}

} // namespace mlxlm::models
