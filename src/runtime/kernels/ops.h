// The small operations of a layer, each one function with a plain MLX reference
// (namespace `reference`) that defines the result, is used for autograd and on
// every device without a fast path. On CPU one fused primitive runs (f32, f16,
// bf16). Rows never influence each other.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <utility>
#include <vector>

#include "runtime/kernels/activation.h"

namespace mlxlm::kernels {

namespace mx = mlx::core;

// x / sqrt(mean(x^2) + eps) * (weight + offset); no weight: ones (Gemma stores
// w - 1: offset 1). Computed in f32, result in x's type.
mx::array rms_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    float eps,
    float offset = 0);
// h = x + residual and its norm in one pass: {h, norm(h)}.
std::pair<mx::array, mx::array> add_rms_norm(
    const mx::array& x,
    const mx::array& residual,
    const std::optional<mx::array>& weight,
    float eps,
    float offset = 0);
mx::array layer_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    const std::optional<mx::array>& bias,
    float eps);

// Rotary embedding of x [1, N, H, D] at positions [N] int32. Rotates the first
// `dims` of D; `traditional` pairs (2i, 2i + 1), else (i, i + dims / 2). The
// angle of pair i is position * inv_freq[i] (f32 [dims / 2]); cos and sin are
// times `magnitude`.
mx::array rope(
    const mx::array& x,
    const mx::array& positions,
    const mx::array& inv_freq,
    int dims,
    bool traditional,
    float magnitude = 1);

// Queries and keys of an attention block in one primitive: each is given its
// heads, normed per head where it has a weight, and rotated.
struct RopeShape {
  int dims;
  bool traditional = false;
  float magnitude = 1;
};
struct RopeInput {
  mx::array x; // [1, N, H, D], or [1, N, H * D] as a projection leaves it
  int head_dim; // D
  // rms norm over each head before the rotation: weight [D]
  std::optional<mx::array> norm_weight = {};
  float norm_eps = 0;
  float norm_offset = 0;
};
// Each [1, N, H, D].
std::vector<mx::array> rope(
    const std::vector<RopeInput>& inputs,
    const mx::array& positions,
    const mx::array& inv_freq,
    const RopeShape& shape);

// act(gate) * up
mx::array glu(Activation act, const mx::array& gate, const mx::array& up);

// {indices [..., k] uint32, values [..., k]} of the largest along the last
// axis, best first, ties to the lower index.
std::pair<mx::array, mx::array> top_k(const mx::array& x, int k);

namespace reference {
mx::array rms_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    float eps,
    float offset = 0);
mx::array layer_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    const std::optional<mx::array>& bias,
    float eps);
mx::array rope(
    const mx::array& x,
    const mx::array& positions,
    const mx::array& inv_freq,
    int dims,
    bool traditional,
    float magnitude = 1);
std::vector<mx::array> rope(
    const std::vector<RopeInput>& inputs,
    const mx::array& positions,
    const mx::array& inv_freq,
    const RopeShape& shape);
mx::array glu(Activation act, const mx::array& gate, const mx::array& up);
std::pair<mx::array, mx::array> top_k(const mx::array& x, int k);
} // namespace reference

} // namespace mlxlm::kernels
