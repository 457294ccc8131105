// AVX2 with FMA and F16C.
#include "runtime/kernels/linear/target.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "runtime/kernels/linear/floats.h"

#if defined(__clang__)
#pragma clang attribute push( \
        __attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace mlxlm::kernels {
namespace {

constexpr int most_tile = 4;

#include "runtime/kernels/linear/target-inl.h"

#include "runtime/kernels/linear/avx2-inl.h"

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
// Clang 16 knows no "f16c" for __builtin_cpu_supports.
bool converts_halves() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

bool supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      converts_halves();
}
} // namespace

const Target avx2_target = {
    "avx2",
    supported,
    record,
    record,
    most_tile,
    quantize<record, record>,
    panel<record, record>,
    gate};

} // namespace mlxlm::kernels
#endif
