// exp for arguments <= 0 without branches, so that loops over a vocabulary
// vectorize on every target. Relative error below 2e-7.
#pragma once

#include <bit>
#include <cstdint>

namespace mlxlm {

// 0 below -87, and for -inf.
inline float exp_nonpositive(float x) {
  float clamped = x < -87.0f ? -87.0f : x;
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
  auto exponent = (std::bit_cast<std::int32_t>(shifted) + 127) << 23;
  float result = p * std::bit_cast<float>(exponent);
  return x < -87.0f ? 0.0f : result;
}

} // namespace mlxlm
