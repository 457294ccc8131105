// What tests of array code share: random values and a distance.
#pragma once

#include <mlx/ops.h>
#include <mlx/random.h>

#include <cstdint>

namespace mlxlm::testing {

namespace mx = mlx::core;

// Standard normal float32 values, the same for a seed at every run.
inline mx::array noise(const mx::Shape& shape, int seed) {
  return mx::random::normal(
      shape,
      mx::float32,
      0,
      1,
      mx::random::key(static_cast<std::uint64_t>(seed)));
}

// The largest difference of two values at one place; arrays of other shapes are
// far.
inline float distance(const mx::array& a, const mx::array& b) {
  return a.shape() == b.shape() ? mx::max(mx::abs(a - b)).item<float>() : 1e9f;
}

} // namespace mlxlm::testing
