// Per target: codes of a part (packed_parts.h) and their scales as vectors.
#if defined(MLXLM_PACKED_PARTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXLM_PACKED_PARTS_INL_H
#undef MLXLM_PACKED_PARTS_INL_H
#else
#define MLXLM_PACKED_PARTS_INL_H
#endif

#include <algorithm>
#include <type_traits>

#include "runtime/kernels/attention/code_block-inl.h"
#include "runtime/kernels/attention/packed_parts.h"
#include "runtime/kernels/typed-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

constexpr int wide = HWY_MAX_BYTES >= 64 ? 4 : 2; // vectors at a time

template <int R>
using Rows = std::integral_constant<int, R>;

// fn(Rows) for 1, 2 or packed_rows of them.
template <typename Fn>
HWY_INLINE void with_rows(int rows, Fn fn) {
  if (rows == packed_rows) return fn(Rows<packed_rows>{});
  if (rows == 2) return fn(Rows<2>{});
  fn(Rows<1>{});
}

// fn(reader) for the codes of a part.
template <typename Fn>
HWY_INLINE void with_reader(const CodePart& p, FloatType type, Fn fn) {
  if (p.kind == RowCodec::Kind::floats)
    return typed(
        type, [&](auto zero) HWY_ATTR { fn(Plain<decltype(zero)>{}); });
  if (p.kind == RowCodec::Kind::affine) {
    switch (p.bits) {
      case 2:
        return fn(Numbers<2>{});
      case 3:
        return fn(Numbers<3>{});
      case 4:
        return fn(Numbers<4>{});
      case 5:
        return fn(Numbers<5>{});
      case 6:
        return fn(Numbers<6>{});
      default:
        return fn(Numbers<8>{});
    }
  }
  HWY_ALIGN float table[16];
  for (int i = 0; i < 16; ++i)
    table[i] =
        p.signs ? float(i % 2 * 2 - 1) : p.turbo->centroids[i % (1 << p.bits)];
  with_looked(p.bits, table, fn);
}

// Scales or biases as vectors. Their type is asked at every load, of which
// there are few: as a template parameter it would multiply the kernels by
// three.
class Scale {
 public:
  explicit Scale(FloatType type) : type_(type) {}
  HWY_INLINE VF operator()(const std::byte* base, std::size_t i) const {
    switch (type_) {
      case FloatType::f16:
        return load(reinterpret_cast<const hwy::float16_t*>(base) + i);
      case FloatType::bf16:
        return load(reinterpret_cast<const hwy::bfloat16_t*>(base) + i);
      default:
        return load(reinterpret_cast<const float*>(base) + i);
    }
  }

 private:
  FloatType type_;
};

// NOLINTNEXTLINE(google-readability-namespace-comments)
} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif // toggle
