// Gemma 1, 2 and 3: norms that store weight - 1, scaled embeddings, GeGLU; from
// Gemma 2 on a norm behind every block as well, windows, and soft caps or q/k
// norms.
#include <cmath>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

Common parse(const Fields& f) {
  auto c = Common::parse(f, true);
  // Early configs say "gelu" and mean the tanh form.
  c.act = activation(f, "hidden_activation", "gelu_pytorch_tanh");
  return c;
}

DecoderOptions gemma_frame(const Fields& f, const Common& c, const Scope& w) {
  auto o = c.decoder(w);
  o.norm = rms_norm(w, "model.norm", c.hidden, c.eps, 1);
  o.embed_scale = std::sqrt(static_cast<float>(c.hidden));
  o.softcap = f.opt("final_logit_softcapping", 0.0f);
  return o;
}

// Norms before and behind attention and MLP.
Layer sandwich(
    const Scope& s,
    const Common& c,
    BlockPtr attention,
    BlockPtr mlp) {
  auto norm = [&](const char* name) {
    return rms_norm(s, name, c.hidden, c.eps, 1);
  };
  return layer(
      Sublayer{
          norm("input_layernorm"),
          std::move(attention),
          norm("post_attention_layernorm")},
      Sublayer{
          norm("pre_feedforward_layernorm"),
          std::move(mlp),
          norm("post_feedforward_layernorm")});
}

AttentionOptions gemma_attention(const Fields& f, const Common& c) {
  auto o = c.attention();
  o.bias = o.out_bias = bias_if(f.opt("attention_bias", false));
  return o;
}

float query_scale(const Fields& f) {
  return 1 / std::sqrt(f.opt("query_pre_attn_scalar", 256.0f));
}

} // namespace

ModelPtr gemma(const Fields& f, const Scope& w) {
  auto c = parse(with_defaults(f, {{"head_dim", 256}}));
  auto rope = Rope::from(f, c.head_dim);
  auto block = [&](int, const Scope& s) {
    auto a = gemma_attention(f, c);
    a.rope = rope;
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", c.mlp()), 1);
  };
  return decoder(w, gemma_frame(f, c, w), block);
}

ModelPtr gemma2(const Fields& f, const Scope& w) {
  auto c = parse(with_defaults(f, {{"head_dim", 256}}));
  auto rope = Rope::from(f, c.head_dim);
  auto window = windows(f, c.depth, [](int i) { return i % 2 == 0; });
  auto block = [&](int i, const Scope& s) {
    auto a = gemma_attention(f, c);
    a.rope = rope;
    a.window = window[i];
    a.scale = query_scale(f);
    a.softcap = f.opt("attn_logit_softcapping", 0.0f);
    return sandwich(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", c.mlp()));
  };
  return decoder(w, gemma_frame(f, c, w), block);
}

ModelPtr gemma3(const Fields& config, const Scope& w) {
  // Text configs inside multimodal ones leave out what the class defaults to.
  auto f = with_defaults(
      config,
      {{"vocab_size", 262208},
       {"num_attention_heads", 8},
       {"num_key_value_heads", 4},
       {"head_dim", 256},
       {"sliding_window", 4096},
       {"max_position_embeddings", 131072}});
  auto c = parse(f);
  auto global = Rope::from(
      f, c.head_dim, {.layer_type = "full_attention", .theta = 1000000});
  auto local = Rope::from(
      f,
      c.head_dim,
      {.layer_type = "sliding_attention",
       .theta_key = "rope_local_base_freq",
       .scaled = false});
  int pattern = f.range(
      "sliding_window_pattern",
      f.range("_sliding_window_pattern", 6, 1, 1 << 20),
      1,
      1 << 20);
  auto window =
      windows(f, c.depth, [&](int i) { return (i + 1) % pattern != 0; });
  auto block = [&](int i, const Scope& s) {
    auto a = gemma_attention(f, c);
    a.window = window[i];
    a.rope = window[i] ? local : global;
    a.scale = query_scale(f);
    a.softcap = f.opt("attn_logit_softcapping", 0.0f);
    a.q_norm = rms_norm(s / "self_attn", "q_norm", c.head_dim, c.eps, 1);
    a.k_norm = rms_norm(s / "self_attn", "k_norm", c.head_dim, c.eps, 1);
    return sandwich(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", c.mlp()));
  };
  return decoder(w, gemma_frame(f, c, w), block);
}

} // namespace mlxlm::models
