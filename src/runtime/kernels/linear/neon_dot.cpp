// ARM with dot products of signed bytes (from ARMv8.2 on, all Apple M): codes
// minus 128 times values, and 128 times the values' sum.
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
        __attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

namespace mlxlm::kernels {
namespace {

constexpr int most_tile = 4;

#include "runtime/kernels/linear/target-inl.h"

#include "runtime/kernels/linear/neon-inl.h"

#include "runtime/kernels/linear/simd-inl.h"

constexpr bool signed_codes = true;

#include "runtime/kernels/linear/neon_bytes-inl.h"

// Inputs 4 * Four and the three after it.
template <int M, int Four>
inline void dots(
    const std::uint8_t* codes,
    const int8x16_t* x,
    int32x4_t (*acc)[vectors]) {
  int8x16_t w[vectors];
  for (int j = 0; j < vectors; j++) {
    auto bytes = vld1q_u8(codes + Four * 64 + 16 * j);
    w[j] = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)));
  }
  for (int m = 0; m < M; m++) {
    for (int j = 0; j < vectors; j++) {
      acc[m][j] = vdotq_laneq_s32(acc[m][j], w[j], x[m], Four);
    }
  }
}

template <int M>
inline void sums(
    const std::uint8_t* codes,
    const std::int8_t* values,
    int bytes,
    int32x4_t (*acc)[vectors]) {
  int8x16_t x[M];
  for (int m = 0; m < M; m++) {
    x[m] = vld1q_s8(values + m * bytes);
  }
  dots<M, 0>(codes, x, acc);
  dots<M, 1>(codes, x, acc);
  dots<M, 2>(codes, x, acc);
  dots<M, 3>(codes, x, acc);
}

#include "runtime/kernels/linear/panel-inl.h"

} // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const Target neon_dot_target = {
    "neon_dot",
    has_dot_products,
    record,
    record_int8,
    most_tile,
    quantize<record, record_int8>,
    panel<record, record_int8>,
    gate};

} // namespace mlxlm::kernels
#endif
