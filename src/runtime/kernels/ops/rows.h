// The arithmetic of the small operations on one row, SIMD with run-time
// dispatch.
#pragma once

#include "runtime/kernels/activation.h"
#include "runtime/kernels/float_type.h"

namespace mlxlm::kernels {

struct NormRow {
  FloatType type;
  int dim;
  float eps;
  bool center; // layer norm: the mean is subtracted
  const float* weight; // [dim], offset included; null: ones
  const float* bias; // [dim] or null
};
// out = norm(x); with a residual, sum = x + residual rounded to the type first.
void norm_row(
    const NormRow& norm,
    const void* x,
    const void* residual,
    void* sum,
    void* out);

// out[i] = float(x[i]) + offset
void to_floats(FloatType type, const void* x, int n, float offset, float* out);

// out[i] = x[i] * scale in the type
void from_floats(FloatType type, const float* x, int n, float scale, void* out);

// cos and sin of position * inv_freq[i], times magnitude; the product is
// rounded to f32 as the reference does.
void rope_angles(
    int position,
    const float* inv_freq,
    int half,
    float magnitude,
    float* cosines,
    float* sines);

struct RopeHead {
  FloatType type;
  int head_dim, dims;
  bool traditional;
  const float* norm; // rms norm first when not null: weight [head_dim]
  float eps;
};
// scratch: head_dim floats.
void rope_head(
    const RopeHead& rope,
    const float* cosines,
    const float* sines,
    const void* x,
    void* out,
    float* scratch);

// out = act(gate) * up
void glu_row(
    FloatType type,
    Activation act,
    const void* gate,
    const void* up,
    void* out,
    int n);

} // namespace mlxlm::kernels
