// ARM with products of unsigned by signed bytes and of small byte matrices
// (Neoverse V1 and N2, Apple M2 and later): two outputs by eight inputs times
// eight inputs of two rows of activations at once.
#include "runtime/kernels/linear/target.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "runtime/kernels/linear/arm_features.h"
#include "runtime/kernels/linear/floats.h"

#if defined(__clang__)
#pragma clang attribute push( \
        __attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

namespace mlxlm::kernels {
namespace {

constexpr int most_tile = 4;

#include "runtime/kernels/linear/target-inl.h"

#include "runtime/kernels/linear/neon-inl.h"

#include "runtime/kernels/linear/simd-inl.h"

constexpr bool signed_codes = false;

#include "runtime/kernels/linear/neon_bytes-inl.h"

// One row of activations: four inputs of four outputs at once.
template <int Four>
inline void dots(const std::uint8_t* codes, int8x16_t x, int32x4_t* acc) {
  for (int j = 0; j < vectors; j++) {
    acc[j] = vusdotq_laneq_s32(
        acc[j], vld1q_u8(codes + Four * 64 + 16 * j), x, Four);
  }
}

// Inputs 8 * Eight and the seven after it of a pair of rows, as a matrix.
inline int8x16_t pair(const std::int8_t* values, int bytes, int eight) {
  return vcombine_s8(
      vld1_s8(values + 8 * eight), vld1_s8(values + bytes + 8 * eight));
}

// Sums of pairs of rows are kept as [outputs 2i, 2i + 1][rows].
template <int Pairs>
inline void products(
    const std::uint8_t* codes,
    const std::int8_t* values,
    int bytes,
    int32x4_t (*acc)[2 * vectors]) {
  for (int eight = 0; eight < 2; eight++) {
    int8x16_t x[Pairs];
    for (int p = 0; p < Pairs; p++) {
      x[p] = pair(values + 2 * p * bytes, bytes, eight);
    }
    for (int j = 0; j < vectors; j++) {
      const auto* at = codes + eight * 128 + 16 * j;
      auto first = vreinterpretq_u32_u8(vld1q_u8(at));
      auto then = vreinterpretq_u32_u8(vld1q_u8(at + 64));
      auto low = vreinterpretq_u8_u32(vzip1q_u32(first, then));
      auto high = vreinterpretq_u8_u32(vzip2q_u32(first, then));
      for (int p = 0; p < Pairs; p++) {
        acc[p][2 * j] = vusmmlaq_s32(acc[p][2 * j], low, x[p]);
        acc[p][2 * j + 1] = vusmmlaq_s32(acc[p][2 * j + 1], high, x[p]);
      }
    }
  }
}

template <int M>
inline void sums(
    const std::uint8_t* codes,
    const std::int8_t* values,
    int bytes,
    int32x4_t (*acc)[vectors]) {
  if constexpr (M == 1) {
    auto x = vld1q_s8(values);
    dots<0>(codes, x, acc[0]);
    dots<1>(codes, x, acc[0]);
    dots<2>(codes, x, acc[0]);
    dots<3>(codes, x, acc[0]);
  } else {
    constexpr int pairs = M / 2;
    int32x4_t square[pairs][2 * vectors];
    for (auto& row : square) {
      for (auto& s : row) {
        s = vdupq_n_s32(0);
      }
    }
    products<pairs>(codes, values, bytes, square);
    for (int p = 0; p < pairs; p++) {
      for (int j = 0; j < vectors; j++) {
        auto a = square[p][2 * j], b = square[p][2 * j + 1];
        acc[2 * p][j] = vaddq_s32(acc[2 * p][j], vuzp1q_s32(a, b));
        acc[2 * p + 1][j] = vaddq_s32(acc[2 * p + 1][j], vuzp2q_s32(a, b));
      }
    }
  }
}

#include "runtime/kernels/linear/panel-inl.h"

bool supported() {
  return has_dot_products() && has_byte_matrices();
}

} // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const Target neon_i8mm_target = {
    "neon_i8mm",
    supported,
    record,
    record_int8,
    most_tile,
    quantize<record, record_int8>,
    panel<record, record_int8>,
    gate};

} // namespace mlxlm::kernels
#endif
