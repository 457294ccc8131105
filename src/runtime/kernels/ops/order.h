// The order in which values are chosen: largest first, ties to the lower index,
// NaN last.
#pragma once

#include <cmath>
#include <cstdint>

namespace mlxlm::kernels {

// Whether x[a] comes before x[b].
inline bool comes_before(const float* x, std::uint32_t a, std::uint32_t b) {
  float u = x[a], v = x[b];
  if (u > v) return true;
  if (u < v) return false;
  bool u_nan = std::isnan(u), v_nan = std::isnan(v);
  return u_nan != v_nan ? v_nan : a < b;
}

} // namespace mlxlm::kernels
