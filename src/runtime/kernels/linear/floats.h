// Small float formats as f32, without branches so that loops over them
// vectorize.
#pragma once

#include <bit>
#include <cstdint>

namespace mlxlm::kernels {

inline float from_f16(std::uint16_t h) {
  // The magnitude with the exponent of f16, times 2^112: exact for subnormals
  // too.
  auto magnitude = static_cast<std::uint32_t>(h & 0x7fff) << 13;
  auto scaled =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  scaled |= (h & 0x7fff) >= 0x7c00 ? 0x7f800000u : 0u;
  return std::bit_cast<float>(
      scaled | static_cast<std::uint32_t>(h & 0x8000) << 16);
}

inline float from_bf16(std::uint16_t h) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16);
}

// As MLX reads it: no NaN, 0x7f is 480.
inline float from_e4m3(std::uint8_t q) {
  auto magnitude = static_cast<std::uint32_t>(q & 0x7f) << 20;
  auto scaled =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p120f);
  return std::bit_cast<float>(
      scaled | static_cast<std::uint32_t>(q & 0x80) << 24);
}

inline float from_e8m0(std::uint8_t q) {
  auto bits = q == 0 ? 0x00400000u : static_cast<std::uint32_t>(q) << 23;
  bits |= q == 255 ? 0x00400000u : 0u; // NaN
  return std::bit_cast<float>(bits);
}

inline std::uint16_t to_bf16(float x) {
  auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) {
    return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  }
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline std::uint16_t to_f16(float x) {
  auto bits = std::bit_cast<std::uint32_t>(x);
  auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) {
    return static_cast<std::uint16_t>(sign | 0x7e00);
  }
  if (bits >= 0x477ff000) { // rounds to 65536 or more
    return static_cast<std::uint16_t>(sign | 0x7c00);
  }
  if (bits < 0x38800000) { // subnormal: adding 0.5 rounds at 2^-24
    auto sum = std::bit_cast<std::uint32_t>(std::bit_cast<float>(bits) + 0.5f);
    return static_cast<std::uint16_t>(sign | (sum - 0x3f000000));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return static_cast<std::uint16_t>(sign | ((bits - 0x38000000) >> 13));
}

} // namespace mlxlm::kernels
