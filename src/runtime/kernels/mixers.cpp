// The primitives of mixers.h: one job a segment and head, or block of channels.
#include "runtime/kernels/mixers.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"
#include "runtime/kernels/scan/chunks.h"

namespace mlxlm::kernels {

namespace {

constexpr int time_block = 64; // tokens whose inputs are prepared at once

[[noreturn]] void no_gradient(const char* name) {
  fail(
      ErrorKind::internal,
      name,
      "expected a pass with states as arrays, found one to differentiate");
}

void expect_together(bool good, const char* name) {
  if (!good)
    fail(
        ErrorKind::internal,
        name,
        "expected arrays that belong together on the CPU, found others");
}

bool is_float(const mx::array& x) {
  return float_type(x.dtype()).has_value();
}

bool floats(const mx::array& x, const mx::Shape& shape) {
  return x.shape() == shape && x.dtype() == mx::float32;
}

// Rows of an array of any float type and strides as f32.
class Floats {
 public:
  explicit Floats(const mx::array& x)
      : view_(x), type_(*float_type(x.dtype())) {}

  // Values [first, first + count) of row `index`.
  void read(std::size_t index, int first, int count, float* out) const {
    thread_local std::vector<std::byte> apart;
    apart.resize(view_.row_bytes());
    auto* row = view_.row(index, apart.data());
    to_floats(type_, row + first * size(), count, 0, out);
  }
  float value(std::size_t index, int at) const {
    float out;
    read(index, at, 1, &out);
    return out;
  }
  FloatType type() const {
    return type_;
  }
  std::size_t size() const { // of a value
    return size_of(type_);
  }

 private:
  RowView view_;
  FloatType type_;
};

float softplus(float x) {
  return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x)));
}

// body(segment, part) for `parts` of each segment; `cost`: values touched by a
// token in all parts.
template <typename Body>
void for_parts(
    const StatePlaces& places,
    int parts,
    std::size_t cost,
    const Body& body) {
  constexpr std::size_t worth_a_thread = 32768;
  int count = static_cast<int>(places.segments.size()) * parts;
  std::size_t tokens = 0;
  for (auto& s : places.segments)
    tokens += s.count;
  auto run = [&](int i) { body(places.segments[i / parts], i % parts); };
  if (tokens * cost >= 2 * worth_a_thread) return parallel_for(count, run);
  for (int i = 0; i < count; ++i)
    run(i);
}

// All tokens of a head, in chunks where they are enough.
void run_head(StateSpace s, int rows) {
  for (int left = s.length; left > 0; left -= s.length) {
    bool chunk = left >= least_chunk;
    s.length = chunk ? std::min(left, chunk_tokens) : left;
    chunk ? state_space_chunk(s, rows) : state_space_rows(s, 0, rows);
    auto n = static_cast<std::size_t>(s.length);
    s.x += n * s.x_step;
    s.dt += n * s.dt_step;
    s.b += n * s.group_step;
    s.c += n * s.group_step;
    s.y += n * s.y_step;
    s.state = s.last;
  }
}

void run_head(DeltaRule d, int rows) {
  for (int left = d.length; left > 0; left -= d.length) {
    bool chunk = left >= least_chunk && !d.by_channel;
    d.length = chunk ? std::min(left, chunk_tokens) : left;
    chunk ? delta_rule_chunk(d, rows) : delta_rule_rows(d, 0, rows);
    auto n = static_cast<std::size_t>(d.length);
    d.q += n * d.key_step;
    d.k += n * d.key_step;
    d.v += n * d.value_step;
    d.g += n * d.gate_step;
    d.beta += n * d.beta_step;
    d.y += n * d.y_step;
    d.state = d.last;
  }
}

// ---- convolution ----------------------------------------------------------

struct Convolution {
  static constexpr const char* name = "mlxlm::short_conv";
  StatePlacesPtr places;
  bool silu;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    int channels = in[1].shape(1), taps = in[1].shape(0);
    ConvRow row{
        taps,
        0,
        silu,
        nullptr,
        in[1].data<float>(),
        in.size() > 2 ? in[2].data<float>() : nullptr,
        std::size_t(channels),
        nullptr};
    dispatch(
        stream,
        [row,
         channels,
         places = places,
         x = Floats(in[0]),
         type = *float_type(out[0].dtype()),
         to = out[0].data<std::byte>()] {
          constexpr int wide = 1024;
          int parts = (channels + wide - 1) / wide;
          std::size_t cost = std::size_t(channels) * (row.taps_count + 4);
          for_parts(*places, parts, cost, [&](auto& segment, int part) {
            int first = part * wide, last = std::min(channels, first + wide);
            columns(row, segment, x, type, to, channels, first, last);
          });
        });
  }

  // Channels [first, last) of a segment; the last inputs go round in a ring.
  static void columns(
      ConvRow row,
      const StatePlaces::Segment& segment,
      const Floats& x,
      FloatType type,
      std::byte* to,
      int channels,
      int first,
      int last) {
    int taps = row.taps_count, n = last - first;
    thread_local std::vector<float> ring, result;
    thread_local std::vector<const float*> inputs;
    ring.resize(std::size_t(taps) * n);
    result.resize(n);
    inputs.resize(taps);
    auto slot = [&](int i) { return ring.data() + std::size_t(i % taps) * n; };
    auto state = [&](auto* base, int i) {
      return base + (std::size_t(i) * channels + first) * x.size();
    };
    for (int i = 0; i + 1 < taps; ++i)
      to_floats(x.type(), state(segment.from, i), n, 0, slot(i));
    row.count = n;
    row.taps += first;
    if (row.bias) row.bias += first;
    row.y = result.data();
    row.inputs = inputs.data();
    auto size = size_of(type);
    for (int t = 0; t < segment.count; ++t) {
      std::size_t token = segment.first + t;
      x.read(token, first, n, slot(t + taps - 1));
      for (int j = 0; j < taps; ++j)
        inputs[j] = slot(t + j);
      conv_row(row);
      from_floats(
          type, result.data(), n, 1, to + (token * channels + first) * size);
    }
    for (int i = 0; i + 1 < taps; ++i)
      from_floats(
          x.type(), slot(segment.count + i), n, 1, state(segment.to, i));
  }

  Arrays reference(const Arrays&) const {
    no_gradient(name);
  }
};

// ---- Mamba-2 --------------------------------------------------------------

struct SpaceMixer {
  static constexpr const char* name = "mlxlm::space_mixer";
  StatePlacesPtr places;
  SpaceShape shape;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    dispatch(
        stream,
        [s = shape,
         places = places,
         dt = Floats(in[1]),
         width = std::size_t(in[0].shape(-1)),
         x = in[0].data<float>(),
         a_log = in[2].data<float>(),
         d = in[3].data<float>(),
         dt_bias = in[4].data<float>(),
         y = out[0].data<float>()] {
          auto inner = std::size_t(s.heads) * s.dim;
          std::size_t cost = 3 * inner * s.state;
          for_parts(*places, s.heads, cost, [&](auto& segment, int h) {
            thread_local std::vector<float> rates, outputs;
            rates.resize(segment.count);
            for (int t = 0; t < segment.count; ++t) {
              float raw = dt.value(segment.first + t, h) + dt_bias[h];
              rates[t] = std::clamp(softplus(raw), s.dt_min, s.dt_max);
            }
            auto row = std::size_t(segment.first) * width;
            auto group = std::size_t(h / (s.heads / s.groups)) * s.state;
            auto state = std::size_t(h) * s.dim * s.state;
            StateSpace one{
                segment.count,
                s.state,
                -std::exp(a_log[h]),
                d[h],
                x + row + std::size_t(h) * s.dim,
                rates.data(),
                x + row + inner + group,
                x + row + inner + std::size_t(s.groups) * s.state + group,
                width,
                1,
                width,
                reinterpret_cast<const float*>(segment.from) + state,
                y + segment.first * inner + std::size_t(h) * s.dim,
                reinterpret_cast<float*>(segment.to) + state,
                inner};
            run_head(one, s.dim);
          });
        });
  }

  Arrays reference(const Arrays&) const {
    no_gradient(name);
  }
};

// ---- gated delta rule -----------------------------------------------------

struct DeltaMixerOp {
  static constexpr const char* name = "mlxlm::delta_mixer";
  StatePlacesPtr places;
  DeltaHeads heads;

  struct Inputs {
    DeltaHeads heads;
    const float* qkv;
    Floats decay, beta;
    bool by_channel;
    float* y;
  };

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    Inputs inputs{
        heads,
        in[0].data<float>(),
        Floats(in[1]),
        Floats(in[2]),
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
          d.value_dim);
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
         a = Floats(in[0]),
         b = Floats(in[1]),
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

// ---- norm, joining --------------------------------------------------------

struct GatedNormOp {
  static constexpr const char* name = "mlxlm::gated_norm";
  GatedNorm norm;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    GatedNormRow row{
        in[0].shape(-1),
        norm.groups,
        norm.eps,
        norm.gate_first,
        norm.sigmoid,
        in[2].data<float>(),
        nullptr,
        nullptr};
    dispatch(
        stream,
        [row,
         x = Floats(in[0]),
         z = Floats(in[1]),
         rows = in[0].size() / in[0].shape(-1),
         to = out[0].data<std::byte>()] {
          auto n = std::size_t(row.width);
          for_row_blocks(rows, 8 * n, [&](auto first, auto last) {
            thread_local std::vector<float> space;
            space.resize(2 * n);
            auto one = row;
            one.x = space.data();
            one.gate = space.data() + n;
            for (auto i = first; i < last; ++i) {
              x.read(i, 0, row.width, one.x);
              z.read(i, 0, row.width, space.data() + n);
              gated_norm_row(one);
              from_floats(x.type(), one.x, row.width, 1, to + i * n * x.size());
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    return {kernels::reference::gated_norm(in[0], in[1], in[2], norm)};
  }
};

struct Joined {
  static constexpr const char* name = "mlxlm::joined";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    auto width = std::size_t(out[0].shape(-1)) * out[0].itemsize();
    std::vector<RowView> views(in.begin(), in.end());
    dispatch(
        stream,
        [views,
         width,
         rows = out[0].size() / out[0].shape(-1),
         to = out[0].data<std::byte>()] {
          for_row_blocks(rows, width / 4, [&](auto first, auto last) {
            std::vector<std::byte> apart(width);
            for (auto i = first; i < last; ++i) {
              auto* at = to + i * width;
              for (auto& view : views) {
                std::memcpy(at, view.row(i, apart.data()), view.row_bytes());
                at += view.row_bytes();
              }
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    return {mx::concatenate(in, -1)};
  }
};

} // namespace

mx::array short_conv(
    const mx::array& x,
    const mx::array& taps,
    const std::optional<mx::array>& bias,
    const StatePlacesPtr& states,
    const ConvOptions& options) {
  bool good = on_cpu() && states && x.ndim() == 3 && x.shape(0) == 1 &&
      is_float(x) && taps.ndim() == 2 &&
      floats(taps, {taps.shape(0), x.shape(2)});
  good = good && (!bias || floats(*bias, {x.shape(2)}));
  expect_together(good, Convolution::name);
  Arrays in{x, taps};
  if (bias) in.push_back(*bias);
  for (std::size_t i = 1; i < in.size(); ++i)
    in[i] = mx::contiguous(in[i]);
  return cpu_array(
      Convolution{states, options.silu}, x.shape(), options.type, in);
}

mx::array space_mixer(
    const mx::array& xbc,
    const mx::array& raw_dt,
    const mx::array& a_log,
    const mx::array& d,
    const mx::array& dt_bias,
    const StatePlacesPtr& states,
    const SpaceShape& s) {
  int tokens = raw_dt.shape(1), inner = s.heads * s.dim;
  int width = inner + 2 * s.groups * s.state;
  bool good = on_cpu() && states && floats(xbc, {1, tokens, width}) &&
      raw_dt.shape() == mx::Shape{1, tokens, s.heads} && is_float(raw_dt) &&
      s.groups > 0 && s.heads % s.groups == 0;
  for (auto* v : {&a_log, &d, &dt_bias})
    good = good && floats(*v, {s.heads});
  expect_together(good, SpaceMixer::name);
  return cpu_array(
      SpaceMixer{states, s},
      mx::Shape{1, tokens, inner},
      mx::float32,
      {mx::contiguous(xbc),
       raw_dt,
       mx::contiguous(a_log),
       mx::contiguous(d),
       mx::contiguous(dt_bias)});
}

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
      floats(qkv, {1, tokens, 2 * keys + values}) &&
      (floats(decay, gates) || floats(decay, channels)) &&
      beta.shape() == gates && is_float(beta) && h.key_heads > 0 &&
      h.value_heads % h.key_heads == 0;
  expect_together(good, DeltaMixerOp::name);
  return cpu_array(
      DeltaMixerOp{states, h},
      mx::Shape{1, tokens, h.value_heads, h.value_dim},
      mx::float32,
      {mx::contiguous(qkv), decay, beta});
}

std::pair<mx::array, mx::array> delta_gates(
    const mx::array& a,
    const mx::array& b,
    const mx::array& a_log,
    const mx::array& dt_bias,
    float rate) {
  bool fast = on_cpu() && is_float(a) && is_float(b) && a.size() > 0 &&
      a.shape() == b.shape() && floats(a_log, {a.shape(-1)}) &&
      floats(dt_bias, {a.shape(-1)});
  if (!fast) return reference::delta_gates(a, b, a_log, dt_bias, rate);
  auto out = cpu_arrays(
      DeltaGates{rate},
      {a.shape(), a.shape()},
      {mx::float32, mx::float32},
      {a, b, mx::contiguous(a_log), mx::contiguous(dt_bias)});
  return {out[0], out[1]};
}

mx::array gated_norm(
    const mx::array& x,
    const mx::array& gate,
    const mx::array& weight,
    const GatedNorm& norm) {
  bool fast = on_cpu() && is_float(x) && is_float(gate) && x.size() > 0 &&
      x.shape() == gate.shape() && floats(weight, {x.shape(-1)}) &&
      norm.groups > 0 && x.shape(-1) % norm.groups == 0;
  if (!fast) return reference::gated_norm(x, gate, weight, norm);
  return cpu_array(
      GatedNormOp{norm},
      x.shape(),
      x.dtype(),
      {x, gate, mx::contiguous(weight)});
}

mx::array joined(const std::vector<mx::array>& parts) {
  auto shape = parts[0].shape();
  bool fast = on_cpu() && shape.size() > 0;
  shape.back() = 0;
  for (auto& part : parts) {
    auto outer = part.shape();
    fast = fast && outer.size() == shape.size() &&
        part.dtype() == parts[0].dtype() && part.size() > 0;
    if (!fast) return mx::concatenate(parts, -1);
    shape.back() += outer.back();
    outer.back() = shape.back();
    fast = outer == shape;
  }
  if (!fast) return mx::concatenate(parts, -1);
  return cpu_array(Joined{}, shape, parts[0].dtype(), parts);
}

namespace reference {

namespace {
mx::array as_float(const mx::array& x) {
  return mx::astype(x, mx::float32);
}
} // namespace

std::pair<mx::array, mx::array> delta_gates(
    const mx::array& a,
    const mx::array& b,
    const mx::array& a_log,
    const mx::array& dt_bias,
    float rate) {
  auto width = mx::logaddexp(as_float(a) + dt_bias, mx::array(0.0f));
  auto decay = mx::exp(mx::negative(mx::exp(a_log)) * width);
  return {decay, mx::sigmoid(as_float(b)) * mx::array(rate)};
}

mx::array gated_norm(
    const mx::array& x,
    const mx::array& gate,
    const mx::array& weight,
    const GatedNorm& norm) {
  auto z = as_float(gate);
  z = norm.sigmoid ? mx::sigmoid(z) : z * mx::sigmoid(z);
  auto v = norm.gate_first ? as_float(x) * z : as_float(x);
  auto parts = v.shape();
  parts.back() = norm.groups;
  parts.push_back(v.shape(-1) / norm.groups);
  auto grouped = mx::reshape(v, parts);
  auto mean = mx::mean(mx::square(grouped), -1, true);
  v = mx::reshape(grouped * mx::rsqrt(mean + mx::array(norm.eps)), v.shape());
  v = v * weight;
  if (!norm.gate_first) v = v * z;
  return mx::astype(v, x.dtype());
}

} // namespace reference

} // namespace mlxlm::kernels
