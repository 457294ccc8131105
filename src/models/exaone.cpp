// EXAONE 3 (Llama under other names) and 4 (norms behind the blocks, q/k norms,
// positions in the sliding layers only), and EXAONE-MoE: 4's attention with
// norms before the blocks and DeepSeek-V3's experts.
#include <algorithm>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// "LLLG" or the length of such a pattern; the last layer sees everything.
bool slides_by_pattern(const Fields& f, int layer, int depth) {
  constexpr auto key = "sliding_window_pattern";
  if (layer == depth - 1) return false;
  if (!f.has(key) || !f.req<Json>(key).is_string())
    return (layer + 1) % f.range(key, 4, 1, 1 << 20) != 0;
  auto pattern = f.req<std::string>(key);
  return !pattern.empty() && pattern[layer % pattern.size()] == 'L';
}

// Of the layer that predicts further tokens: as the first one, unless the
// config has a list for such layers.
int exaone_prediction_window(const Fields& f, int first) {
  auto types = f.opt("mtp_layer_types", std::vector<std::string>{});
  if (types.empty()) return first;
  if (types.front() != "sliding_attention") return 0;
  auto sizes = f.opt("mtp_sliding_windows", std::vector<int>{});
  return sizes.empty() ? size_field(f, "sliding_window", 0) : sizes.front();
}

// Positions only where the window is, unless no layer has one.
Adjust exaone4_attention(const Fields& f, const Common& c) {
  auto rope = Rope::from(f, c.head_dim, {.theta = 1000000});
  auto window = size_field(f, "sliding_window", 0)
      ? windows(
            f, c.depth, [&](int i) { return slides_by_pattern(f, i, c.depth); })
      : std::vector<int>(c.depth, 0);
  bool slides = std::any_of(
      window.begin(), window.end(), [](int size) { return size > 0; });
  window.push_back(exaone_prediction_window(f, window.front()));
  return [=](int i, const Scope& s, AttentionOptions& o) {
    o.window = window[i];
    if (!slides || window[i]) o.rope = rope;
    o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
    o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
  };
}

} // namespace

ModelPtr exaone(const Fields& f, const Scope& w) {
  auto c = Common::parse(f.with(
      {{"num_hidden_layers", f.range("num_layers", 1, 4096)},
       {"rms_norm_eps", f.opt("layer_norm_epsilon", 1e-5)},
       {"hidden_act", f.opt("activation_function", "silu")}}));
  auto rope = Rope::from(f, c.head_dim);
  return plain_decoder(
      w, c, c.mlp(), [&](int, const Scope&, AttentionOptions& o) {
        o.rope = rope;
      });
}

std::vector<Rule> exaone_rules(const Fields&, const TensorSource&) {
  return {
      rename("transformer.h.*", "model.layers.*"),
      rename("transformer.wte.*", "model.embed_tokens.*"),
      rename("transformer.ln_f.*", "model.norm.*"),
      rename("*.ln_1.*", "*.input_layernorm.*"),
      rename("*.ln_2.*", "*.post_attention_layernorm.*"),
      rename("*.attn.attention.out_proj.*", "*.self_attn.o_proj.*"),
      rename("*.attn.attention.*", "*.self_attn.*"),
      rename("*.mlp.c_fc_0.*", "*.mlp.gate_proj.*"),
      rename("*.mlp.c_fc_1.*", "*.mlp.up_proj.*"),
      rename("*.mlp.c_proj.*", "*.mlp.down_proj.*"),
      drop("*.rotary.inv_freq")};
}

ModelPtr exaone4(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto adjust = exaone4_attention(f, c);
  auto block = [&](int i, const Scope& s) {
    auto at = s / "self_attn";
    auto a = c.attention();
    adjust(i, at, a);
    return post_norm_layer(
        s, c, attention(at, a), gated_mlp(s / "mlp", c.mlp()));
  };
  return decoder(w, c.decoder(w), block);
}

ModelPtr exaone_moe(const Fields& config, const Scope& w) {
  // DeepSeek's names, and this family's own list of layers with experts.
  auto f = config.with(
      {{"n_routed_experts", size_field(config, "num_experts", 0)},
       {"n_shared_experts", size_field(config, "num_shared_experts", 0)}});
  f = with_defaults(
      f, {{"first_k_dense_replace", 1}, {"routed_scaling_factor", 2.5}});
  auto c = Common::parse(f);
  if (f.has("is_moe_layer")) {
    auto kinds = Json::array();
    for (const auto& sparse : f.req<Json>("is_moe_layer"))
      kinds.push_back(sparse == true ? "sparse" : "dense");
    f = f.with({{"mlp_layer_types", kinds}});
  }
  auto mlp = [&](int i, const Scope& s) {
    return i < c.depth ? sigmoid_experts(f, c, i, s) : gated_mlp(s, c.mlp());
  };
  return plain_decoder(w, c, MlpMaker(mlp), exaone4_attention(f, c));
}

std::vector<Rule> exaone_moe_rules(const Fields& f, const TensorSource& t) {
  auto rules = sigmoid_expert_rules(f, t);
  rules.push_back(rename(
      "*.mlp.e_score_correction_bias", "*.mlp.gate.e_score_correction_bias"));
  for (auto name : {"mtp.*", "*.mtp.*"})
    rules.push_back(drop(name));
  return rules;
}

} // namespace mlxlm::models
