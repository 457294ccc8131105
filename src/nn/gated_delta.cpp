#include "nn/gated_delta.h"

#include <mlx/device.h>
#include <mlx/fast.h>
#include <mlx/ops.h>

#include <cmath>

#include "nn/fused.h"
#include "nn/recurrent.h"
#include "runtime/kernels/ops.h"
#include "runtime/kernels/scan.h"

namespace mlxlm {

std::pair<mx::array, mx::array> delta_rule(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const mx::array& g,
    const mx::array& beta,
    const mx::array& state) {
  bool cpu = mx::default_device() == mx::Device::cpu;
  if (cpu || g.ndim() == 4) {
    auto real = [](const mx::array& x) { return mx::astype(x, mx::float32); };
    return kernels::delta_rule(
        real(q), real(k), real(v), real(g), real(beta), state);
  }
  auto out = mx::fast::gated_delta_update(q, k, v, g, beta, state);
  return {out[0], out[1]};
}

namespace {

// x / |x| * scale along the last axis, as transformers: x / sqrt(sum x^2 +
// 1e-6).
mx::array unit(const mx::array& x, float scale) {
  float width = static_cast<float>(x.shape(-1));
  auto y = kernels::rms_norm(x, std::nullopt, 1e-6f / width);
  return y * mx::array(scale / std::sqrt(width), y.dtype());
}

class GatedDelta : public Block {
 public:
  GatedDelta(const Scope& s, const GatedDeltaOptions& o)
      : o_(o),
        keys_(o.key_heads * o.key_dim),
        values_(o.value_heads * o.value_dim),
        channels_(2 * keys_ + values_),
        out_(s.linear("out_proj", values_, o.hidden)),
        conv_(s, "conv1d", channels_, o.kernel),
        a_log_(s.param("A_log", {o.value_heads}, mx::float32)),
        dt_bias_(s.param("dt_bias", {o.value_heads}, mx::float32)),
        norm_(s.param("norm.weight", {o.value_dim}, mx::float32)) {
    if (o.grouped) {
      in_.push_back(s.linear("in_proj_qkvz", o.hidden, channels_ + values_));
      in_.push_back(s.linear("in_proj_ba", o.hidden, 2 * o.value_heads));
    } else {
      in_.push_back(s.linear("in_proj_qkv", o.hidden, channels_));
      in_.push_back(s.linear("in_proj_z", o.hidden, values_));
      in_.push_back(s.linear("in_proj_b", o.hidden, o.value_heads));
      in_.push_back(s.linear("in_proj_a", o.hidden, o.value_heads));
    }
  }

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    int n = x.shape(1);
    auto in = inputs(x);
    auto beta = mx::sigmoid(in.b);
    auto rate = softplus(mx::astype(in.a, mx::float32) + *dt_bias_);
    auto g = mx::exp(mx::negative(mx::exp(*a_log_)) * rate);
    auto groups = batches(step);
    std::vector<mx::array> results;
    for (const auto& group : groups)
      results.push_back(
          mixed(group.of(in.qkv), group.of(g), group.of(beta), group, *cache));
    auto y = in_order(groups, results); // [1, N, Hv, Dv]
    auto z = mx::reshape(in.z, y.shape());
    y = gated_rms_norm(y, z, *norm_, o_.eps, 1, false);
    return out_(mx::astype(mx::reshape(y, {1, n, values_}), x.dtype()));
  }

  CacheSpec cache() const override {
    Recurrent out;
    out.states.push_back(conv_.state());
    out.states.push_back(
        {{o_.value_heads, o_.value_dim, o_.key_dim}, mx::float32});
    return out;
  }

 private:
  struct Inputs {
    mx::array qkv, z, b, a; // [1, N, ...]
  };

  Inputs inputs(const mx::array& x) const {
    auto parts = linears(x, in_);
    if (!o_.grouped) return {parts[0], parts[1], parts[2], parts[3]};
    int n = x.shape(1), each = o_.value_heads / o_.key_heads;
    int wide = each * o_.value_dim;
    auto qkvz = mx::split(
        mx::reshape(parts[0], {1, n, o_.key_heads, 2 * (o_.key_dim + wide)}),
        mx::Shape{o_.key_dim, 2 * o_.key_dim, 2 * o_.key_dim + wide},
        -1);
    auto ba =
        mx::split(mx::reshape(parts[1], {1, n, o_.key_heads, 2 * each}), 2, -1);
    auto flat = [&](const mx::array& v, int width) {
      return mx::reshape(v, {1, n, width});
    };
    auto qkv = mx::concatenate(
        {flat(qkvz[0], keys_), flat(qkvz[1], keys_), flat(qkvz[2], values_)},
        -1);
    return {
        qkv,
        flat(qkvz[3], values_),
        flat(ba[0], o_.value_heads),
        flat(ba[1], o_.value_heads)};
  }

  mx::array mixed(
      const mx::array& qkv,
      const mx::array& g,
      const mx::array& beta,
      const SegmentBatch& group,
      LayerCache& cache) const {
    auto conv = apply(Activation::silu, conv_(qkv, group, cache, 0));
    auto parts = mx::split(conv, mx::Shape{keys_, 2 * keys_}, -1);
    auto rows = [&](const mx::array& v, int heads, int dim) {
      return mx::reshape(v, {group.size(), group.count, heads, dim});
    };
    auto q = rows(parts[0], o_.key_heads, o_.key_dim);
    auto k = rows(parts[1], o_.key_heads, o_.key_dim);
    auto [y, state] = delta_rule(
        unit(q, 1 / std::sqrt(static_cast<float>(o_.key_dim))),
        unit(k, 1),
        rows(parts[2], o_.value_heads, o_.value_dim),
        g,
        beta,
        group.state(cache, 1));
    group.set_state(cache, 1, mx::astype(state, mx::float32));
    return y;
  }

  GatedDeltaOptions o_;
  int keys_, values_, channels_;
  std::vector<Linear> in_;
  Linear out_;
  ShortConv conv_;
  Param a_log_, dt_bias_, norm_;
};

} // namespace

BlockPtr gated_delta(const Scope& s, const GatedDeltaOptions& options) {
  return std::make_unique<GatedDelta>(s, options);
}

} // namespace mlxlm
