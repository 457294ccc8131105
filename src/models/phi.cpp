// Phi 1.5 and 2: attention and MLP beside each other behind one LayerNorm,
// biases everywhere, part of the head turned. StableLM: the same norms, one
// after the other or beside, and a gated MLP.
#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

DecoderOptions frame(
    const Common& c,
    const Scope& w,
    const char* norm,
    float eps) {
  DecoderOptions o;
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  o.norm = layer_norm(w, norm, c.hidden, eps);
  return o;
}

void refuse_head_norms(const Fields& f) {
  if (f.opt("qk_layernorm", false))
    fail(
        ErrorKind::config,
        f.where("qk_layernorm"),
        "expected false, found true; norms of q and k are not supported yet");
}

} // namespace

ModelPtr phi(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  refuse_head_norms(f);
  float eps = f.opt("layer_norm_eps", 1e-5f);
  auto rope = Rope::from(f, c.head_dim, {.partial = 0.5});
  auto m = c.mlp();
  m.act = activation(f, "hidden_act", "gelu_new");
  m.bias = Bias::required;
  m.up = "fc1";
  m.down = "fc2";
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.bias = a.out_bias = Bias::required;
    a.o = "dense";
    return layer(
        Sublayer{
            layer_norm(s, "input_layernorm", c.hidden, eps),
            attention(s / "self_attn", a)},
        Sublayer{.pre = {}, .op = plain_mlp(s / "mlp", m), .beside = true});
  };
  auto o = frame(c, w, "model.final_layernorm", eps);
  o.head_bias = Bias::required;
  return decoder(w, std::move(o), block);
}

ModelPtr stablelm(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  refuse_head_norms(f);
  float eps = f.opt("layer_norm_eps", 1e-5f);
  auto rope = Rope::from(f, c.head_dim, {.partial = 0.25});
  bool parallel = f.opt("use_parallel_residual", false);
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.bias = bias_if(f.opt("use_qkv_bias", false));
    Sublayer mlp{
        .pre = parallel
            ? Norm()
            : layer_norm(s, "post_attention_layernorm", c.hidden, eps),
        .op = gated_mlp(s / "mlp", c.mlp()),
        .beside = parallel};
    return layer(
        Sublayer{
            layer_norm(s, "input_layernorm", c.hidden, eps),
            attention(s / "self_attn", a)},
        std::move(mlp));
  };
  return decoder(w, frame(c, w, "model.norm", eps), block);
}

// Nemotron 4: LayerNorms that store weight - 1, a squared-ReLU MLP.
ModelPtr nemotron(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"hidden_act", "relu2"}}));
  float eps = f.opt("norm_eps", 1e-5f);
  auto rope = Rope::from(f, c.head_dim, {.partial = 0.5});
  auto bias = bias_if(f.opt("attention_bias", false));
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.bias = a.out_bias = bias;
    return layer(
        Sublayer{
            layer_norm(s, "input_layernorm", c.hidden, eps),
            attention(s / "self_attn", a)},
        Sublayer{
            layer_norm(s, "post_attention_layernorm", c.hidden, eps),
            plain_mlp(s / "mlp", m)});
  };
  return decoder(w, frame(c, w, "model.norm", eps), block);
}

std::vector<Rule> nemotron_rules(const Fields&, const TensorSource&) {
  return {offset("*layernorm.weight", 1), offset("model.norm.weight", 1)};
}

} // namespace mlxlm::models
