#include "models/common.h"

#include <mlx/ops.h>

#include <charconv>
#include <set>

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

int automatic_size(const Fields& f, std::string_view key, int fallback) {
  bool said = f.has(key) && f.req<Json>(key) != "auto";
  return said ? size_field(f, key) : fallback;
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

DecoderOptions Common::frame() const {
  DecoderOptions o;
  o.hidden = hidden;
  o.vocab = vocab;
  o.depth = depth;
  o.tied = tied;
  o.prediction = prediction;
  o.prediction.eps = eps;
  return o;
}

DecoderOptions Common::decoder(const Scope& w, std::string_view norm) const {
  auto o = frame();
  o.norm = rms_norm(w, norm, hidden, eps);
  return o;
}

Fields with_defaults(const Fields& f, const Json& values) {
  Json missing = Json::object();
  for (const auto& [key, value] : values.items())
    if (!f.has(key)) missing[key] = value;
  return f.with(missing);
}

Fields with_aliases(
    const Fields& f,
    const std::vector<std::pair<std::string, std::string>>& names) {
  Json missing = Json::object();
  for (const auto& [key, other] : names)
    if (!f.has(key) && !missing.contains(key) && f.has(other))
      missing[key] = f.req<Json>(other);
  return f.with(missing);
}

Fields under_usual_names(
    const Fields& f,
    const std::vector<std::pair<const char*, const char*>>& names) {
  Json usual = Json::object();
  for (const auto& [name, own] : names)
    usual[name] = size_field(f, own);
  return f.with(usual);
}

std::vector<std::string> layer_types(
    const Fields& f,
    int depth,
    const std::vector<std::string>& allowed,
    const std::function<std::string(int)>& kind,
    std::string_view key) {
  std::vector<std::string> out;
  if (!f.has(key)) {
    for (int i = 0; i < depth; ++i)
      out.push_back(kind(i));
    return out;
  }
  out = f.req<std::vector<std::string>>(key);
  if (static_cast<int>(out.size()) != depth)
    fail(
        ErrorKind::config,
        f.where(key),
        "expected {} entries, one a layer, found {}",
        depth,
        out.size());
  for (const auto& name : out)
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end())
      fail(
          ErrorKind::config,
          f.where(key),
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

OutputGate output_gate(
    Linear gate,
    std::function<mx::array(const mx::array&)> act) {
  return [gate = std::move(gate), act = std::move(act)](
             const mx::array& y, const mx::array& x) {
    auto g = act(gate(x));
    int heads = y.shape(2);
    return y * mx::reshape(g, {1, x.shape(1), heads, g.shape(2) / heads});
  };
}

float cap_field(const Fields& f, std::string_view key, float absent) {
  bool none = f.json().contains(std::string(key)) && !f.has(key);
  return none ? 0 : f.opt(key, absent);
}

int layer_field(
    const Fields& f,
    std::string_view key,
    int layer,
    int fallback,
    int most) {
  if (!f.has(key) || !f.req<Json>(key).is_array())
    return f.range(key, fallback, 0, most);
  auto list = f.req<std::vector<int>>(key);
  if (layer >= static_cast<int>(list.size()))
    fail(
        ErrorKind::config,
        f.where(key),
        "expected an entry for layer {}, found {}",
        layer,
        list.size());
  if (list[layer] < 0 || list[layer] > most)
    fail(
        ErrorKind::config,
        f.where(key),
        "expected numbers from 0 to {}, found {}",
        most,
        list[layer]);
  return list[layer];
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

ModelPtr plain_decoder(
    const Scope& w,
    const Common& c,
    const MlpMaker& mlp,
    const Adjust& adjust) {
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    auto at = s / "self_attn";
    adjust(i, at, a);
    return pre_norm_layer(s, c, attention(at, a), mlp(i, s / "mlp"));
  };
  return decoder(w, c.decoder(w), block);
}

ModelPtr plain_decoder(
    const Scope& w,
    const Common& c,
    const MlpOptions& mlp,
    const Adjust& adjust) {
  auto make = [&](int, const Scope& s) { return gated_mlp(s, mlp); };
  return plain_decoder(w, c, MlpMaker(make), adjust);
}

PredictionNames prediction_names(
    const std::string& at,
    const std::vector<std::pair<std::string, std::string>>& names) {
  PredictionNames out;
  out.first = at + "." + names.front().first + ".weight";
  for (const auto& [own, usual] : names)
    out.rules.push_back(
        rename(at + "." + own + ".*", "prediction." + usual + ".*"));
  out.rules.push_back(rename(at + ".*", "prediction.block.*"));
  return out;
}

PredictionNames next_layer_prediction(const Fields& f) {
  auto at =
      fmt::format("model.layers.{}", f.range("num_hidden_layers", 1, 4096));
  auto out = prediction_names(
      at,
      {{"enorm", "token_norm"},
       {"hnorm", "hidden_norm"},
       {"eh_proj", "proj"},
       {"shared_head.norm", "norm"},
       {"shared_head.head", "head"}});
  out.rules.insert(out.rules.begin(), drop(at + ".embed_tokens.*"));
  return out;
}

std::vector<Rule> drop_prediction_layers(
    const Fields& f,
    const TensorSource& source) {
  int depth = f.range("num_hidden_layers", 1, 4096);
  constexpr std::string_view mark = "layers.";
  std::set<int> behind;
  for (const auto& name : source.names()) {
    auto at = name.find(mark);
    if (at == std::string::npos) continue;
    int index = 0;
    auto digits = name.data() + at + mark.size();
    auto end = name.data() + name.size();
    auto [next, error] = std::from_chars(digits, end, index);
    bool whole = error == std::errc() && next != end && *next == '.';
    if (whole && index >= depth) behind.insert(index);
  }
  std::vector<Rule> out;
  for (int i : behind)
    out.push_back(drop("model.layers." + std::to_string(i) + ".*"));
  return out;
}

} // namespace mlxlm::models
