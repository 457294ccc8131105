// MiniMax-01: lightning attention in most layers, plain attention in the
// others, experts in all. The residual is what the norm gave, not what it took:
// h = alpha norm(h) + beta f(norm(h)).
#include <cmath>

#include <mlx/ops.h>

#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"
#include "nn/lightning.h"

namespace mlxlm::models {

namespace {

BlockPtr linear_attention(const Common& c, int index, const Scope& s) {
  LightningOptions o;
  o.hidden = c.hidden;
  o.heads = c.heads;
  o.head_dim = c.head_dim;
  double factor = 1 - index / (c.depth - 1 + 1e-5) + 1e-5;
  for (int i = 1; i <= c.heads; ++i)
    o.slopes.push_back(
        static_cast<float>(std::exp2(-8.0 * i / c.heads) * factor));
  o.activated = o.by_head = true;
  o.eps = 1e-6f;
  o.qkv = "qkv_proj";
  o.gate = "output_gate";
  o.norm = "norm";
  o.o = "out_proj";
  return lightning(s, o);
}

BlockPtr full_attention(const Fields& f, const Common& c, const Scope& s) {
  auto o = c.attention();
  RopeOptions rope{.theta = 1e6};
  rope.dims = size_field(f, "rotary_dim", 0);
  o.rope = Rope::from(f, c.head_dim, rope);
  o.window = size_field(f, "sliding_window", 0);
  return attention(s, o);
}

struct Factors {
  float alpha, beta;
};

Factors factors(const Fields& f, const std::string& what) {
  return {
      f.opt(what + "_alpha_factor", 1.0f), f.opt(what + "_beta_factor", 1.0f)};
}

// h is normed already: alpha h + beta f(h), then the norm that follows.
Layer step(BlockPtr op, const Factors& by, const Norm& next) {
  auto out = layer(Sublayer{.op = std::move(op), .scale = by.beta / by.alpha});
  out.end = [=](const mx::array& h, const std::optional<mx::array>&) {
    return next(by.alpha == 1 ? h : h * mx::array(by.alpha, h.dtype()));
  };
  return out;
}

} // namespace

ModelPtr minimax(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"rms_norm_eps", 1e-5}}));
  auto attends = attention_layers(
      f, c.depth, {"linear_attention"}, [](int i) { return i % 2 == 0; });
  Mixture m;
  m.router.experts = size_field(f, "num_local_experts");
  m.router.routing.top_k = size_field(f, "num_experts_per_tok");
  m.router.routing.normalize = true;
  m.inner = c.inner;
  auto norm = [&](int i, const char* name) {
    return rms_norm(w / "model.layers" / i, name, c.hidden, c.eps);
  };
  auto o = c.decoder(w);
  auto last = std::exchange(o.norm, {});
  o.embed_norm = norm(0, "input_layernorm");
  o.depth = 2 * c.depth; // mixers and mixtures by turns
  return decoder(w, std::move(o), [&](int part, const Scope&) {
    int i = part / 2;
    auto s = w / "model.layers" / i;
    if (part % 2) {
      auto next = i + 1 < c.depth ? norm(i + 1, "input_layernorm") : last;
      return step(
          mixture(s / "block_sparse_moe", c, m), factors(f, "mlp"), next);
    }
    auto at = s / "self_attn";
    return step(
        attends[i] ? full_attention(f, c, at) : linear_attention(c, i, at),
        factors(f, attends[i] ? "full_attn" : "linear_attn"),
        norm(i, "post_attention_layernorm"));
  });
}

std::vector<Rule> minimax_rules(const Fields&, const TensorSource&) {
  auto rules = expert_rules(
      {{"w1", "gate_proj"}, {"w2", "down_proj"}, {"w3", "up_proj"}});
  // What the config says already.
  for (auto name : {"slope_rate", "query_decay", "key_decay", "diagonal_decay"})
    rules.push_back(drop(std::string("*.self_attn.") + name));
  return rules;
}

} // namespace mlxlm::models
