// Falcon-H1: every layer runs Mamba-2 and attention beside each other; a
// multiplier on nearly every product.
#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"

namespace mlxlm::models {

namespace {

// f(factor * x)
class Scaled : public Block {
 public:
  Scaled(BlockPtr inner, float factor)
      : inner_(std::move(inner)), factor_(factor) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    return (*inner_)(x * mx::array(factor_, x.dtype()), step, cache);
  }
  CacheSpec cache() const override {
    return inner_->cache();
  }

 private:
  BlockPtr inner_;
  float factor_;
};

// down(act(factor * gate(x)) * up(x))
class GateScaledMlp : public Block {
 public:
  GateScaledMlp(const Scope& s, const MlpOptions& o, float factor)
      : act_(o.act),
        gate_(s.linear(o.gate, o.hidden, o.inner, {.bias = o.bias})),
        up_(s.linear(o.up, o.hidden, o.inner, {.bias = o.bias})),
        down_(s.linear(o.down, o.inner, o.hidden, {.bias = o.bias})),
        factor_(factor) {}

  mx::array operator()(const mx::array& x, const Step&, LayerCache*)
      const override {
    auto both = linears(x, {gate_, up_});
    auto gate = both[0] * mx::array(factor_, x.dtype());
    return down_(gate_up(act_, gate, both[1]));
  }

 private:
  Activation act_;
  Linear gate_, up_, down_;
  float factor_;
};

// The last norm's name in files of MLX's, so that the model can tell.
constexpr const char* folded_norm = "model.folded_layernorm";

struct Multipliers {
  float embedding = 1, head = 1, key = 1;
  float attention_in = 1, attention_out = 1;
  float ssm_in = 1, ssm_out = 1;
  std::vector<float> ssm = {}; // of z, x, B, C and dt
  float mlp_gate = 1, mlp_down = 1;
};

std::vector<float> floats(
    const Fields& f,
    std::string_view key,
    const std::vector<float>& fallback) {
  auto out = f.opt(key, fallback);
  if (out.size() != fallback.size())
    fail(
        ErrorKind::config,
        f.where(key),
        "expected {} numbers, found {}",
        fallback.size(),
        out.size());
  return out;
}

// MLX's files hold weights with some of them multiplied in: those of published
// configs that are left are the keys', and the values' share of attention_in.
Multipliers rest_of_folded(const Multipliers& all, bool tied) {
  Multipliers m;
  m.ssm = {1, 1, 1, 1, 1};
  m.key = all.key;
  m.attention_out = all.attention_in;
  if (tied) m.head = all.head / all.embedding;
  return m;
}

Multipliers multipliers(const Fields& f) {
  Multipliers m;
  m.embedding = f.opt("embedding_multiplier", 1.0f);
  m.head = f.opt("lm_head_multiplier", 1.0f);
  m.key = f.opt("key_multiplier", 1.0f);
  m.attention_in = f.opt("attention_in_multiplier", 1.0f);
  m.attention_out = f.opt("attention_out_multiplier", 1.0f);
  m.ssm_in = f.opt("ssm_in_multiplier", 1.0f);
  m.ssm_out = f.opt("ssm_out_multiplier", 1.0f);
  m.ssm = floats(f, "ssm_multipliers", {1, 1, 1, 1, 1});
  auto mlp = floats(f, "mlp_multipliers", {1, 1});
  m.mlp_gate = mlp[0];
  m.mlp_down = mlp[1];
  return m;
}

BlockPtr mixer(
    const Fields& f,
    const Common& c,
    const Multipliers& m,
    const Scope& s) {
  int inner = size_field(
      f, "mamba_d_ssm", c.hidden * f.range("mamba_expand", 2, 1, 64));
  auto o = mamba2_options(f, c, bamba_keys, inner);
  o.out_bias = bias_if(f.opt("projectors_bias", false));
  o.norm = f.opt("mamba_rms_norm", false);
  o.gate_first = !f.opt("mamba_norm_before_gate", true);
  o.multipliers = m.ssm;
  return std::make_unique<Scaled>(mamba2(s, o), m.ssm_in);
}

BlockPtr attends(
    const Fields& f,
    const Common& c,
    const Multipliers& m,
    const Rope& rope,
    const Scope& s) {
  auto o = c.attention();
  o.rope = rope;
  o.bias = o.out_bias = bias_if(f.opt("attention_bias", false));
  o.scale = m.key / std::sqrt(static_cast<float>(c.head_dim));
  return std::make_unique<Scaled>(attention(s, o), m.attention_in);
}

} // namespace

ModelPtr falcon_h1(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto m = multipliers(f);
  bool folded = w.has(folded_norm);
  if (folded) m = rest_of_folded(m, c.tied);
  auto rope = Rope::from(
      f,
      c.head_dim,
      {.traditional = f.opt("rope_traditional", false), .theta = 1e5});
  auto mlp = c.mlp();
  mlp.bias = bias_if(f.opt("mlp_bias", false));
  auto block = [&](int, const Scope& s) {
    return layer(
        Sublayer{
            rms_norm(s, "input_layernorm", c.hidden, c.eps),
            mixer(f, c, m, s / "mamba"),
            {},
            m.ssm_out},
        Sublayer{
            .op = attends(f, c, m, rope, s / "self_attn"),
            .scale = m.attention_out,
            .beside = true},
        Sublayer{
            rms_norm(s, "pre_ff_layernorm", c.hidden, c.eps),
            std::make_unique<GateScaledMlp>(
                s / "feed_forward", mlp, m.mlp_gate),
            {},
            m.mlp_down});
  };
  auto o = c.decoder(w, folded ? folded_norm : "model.final_layernorm");
  o.embed_scale = m.embedding;
  o.logit_scale = m.head;
  return decoder(w, std::move(o), block);
}

std::vector<Rule> falcon_h1_rules(const Fields&, const TensorSource& source) {
  std::vector<Rule> rules;
  const auto* conv = source.find("model.layers.0.mamba.conv1d.weight");
  bool published = !conv || conv->shape.size() != 3 || conv->shape[2] > 1;
  if (!published)
    rules.push_back(rename(
        "model.final_layernorm.weight", "model.folded_layernorm.weight"));
  rules.push_back(merge_axes("*.conv1d.weight"));
  return rules;
}

} // namespace mlxlm::models
