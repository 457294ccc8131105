// SIMD rows of the small operations; see rows.h.
#include "runtime/kernels/ops/rows.h"

#include <cmath>

#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS MLXLM_NEEDLESS_TARGETS
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/ops/rows.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/floats-inl.h"
#include "runtime/kernels/typed-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// sum of (x - mean)^2 or of x, over n values.
template <typename T, typename Term>
HWY_INLINE float reduce(const T* x, std::size_t n, Term term) {
  auto total = hn::Zero(f_tag);
  each_vector(
      n,
      [&](std::size_t i) { total = hn::Add(total, term(load(x + i))); },
      [&](std::size_t i, std::size_t rest) {
        auto lanes = hn::FirstN(f_tag, rest);
        auto value = term(load_some(x + i, rest));
        total = hn::Add(total, hn::IfThenElseZero(lanes, value));
      });
  return hn::GetLane(hn::SumOfLanes(f_tag, total));
}

template <typename T>
void norm_typed(
    const NormRow& norm,
    const T* x,
    const T* residual,
    T* sum,
    T* out) {
  const std::size_t n = norm.dim;
  if (residual) {
    each_vector(
        n,
        [&](std::size_t i) {
          store(hn::Add(load(x + i), load(residual + i)), sum + i);
        },
        [&](std::size_t i, std::size_t rest) {
          auto a = load_some(x + i, rest), b = load_some(residual + i, rest);
          store_some(hn::Add(a, b), sum + i, rest);
        });
    x = sum;
  }
  float mean = 0;
  if (norm.center) mean = reduce(x, n, [](VF v) { return v; }) / float(n);
  auto m = hn::Set(f_tag, mean);
  float square = reduce(x, n, [&](VF v) {
    auto c = hn::Sub(v, m);
    return hn::Mul(c, c);
  });
  auto scale = hn::Set(f_tag, 1.0f / std::sqrt(square / float(n) + norm.eps));
  auto finish = [&](VF v, auto get) {
    v = hn::Mul(hn::Sub(v, m), scale);
    if (norm.weight) v = hn::Mul(v, get(norm.weight));
    if (norm.bias) v = hn::Add(v, get(norm.bias));
    return v;
  };
  each_vector(
      n,
      [&](std::size_t i) {
        auto get = [&](const float* p) { return load(p + i); };
        store(finish(load(x + i), get), out + i);
      },
      [&](std::size_t i, std::size_t rest) {
        auto get = [&](const float* p) { return load_some(p + i, rest); };
        store_some(finish(load_some(x + i, rest), get), out + i, rest);
      });
}

void norm_impl(
    const NormRow& norm,
    const void* x,
    const void* residual,
    void* sum,
    void* out) {
  typed(norm.type, [&](auto zero) {
    using T = decltype(zero);
    norm_typed<T>(
        norm,
        static_cast<const T*>(x),
        static_cast<const T*>(residual),
        static_cast<T*>(sum),
        static_cast<T*>(out));
  });
}

template <typename T>
HWY_INLINE void copy_to_floats(
    const T* x,
    std::size_t n,
    float offset,
    float* out) {
  auto add = hn::Set(f_tag, offset);
  each_vector(
      n,
      [&](std::size_t i) { store(hn::Add(load(x + i), add), out + i); },
      [&](std::size_t i, std::size_t rest) {
        store_some(hn::Add(load_some(x + i, rest), add), out + i, rest);
      });
}

void to_floats_impl(
    FloatType type,
    const void* x,
    int n,
    float offset,
    float* out) {
  typed(type, [&](auto zero) {
    using T = decltype(zero);
    copy_to_floats(static_cast<const T*>(x), n, offset, out);
  });
}

void from_floats_impl(
    FloatType type,
    const float* x,
    int n,
    float scale,
    void* out) {
  auto times = hn::Set(f_tag, scale);
  typed(type, [&](auto zero) {
    auto* to = static_cast<decltype(zero)*>(out);
    each_vector(
        n,
        [&](std::size_t i) { store(hn::Mul(load(x + i), times), to + i); },
        [&](std::size_t i, std::size_t rest) {
          store_some(hn::Mul(load_some(x + i, rest), times), to + i, rest);
        });
  });
}

#if HWY_NATIVE_FMA
// Cephes' polynomials after a reduction by multiples of pi / 2 in three parts;
// the fused multiply-add makes it exact to f32 for angles up to 1e6.
HWY_INLINE void sin_cos(VF x, VF& s, VF& c) {
  const hn::RebindToSigned<F> i32;
  auto n = hn::Round(hn::Mul(x, hn::Set(f_tag, 0.636619772367581f)));
  auto r = hn::NegMulAdd(n, hn::Set(f_tag, 1.5707963705062866f), x);
  r = hn::NegMulAdd(n, hn::Set(f_tag, -4.371139000186241e-08f), r);
  r = hn::NegMulAdd(n, hn::Set(f_tag, -1.7151245100059819e-15f), r);
  auto z = hn::Mul(r, r);
  auto p = hn::Set(f_tag, -1.9515295891e-4f);
  p = hn::MulAdd(p, z, hn::Set(f_tag, 8.3321608736e-3f));
  p = hn::MulAdd(p, z, hn::Set(f_tag, -1.6666654611e-1f));
  auto sine = hn::MulAdd(hn::Mul(p, z), r, r);
  auto q = hn::Set(f_tag, 2.443315711809948e-5f);
  q = hn::MulAdd(q, z, hn::Set(f_tag, -1.388731625493765e-3f));
  q = hn::MulAdd(q, z, hn::Set(f_tag, 4.166664568298827e-2f));
  auto cosine = hn::MulAdd(
      hn::Mul(q, z),
      z,
      hn::NegMulAdd(hn::Set(f_tag, 0.5f), z, hn::Set(f_tag, 1.0f)));
  auto quadrant = hn::ConvertTo(i32, n);
  auto one = hn::Set(i32, 1), two = hn::Set(i32, 2);
  auto swap = hn::RebindMask(f_tag, hn::Eq(hn::And(quadrant, one), one));
  auto flip = [&](auto which) { // sign bit where `which` has 2 set
    return hn::BitCast(f_tag, hn::ShiftLeft<30>(hn::And(which, two)));
  };
  s = hn::Xor(hn::IfThenElse(swap, cosine, sine), flip(quadrant));
  c = hn::Xor(hn::IfThenElse(swap, sine, cosine), flip(hn::Add(quadrant, one)));
}

#else
HWY_INLINE void sin_cos(VF x, VF& s, VF& c) {
  HWY_ALIGN float angle[hn::MaxLanes(f_tag)], sine[hn::MaxLanes(f_tag)];
  store(x, angle);
  for (std::size_t i = 0; i < hn::Lanes(f_tag); ++i) {
    sine[i] = float(std::sin(double(angle[i])));
    angle[i] = float(std::cos(double(angle[i])));
  }
  s = load(sine);
  c = load(angle);
}
#endif

void angles_impl(
    int position,
    const float* inv_freq,
    int half,
    float magnitude,
    float* cosines,
    float* sines) {
  auto at = hn::Set(f_tag, float(position));
  auto times = hn::Set(f_tag, magnitude);
  VF s, c;
  each_vector(
      half,
      [&](std::size_t i) {
        sin_cos(hn::Mul(at, load(inv_freq + i)), s, c);
        store(hn::Mul(c, times), cosines + i);
        store(hn::Mul(s, times), sines + i);
      },
      [&](std::size_t i, std::size_t rest) {
        sin_cos(hn::Mul(at, load_some(inv_freq + i, rest)), s, c);
        store_some(hn::Mul(c, times), cosines + i, rest);
        store_some(hn::Mul(s, times), sines + i, rest);
      });
}

HWY_INLINE void rotate_halves(
    float* x,
    const float* c,
    const float* s,
    int half) {
  auto turn = [&](VF a, VF b, VF cv, VF sv, VF& ra, VF& rb) {
    ra = hn::Sub(hn::Mul(a, cv), hn::Mul(b, sv));
    rb = hn::Add(hn::Mul(a, sv), hn::Mul(b, cv));
  };
  VF ra, rb;
  float* y = x + half;
  each_vector(
      half,
      [&](std::size_t i) {
        turn(load(x + i), load(y + i), load(c + i), load(s + i), ra, rb);
        store(ra, x + i);
        store(rb, y + i);
      },
      [&](std::size_t i, std::size_t rest) {
        auto some = [&](const float* p) { return load_some(p + i, rest); };
        turn(some(x), some(y), some(c), some(s), ra, rb);
        store_some(ra, x + i, rest);
        store_some(rb, y + i, rest);
      });
}

HWY_INLINE void rotate_pairs(
    float* x,
    const float* c,
    const float* s,
    int half) {
  for (int i = 0; i < half; ++i) {
    float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * c[i] - b * s[i];
    x[2 * i + 1] = a * s[i] + b * c[i];
  }
}

template <typename T>
void rope_typed(
    const RopeHead& rope,
    const float* cosines,
    const float* sines,
    const T* x,
    T* out,
    float* scratch) {
  copy_to_floats(x, rope.head_dim, 0, scratch);
  if (rope.norm) {
    NormRow norm{
        FloatType::f32, rope.head_dim, rope.eps, false, rope.norm, nullptr};
    norm_typed<float>(norm, scratch, nullptr, nullptr, scratch);
  }
  int half = rope.dims / 2;
  if (rope.traditional) {
    rotate_pairs(scratch, cosines, sines, half);
  } else {
    rotate_halves(scratch, cosines, sines, half);
  }
  each_vector(
      rope.head_dim,
      [&](std::size_t i) { store(load(scratch + i), out + i); },
      [&](std::size_t i, std::size_t rest) {
        store_some(load_some(scratch + i, rest), out + i, rest);
      });
}

void rope_impl(
    const RopeHead& rope,
    const float* cosines,
    const float* sines,
    const void* x,
    void* out,
    float* scratch) {
  typed(rope.type, [&](auto zero) {
    using T = decltype(zero);
    rope_typed<T>(
        rope,
        cosines,
        sines,
        static_cast<const T*>(x),
        static_cast<T*>(out),
        scratch);
  });
}

// Not a number stays one.
HWY_INLINE VF positive(VF x) {
  return hn::IfThenZeroElse(hn::Le(x, hn::Zero(f_tag)), x);
}

HWY_INLINE VF activate(Activation act, VF x) {
  auto half_x = hn::Mul(hn::Set(f_tag, 0.5f), x);
  switch (act) {
    case Activation::silu:
      return hn::Mul(x, sigmoid_of(x));
    case Activation::gelu_tanh: {
      auto cube = hn::Mul(hn::Mul(x, x), x);
      auto inner = hn::MulAdd(hn::Set(f_tag, 0.044715f), cube, x);
      inner = hn::Mul(hn::Set(f_tag, 0.7978845608f), inner);
      return hn::MulAdd(half_x, tanh_of(inner), half_x);
    }
    case Activation::gelu_erf: {
      auto z = hn::Mul(x, hn::Set(f_tag, 0.70710678f));
      return hn::MulAdd(half_x, erf_of(z), half_x);
    }
    case Activation::relu:
      return positive(x);
    case Activation::relu2:
      return hn::Mul(positive(x), positive(x));
  }
  return x;
}

void glu_impl(
    FloatType type,
    Activation act,
    const void* gate,
    const void* up,
    void* out,
    int n) {
  typed(type, [&](auto zero) {
    using T = decltype(zero);
    auto* g = static_cast<const T*>(gate);
    auto* u = static_cast<const T*>(up);
    auto* o = static_cast<T*>(out);
    each_vector(
        n,
        [&](std::size_t i) {
          store(hn::Mul(activate(act, load(g + i)), load(u + i)), o + i);
        },
        [&](std::size_t i, std::size_t rest) {
          auto a = activate(act, load_some(g + i, rest));
          store_some(hn::Mul(a, load_some(u + i, rest)), o + i, rest);
        });
  });
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(norm_impl);
HWY_EXPORT(to_floats_impl);
HWY_EXPORT(from_floats_impl);
HWY_EXPORT(angles_impl);
HWY_EXPORT(rope_impl);
HWY_EXPORT(glu_impl);

void norm_row(
    const NormRow& norm,
    const void* x,
    const void* residual,
    void* sum,
    void* out) {
  HWY_DYNAMIC_DISPATCH(norm_impl)(norm, x, residual, sum, out);
}

void to_floats(FloatType type, const void* x, int n, float offset, float* out) {
  HWY_DYNAMIC_DISPATCH(to_floats_impl)(type, x, n, offset, out);
}

void from_floats(
    FloatType type,
    const float* x,
    int n,
    float scale,
    void* out) {
  HWY_DYNAMIC_DISPATCH(from_floats_impl)(type, x, n, scale, out);
}

void rope_angles(
    int position,
    const float* inv_freq,
    int half,
    float magnitude,
    float* cosines,
    float* sines) {
  HWY_DYNAMIC_DISPATCH(angles_impl)
  (position, inv_freq, half, magnitude, cosines, sines);
}

void rope_head(
    const RopeHead& rope,
    const float* cosines,
    const float* sines,
    const void* x,
    void* out,
    float* scratch) {
  HWY_DYNAMIC_DISPATCH(rope_impl)(rope, cosines, sines, x, out, scratch);
}

void glu_row(
    FloatType type,
    Activation act,
    const void* gate,
    const void* up,
    void* out,
    int n) {
  HWY_DYNAMIC_DISPATCH(glu_impl)(type, act, gate, up, out, n);
}

} // namespace mlxlm::kernels
#endif
