// Per target: rows of f32, f16 or bf16 as vectors of f32, and the functions
// that the kernels need on them. Included once a target; see Highway's
// foreach_target.h.
#if defined(MLXLM_FLOATS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXLM_FLOATS_INL_H
#undef MLXLM_FLOATS_INL_H
#else
#define MLXLM_FLOATS_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using VF = hn::Vec<F>;
constexpr F f_tag;

HWY_INLINE VF load(const float* p) {
  return hn::LoadU(f_tag, p);
}

template <typename T>
HWY_INLINE VF load(const T* p) { // f16, bf16
  const hn::Rebind<T, F> half;
  return hn::PromoteTo(f_tag, hn::LoadU(half, p));
}

HWY_INLINE void store(VF v, float* p) {
  hn::StoreU(v, f_tag, p);
}

HWY_INLINE void store(VF v, hwy::float16_t* p) {
  const hn::Rebind<hwy::float16_t, F> half;
  hn::StoreU(hn::DemoteTo(half, v), half, p);
}

// Rounds to nearest even; NaN stays NaN.
HWY_INLINE void store(VF v, hwy::bfloat16_t* p) {
  const hn::RebindToUnsigned<F> u32;
  const hn::Rebind<std::uint16_t, F> u16;
  auto bits = hn::BitCast(u32, v);
  auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u32, 1));
  auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(u32, 0x7FFF)));
  auto nan = hn::RebindMask(u32, hn::Ne(v, v));
  auto top = hn::ShiftRight<16>(
      hn::IfThenElse(nan, hn::Or(bits, hn::Set(u32, 0x400000)), rounded));
  hn::StoreU(
      hn::DemoteTo(u16, hn::BitCast(hn::RebindToSigned<F>(), top)),
      u16,
      reinterpret_cast<std::uint16_t*>(p));
}

// The first n < Lanes elements; the rest are zero.
template <typename T>
HWY_INLINE VF load_some(const T* p, std::size_t n) {
  HWY_ALIGN T buffer[hn::MaxLanes(f_tag)] = {};
  std::memcpy(buffer, p, n * sizeof(T));
  return load(buffer);
}

template <typename T>
HWY_INLINE void store_some(VF v, T* p, std::size_t n) {
  HWY_ALIGN T buffer[hn::MaxLanes(f_tag)];
  store(v, buffer);
  std::memcpy(p, buffer, n * sizeof(T));
}

// body(i, load, store) over [0, n): whole vectors, then the rest.
template <typename Whole, typename Some>
HWY_INLINE void each_vector(std::size_t n, Whole whole, Some some) {
  const std::size_t lanes = hn::Lanes(f_tag);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    whole(i);
  if (i < n) some(i, n - i);
}

// e^x: 0 below -87.3, infinity above 88.7, NaN for NaN. Relative error below
// 2e-7.
HWY_INLINE VF exp_of(VF x) {
  const hn::RebindToSigned<F> i32;
  // Max and Min give their second argument when one is NaN.
  auto y = hn::Max(hn::Set(f_tag, -87.33654f), x);
  y = hn::Min(hn::Set(f_tag, 88.72283f), y);
  auto n = hn::Round(hn::Mul(y, hn::Set(f_tag, 1.44269504089f)));
  auto r = hn::NegMulAdd(n, hn::Set(f_tag, 0.693359375f), y);
  r = hn::NegMulAdd(n, hn::Set(f_tag, -2.12194440e-4f), r);
  auto p = hn::Set(f_tag, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(f_tag, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(f_tag, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(f_tag, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(f_tag, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(f_tag, 5.0000001201e-1f));
  auto e = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(f_tag, 1.0f));
  // 2^n in two steps: n reaches 128.
  auto whole = hn::ConvertTo(i32, n);
  auto half = hn::ShiftRight<1>(whole);
  auto power = [&](auto k) {
    auto biased = hn::Add(k, hn::Set(i32, 127));
    return hn::BitCast(f_tag, hn::ShiftLeft<23>(biased));
  };
  e = hn::Mul(hn::Mul(e, power(half)), power(hn::Sub(whole, half)));
  auto tiny = hn::Lt(x, hn::Set(f_tag, -87.33654f));
  return hn::IfThenZeroElse(tiny, e);
}

HWY_INLINE VF sigmoid_of(VF x) {
  auto one = hn::Set(f_tag, 1.0f);
  return hn::Div(one, hn::Add(one, exp_of(hn::Neg(x))));
}

// (1 - e^-2x) / (1 + e^-2x); near zero the series, where that form would
// cancel.
HWY_INLINE VF tanh_of(VF x) {
  auto one = hn::Set(f_tag, 1.0f);
  auto e = exp_of(hn::Mul(hn::Set(f_tag, -2.0f), hn::Abs(x)));
  auto large = hn::Div(hn::Sub(one, e), hn::Add(one, e));
  auto z = hn::Mul(x, x);
  auto p = hn::Set(f_tag, -5.70498872745e-3f);
  p = hn::MulAdd(p, z, hn::Set(f_tag, 2.06390887954e-2f));
  p = hn::MulAdd(p, z, hn::Set(f_tag, -5.37397155531e-2f));
  p = hn::MulAdd(p, z, hn::Set(f_tag, 1.33314422036e-1f));
  p = hn::MulAdd(p, z, hn::Set(f_tag, -3.33332819422e-1f));
  auto small = hn::MulAdd(hn::Mul(p, z), x, x);
  auto is_small = hn::Lt(hn::Abs(x), hn::Set(f_tag, 0.625f));
  return hn::IfThenElse(is_small, small, hn::CopySign(large, x));
}

// Abramowitz and Stegun 7.1.26: absolute error below 2e-7.
HWY_INLINE VF erf_of(VF x) {
  auto one = hn::Set(f_tag, 1.0f);
  auto a = hn::Abs(x);
  auto t = hn::Div(one, hn::MulAdd(a, hn::Set(f_tag, 0.3275911f), one));
  auto p = hn::Set(f_tag, 1.061405429f);
  p = hn::MulAdd(p, t, hn::Set(f_tag, -1.453152027f));
  p = hn::MulAdd(p, t, hn::Set(f_tag, 1.421413741f));
  p = hn::MulAdd(p, t, hn::Set(f_tag, -0.284496736f));
  p = hn::MulAdd(p, t, hn::Set(f_tag, 0.254829592f));
  auto y = hn::NegMulAdd(hn::Mul(p, t), exp_of(hn::Neg(hn::Mul(a, a))), one);
  return hn::CopySign(y, x);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif // toggle
