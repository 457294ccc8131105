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

// Mamba-2, one head: rows of its state [P, S].
struct StateSpace {
  int length, dim; // dim: S
  float a, d;
  const float *x, *dt, *b, *c;
  std::size_t x_step, dt_step, group_step;
  const float* state;
  float *y, *last;
};
void state_space_rows(const StateSpace& space, int first, int end);

// One value head: rows of its state [Dv, Dk].
struct DeltaRule {
  int length, dim; // dim: Dk
  bool by_channel; // g has a value for each of Dk
  const float *q, *k, *v, *g, *beta;
  std::size_t key_step, value_step, gate_step, beta_step;
  const float* state; // [rows, Dk]
  float *y, *last;
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
