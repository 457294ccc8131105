#include "nn/mamba2.h"

#include <mlx/device.h>
#include <mlx/ops.h>

#include <algorithm>

#include "nn/recurrent.h"
#include "runtime/kernels/mixers.h"
#include "runtime/kernels/scan.h"
#include "runtime/slices.h"

namespace mlxlm {

namespace {

// Up to so many tokens are stepped through on the CPU.
constexpr int few_steps = 8;

// [B, L, G, S] -> [B, H, L, S], every group for each of its heads.
mx::array by_head(const mx::array& x, int heads) {
  auto t = mx::transpose(x, {0, 2, 1, 3});
  int each = heads / x.shape(2);
  return each == 1 ? t : mx::repeat(t, each, 1);
}

struct Chunk {
  mx::array x, dt, b, c; // [B, Q, ...] as in state_space
};

// One chunk: what its tokens give each other, as a masked product, and what the
// state gives them.
std::pair<mx::array, mx::array> run_chunk(
    const Chunk& in,
    const mx::array& a,
    const mx::array& h) {
  int q = in.x.shape(1), heads = in.x.shape(2);
  auto dt = mx::transpose(in.dt, {0, 2, 1}); // [B, H, Q]
  auto total = mx::cumsum(dt * mx::expand_dims(a, -1), -1);
  auto b = by_head(in.b, heads), c = by_head(in.c, heads);
  auto x = mx::transpose(in.x, {0, 2, 1, 3}); // [B, H, Q, P]
  auto weighted = x * mx::expand_dims(dt, -1);

  auto later = mx::tri(q, q, 0, mx::bool_);
  auto between = mx::expand_dims(total, -1) - mx::expand_dims(total, -2);
  auto never = mx::array(-std::numeric_limits<float>::infinity());
  auto decay = mx::exp(mx::where(later, between, never));
  auto scores = mx::matmul(c, mx::swapaxes(b, -1, -2)) * decay;
  auto y = mx::matmul(scores, weighted);
  y = y +
      mx::matmul(c, mx::swapaxes(h, -1, -2)) *
          mx::expand_dims(mx::exp(total), -1);

  auto end = mx::slice(
      total, {0, 0, q - 1}, {total.shape(0), total.shape(1), q}); // [B, H, 1]
  auto to_end = mx::expand_dims(mx::exp(end - total), -1);
  auto next = h * mx::expand_dims(mx::exp(end), -1) +
      mx::matmul(mx::swapaxes(weighted * to_end, -1, -2), b);
  return {mx::transpose(y, {0, 2, 1, 3}), next};
}

// A single token.
std::pair<mx::array, mx::array> run_step(
    const Chunk& in,
    const mx::array& a,
    const mx::array& h) {
  int heads = in.x.shape(2);
  auto dt =
      mx::expand_dims(mx::transpose(in.dt, {0, 2, 1}), -1); // [B, H, 1, 1]
  auto x = mx::transpose(in.x, {0, 2, 3, 1}); // [B, H, P, 1]
  auto keep = mx::exp(dt * mx::reshape(a, {1, heads, 1, 1}));
  auto next = h * keep + (x * dt) * by_head(in.b, heads);
  auto y = mx::matmul(next, mx::swapaxes(by_head(in.c, heads), -1, -2));
  return {mx::transpose(y, {0, 3, 1, 2}), next};
}

} // namespace

std::pair<mx::array, mx::array> state_space(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h,
    int chunk) {
  int length = x.shape(1);
  bool cpu = mx::default_device() == mx::Device::cpu;
  if (cpu && length <= few_steps)
    return kernels::state_space(x, dt, a, b, c, d, h);
  auto state = h;
  std::vector<mx::array> parts;
  for (int i = 0; i < length; i += chunk) {
    int end = std::min(length, i + chunk);
    Chunk in{
        slice_axis(x, 1, i, end),
        slice_axis(dt, 1, i, end),
        slice_axis(b, 1, i, end),
        slice_axis(c, 1, i, end)};
    auto [y, next] =
        end - i == 1 ? run_step(in, a, state) : run_chunk(in, a, state);
    parts.push_back(y);
    state = next;
  }
  auto y = mx::concatenate(std::move(parts), 1);
  return {y + x * mx::expand_dims(d, -1), state};
}

namespace {

class Mamba2 : public Block {
 public:
  Mamba2(const Scope& s, const Mamba2Options& o)
      : o_(o),
        inner_(o.heads * o.head_dim),
        channels_(inner_ + 2 * o.groups * o.state),
        in_(s.linear(
            "in_proj",
            o.hidden,
            inner_ + channels_ + o.heads,
            {.bias = o.proj_bias})),
        out_(s.linear("out_proj", inner_, o.hidden, {.bias = o.out_bias})),
        conv_(s, {"conv1d"}, channels_, o.kernel, o.conv_bias),
        a_log_(s.param("A_log", {o.heads}, mx::float32)),
        d_(s.param("D", {o.heads}, mx::float32)),
        dt_bias_(s.param("dt_bias", {o.heads}, mx::float32)) {
    if (o.norm) norm_ = s.param("norm.weight", {inner_}, mx::float32);
    if (!o.multipliers.empty()) scales_ = scales();
  }

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    auto all = in_(x);
    if (scales_) all = all * mx::astype(*scales_, all.dtype());
    auto parts = mx::split(all, mx::Shape{inner_, inner_ + channels_}, -1);
    auto y = mixed(parts[1], parts[2], step, *cache);
    if (norm_)
      y = gated_rms_norm(
          y, parts[0], **norm_, o_.eps, o_.norm_groups, o_.gate_first);
    else
      y = gate_up(Activation::silu, mx::astype(parts[0], y.dtype()), y);
    return out_(mx::astype(y, x.dtype()));
  }

  CacheSpec cache() const override {
    Recurrent out;
    out.states.push_back(conv_.state());
    out.states.push_back({{o_.heads, o_.head_dim, o_.state}, mx::float32});
    return out;
  }

 private:
  // xbc [1, N, channels], dt [1, N, H] of a pass -> [1, N, inner] float32
  mx::array mixed(
      const mx::array& xbc,
      const mx::array& dt,
      const Step& step,
      LayerCache& cache) const {
    if (auto conv = cache.places(step, 0)) {
      bool silu = o_.act == Activation::silu;
      auto x = conv_(xbc, conv, {.silu = silu});
      return kernels::space_mixer(
          silu ? x : apply(o_.act, x),
          dt,
          *a_log_,
          *d_,
          *dt_bias_,
          cache.places(step, 1),
          {o_.heads, o_.head_dim, o_.groups, o_.state, o_.dt_min, o_.dt_max});
    }
    auto groups = batches(step);
    std::vector<mx::array> results;
    for (const auto& g : groups)
      results.push_back(mixed(g.of(xbc), g.of(dt), g, cache));
    return in_order(groups, results);
  }

  // The same of some of its segments: xbc [B, L, channels], dt [B, L, H].
  mx::array mixed(
      const mx::array& xbc,
      const mx::array& raw_dt,
      const SegmentBatch& g,
      LayerCache& cache) const {
    auto conv = mx::astype(apply(o_.act, conv_(xbc, g, cache, 0)), mx::float32);
    int shared = o_.groups * o_.state;
    auto parts = mx::split(conv, mx::Shape{inner_, inner_ + shared}, -1);
    auto rows = [&](const mx::array& v, int a, int b) {
      return mx::reshape(v, {g.size(), g.count, a, b});
    };
    auto dt = softplus(mx::astype(raw_dt, mx::float32) + *dt_bias_);
    dt = mx::clip(dt, mx::array(o_.dt_min), mx::array(o_.dt_max));
    auto [y, state] = state_space(
        rows(parts[0], o_.heads, o_.head_dim),
        dt,
        mx::negative(mx::exp(*a_log_)),
        rows(parts[1], o_.groups, o_.state),
        rows(parts[2], o_.groups, o_.state),
        *d_,
        g.state(cache, 1));
    g.set_state(cache, 1, state);
    return mx::reshape(y, {g.size(), g.count, inner_});
  }

  // A value for every row of the projection.
  mx::array scales() const {
    int shared = o_.groups * o_.state;
    const int widths[] = {inner_, inner_, shared, shared, o_.heads};
    std::vector<mx::array> parts;
    for (int i = 0; i < 5; ++i)
      parts.push_back(mx::full({widths[i]}, o_.multipliers[i], mx::float32));
    return mx::concatenate(parts);
  }

  Mamba2Options o_;
  int inner_, channels_;
  Linear in_, out_;
  ShortConv conv_;
  Param a_log_, d_, dt_bias_;
  std::optional<Param> norm_;
  std::optional<mx::array> scales_;
};

} // namespace

BlockPtr mamba2(const Scope& s, const Mamba2Options& options) {
  return std::make_unique<Mamba2>(s, options);
}

} // namespace mlxlm
