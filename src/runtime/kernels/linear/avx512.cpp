// AVX-512 without byte dot products.
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
#pragma clang attribute push(                                                 \
        __attribute__((                                                       \
                target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"))), \
            apply_to = function)
#else
// The intrinsics' own undefined operands (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
#endif

namespace mlxlm::kernels {
namespace {

constexpr int most_tile = 4;

#include "runtime/kernels/linear/target-inl.h"

#include "runtime/kernels/linear/avx512-inl.h"

#include "runtime/kernels/linear/simd-inl.h"

#include "runtime/kernels/linear/madd-inl.h"

#include "runtime/kernels/linear/panel-inl.h"

} // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace {
bool supported() {
  return __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
} // namespace

const Target avx512_target = {
    "avx512",
    supported,
    record,
    record,
    most_tile,
    quantize<record, record>,
    panel<record, record>,
    gate};

} // namespace mlxlm::kernels
#endif
