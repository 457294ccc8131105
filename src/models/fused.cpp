// Llama under other names with q, k, v in one matrix: Qwen 1, Lille-130m,
// OpenELM (heads and widths that grow by layer), Spark 2.5 (windows, a gate a
// head). The rules give them Llama's names.
#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr qwen(const Fields& f, const Scope& w) {
  // intermediate_size counts gate and up together.
  int inner = size_field(f, "intermediate_size");
  auto c = Common::parse(f.with(
      {{"head_dim", size_field(f, "kv_channels", 128)},
       {"intermediate_size", inner / 2},
       {"rms_norm_eps", f.opt("layer_norm_epsilon", 1e-6)}}));
  auto rope = Rope::from(f, c.head_dim, {.theta_key = "rotary_emb_base"});
  auto bias = bias_if(!f.opt("no_bias", true));
  auto m = c.mlp();
  m.bias = bias;
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.bias = Bias::required;
    a.out_bias = bias;
    a.fused = "qkv_proj";
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", m));
  };
  auto o = c.decoder(w);
  o.head_bias = bias;
  return decoder(w, std::move(o), block);
}

std::vector<Rule> qwen_rules(const Fields&, const TensorSource&) {
  return {
      rename("transformer.h.*", "model.layers.*"),
      rename("transformer.wte.*", "model.embed_tokens.*"),
      rename("transformer.ln_f.*", "model.norm.*"),
      rename("*.ln_1.*", "*.input_layernorm.*"),
      rename("*.ln_2.*", "*.post_attention_layernorm.*"),
      rename("*.attn.c_attn.*", "*.self_attn.qkv_proj.*"),
      rename("*.attn.c_proj.*", "*.self_attn.o_proj.*"),
      rename("*.mlp.w1.*", "*.mlp.up_proj.*"),
      rename("*.mlp.w2.*", "*.mlp.gate_proj.*"),
      rename("*.mlp.c_proj.*", "*.mlp.down_proj.*")};
}

ModelPtr lille(const Fields& f, const Scope& w) {
  auto c = Common::parse(under_usual_names(
      f,
      {{"hidden_size", "n_embd"},
       {"num_hidden_layers", "n_layer"},
       {"num_attention_heads", "n_head"},
       {"num_key_value_heads", "n_kv_heads"}}));
  c.eps = f.opt("layer_norm_eps", 1e-5f);
  c.tied = true;
  // 8/3 of the width to the nearest multiple of 256, halves to the even one.
  const int wide = 8 * c.hidden / 3;
  c.inner = 256 * static_cast<int>(std::nearbyint(wide / 256.0));
  if (c.inner == 0)
    fail(
        ErrorKind::config,
        f.where("n_embd"),
        "expected at least 49, found {}",
        c.hidden);
  auto rope = Rope::from(f, c.head_dim, {.traditional = true});
  return plain_decoder(
      w, c, c.mlp(), [&](int, const Scope&, AttentionOptions& o) {
        o.rope = rope;
        o.fused = "qkv_proj";
        o.o = "out_proj";
      });
}

std::vector<Rule> lille_rules(const Fields&, const TensorSource&) {
  return {
      rename("transformer.tok_embeddings.*", "model.embed_tokens.*"),
      rename("transformer.*", "model.*"),
      drop("*rotary_emb*"),
      rename("*.attention.norm.*", "*.input_layernorm.*"),
      rename("*.attention.*", "*.self_attn.*"),
      rename("*.feed_forward.norm.*", "*.post_attention_layernorm.*"),
      rename("*.feed_forward.*", "*.mlp.*")};
}

namespace {

// One number a layer under `key`.
template <typename T>
std::vector<T> by_layer(
    const Fields& f,
    std::string_view key,
    int depth,
    int most) {
  auto out = f.req<std::vector<T>>(key);
  if (static_cast<int>(out.size()) != depth)
    fail(
        ErrorKind::config,
        f.where(key),
        "expected {} numbers, one a layer, found {}",
        depth,
        out.size());
  for (auto v : out)
    if (!(v > 0 && v <= most))
      fail(
          ErrorKind::config,
          f.where(key),
          "expected positive numbers up to {}, found {}",
          most,
          v);
  return out;
}

// The multiple of `divisor` nearest to v, but never less than nine tenths of it
// (OpenELM's make_divisible).
int divisible(double v, int divisor) {
  int n = std::max(
      divisor, static_cast<int>((v + divisor / 2.0) / divisor) * divisor);
  return n < 0.9 * v ? n + divisor : n;
}

} // namespace

ModelPtr openelm(const Fields& f, const Scope& w) {
  int depth = size_field(f, "num_transformer_layers");
  auto heads = by_layer<int>(f, "num_query_heads", depth, 1 << 14);
  auto kv_heads = by_layer<int>(f, "num_kv_heads", depth, 1 << 14);
  auto widths = by_layer<double>(f, "ffn_multipliers", depth, 256);
  auto c = Common::parse(
      under_usual_names(
          f,
          {{"hidden_size", "model_dim"},
           {"num_hidden_layers", "num_transformer_layers"},
           {"head_dim", "head_dim"}})
          .with({{"num_attention_heads", 1}, {"num_key_value_heads", 1}}));
  c.tied = f.opt("share_input_output_layers", true);
  c.act = activation(f, "activation_fn_name", "swish");
  auto rope = Rope::from(f, c.head_dim, {.theta_key = "rope_freq_constant"});
  bool normed = f.opt("normalize_qk_projections", true);
  bool gated = f.opt("ffn_with_glu", true);
  int divisor = f.range("ffn_dim_divisor", 1, 1 << 20);
  auto block = [&](int i, const Scope& s) {
    auto at = s / "self_attn";
    auto a = c.attention();
    a.heads = heads[i];
    a.kv_heads = kv_heads[i];
    a.rope = rope;
    a.fused = "qkv_proj";
    a.o = "out_proj";
    if (normed) {
      a.q_norm = rms_norm(at, "q_norm", c.head_dim, c.eps);
      a.k_norm = rms_norm(at, "k_norm", c.head_dim, c.eps);
    }
    auto m = c.mlp();
    m.inner = divisible(widths[i] * c.hidden, divisor);
    m.down = "proj_2";
    // Some files have gates whatever the config says.
    bool glu = gated || (s / "mlp").stored_rows("proj_1") == 2 * m.inner;
    (glu ? m.fused : m.up) = "proj_1";
    return pre_norm_layer(
        s,
        c,
        attention(at, a),
        glu ? gated_mlp(s / "mlp", m) : plain_mlp(s / "mlp", m));
  };
  return decoder(w, c.decoder(w), block);
}

std::vector<Rule> openelm_rules(const Fields&, const TensorSource&) {
  return {
      rename("transformer.token_embeddings.*", "model.embed_tokens.*"),
      rename("transformer.*", "model.*"),
      rename("*.attn_norm.*", "*.input_layernorm.*"),
      rename("*.ffn_norm.*", "*.post_attention_layernorm.*"),
      rename("*.attn.*", "*.self_attn.*"),
      rename("*.ffn.*", "*.mlp.*")};
}

ModelPtr spark(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  c.act = activation(f, "hidden_act", "gelu");
  auto bias = bias_if(f.opt("attention_bias", false));
  auto window = windows(f, c.depth, [](int i) { return i % 4 != 3; });
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  return plain_decoder(
      w, c, m, [&](int i, const Scope& s, AttentionOptions& o) {
        auto type = window[i] ? "sliding_attention" : "full_attention";
        o.window = window[i];
        if (!f.sub("rope_parameters").is_object(type))
          fail(
              ErrorKind::config,
              f.where("rope_parameters"),
              "expected {}, found none",
              type);
        o.rope = Rope::from(f, c.head_dim, {.layer_type = type});
        o.bias = o.out_bias = bias;
        o.fused = "q_k_v_proj";
        o.o = "out_proj";
        o.on_y = output_gate(
            s.linear("g_proj", c.hidden, c.heads, {.bias = bias}),
            [](const mx::array& gate) { return mx::sigmoid(gate); });
      });
}

std::vector<Rule> spark_rules(const Fields&, const TensorSource&) {
  return {rename("model.embedding.*", "model.embed_tokens.*")};
}

} // namespace mlxlm::models
