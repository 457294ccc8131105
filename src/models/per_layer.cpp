#include "models/per_layer.h"

#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"

namespace mlxlm::models {

int per_layer_width(const Fields& f) {
  return size_field(f, "hidden_size_per_layer_input", 256);
}

PerLayerInputs::PerLayerInputs(const Fields& f, const Common& c, const Scope& w)
    : depth_(c.depth),
      width_(per_layer_width(f)),
      vocab_(size_field(f, "vocab_size_per_layer_input", 262144)),
      hidden_(static_cast<float>(c.hidden)),
      table_(
          w.embedding("model.embed_tokens_per_layer", vocab_, depth_ * width_)),
      projection_(w.linear(
          "model.per_layer_model_projection",
          c.hidden,
          depth_ * width_)),
      norm_(rms_norm(w, "model.per_layer_projection_norm", width_, c.eps)),
      type_(w.compute_type()) {}

mx::array PerLayerInputs::operator()(
    const Input& input,
    const mx::array& embedded) const {
  auto scaled = [](const mx::array& x, float factor) {
    return x * mx::array(factor, x.dtype());
  };
  auto by_layer = [&](const mx::array& x) {
    return mx::reshape(x, {1, x.shape(1), depth_, width_});
  };
  // Tokens beyond the table (those of images) count as the first.
  auto ids = mx::where(
      mx::less(input.tokens, mx::array(vocab_)),
      input.tokens,
      mx::array(0, input.tokens.dtype()));
  auto looked_up = scaled(
      table_.kernel().rows(ids, type_), std::sqrt(static_cast<float>(width_)));
  auto projected = scaled(projection_(embedded), 1 / std::sqrt(hidden_));
  return scaled(
      norm_(by_layer(projected)) + by_layer(looked_up), std::sqrt(0.5f));
}

PerLayerGate::PerLayerGate(
    const Fields& f,
    const Common& c,
    const Scope& s,
    int index)
    : index_(index),
      act_(c.act),
      gate_(s.linear("per_layer_input_gate", c.hidden, per_layer_width(f))),
      projection_(
          s.linear("per_layer_projection", per_layer_width(f), c.hidden)),
      norm_(rms_norm(s, "post_per_layer_input_norm", c.hidden, c.eps)) {}

mx::array PerLayerGate::operator()(const mx::array& h, const mx::array& inputs)
    const {
  auto mine = mx::squeeze(
      mx::slice(
          inputs,
          {0, 0, index_, 0},
          {1, inputs.shape(1), index_ + 1, inputs.shape(3)}),
      2);
  return norm_(projection_(gate_up(act_, gate_(h), mine)));
}

std::vector<int> borrowed_from(
    const Fields& f,
    const std::vector<std::string>& layer_types,
    int shared) {
  int depth = static_cast<int>(layer_types.size()), own = depth - shared;
  std::vector<int> out(depth, -1);
  for (int i = own; i < depth; ++i) {
    int from = own - 1;
    while (from >= 0 && layer_types[from] != layer_types[i])
      --from;
    if (from < 0)
      fail(
          ErrorKind::config,
          f.where("num_kv_shared_layers"),
          "expected a layer of {} below the last {}, found none",
          layer_types[i],
          shared);
    out[i] = from;
  }
  return out;
}

std::vector<Rule> drop_borrowed(const Fields& f, int shared) {
  std::vector<Rule> out;
  int depth = f.range("num_hidden_layers", 1, 4096);
  for (int i = std::max(0, depth - shared); i < depth; ++i)
    for (auto name : {"k_proj", "v_proj", "k_norm", "v_norm"})
      out.push_back(
          drop(fmt::format("model.layers.{}.self_attn.{}.*", i, name)));
  for (auto tower : {"audio_tower", "embed_audio", "embed_vision"})
    out.push_back(drop(fmt::format("*{}.*", tower)));
  return out;
}

} // namespace mlxlm::models
