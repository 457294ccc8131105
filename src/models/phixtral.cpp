// Phixtral: Phi's parallel block under its first names, with plain experts as
// the MLP.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr phixtral(const Fields& config, const Scope& w) {
  auto f = config.with(
      {{"hidden_size", size_field(config, "model_dim", 2560)},
       {"num_hidden_layers", size_field(config, "num_layers", 32)},
       {"num_attention_heads", size_field(config, "num_heads", 32)},
       {"vocab_size", size_field(config, "num_vocab", 51200)}});
  auto c = Common::parse(f);
  auto a = c.attention();
  a.rope = Rope::from(
      f,
      c.head_dim,
      {.dims = size_field(f, "rotary_dim", 32), .scaled = false});
  a.fused = "Wqkv";
  a.o = "out_proj";
  a.bias = a.out_bias = Bias::required;
  int experts = size_field(f, "num_local_experts", 4);
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = experts,
      .routing = {
          .top_k = size_field(f, "num_experts_per_tok", 2), .normalize = true}};
  m.experts = {
      .hidden = c.hidden,
      .inner = 4 * c.hidden,
      .experts = experts,
      .act = Activation::gelu_tanh,
      .gated = false,
      .bias = Bias::required,
      .up = "fc1",
      .down = "fc2"};
  auto block = [&](int, const Scope& s) {
    return layer(
        Sublayer{
            layer_norm(s, "ln", c.hidden, 1e-5f), attention(s / "mixer", a)},
        Sublayer{.op = moe(s / "moe", m), .beside = true});
  };
  DecoderOptions o;
  o.embed = "transformer.embd.wte";
  o.layers = "transformer.h";
  o.head = "lm_head.linear";
  o.head_bias = Bias::required;
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.norm = layer_norm(w, "lm_head.ln", c.hidden, 1e-5f);
  return decoder(w, std::move(o), block);
}

std::vector<Rule> phixtral_rules(const Fields&, const TensorSource&) {
  return {stack("*.moe.mlp.#.*", "*.moe.switch_mlp.*")};
}

} // namespace mlxlm::models
