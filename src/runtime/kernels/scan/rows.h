// The arithmetic of the recurrences on blocks of state rows, SIMD with run-time
// dispatch. Pointers are to one sequence of the batch; `*_step`: values from
// one token to the next.
#pragma once

#include <cstddef>

namespace mlxlm::kernels {

// out_t = a_t out_{t-1} + b_t over columns [first, last) of `width`.
struct LinearScan {
  int length, width;
  const float *a, *b, *h; // [L, W], [L, W], [W]
  float* out; // [L, W]
};
void linear_scan_columns(const LinearScan& scan, int first, int last);

// Mamba-1 over channels [first, last).
struct SelectiveScan {
  int length, channels, state;
  const float *x, *dt, *a, *b, *c,
      *d; // [L, C], [L, C], [C, S], [L, S] x 2, [C]
  const float* h; // [C, S]
  float *y, *last; // [L, C], [C, S]
};
void selective_scan_channels(const SelectiveScan& scan, int first, int last);

// One row of a convolution: y = act(bias + sum over j of taps[j] * inputs[j]),
// `count` columns; the taps of neighbours lie `tap_step` apart.
struct ConvRow {
  int taps_count, count;
  bool silu;
  const float* const* inputs;
  const float *taps, *bias; // bias may be null
  std::size_t tap_step;
  float* y;
};
void conv_row(const ConvRow& row);

// x = norm over each of `groups` parts, times weight, with a gate; see
// GatedNorm.
struct GatedNormRow {
  int width, groups;
  float eps;
  bool gate_first, sigmoid;
  const float *weight, *gate;
  float* x;
};
void gated_norm_row(const GatedNormRow& row);

// y = x * scale / sqrt(sum x^2 + 1e-6)
void unit_row(const float* x, int count, float scale, float* y);

// Mamba-2, one head: rows of its state [P, S]. `last` may be `state`.
struct StateSpace {
  int length, dim; // dim: S
  float a, d;
  const float *x, *dt, *b, *c;
  std::size_t x_step, dt_step, group_step;
  const float* state;
  float *y, *last;
  std::size_t y_step = x_step;

  // What follows the first `tokens`, from the state they leave.
  void skip(std::size_t tokens) {
    x += tokens * x_step;
    dt += tokens * dt_step;
    b += tokens * group_step;
    c += tokens * group_step;
    y += tokens * y_step;
    state = last;
  }
};
void state_space_rows(const StateSpace& space, int first, int end);

// One value head: rows of its state [Dv, Dk]. `last` may be `state`.
struct DeltaRule {
  int length, dim; // dim: Dk
  bool by_channel; // g has a value for each of Dk
  const float *q, *k, *v, *g, *beta;
  std::size_t key_step, value_step, gate_step, beta_step;
  const float* state; // [rows, Dk]
  float *y, *last;
  std::size_t y_step = value_step;

  void skip(std::size_t tokens) {
    q += tokens * key_step;
    k += tokens * key_step;
    v += tokens * value_step;
    g += tokens * gate_step;
    beta += tokens * beta_step;
    y += tokens * y_step;
    state = last;
  }
};
void delta_rule_rows(const DeltaRule& rule, int first, int end);

// One head: rows of its state [D, D].
struct Wkv7 {
  int length, dim;
  const float *r, *w, *k, *v, *a, *b;
  std::size_t step;
  const float* state;
  float *y, *last;
};
void wkv7_rows(const Wkv7& wkv, int first, int end);

} // namespace mlxlm::kernels
