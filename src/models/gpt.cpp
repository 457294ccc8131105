// GPT-2, GPT-BigCode, GPT-J and GPT-NeoX: LayerNorms, biases, a plain MLP; the
// first two with learned positions, the others with attention and MLP beside
// each other.
#include <cmath>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// The config keys of all but NeoX.
Common parse(const Fields& f, bool tied) {
  auto c = Common::parse(
      under_usual_names(
          f,
          {{"hidden_size", "n_embd"},
           {"num_hidden_layers", "n_layer"},
           {"num_attention_heads", "n_head"}}),
      tied);
  c.inner = size_field(f, "n_inner", 4 * c.hidden);
  c.eps = f.opt("layer_norm_epsilon", 1e-5f);
  c.act = activation(f, "activation_function", "gelu_pytorch_tanh");
  return c;
}

MlpOptions mlp_named(
    const Common& c,
    Bias bias,
    const char* up,
    const char* down) {
  auto m = c.mlp();
  m.bias = bias;
  m.up = up;
  m.down = down;
  return m;
}

DecoderOptions frame(const Common& c, const Scope& w) {
  auto o = c.frame();
  o.embed = "model.wte";
  o.layers = "model.h";
  o.norm = layer_norm(w, "model.ln_f", c.hidden, c.eps);
  return o;
}

using Adjusted = std::function<AttentionOptions(int index)>;

// One matrix for q, k and v, positions learned.
ModelPtr learned_positions(
    const Fields& f,
    const Scope& w,
    const Common& c,
    Bias mlp_bias,
    const Adjusted& options) {
  auto m = mlp_named(c, mlp_bias, "c_fc", "c_proj");
  auto block = [&](int i, const Scope& s) {
    auto a = options(i);
    a.fused = "c_attn";
    a.o = "c_proj";
    return layer(
        Sublayer{
            layer_norm(s, "ln_1", c.hidden, c.eps), attention(s / "attn", a)},
        Sublayer{
            layer_norm(s, "ln_2", c.hidden, c.eps), plain_mlp(s / "mlp", m)});
  };
  auto o = frame(c, w);
  o.positions = "model.wpe";
  o.position_count = size_field(f, "n_positions");
  return decoder(w, std::move(o), block);
}

} // namespace

ModelPtr gpt2(const Fields& f, const Scope& w) {
  auto c = parse(f, true);
  return learned_positions(f, w, c, Bias::required, [&](int i) {
    auto a = c.attention();
    a.bias = a.out_bias = Bias::required;
    if (!f.opt("scale_attn_weights", true)) a.scale = 1;
    if (f.opt("scale_attn_by_inverse_layer_idx", false))
      a.scale = (a.scale > 0 ? a.scale : 1 / std::sqrt(1.0f * c.head_dim)) /
          static_cast<float>(i + 1);
    return a;
  });
}

ModelPtr gpt_bigcode(const Fields& f, const Scope& w) {
  auto c = parse(f, true);
  bool one = f.opt("multi_query", true);
  auto bias = bias_if(f.opt("attention_bias", true));
  return learned_positions(f, w, c, bias_if(f.opt("mlp_bias", true)), [&](int) {
    auto a = c.attention();
    a.kv_heads = one ? 1 : c.heads;
    a.fused_by_group = !one;
    a.bias = a.out_bias = bias;
    if (!f.opt("scale_attn_weights", true)) a.scale = 1;
    return a;
  });
}

ModelPtr gptj(const Fields& f, const Scope& w) {
  auto c = parse(f, false);
  auto rope = Rope::from(
      f,
      c.head_dim,
      {.traditional = true, .dims = size_field(f, "rotary_dim", c.head_dim)});
  auto m = mlp_named(c, Bias::required, "fc_in", "fc_out");
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.o = "out_proj";
    return layer(
        Sublayer{
            layer_norm(s, "ln_1", c.hidden, c.eps), attention(s / "attn", a)},
        Sublayer{.pre = {}, .op = plain_mlp(s / "mlp", m), .beside = true});
  };
  auto o = frame(c, w);
  o.head_bias = Bias::required;
  return decoder(w, std::move(o), block);
}

ModelPtr gpt_neox(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  c.eps = f.opt("layer_norm_eps", 1e-5f);
  c.act = activation(f, "hidden_act", "gelu");
  auto rope = Rope::from(
      f,
      c.head_dim,
      {.theta_key = "rotary_emb_base", .partial = f.opt("rotary_pct", 0.25)});
  auto bias = bias_if(f.opt("attention_bias", true));
  bool parallel = f.opt("use_parallel_residual", true);
  auto m = mlp_named(c, Bias::required, "dense_h_to_4h", "dense_4h_to_h");
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.bias = a.out_bias = bias;
    a.fused = "query_key_value";
    a.fused_by_group = true;
    a.o = "dense";
    return layer(
        Sublayer{
            layer_norm(s, "input_layernorm", c.hidden, c.eps),
            attention(s / "attention", a)},
        Sublayer{
            .pre = layer_norm(s, "post_attention_layernorm", c.hidden, c.eps),
            .op = plain_mlp(s / "mlp", m),
            .beside = parallel});
  };
  auto o = c.frame();
  o.embed = "model.embed_in";
  o.norm = layer_norm(w, "model.final_layer_norm", c.hidden, c.eps);
  return decoder(w, std::move(o), block);
}

std::vector<Rule> gpt_rules(const Fields&, const TensorSource&) {
  return {
      rename("transformer.*", "model.*"),
      drop("*.attn.bias"),
      drop("*.attn.masked_bias")};
}

// Published files store matrices transposed, MLX ones (below `model`) do not.
std::vector<Rule> gpt2_rules(const Fields& f, const TensorSource& source) {
  std::vector<Rule> rules = {
      rename("transformer.*", "*"),
      // Of a decoder beside an encoder, which there is none of.
      drop("*.crossattention.*"),
      drop("*.ln_cross_attn.*")};
  for (auto name : {"c_attn", "c_proj", "c_fc"})
    rules.push_back(move_axis("h.*." + std::string(name) + ".weight", 0, 1));
  for (auto name : {"h.*", "wte.*", "wpe.*", "ln_f.*"})
    rules.push_back(rename(name, "model." + std::string(name)));
  for (auto& r : gpt_rules(f, source))
    rules.push_back(std::move(r));
  return rules;
}

std::vector<Rule> gpt_neox_rules(const Fields&, const TensorSource&) {
  return {
      drop("*.attention.bias"),
      drop("*.attention.masked_bias"),
      rename("gpt_neox.*", "model.*"),
      rename("model.h.*", "model.layers.*"),
      rename("model.embed_out.*", "lm_head.*"),
      rename("embed_out.*", "lm_head.*")};
}

} // namespace mlxlm::models
