#include "models/hybrid.h"

#include <algorithm>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm::models {

std::vector<bool> attention_layers(
    const Fields& f,
    int depth,
    const std::vector<std::string>& others,
    const std::function<bool(int)>& attends) {
  const auto* key =
      f.has("layers_block_type") ? "layers_block_type" : "layer_types";
  std::vector<bool> out;
  if (!f.has(key)) {
    for (int i = 0; i < depth; ++i)
      out.push_back(attends(i));
    return out;
  }
  auto kinds = f.req<std::vector<std::string>>(key);
  if (static_cast<int>(kinds.size()) != depth)
    fail(
        ErrorKind::config,
        f.where(key),
        "expected {} entries, one a layer, found {}",
        depth,
        kinds.size());
  for (const auto& kind : kinds) {
    bool attention = kind == "attention" || kind == "full_attention";
    if (!attention &&
        std::find(others.begin(), others.end(), kind) == others.end())
      fail(
          ErrorKind::config,
          f.where(key),
          "expected attention or {}, found \"{}\"",
          join(others, " or "),
          printable(kind));
    out.push_back(attention);
  }
  return out;
}

Mamba2Options mamba2_options(
    const Fields& f,
    const Common& c,
    const Mamba2Keys& keys,
    int inner) {
  Mamba2Options o;
  o.hidden = c.hidden;
  o.act = f.has("mamba_hidden_act") ? activation(f, "mamba_hidden_act", "silu")
                                    : c.act;
  o.heads = f.range(keys.heads, 1, 1 << 14);
  o.head_dim = automatic_size(f, keys.head_dim, inner / o.heads);
  o.state = f.range(keys.state, 1, 1 << 13);
  o.groups = f.range(keys.groups, 1, 1, o.heads);
  o.kernel = f.range(keys.kernel, 4, 2, 64);
  o.proj_bias = o.out_bias = bias_if(f.opt(keys.proj_bias, false));
  o.conv_bias = bias_if(f.opt(keys.conv_bias, true));
  auto limits = f.opt("time_step_limit", std::vector<float>{});
  if (limits.size() == 2) {
    o.dt_min = limits[0];
    o.dt_max = limits[1];
  }
  o.eps = c.eps;
  o.norm_groups = o.groups;
  if (o.heads % o.groups != 0)
    fail(
        ErrorKind::config,
        f.where(keys.groups),
        "expected a divisor of {} {}, found {}",
        keys.heads,
        o.heads,
        o.groups);
  if (o.head_dim < 1)
    fail(
        ErrorKind::config,
        f.where(keys.head_dim),
        "expected a size, found {} values for {} heads",
        inner,
        o.heads);
  return o;
}

DeltaShape delta_shape(const Fields& f, const DeltaShape& fallback) {
  auto size = [&](const char* key, int otherwise) {
    return otherwise ? f.range(key, otherwise, 1, 1 << 14)
                     : f.range(key, 1, 1 << 14);
  };
  DeltaShape s;
  s.key_heads = size("linear_num_key_heads", fallback.key_heads);
  s.value_heads = size("linear_num_value_heads", fallback.value_heads);
  s.key_dim = size("linear_key_head_dim", fallback.key_dim);
  s.value_dim = size("linear_value_head_dim", fallback.value_dim);
  if (s.value_heads % s.key_heads != 0)
    fail(
        ErrorKind::config,
        f.where("linear_num_value_heads"),
        "expected a multiple of linear_num_key_heads {}, found {}",
        s.key_heads,
        s.value_heads);
  return s;
}

void flatten(
    std::vector<Rule>& rules,
    const TensorSource& source,
    const std::string& pattern) {
  for (const auto& name : source.names()) {
    const auto* view = source.find(name);
    if (!view || !substitute(name, pattern, "*")) continue;
    for (std::size_t i = 1; i < view->shape.size(); ++i)
      rules.push_back(merge_axes(pattern));
    return;
  }
}

DecoderOptions backbone_decoder(const Scope& w, const Common& c) {
  auto o = c.frame();
  o.embed = "backbone.embeddings";
  o.layers = "backbone.layers";
  o.norm = rms_norm(w, "backbone.norm_f", c.hidden, c.eps);
  return o;
}

Layer mixer_layer(const Scope& s, const Common& c, BlockPtr mixer) {
  return layer(
      Sublayer{rms_norm(s, "norm", c.hidden, c.eps), std::move(mixer)});
}

} // namespace mlxlm::models
