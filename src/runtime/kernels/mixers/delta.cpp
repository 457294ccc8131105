// The gated delta rule and its gates.
#include "runtime/kernels/mixers.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "runtime/kernels/mixers/shared.h"
#include "runtime/kernels/packed_rows.h"
#include "runtime/kernels/scan/chunks.h"

namespace mlxlm::kernels {

namespace {

struct DeltaMixerOp {
  static constexpr const char* name = "mlxlm::delta_mixer";
  StatePlacesPtr places;
  DeltaHeads heads;

  struct Inputs {
    DeltaHeads heads;
    const float* qkv;
    FloatRows decay, beta;
    bool by_channel;
    float* y;
  };

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    Inputs inputs{
        heads,
        in[0].data<float>(),
        FloatRows(in[1]),
        FloatRows(in[2]),
        in[1].ndim() == 4,
        out[0].data<float>()};
    dispatch(stream, [inputs, places = places] {
      auto& d = inputs.heads;
      auto cost = std::size_t(4) * d.value_heads * d.value_dim * d.key_dim;
      for_parts(*places, d.value_heads, cost, [&](auto& segment, int head) {
        run(inputs, segment, head);
      });
    });
  }

  static void run(
      const Inputs& in,
      const StatePlaces::Segment& segment,
      int head) {
    auto& d = in.heads;
    std::size_t keys = std::size_t(d.key_heads) * d.key_dim;
    std::size_t values = std::size_t(d.value_heads) * d.value_dim;
    auto whole = std::size_t(head) * d.value_dim * d.key_dim;
    std::size_t gates = in.by_channel ? d.key_dim : 1;
    thread_local std::vector<float> space;
    space.resize(time_block * (2 * std::size_t(d.key_dim) + gates + 1));
    float *q = space.data(), *k = q + time_block * d.key_dim;
    float *g = k + time_block * d.key_dim, *beta = g + time_block * gates;
    auto* state = reinterpret_cast<const float*>(segment.from) + whole;
    auto* last = reinterpret_cast<float*>(segment.to) + whole;
    float scale = 1 / std::sqrt(static_cast<float>(d.key_dim));
    for (int begin = 0; begin < segment.count; begin += time_block) {
      int count = std::min(time_block, segment.count - begin);
      auto first = std::size_t(segment.first) + begin;
      auto* rows = in.qkv + first * (2 * keys + values);
      auto key = std::size_t(head / (d.value_heads / d.key_heads)) * d.key_dim;
      for (int t = 0; t < count; ++t) {
        auto* row = rows + t * (2 * keys + values) + key;
        unit_row(row, d.key_dim, scale, q + t * d.key_dim);
        unit_row(row + keys, d.key_dim, 1, k + t * d.key_dim);
        if (in.by_channel)
          in.decay.read(
              (first + t) * d.value_heads + head, 0, d.key_dim, g + t * gates);
        else
          g[t] = in.decay.value(first + t, head);
        beta[t] = in.beta.value(first + t, head);
      }
      run_head(
          DeltaRule{
              count,
              d.key_dim,
              in.by_channel,
              q,
              k,
              rows + 2 * keys + std::size_t(head) * d.value_dim,
              g,
              beta,
              std::size_t(d.key_dim),
              2 * keys + values,
              gates,
              1,
              state,
              in.y + first * values + std::size_t(head) * d.value_dim,
              last,
              values},
          d.value_dim,
          !in.by_channel,
          delta_rule_chunk,
          delta_rule_rows);
      state = last;
    }
  }

  Arrays reference(const Arrays&) const {
    no_gradient(name);
  }
};

struct DeltaGates {
  static constexpr const char* name = "mlxlm::delta_gates";
  float rate;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    allocate(out[1]);
    dispatch(
        stream,
        [rate = rate,
         a = FloatRows(in[0]),
         b = FloatRows(in[1]),
         heads = in[0].shape(-1),
         rows = in[0].size() / in[0].shape(-1),
         a_log = in[2].data<float>(),
         dt_bias = in[3].data<float>(),
         decay = out[0].data<float>(),
         beta = out[1].data<float>()] {
          auto cost = 64 * std::size_t(heads);
          for_row_blocks(rows, cost, [&](auto first, auto last) {
            for (auto i = first; i < last; ++i) {
              float *g = decay + i * heads, *w = beta + i * heads;
              a.read(i, 0, heads, g);
              b.read(i, 0, heads, w);
              for (int h = 0; h < heads; ++h) {
                float width = softplus(g[h] + dt_bias[h]);
                g[h] = std::exp(-std::exp(a_log[h]) * width);
                w[h] = rate / (1 + std::exp(-w[h]));
              }
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    auto [g, w] =
        kernels::reference::delta_gates(in[0], in[1], in[2], in[3], rate);
    return {g, w};
  }
};

} // namespace

mx::array delta_mixer(
    const mx::array& qkv,
    const mx::array& decay,
    const mx::array& beta,
    const StatePlacesPtr& states,
    const DeltaHeads& h) {
  int tokens = qkv.shape(1), keys = h.key_heads * h.key_dim;
  int values = h.value_heads * h.value_dim;
  mx::Shape gates{1, tokens, h.value_heads};
  mx::Shape channels{1, tokens, h.value_heads, h.key_dim};
  bool good = on_cpu() && states &&
      is_f32(qkv, {1, tokens, 2 * keys + values}) &&
      (is_f32(decay, gates) || is_f32(decay, channels)) &&
      beta.shape() == gates && is_any_float(beta) && h.key_heads > 0 &&
      h.value_heads % h.key_heads == 0;
  expect_together(good, DeltaMixerOp::name);
  return cpu_array(
      DeltaMixerOp{states, h},
      mx::Shape{1, tokens, h.value_heads, h.value_dim},
      mx::float32,
      {packed_rows(qkv), decay, beta});
}

std::pair<mx::array, mx::array> delta_gates(
    const mx::array& a,
    const mx::array& b,
    const mx::array& a_log,
    const mx::array& dt_bias,
    float rate) {
  bool fast = on_cpu() && is_any_float(a) && is_any_float(b) && a.size() > 0 &&
      a.shape() == b.shape() && is_f32(a_log, {a.shape(-1)}) &&
      is_f32(dt_bias, {a.shape(-1)});
  if (!fast) return reference::delta_gates(a, b, a_log, dt_bias, rate);
  auto out = cpu_arrays(
      DeltaGates{rate},
      {a.shape(), a.shape()},
      {mx::float32, mx::float32},
      {a, b, packed_rows(a_log), packed_rows(dt_bias)});
  return {out[0], out[1]};
}

namespace reference {

std::pair<mx::array, mx::array> delta_gates(
    const mx::array& a,
    const mx::array& b,
    const mx::array& a_log,
    const mx::array& dt_bias,
    float rate) {
  auto width =
      mx::logaddexp(mx::astype(a, mx::float32) + dt_bias, mx::array(0.0f));
  auto decay = mx::exp(mx::negative(mx::exp(a_log)) * width);
  return {decay, mx::sigmoid(mx::astype(b, mx::float32)) * mx::array(rate)};
}

} // namespace reference

} // namespace mlxlm::kernels
