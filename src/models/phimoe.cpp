// Phi-3.5-MoE: Mixtral with LayerNorms and biases, and a router of its own
// ("sparse mixer"): each of two experts is weighed among those nearly as good.
#include <mlx/ops.h>

#include <limits>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

struct Pick {
  mx::array expert, weight; // [T, 1]
};

// The best of `left` (logits, -inf where taken), weighed against those whose
// distance to it is at most 2 * jitter of their own size.
Pick pick(const mx::array& logits, const mx::array& left, float jitter) {
  auto best = mx::max(left, -1, true);
  auto id = mx::argmax(left, -1, true);
  auto size = mx::maximum(mx::abs(logits), best);
  auto far = mx::greater((best - logits) / size, mx::array(2 * jitter));
  auto none = mx::array(-std::numeric_limits<float>::infinity());
  auto p = mx::softmax(mx::where(far, none, left), -1, true);
  return {id, mx::take_along_axis(p, id, -1)};
}

Router::Choice sparse_mixer(const mx::array& logits, float jitter) {
  auto first = pick(logits, logits, jitter);
  auto all = mx::arange(0, logits.shape(1), 1, mx::uint32);
  auto none = mx::array(-std::numeric_limits<float>::infinity());
  auto left = mx::where(mx::equal(all, first.expert), none, logits);
  auto second = pick(logits, left, jitter);
  return {
      mx::concatenate({first.expert, second.expert}, -1),
      mx::concatenate({first.weight, second.weight}, -1)};
}

Mixture phimoe_experts(const Fields& f, const Common& c) {
  Mixture m;
  m.router = {
      .experts = size_field(f, "num_local_experts"),
      .routing = {.top_k = f.range("num_experts_per_tok", 2, 1, 1 << 16)}};
  if (m.router.routing.top_k != 2)
    fail(
        ErrorKind::config,
        f.where("num_experts_per_tok"),
        "expected 2, found {}",
        m.router.routing.top_k);
  float jitter = f.opt("router_jitter_noise", 0.01f);
  m.router.choose = [=](const mx::array& logits) {
    return sparse_mixer(logits, jitter);
  };
  m.inner = c.inner;
  return m;
}

// A bias that a config does not speak of may still be there.
Bias stated_bias(const Fields& f, const char* key) {
  return f.has(key) ? bias_if(f.req<bool>(key)) : Bias::optional;
}

} // namespace

ModelPtr phimoe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto window = windows(f, c.depth, [](int) { return true; });
  auto rope = Rope::from(f, c.head_dim);
  auto bias = stated_bias(f, "attention_bias");
  auto m = phimoe_experts(f, c);
  auto norm = [&](const Scope& s, const char* name) {
    return layer_norm(s, name, c.hidden, c.eps);
  };
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.window = window[i];
    a.bias = a.out_bias = bias;
    return layer(
        Sublayer{norm(s, "input_layernorm"), attention(s / "self_attn", a)},
        Sublayer{
            norm(s, "post_attention_layernorm"),
            mixture(s / "block_sparse_moe", c, m)});
  };
  DecoderOptions o;
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  o.head_bias = stated_bias(f, "lm_head_bias");
  o.norm = norm(w, "model.norm");
  return decoder(w, std::move(o), block);
}

} // namespace mlxlm::models
