// The stretch of keys; see key_stretch.h.
#include "runtime/kernels/attention/key_stretch.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace mlxlm::kernels {

namespace {

using Factors = std::array<float, 256>;

Factors powers(int sign) {
  Factors out;
  for (int i = 0; i < 256; ++i)
    out[i] = std::exp2(float(sign * (i - 128)) / stretch_steps);
  return out;
}

void look_up(
    const Factors& factors,
    const std::int8_t* steps,
    int dim,
    float* out) {
  for (int d = 0; d < dim; ++d)
    out[d] = factors[steps[d] + 128];
}

float mean(const float* x, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i)
    sum += x[i];
  return sum / float(n);
}

} // namespace

void stretch_factors(const std::int8_t* steps, int dim, float* out) {
  static const Factors factors = powers(1);
  look_up(factors, steps, dim, out);
}

void shrink_factors(const std::int8_t* steps, int dim, float* out) {
  static const Factors factors = powers(-1);
  look_up(factors, steps, dim, out);
}

void move_stretch(
    const float* query_energy,
    const float* key_energy,
    int dim,
    std::int8_t* steps) {
  constexpr float tiny = 1e-30f;
  float q = least_query * mean(query_energy, dim) + tiny;
  float k = least_key * mean(key_energy, dim) + tiny;
  std::vector<float> aims(dim);
  for (int d = 0; d < dim; ++d)
    aims[d] =
        0.25f * (std::log2(query_energy[d] + q) - std::log2(key_energy[d] + k));
  float middle = mean(aims.data(), dim);
  bool begins = std::all_of(steps, steps + dim, [](auto s) { return s == 0; });
  float move = begins ? 1 : stretch_move;
  for (int d = 0; d < dim; ++d) {
    float aim = (aims[d] - middle) * stretch_steps;
    if (!std::isfinite(aim)) aim = 0; // of rows that nobody wrote
    float next = steps[d] + move * (aim - steps[d]);
    steps[d] = std::int8_t(std::clamp(std::rint(next), -127.0f, 127.0f));
  }
}

} // namespace mlxlm::kernels
