// GLM-4.5, dots.llm1, Solar Open: grouped-query attention, and DeepSeek-V3's
// experts: sigmoid scores with a correction for the choice, a shared expert,
// leading dense layers.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

MlpMaker sigmoid_mlps(const Fields& f, const Common& c) {
  return [&](int i, const Scope& s) { return sigmoid_experts(f, c, i, s); };
}

} // namespace

ModelPtr glm4_moe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim, {.partial = 0.5});
  auto bias = bias_if(f.opt("attention_bias", false));
  bool normed = f.opt("use_qk_norm", false);
  return plain_decoder(
      w, c, sigmoid_mlps(f, c), [&](int, const Scope& s, AttentionOptions& o) {
        o.rope = rope;
        o.bias = bias;
        if (!normed) return;
        o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
        o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
      });
}

ModelPtr dots1(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto bias = bias_if(f.opt("attention_bias", false));
  int from = size_field(f, "max_window_layers", c.depth);
  auto window = f.has("sliding_window")
      ? windows(f, c.depth, [&](int i) { return i >= from; })
      : std::vector<int>(c.depth, 0);
  return plain_decoder(
      w,
      c,
      sigmoid_mlps(f, c),
      [&](int i, const Scope& s, AttentionOptions& o) {
        o.rope = rope;
        o.bias = o.out_bias = bias;
        o.window = window[i];
        o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
        o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
      });
}

ModelPtr solar_open(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim, {.theta = 1000000});
  auto bias = bias_if(f.opt("attention_bias", false));
  return plain_decoder(
      w, c, sigmoid_mlps(f, c), [&](int, const Scope&, AttentionOptions& o) {
        o.rope = rope;
        o.bias = bias;
      });
}

std::vector<Rule> sigmoid_expert_rules(
    const Fields& f,
    const TensorSource& source) {
  auto rules = drop_prediction_layers(f, source);
  for (auto& r : plain_expert_rules(f, source))
    rules.push_back(std::move(r));
  return rules;
}

} // namespace mlxlm::models
