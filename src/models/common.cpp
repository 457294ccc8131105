#include "models/common.h"

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm::models {

namespace {

constexpr int most = 1 << 24; // of anything a config counts

} // namespace

int size_field(const Fields& f, std::string_view key) {
  return f.range(key, 1, most);
}

int size_field(const Fields& f, std::string_view key, int fallback) {
  return f.has(key) ? f.range(key, 0, most) : fallback;
}

Common Common::parse(const Fields& f, bool tied) {
  Common c;
  c.hidden = f.range("hidden_size", 1, 1 << 20);
  c.depth = f.range("num_hidden_layers", 1, 4096);
  c.heads = f.range("num_attention_heads", 1, 1 << 14);
  c.kv_heads = f.range("num_key_value_heads", c.heads, 1, 1 << 14);
  if (!f.has("head_dim") && c.hidden % c.heads != 0)
    fail(
        ErrorKind::config,
        f.where("num_attention_heads"),
        "expected a divisor of hidden_size {}, found {}",
        c.hidden,
        c.heads);
  if (c.heads % c.kv_heads != 0)
    fail(
        ErrorKind::config,
        f.where("num_key_value_heads"),
        "expected a divisor of num_attention_heads {}, found {}",
        c.heads,
        c.kv_heads);
  c.head_dim = f.range("head_dim", c.hidden / c.heads, 1, 1 << 13);
  c.inner = f.range("intermediate_size", 0, 1, most);
  c.vocab = f.range("vocab_size", 1, most);
  c.eps = f.opt("rms_norm_eps", 1e-6f);
  c.tied = f.opt("tie_word_embeddings", tied);
  c.act = activation(f, "hidden_act", "silu");
  return c;
}

AttentionOptions Common::attention() const {
  AttentionOptions o;
  o.hidden = hidden;
  o.heads = heads;
  o.kv_heads = kv_heads;
  o.head_dim = head_dim;
  return o;
}

MlpOptions Common::mlp() const {
  return {.hidden = hidden, .inner = inner, .act = act};
}

DecoderOptions Common::decoder(const Scope& w) const {
  DecoderOptions o;
  o.hidden = hidden;
  o.vocab = vocab;
  o.depth = depth;
  o.tied = tied;
  o.norm = rms_norm(w, "model.norm", hidden, eps);
  return o;
}

Fields with_defaults(const Fields& f, const Json& values) {
  Json missing = Json::object();
  for (const auto& [key, value] : values.items())
    if (!f.has(key)) missing[key] = value;
  return f.with(missing);
}

std::vector<std::string> layer_types(
    const Fields& f,
    int depth,
    const std::vector<std::string>& allowed,
    const std::function<std::string(int)>& kind) {
  std::vector<std::string> out;
  if (!f.has("layer_types")) {
    for (int i = 0; i < depth; ++i)
      out.push_back(kind(i));
    return out;
  }
  out = f.req<std::vector<std::string>>("layer_types");
  if (static_cast<int>(out.size()) != depth)
    fail(
        ErrorKind::config,
        f.where("layer_types"),
        "expected {} entries, one a layer, found {}",
        depth,
        out.size());
  for (const auto& name : out)
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end())
      fail(
          ErrorKind::config,
          f.where("layer_types"),
          "expected {}, found \"{}\"",
          join(allowed, " or "),
          printable(name));
  return out;
}

std::vector<int> windows(
    const Fields& f,
    int depth,
    const std::function<bool(int)>& sliding) {
  auto types = layer_types(
      f, depth, {"sliding_attention", "full_attention"}, [&](int i) {
        return sliding(i) ? "sliding_attention" : "full_attention";
      });
  int window = size_field(f, "sliding_window", 0);
  std::vector<int> out;
  for (const auto& t : types)
    out.push_back(t == "sliding_attention" ? window : 0);
  return out;
}

Bias bias_if(bool present) {
  return present ? Bias::required : Bias::none;
}

Layer pre_norm_layer(
    const Scope& s,
    const Common& c,
    BlockPtr attention,
    BlockPtr mlp,
    float offset) {
  return layer(
      Sublayer{
          rms_norm(s, "input_layernorm", c.hidden, c.eps, offset),
          std::move(attention)},
      Sublayer{
          rms_norm(s, "post_attention_layernorm", c.hidden, c.eps, offset),
          std::move(mlp)});
}

Layer post_norm_layer(
    const Scope& s,
    const Common& c,
    BlockPtr attention,
    BlockPtr mlp) {
  return layer(
      Sublayer{
          {},
          std::move(attention),
          rms_norm(s, "post_attention_layernorm", c.hidden, c.eps)},
      Sublayer{
          {},
          std::move(mlp),
          rms_norm(s, "post_feedforward_layernorm", c.hidden, c.eps)});
}

BlockPtr sigmoid_experts(
    const Fields& f,
    const Common& c,
    int index,
    const Scope& s) {
  int count = size_field(f, "n_routed_experts", 0);
  int dense = size_field(f, "first_k_dense_replace", 0);
  int every = f.range("moe_layer_freq", 1, 1, 1 << 20);
  if (count == 0 || index < dense || index % every != 0)
    return gated_mlp(s, c.mlp());
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = count,
      .top_k = size_field(f, "num_experts_per_tok"),
      .score = RouterOptions::Score::sigmoid,
      .groups = size_field(f, "n_group", 1),
      .top_groups = size_field(f, "topk_group", 1),
      .pairs = true,
      .normalize = f.opt("norm_topk_prob", true),
      .normalize_eps = 1e-20f,
      .scale = f.opt("routed_scaling_factor", 1.0f),
      .correction = "gate.e_score_correction_bias"};
  m.experts = {
      .hidden = c.hidden,
      .inner = f.range("moe_intermediate_size", 1, 1 << 20),
      .experts = count,
      .act = c.act};
  auto shared = c.mlp();
  shared.inner = m.experts.inner * f.range("n_shared_experts", 0, 0, 1 << 10);
  return moe(
      s, m, shared.inner ? gated_mlp(s / "shared_experts", shared) : nullptr);
}

ModelPtr plain_decoder(
    const Scope& w,
    const Common& c,
    const MlpOptions& mlp,
    const Adjust& adjust) {
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    auto at = s / "self_attn";
    adjust(i, at, a);
    return pre_norm_layer(s, c, attention(at, a), gated_mlp(s / "mlp", mlp));
  };
  return decoder(w, c.decoder(w), block);
}

std::vector<Rule> drop_prediction_layers(const Fields& f) {
  std::vector<Rule> out;
  int depth = f.range("num_hidden_layers", 1, 4096);
  int extra = f.range("num_nextn_predict_layers", 0, 0, 64);
  for (int i = depth; i < depth + extra; ++i)
    out.push_back(drop("model.layers." + std::to_string(i) + ".*"));
  return out;
}

} // namespace mlxlm::models
