// SIMD Walsh-Hadamard transforms; see rotation.h.
#include "runtime/kernels/attention/rotation.h"

#include <cmath>
#include <utility>

#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/rotation.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/floats-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// Sums and differences of neighbours `half` apart within one vector.
HWY_INLINE VF butterfly(VF v, int half) {
  const hn::RebindToSigned<F> i32;
  auto lane = hn::Iota(i32, 0);
  auto other = hn::Xor(lane, hn::Set(i32, half));
  auto swapped = hn::TableLookupLanes(v, hn::IndicesFromVec(f_tag, other));
  auto low = hn::Eq(hn::And(lane, hn::Set(i32, half)), hn::Zero(i32));
  auto minus = hn::IfThenElse(
      hn::RebindMask(f_tag, low), hn::Set(f_tag, 1.0f), hn::Set(f_tag, -1.0f));
  return hn::MulAdd(v, minus, swapped);
}

// n: a power of two.
void hadamard_impl(float* x, int n) {
  const int lanes = int(hn::Lanes(f_tag));
  for (int half = n / 2; half >= lanes; half /= 2) {
    for (int i = 0; i < n; i += 2 * half) {
      for (int j = i; j < i + half; j += lanes) {
        auto a = load(x + j), b = load(x + j + half);
        store(hn::Add(a, b), x + j);
        store(hn::Sub(a, b), x + j + half);
      }
    }
  }
  float scale = 1 / std::sqrt(float(n));
  if (n < lanes) {
    for (int half = n / 2; half >= 1; half /= 2) {
      for (int i = 0; i < n; i += 2 * half) {
        for (int j = i; j < i + half; ++j) {
          float a = x[j], b = x[j + half];
          x[j] = a + b;
          x[j + half] = a - b;
        }
      }
    }
    for (int i = 0; i < n; ++i)
      x[i] *= scale;
    return;
  }
  for (int i = 0; i < n; i += lanes) {
    auto v = load(x + i);
    for (int half = lanes / 2; half >= 1; half /= 2)
      v = butterfly(v, half);
    store(hn::Mul(v, hn::Set(f_tag, scale)), x + i);
  }
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(hadamard_impl);

namespace {

std::vector<float> random_signs(int dim, std::uint32_t seed) {
  std::vector<float> signs(dim);
  std::uint64_t state = (std::uint64_t(seed) << 16) + 0x330E;
  for (auto& sign : signs) {
    state = (state * 0x5DEECE66D + 0xB) & ((std::uint64_t(1) << 48) - 1);
    sign = state >> 47 ? 1.0f : -1.0f; // drand48() < 0.5: -1
  }
  return signs;
}

} // namespace

Rotation::Rotation(int dim, std::uint32_t seed)
    : Rotation(random_signs(dim, seed)) {}

Rotation::Rotation(std::vector<float> signs) : signs_(std::move(signs)) {}

void Rotation::transform(float* x) const {
  int rest = dim();
  while (rest > 0) {
    int block = 1;
    while (2 * block <= rest)
      block *= 2;
    HWY_DYNAMIC_DISPATCH(hadamard_impl)(x, block);
    x += block;
    rest -= block;
  }
}

void Rotation::apply(float* x) const {
  for (int i = 0; i < dim(); ++i)
    x[i] *= signs_[i];
  transform(x);
}

void Rotation::inverse(float* x) const {
  transform(x);
  for (int i = 0; i < dim(); ++i)
    x[i] *= signs_[i];
}

} // namespace mlxlm::kernels
#endif
