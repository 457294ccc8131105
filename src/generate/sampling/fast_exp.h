// exp for arguments <= 0 without branches, so that loops over a vocabulary
// vectorize on every target. Relative error below 2e-7.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace mlxlm {

// 0 below -87.7, and for -inf: n is -127 there, whose exponent field is 0.
inline float exp_nonpositive(float x) {
  float clamped = std::max(x, -88.0f);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  float shifted = clamped * 1.44269504f + 12582912.0f;
  float n = shifted - 12582912.0f;
  float r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  auto exponent = (std::bit_cast<std::uint32_t>(shifted) + 127) << 23;
  return p * std::bit_cast<float>(exponent);
}

// Sum in sixteen lanes, which the compiler keeps in vector registers.
inline float sum_lanes(const float* x, std::size_t count) {
  std::array<float, 16> part{};
  std::size_t i = 0;
  for (; i + part.size() <= count; i += part.size())
    for (std::size_t j = 0; j < part.size(); ++j)
      part[j] += x[i + j];
  float sum = 0;
  for (float p : part)
    sum += p;
  for (; i < count; ++i)
    sum += x[i];
  return sum;
}

// out[i] = exp(x[i] - max); returns the sum.
inline float exp_block(
    const float* x,
    float* __restrict out,
    std::size_t count,
    float max) {
  for (std::size_t i = 0; i < count; ++i)
    out[i] = exp_nonpositive(x[i] - max);
  return sum_lanes(out, count);
}

} // namespace mlxlm
