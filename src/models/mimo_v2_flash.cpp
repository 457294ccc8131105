// MiMo-V2-Flash: layers that slide have their own head counts and sizes, and a
// logit a head that takes attention's mass; values are scaled; DeepSeek-V3's
// experts.
#include <mlx/ops.h>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// 0 and 1 a layer under `key` as names under `name`, unless those are there.
Fields named_layers(
    const Fields& f,
    const char* key,
    const char* name,
    const char* zero,
    const char* one) {
  if (f.has(name) || !f.has(key)) return f.with({{key, nullptr}});
  auto names = Json::array();
  for (int kind : f.req<std::vector<int>>(key))
    names.push_back(kind == 1 ? one : zero);
  return f.with({{name, names}, {key, nullptr}});
}

Fields mimo_names(const Fields& config) {
  auto f = named_layers(
      config,
      "hybrid_layer_pattern",
      "layer_types",
      "full_attention",
      "sliding_attention");
  f = named_layers(f, "moe_layer_freq", "mlp_layer_types", "dense", "sparse");
  if (!f.has("mlp_layer_types")) f = f.with({{"first_k_dense_replace", 1}});
  return with_defaults(
      f, {{"rms_norm_eps", config.opt("layernorm_epsilon", 1e-5)}});
}

// A token sees this many before itself in the original, itself included here.
int window_of(const Fields& f) {
  int before = size_field(f, "sliding_window_size", 0);
  return before ? before + 1 : size_field(f, "sliding_window", 129);
}

struct Heads {
  int heads, kv_heads, dim, v_dim;
  Rope rope;
  bool sinks;
};

Heads full_heads(const Fields& f, const Common& c) {
  return {
      c.heads,
      c.kv_heads,
      c.head_dim,
      size_field(f, "v_head_dim", c.head_dim),
      Rope::from(f, c.head_dim, {.layer_type = "full_attention"}),
      f.opt("add_full_attention_sink_bias", false)};
}

Heads sliding_heads(const Fields& f, const Common& c) {
  int dim = size_field(f, "swa_head_dim", c.head_dim);
  int v_dim = size_field(f, "v_head_dim", c.head_dim);
  return {
      size_field(f, "swa_num_attention_heads", c.heads),
      size_field(f, "swa_num_key_value_heads", 2 * c.kv_heads),
      dim,
      size_field(f, "swa_v_head_dim", v_dim),
      Rope::from(
          f,
          dim,
          {.layer_type = "sliding_attention", .theta_key = "swa_rope_theta"}),
      f.opt("add_swa_attention_sink_bias", true)};
}

} // namespace

ModelPtr mimo_v2_flash(const Fields& config, const Scope& w) {
  auto f = mimo_names(config);
  auto c = Common::parse(f);
  auto full = full_heads(f, c), sliding = sliding_heads(f, c);
  auto kinds = layer_types(
      f, c.depth, {"full_attention", "sliding_attention"}, [](int i) {
        bool all = i == 0 || (i + 1) % 6 == 0;
        return all ? "full_attention" : "sliding_attention";
      });
  int window = window_of(f);
  float scale = f.opt("attention_value_scale", 1.0f);
  auto bias = bias_if(f.opt("attention_bias", false));
  auto mlp = [&](int i, const Scope& s) {
    return i < c.depth ? sigmoid_experts(f, c, i, s) : gated_mlp(s, c.mlp());
  };
  return plain_decoder(
      w, c, MlpMaker(mlp), [&](int i, const Scope&, AttentionOptions& o) {
        // What predicts further tokens lies behind the list, and slides.
        bool slides = i == c.depth || kinds[i] == "sliding_attention";
        const auto& h = slides ? sliding : full;
        o.heads = h.heads;
        o.kv_heads = h.kv_heads;
        o.head_dim = h.dim;
        o.v_dim = h.v_dim;
        o.rope = h.rope;
        o.sinks = h.sinks;
        o.window = slides ? window : 0;
        o.bias = bias;
        if (scale != 1)
          o.on_v = [scale](const mx::array& v) {
            return v * mx::array(scale, v.dtype());
          };
      });
}

PredictionNames mimo_v2_flash_prediction(const Fields&) {
  return prediction_names(
      "model.mtp.layers.0",
      {{"enorm", "token_norm"},
       {"hnorm", "hidden_norm"},
       {"eh_proj", "proj"},
       {"final_layernorm", "norm"},
       {"pre_mlp_layernorm", "block.post_attention_layernorm"}});
}

std::vector<Rule> mimo_v2_flash_rules(
    const Fields& f,
    const TensorSource& source) {
  auto rules = sigmoid_expert_rules(f, source);
  rules.push_back(rename("*.attention_sink_bias", "*.sinks"));
  rules.push_back(drop("model.mtp*"));
  return rules;
}

} // namespace mlxlm::models
