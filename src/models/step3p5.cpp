// Step 3.5: layers differ in heads, rotation and the cut of their SwiGLU;
// attention is gated head by head; experts beside a shared one.
#include <mlx/ops.h>

#include <algorithm>
#include <charconv>

#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

using Join = std::function<mx::array(const mx::array&, const mx::array&)>;

// silu(gate) at most `limit`, times up cut to the limit.
Join clamped(float limit) {
  if (limit <= 0) return {};
  return [=](const mx::array& gate, const mx::array& up) {
    auto high = mx::array(limit, gate.dtype());
    auto low = mx::array(-limit, gate.dtype());
    auto g = mx::minimum(gate * mx::sigmoid(gate), high);
    return g * mx::clip(up, low, high);
  };
}

// Entry `layer` of a list of numbers under `key`; `beyond` where the list ends
// before it or has a null.
float entry(const Fields& f, const char* key, int layer, float beyond) {
  if (!f.has(key)) return beyond;
  auto list = f.req<Json>(key);
  if (!list.is_array())
    fail(
        ErrorKind::config,
        f.where(key),
        "expected a list of numbers, found {}",
        list.type_name());
  if (layer >= static_cast<int>(list.size()) || list[layer].is_null())
    return beyond;
  if (!list[layer].is_number())
    fail(
        ErrorKind::config,
        f.where(key),
        "expected numbers, found {}",
        list[layer].type_name());
  return list[layer].get<float>();
}

// "1,2,5" or a list; all but the first layer when there is none.
std::vector<int> expert_layers(const Fields& f, int depth) {
  constexpr auto key = "moe_layers_enum";
  std::vector<int> out;
  if (!f.has(key) || f.req<Json>(key) == "") {
    for (int i = 1; i < depth; ++i)
      out.push_back(i);
    return out;
  }
  if (f.req<Json>(key).is_array()) return f.req<std::vector<int>>(key);
  auto text = f.req<std::string>(key);
  const char* at = text.data();
  const char* end = at + text.size();
  while (at != end) {
    int layer = 0;
    while (at != end && *at == ' ')
      ++at;
    auto [next, error] = std::from_chars(at, end, layer);
    while (next != end && *next == ' ')
      ++next;
    if (error != std::errc() || (next != end && *next != ','))
      fail(
          ErrorKind::config,
          f.where(key),
          "expected layer numbers with commas between, found \"{}\"",
          printable(text));
    out.push_back(layer);
    at = next == end ? end : next + 1;
  }
  return out;
}

Fields step_names(const Fields& config) {
  auto f = config.with(
      {{"num_key_value_heads", size_field(config, "num_attention_groups")},
       {"rms_norm_eps", config.opt("rms_norm_eps", 1e-5)},
       {"rope_parameters", nullptr}});
  // Layers that predict further tokens are listed as well.
  auto depth = static_cast<std::size_t>(size_field(f, "num_hidden_layers"));
  auto types = f.opt("layer_types", std::vector<std::string>{});
  if (types.size() > depth) {
    types.resize(depth);
    f = f.with({{"layer_types", types}});
  }
  return f;
}

Rope layer_rope(const Fields& f, const Common& c, int i, bool slides) {
  constexpr auto theta = "rope_theta", partial = "partial_rotary_factor";
  auto own = f.with({{partial, entry(f, "partial_rotary_factors", i, 1)}});
  if (f.has(theta) && f.req<Json>(theta).is_array())
    own = own.with({{theta, entry(f, theta, i, 10000)}});
  auto types = f.opt("yarn_only_types", std::vector<std::string>{});
  auto type =
      slides && f.has("layer_types") ? "sliding_attention" : "full_attention";
  bool scaled = types.empty() ||
      std::find(types.begin(), types.end(), type) != types.end();
  return Rope::from(own, c.head_dim, {.scaled = scaled});
}

MoeOptions experts(const Fields& f, const Common& c, int i) {
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = size_field(f, "moe_num_experts", 288),
      .routing =
          {.top_k = size_field(f, "moe_top_k", 8),
           .score = Routing::Score::sigmoid,
           .normalize = f.opt("norm_expert_weight", true),
           .normalize_eps = 1e-20f,
           .scale = f.opt("moe_router_scaling_factor", 3.0f)},
      .name = "gate.gate",
      .correction = "gate.router_bias"};
  m.experts = {
      .hidden = c.hidden,
      .inner = size_field(f, "moe_intermediate_size", 1280),
      .experts = m.router.experts,
      .join = clamped(entry(f, "swiglu_limits", i, 0))};
  return m;
}

} // namespace

static int step_prediction_window(const Fields& config, int window) {
  auto depth =
      static_cast<std::size_t>(size_field(config, "num_hidden_layers"));
  auto types = config.opt("layer_types", std::vector<std::string>{});
  bool slides = types.empty() ? depth % 2 == 0
      : types.size() > depth  ? types[depth] == "sliding_attention"
                              : false;
  return slides ? window : 0;
}

ModelPtr step3p5(const Fields& config, const Scope& w) {
  auto f = step_names(config);
  auto c = Common::parse(f);
  auto sliding = with_defaults(f, {{"sliding_window", 512}});
  auto window = windows(sliding, c.depth, [](int i) { return i % 2 == 0; });
  window.push_back(
      step_prediction_window(config, size_field(sliding, "sliding_window")));
  auto other = f.sub("attention_other_setting");
  bool gated = f.opt("use_head_wise_attn_gate", true);
  auto sparse = expert_layers(f, c.depth);
  auto mlp = [&](int i, const Scope& s) {
    auto o = c.mlp();
    o.join = clamped(entry(f, "swiglu_limits_shared", i, 0));
    if (std::find(sparse.begin(), sparse.end(), i) == sparse.end())
      return gated_mlp(s, o);
    o.inner = size_field(f, "share_expert_dim", 1280);
    return moe(s, experts(f, c, i), gated_mlp(s / "share_expert", o));
  };
  return plain_decoder(
      w, c, MlpMaker(mlp), [&](int i, const Scope& s, AttentionOptions& o) {
        o.window = window[i];
        if (window[i]) {
          o.heads = size_field(other, "num_attention_heads", c.heads);
          o.kv_heads = size_field(other, "num_attention_groups", c.kv_heads);
        }
        o.rope = layer_rope(f, c, i, window[i] > 0);
        o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
        o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
        if (gated)
          o.on_y = output_gate(
              s.linear("g_proj", c.hidden, o.heads),
              [](const mx::array& g) { return mx::sigmoid(g); });
      });
}

PredictionNames step3p5_prediction(const Fields& f) {
  auto out = next_layer_prediction(f);
  auto at = out.first.substr(0, out.first.find("enorm"));
  auto& rules = out.rules;
  rules.insert(
      rules.begin(),
      {rename(at + "transformer.*", at + "*"),
       rename(at + "shared_head.output.*", at + "shared_head.head.*")});
  return out;
}

// Published files keep a layer's experts beside its MLP, and norm weights less
// one.
std::vector<Rule> step3p5_rules(const Fields& f, const TensorSource& source) {
  auto rules = drop_prediction_layers(f, source);
  rules.push_back(drop("*.mtp*"));
  auto names = source.names();
  bool published =
      std::any_of(names.begin(), names.end(), [](const auto& name) {
        bool has = name.find(".share_expert.") != std::string::npos;
        return name.find(".moe.") != std::string::npos ||
            (has && name.find(".mlp.share_expert.") == std::string::npos);
      });
  if (!published) return rules;
  for (const char* name : {"gate_proj", "up_proj", "down_proj"})
    rules.push_back(rename(
        "*.moe." + std::string(name) + ".*",
        "*.mlp.switch_mlp." + std::string(name) + ".*"));
  rules.push_back(rename("*.moe.gate.*", "*.mlp.gate.gate.*"));
  rules.push_back(rename("*.moe.router_bias", "*.mlp.gate.router_bias"));
  rules.push_back(rename("*.share_expert.*", "*.mlp.share_expert.*"));
  rules.push_back(offset("*norm*.weight", 1));
  return rules;
}

} // namespace mlxlm::models
