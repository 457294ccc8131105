// Per target: a value of the type that floats are stored as.
#if defined(MLXLM_TYPED_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXLM_TYPED_INL_H
#undef MLXLM_TYPED_INL_H
#else
#define MLXLM_TYPED_INL_H
#endif

#include "runtime/kernels/float_type.h"
#include "runtime/kernels/floats-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// fn(zero) of that type.
template <typename Fn>
HWY_INLINE void typed(FloatType type, Fn fn) {
  switch (type) {
    case FloatType::f32:
      return fn(float{});
    case FloatType::f16:
      return fn(hwy::float16_t{});
    case FloatType::bf16:
      return fn(hwy::bfloat16_t{});
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif // toggle
