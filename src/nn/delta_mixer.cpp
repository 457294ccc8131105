#include "nn/delta_mixer.h"

#include <mlx/ops.h>

#include <cmath>

#include "nn/fused.h"
#include "nn/gated_delta.h"
#include "runtime/kernels/mixers.h"
#include "runtime/kernels/ops.h"

namespace mlxlm {

namespace {

// x / |x| * scale along the last axis, as transformers: x / sqrt(sum x^2 +
// 1e-6).
mx::array unit(const mx::array& x, float scale) {
  float width = static_cast<float>(x.shape(-1));
  auto y = kernels::rms_norm(x, std::nullopt, 1e-6f / width);
  return y * mx::array(scale / std::sqrt(width), y.dtype());
}

} // namespace

mx::array DeltaMixer::operator()(
    const mx::array& x,
    const Step& step,
    LayerCache* cache) const {
  auto in = inputs(x);
  auto y = mixed(in, step, *cache);
  y = gated(y, mx::reshape(in.gate, y.shape()));
  return p_.out(mx::astype(
      mx::reshape(y, {1, x.shape(1), p_.shape.values()}), x.dtype()));
}

CacheSpec DeltaMixer::cache() const {
  const auto& s = p_.shape;
  Recurrent out;
  out.states.push_back(p_.conv.state());
  out.states.push_back({{s.value_heads, s.value_dim, s.key_dim}, mx::float32});
  return out;
}

mx::array DeltaMixer::mixed(
    const Inputs& in,
    const Step& step,
    LayerCache& cache) const {
  const auto& s = p_.shape;
  if (auto conv = cache.places(step, 0))
    return kernels::delta_mixer(
        p_.conv(in.qkv, conv, {.silu = true}),
        in.decay,
        in.beta,
        cache.places(step, 1),
        {s.key_heads, s.value_heads, s.key_dim, s.value_dim});
  auto groups = batches(step);
  std::vector<mx::array> results;
  for (const auto& g : groups)
    results.push_back(mixed(in, g, cache));
  return in_order(groups, results);
}

mx::array DeltaMixer::mixed(
    const Inputs& in,
    const SegmentBatch& g,
    LayerCache& cache) const {
  const auto& s = p_.shape;
  auto conv = apply(Activation::silu, p_.conv(g.of(in.qkv), g, cache, 0));
  auto parts = mx::split(conv, mx::Shape{s.keys(), 2 * s.keys()}, -1);
  auto rows = [&](const mx::array& v, int heads, int dim) {
    return mx::reshape(v, {g.size(), g.count, heads, dim});
  };
  auto [y, state] = delta_rule(
      unit(
          rows(parts[0], s.key_heads, s.key_dim),
          1 / std::sqrt(static_cast<float>(s.key_dim))),
      unit(rows(parts[1], s.key_heads, s.key_dim), 1),
      rows(parts[2], s.value_heads, s.value_dim),
      g.of(in.decay),
      g.of(in.beta),
      g.state(cache, 1));
  g.set_state(cache, 1, mx::astype(state, mx::float32));
  return y;
}

mx::array DeltaMixer::gated(const mx::array& y, const mx::array& gate) const {
  return kernels::gated_norm(
      y, gate, *p_.norm, {.eps = p_.eps, .sigmoid = p_.sigmoid_gate});
}

} // namespace mlxlm
