#include "nn/lightning.h"

#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "nn/mamba2.h"
#include "nn/recurrent.h"
#include "runtime/kernels/ops.h"

namespace mlxlm {

namespace {

class Lightning : public Block {
 public:
  Lightning(const Scope& s, const LightningOptions& o)
      : o_(o),
        inner_(o.heads * o.head_dim),
        qkv_(s.linear(o.qkv, o.hidden, 3 * inner_, {.bias = o.bias})),
        gate_(s.linear(o.gate, o.hidden, inner_)),
        out_(s.linear(o.o, inner_, o.hidden, {.bias = o.out_bias})),
        norm_((s / o.norm).param("weight", {inner_}, mx::float32)) {
    std::vector<float> rates;
    for (float slope : o.slopes)
      rates.push_back(-slope);
    rates_ = mx::array(rates.data(), {o.heads}, mx::float32);
  }

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    auto both = linears(x, {qkv_, gate_});
    auto qkv = placed(both[0], step);
    auto groups = batches(step);
    std::vector<mx::array> results;
    for (const auto& g : groups)
      results.push_back(mixed(qkv, g, *cache));
    auto y = normed(in_order(groups, results)); // [1, N, inner]
    y = y * mx::sigmoid(mx::astype(both[1], mx::float32));
    return out_(mx::astype(y, x.dtype()));
  }

  CacheSpec cache() const override {
    Recurrent out;
    out.states.push_back({{o_.heads, o_.head_dim, o_.head_dim}, mx::float32});
    return out;
  }

 private:
  // q, k, v [1, N, H, D], normed and turned.
  std::vector<mx::array> placed(const mx::array& all, const Step& step) const {
    int n = all.shape(1);
    auto x = o_.activated ? apply(Activation::silu, all) : all;
    auto parts = o_.by_head
        ? mx::split(mx::reshape(x, {1, n, o_.heads, 3 * o_.head_dim}), 3, -1)
        : mx::split(mx::reshape(x, {1, n, 3 * o_.heads, o_.head_dim}), 3, 2);
    parts[0] = o_.q_norm(parts[0]);
    parts[1] = o_.k_norm(parts[1]);
    if (o_.rope) {
      auto turned =
          o_.rope({{parts[0], o_.head_dim}, {parts[1], o_.head_dim}}, step);
      parts[0] = turned[0];
      parts[1] = turned[1];
    }
    for (auto& part : parts)
      part = mx::astype(part, mx::float32);
    if (o_.scale != 1) parts[0] = parts[0] * mx::array(o_.scale);
    return parts;
  }

  // A state space whose inputs are the values, written by the keys and read by
  // the queries, with steps of one. [B, L, inner]
  mx::array mixed(
      const std::vector<mx::array>& qkv,
      const SegmentBatch& g,
      LayerCache& cache) const {
    auto [y, state] = state_space(
        g.of(qkv[2]),
        mx::ones({g.size(), g.count, o_.heads}),
        *rates_,
        g.of(qkv[1]),
        g.of(qkv[0]),
        mx::zeros({o_.heads}),
        g.state(cache, 0));
    g.set_state(cache, 0, state);
    return mx::reshape(y, {g.size(), g.count, inner_});
  }

  mx::array normed(const mx::array& y) const {
    if (o_.norm_groups == 1) return kernels::rms_norm(y, *norm_, o_.eps);
    auto shape = y.shape();
    auto groups =
        mx::reshape(y, {1, shape[1], o_.norm_groups, inner_ / o_.norm_groups});
    return mx::reshape(kernels::rms_norm(groups, std::nullopt, o_.eps), shape) *
        *norm_;
  }

  LightningOptions o_;
  int inner_;
  Linear qkv_, gate_, out_;
  Param norm_;
  std::optional<mx::array> rates_; // [H], negative
};

} // namespace

BlockPtr lightning(const Scope& s, const LightningOptions& options) {
  if (options.norm_groups < 1 ||
      options.heads * options.head_dim % options.norm_groups)
    fail(
        ErrorKind::config,
        s.path(),
        "expected norm groups that divide {} values, found {}",
        options.heads * options.head_dim,
        options.norm_groups);
  return std::make_unique<Lightning>(s, options);
}

std::vector<float> lightning_slopes(int heads, double factor) {
  auto spread = [](int n) { // of a power of two
    std::vector<double> out;
    double base = std::exp2(-8.0 / n);
    for (int i = 1; i <= n; ++i)
      out.push_back(std::pow(base, i));
    return out;
  };
  int whole = 1;
  while (2 * whole <= heads)
    whole *= 2;
  auto slopes = spread(whole);
  // The rest lie between those of twice as many.
  auto between = spread(2 * whole);
  for (int i = 0; static_cast<int>(slopes.size()) < heads; i += 2)
    slopes.push_back(between[i]);
  std::vector<float> out;
  for (double s : slopes)
    out.push_back(static_cast<float>(s * factor));
  return out;
}

} // namespace mlxlm
