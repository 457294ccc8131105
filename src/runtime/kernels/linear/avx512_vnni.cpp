// AVX-512 with VNNI: codes are the unsigned operand of a byte dot product,
// values two planes of signed bytes, 256 * high + low.
#include "runtime/kernels/linear/target.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "runtime/kernels/linear/floats.h"

#if defined(__clang__)
#pragma clang attribute push(                                                     \
        __attribute__((target(                                                    \
                "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
            apply_to = function)
#else
// The intrinsics' own undefined operands (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target( \
        "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

namespace mlxlm::kernels {
namespace {

constexpr int most_tile = 8;

#include "runtime/kernels/linear/target-inl.h"

constexpr int record = unit_inputs * 2 + info_bytes;
constexpr int record_int8 = unit_inputs + info_bytes;

#include "runtime/kernels/linear/avx512-inl.h"

#include "runtime/kernels/linear/simd-inl.h"

[[maybe_unused]] void store_values(
    const std::int16_t* values,
    bool int8,
    std::byte* out) {
  std::int8_t low[unit_inputs], high[unit_inputs];
  for (int k = 0; k < unit_inputs; k++) {
    low[k] = static_cast<std::int8_t>(values[k]);
    high[k] = static_cast<std::int8_t>((values[k] - low[k]) >> 8);
  }
  if (int8) {
    std::memcpy(out, low, unit_inputs);
  } else {
    std::memcpy(out, high, unit_inputs);
    std::memcpy(out + unit_inputs, low, unit_inputs);
  }
}

#include "runtime/kernels/linear/panel-inl.h"

template <typename T>
inline T load_value(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// acc[m] + the dot products of `Vectors` vectors of codes with four bytes each
// of the rows' values. The rows' chains alternate, so that they overlap.
template <int M, int Vectors, int Bytes>
inline void dots(const __m512i* w, const std::byte* values, __m512i* acc) {
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; v++) {
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      auto four = load_value<int>(values + m * Bytes + 4 * v);
      acc[m] = _mm512_dpbusd_epi32(acc[m], w[v], _mm512_set1_epi32(four));
    }
  }
}

// The same with both planes. Few rows: a sum for each plane and half, to
// overlap more; integers add up alike in any order.
template <int M, int Vectors, int Bytes, bool Int8>
inline void products(const __m512i* w, const std::byte* values, __m512i* acc) {
#pragma GCC unroll 8
  for (int m = 0; m < M; m++) {
    acc[m] = _mm512_setzero_si512();
  }
  if constexpr (Int8) {
    dots<M, Vectors, Bytes>(w, values, acc);
  } else if constexpr (M > 2) {
    dots<M, Vectors, Bytes>(w, values, acc);
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      acc[m] = _mm512_slli_epi32(acc[m], 8);
    }
    dots<M, Vectors, Bytes>(w, values + unit_inputs, acc);
  } else {
    constexpr int half = Vectors / 2;
    __m512i high[M], more_high[M], more[M];
#pragma GCC unroll 2
    for (int m = 0; m < M; m++) {
      high[m] = more_high[m] = more[m] = _mm512_setzero_si512();
    }
    dots<M, half, Bytes>(w, values, high);
    dots<M, half, Bytes>(w + half, values + 4 * half, more_high);
    dots<M, half, Bytes>(w, values + unit_inputs, acc);
    dots<M, half, Bytes>(w + half, values + unit_inputs + 4 * half, more);
#pragma GCC unroll 2
    for (int m = 0; m < M; m++) {
      high[m] = _mm512_slli_epi32(_mm512_add_epi32(high[m], more_high[m]), 8);
      acc[m] = _mm512_add_epi32(_mm512_add_epi32(acc[m], more[m]), high[m]);
    }
  }
}

template <int M, bool Halves, bool Int8>
void multiply(const Chunk& chunk, const std::byte* x, float* out) {
  constexpr int vectors = 4; // of half a unit
  constexpr int bytes = Int8 ? record_int8 : record;
  __m512 sums[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; m++) {
    sums[m] = _mm512_loadu_ps(out + m * panel_rows);
  }
  for (int u = 0; u < chunk.units; u++) {
    __m512 product[M];
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const auto* codes = chunk.codes + u * unit_bytes + half * vectors * 64;
      __m512i w[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) {
        w[v] = _mm512_loadu_si512(codes + v * 64);
      }
      __m512i acc[M];
      products<M, vectors, bytes, Int8>(w, x + half * vectors * 4, acc);
      const auto* params = chunk.params +
          (Halves ? 2 * u + half : u >> chunk.shift) * 2 * panel_rows;
      auto scale = _mm512_loadu_ps(params);
      auto bias = _mm512_loadu_ps(params + panel_rows);
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) {
        const auto* info = x + (m + 1) * bytes - info_bytes;
        auto x_scale = _mm512_set1_ps(load_value<float>(info + 4 * half));
        auto dot = _mm512_cvtepi32_ps(acc[m]);
        product[m] = Halves || half == 0
            ? _mm512_mul_ps(dot, x_scale)
            : _mm512_fmadd_ps(dot, x_scale, product[m]);
        if (!Halves && half == 0) continue;
        auto sum = load_value<float>(
            info + (Halves ? info_half_sum + 4 * half : info_sum));
        sums[m] = _mm512_fmadd_ps(product[m], scale, sums[m]);
        sums[m] = _mm512_fmadd_ps(bias, _mm512_set1_ps(sum), sums[m]);
      }
    }
    x += M * bytes;
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; m++) {
    _mm512_storeu_ps(out + m * panel_rows, sums[m]);
  }
}

// As quantize() of panel-inl.h, bit for bit.
void quantize_rows(
    const float* x,
    int cols,
    bool int8,
    std::byte* out,
    std::size_t stride) {
  auto most = static_cast<float>(int8 ? 127 : most_quantized);
  const auto magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int k = 0; k < cols; k += unit_inputs, out += stride) {
    UnitInfo info = {};
    std::byte* values = out;
    for (int half = 0; half < 2; half++, values += 16) {
      int left = std::clamp(cols - k - half * 16, 0, 16);
      auto lanes = static_cast<__mmask16>((1u << left) - 1);
      auto from = _mm512_maskz_loadu_ps(lanes, x + k + half * 16);
      auto bits = _mm512_and_si512(_mm512_castps_si512(from), magnitude);
      auto peak = std::bit_cast<float>(_mm512_reduce_max_epi32(bits));
      float inverse = peak > 1e-30f ? most / peak : 0;
      auto q = _mm512_cvtps_epi32(_mm512_mul_ps(from, _mm512_set1_ps(inverse)));
      auto sum = static_cast<float>(_mm512_reduce_add_epi32(q));
      info.scale[half] = peak > 1e-30f || peak != peak ? peak / most : 0;
      info.half_sum[half] = info.scale[half] * sum;
      auto low = _mm512_cvtepi32_epi8(q);
      auto* to = reinterpret_cast<__m128i*>(values);
      if (int8) {
        _mm_storeu_si128(to, low);
        continue;
      }
      auto rest = _mm512_sub_epi32(q, _mm512_cvtepi8_epi32(low));
      _mm_storeu_si128(to, _mm512_cvtepi32_epi8(_mm512_srai_epi32(rest, 8)));
      _mm_storeu_si128(to + 2, low);
    }
    info.sum = info.half_sum[0] + info.half_sum[1];
    auto bytes = static_cast<std::size_t>(int8 ? unit_inputs : 2 * unit_inputs);
    std::memcpy(out + bytes, &info, sizeof(info));
  }
}

#include "runtime/kernels/linear/direct-inl.h"

void any_panel(const PanelJob& job) {
  if (job.panels > 1 || !direct(job)) {
    panel<record, record_int8>(job);
  }
}

} // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace {
bool supported() {
  return __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
} // namespace

const Target avx512_vnni_target = {
    "avx512_vnni",
    supported,
    record,
    record_int8,
    most_tile,
    quantize_rows,
    any_panel,
    gate};

} // namespace mlxlm::kernels
#endif
