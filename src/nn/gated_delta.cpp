#include "nn/gated_delta.h"

#include <mlx/device.h>
#include <mlx/fast.h>
#include <mlx/ops.h>

#include "nn/fused.h"
#include "runtime/kernels/mixers.h"
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

using Layout = GatedDeltaOptions::Inputs;

class GatedDelta : public DeltaMixer {
 public:
  GatedDelta(const Scope& s, const GatedDeltaOptions& o)
      : DeltaMixer(parts(s, o)),
        o_(o),
        in_(projections(s, o)),
        a_log_(s.param("A_log", {o.shape.value_heads}, mx::float32)),
        dt_bias_(s.param("dt_bias", {o.shape.value_heads}, mx::float32)) {}

 private:
  static Parts parts(const Scope& s, const GatedDeltaOptions& o) {
    bool apart = o.inputs == Layout::apart;
    std::vector<std::string> convs{"conv1d"};
    if (apart) convs = {"q_conv1d", "k_conv1d", "v_conv1d"};
    const auto* out = apart ? "o_proj" : "out_proj";
    return {
        o.shape,
        ShortConv(s, convs, o.shape.channels(), o.kernel),
        s.linear(out, o.shape.values(), o.hidden),
        s.param(
            apart ? "o_norm.weight" : "norm.weight",
            {o.shape.value_dim},
            mx::float32),
        o.eps,
        false};
  }

  static std::vector<Linear> projections(
      const Scope& s,
      const GatedDeltaOptions& o) {
    std::vector<Linear> out;
    auto add = [&](const char* name, int width) {
      out.push_back(s.linear(name, o.hidden, width));
    };
    const auto& shape = o.shape;
    switch (o.inputs) {
      case Layout::grouped:
        add("in_proj_qkvz", shape.channels() + shape.values());
        add("in_proj_ba", 2 * shape.value_heads);
        break;
      case Layout::fused:
        add("in_proj_qkv", shape.channels());
        add("in_proj_z", shape.values());
        add("in_proj_b", shape.value_heads);
        add("in_proj_a", shape.value_heads);
        break;
      case Layout::apart:
        add("g_proj", shape.values());
        add("b_proj", shape.value_heads);
        add("a_proj", shape.value_heads);
        add("q_proj", shape.keys());
        add("k_proj", shape.keys());
        add("v_proj", shape.values());
        break;
    }
    return out;
  }

  struct Raw {
    mx::array qkv, z, b, a; // [1, N, ...]
  };

  Raw raw(const mx::array& x) const {
    auto parts = linears(x, in_);
    if (o_.inputs == Layout::grouped) return ungrouped(parts[0], parts[1]);
    if (o_.inputs == Layout::fused)
      return {parts[0], parts[1], parts[2], parts[3]};
    auto qkv = kernels::joined({parts[3], parts[4], parts[5]});
    return {qkv, parts[0], parts[1], parts[2]};
  }

  Raw ungrouped(const mx::array& all, const mx::array& rates) const {
    const auto& s = o_.shape;
    int n = all.shape(1), each = s.value_heads / s.key_heads;
    int wide = each * s.value_dim;
    auto qkvz = mx::split(
        mx::reshape(all, {1, n, s.key_heads, 2 * (s.key_dim + wide)}),
        mx::Shape{s.key_dim, 2 * s.key_dim, 2 * s.key_dim + wide},
        -1);
    auto ba =
        mx::split(mx::reshape(rates, {1, n, s.key_heads, 2 * each}), 2, -1);
    auto flat = [&](const mx::array& v, int width) {
      return mx::reshape(v, {1, n, width});
    };
    auto qkv = kernels::joined(
        {flat(qkvz[0], s.keys()),
         flat(qkvz[1], s.keys()),
         flat(qkvz[2], s.values())});
    return {
        qkv,
        flat(qkvz[3], s.values()),
        flat(ba[0], s.value_heads),
        flat(ba[1], s.value_heads)};
  }

  Inputs inputs(const mx::array& x) const override {
    auto in = raw(x);
    auto [decay, beta] =
        kernels::delta_gates(in.a, in.b, *a_log_, *dt_bias_, o_.rate);
    return {in.qkv, decay, beta, in.z};
  }

  GatedDeltaOptions o_;
  std::vector<Linear> in_;
  Param a_log_, dt_bias_;
};

} // namespace

BlockPtr gated_delta(const Scope& s, const GatedDeltaOptions& options) {
  return std::make_unique<GatedDelta>(s, options);
}

} // namespace mlxlm
