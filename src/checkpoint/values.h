// Plain numbers of a tensor (not GGUF's quantized blocks) as floats or
// integers.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/row_tensor.h"

namespace mlxlm {

inline float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1f;
  std::uint32_t mantissa = h & 0x3ffu;
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0)
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float value = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -value : value;
}

inline float bfloat_to_float(std::uint16_t b) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16);
}

float e4m3_to_float(std::uint8_t v); // OCP FP8 E4M3, NaN at 0x7f and 0xff
float e5m2_to_float(std::uint8_t v);
float e8m0_to_float(std::uint8_t v); // 2^(v - 127), NaN at 255

bool is_plain(Storage storage); // one element per block, readable as a float
bool is_integer(Storage storage); // booleans included

// All values in order, `offset()` added. Throws Error(weights) for storages
// that are not plain.
std::vector<float> read_floats(const RowTensor& tensor);
std::vector<std::int64_t> read_integers(const RowTensor& tensor);
// One row of stored bytes.
void to_floats(
    Storage storage,
    std::span<const std::byte> bytes,
    std::span<float> out);

} // namespace mlxlm
