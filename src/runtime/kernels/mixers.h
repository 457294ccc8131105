// What recurrent blocks do between their projections, for a whole ragged pass
// at once, each one kernel on the CPU. States do not pass through the graph:
// the kernels follow pointers when they run, so that a recorded pass finds
// those of the sequences that it is done again for. CPU only; the plain forms
// (nn/recurrent.h, scan.h) run everywhere else and carry gradients.
#pragma once

#include <mlx/array.h>

#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace mlxlm::kernels {

namespace mx = mlx::core;

// One state of a layer: for each segment of a pass where it lies and where it
// is to be left, which is elsewhere.
struct StatePlaces {
  struct Segment {
    int first, count; // tokens of the pass
    const std::byte* from;
    std::byte* to;
  };
  std::vector<Segment> segments;
};
using StatePlacesPtr = std::shared_ptr<StatePlaces>;

// Depthwise causal convolution of x [1, N, C] over each segment, continued from
// its last K - 1 inputs (state [K - 1, C] of x's type), and silu behind it.
// taps [K, C] f32, bias [C] f32. Result [1, N, C] of `type`.
struct ConvOptions {
  bool silu = false;
  mx::Dtype type = mx::float32;
};
mx::array short_conv(
    const mx::array& x,
    const mx::array& taps,
    const std::optional<mx::array>& bias,
    const StatePlacesPtr& states,
    const ConvOptions& options);

// Mamba-2 behind its convolution: xbc [1, N, H P + 2 G S] f32, raw_dt [1, N,
// H]; dt = clip(softplus(raw_dt + dt_bias)), then state_space (scan.h) with a =
// -exp(a_log) and states [H, P, S]. a_log, d, dt_bias [H] f32. Result
// [1, N, H P] f32.
struct SpaceShape {
  int heads = 0, dim = 0, groups = 0, state = 0; // H, P, G, S
  float dt_min = 0, dt_max = std::numeric_limits<float>::infinity();
};
mx::array space_mixer(
    const mx::array& xbc,
    const mx::array& raw_dt,
    const mx::array& a_log,
    const mx::array& d,
    const mx::array& dt_bias,
    const StatePlacesPtr& states,
    const SpaceShape& shape);

// The gated delta rule behind its convolution: qkv [1, N, 2 Hk Dk + Hv Dv] f32;
// q and k of each head are divided by sqrt(|.|^2 + 1e-6), q by sqrt(Dk) as
// well; then delta_rule (scan.h) with decay [1, N, Hv] or [1, N, Hv, Dk] f32,
// beta [1, N, Hv] and states [Hv, Dv, Dk]. Result [1, N, Hv, Dv] f32.
struct DeltaHeads {
  int key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
};
mx::array delta_mixer(
    const mx::array& qkv,
    const mx::array& decay,
    const mx::array& beta,
    const StatePlacesPtr& states,
    const DeltaHeads& heads);

// {exp(-exp(a_log) softplus(a + dt_bias)), rate * sigmoid(b)} f32, for a, b
// [1, N, H] and a_log, dt_bias [H] f32.
std::pair<mx::array, mx::array> delta_gates(
    const mx::array& a,
    const mx::array& b,
    const mx::array& a_log,
    const mx::array& dt_bias,
    float rate);

// RMS norm of each `groups`-th part of x's rows [..., W] times weight [W] f32,
// gated by act(gate), before the norm or after it. Result in x's type.
struct GatedNorm {
  float eps = 0;
  int groups = 1;
  bool gate_first = false;
  bool sigmoid = false; // gate by sigmoid(gate), else silu(gate)
};
mx::array gated_norm(
    const mx::array& x,
    const mx::array& gate,
    const mx::array& weight,
    const GatedNorm& norm);

// The parts, of one type, side by side along the last axis.
mx::array joined(const std::vector<mx::array>& parts);

namespace reference {
std::pair<mx::array, mx::array> delta_gates(
    const mx::array& a,
    const mx::array& b,
    const mx::array& a_log,
    const mx::array& dt_bias,
    float rate);
mx::array gated_norm(
    const mx::array& x,
    const mx::array& gate,
    const mx::array& weight,
    const GatedNorm& norm);
} // namespace reference

} // namespace mlxlm::kernels
