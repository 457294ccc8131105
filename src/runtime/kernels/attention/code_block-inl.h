// Per target: codes of a block (code_block.h) and plain rows as vectors of f32.
// A reader's get(block, place) gives Lanes values from `place` on, a multiple
// of the lanes that does not cross a field.
#if defined(MLXLM_CODE_BLOCK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXLM_CODE_BLOCK_INL_H
#undef MLXLM_CODE_BLOCK_INL_H
#else
#define MLXLM_CODE_BLOCK_INL_H
#endif

#include "runtime/kernels/attention/code_block.h"
#include "runtime/kernels/floats-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

using I32 = hn::RebindToSigned<F>;
using VI = hn::Vec<I32>;
constexpr I32 i32_tag;

template <int bits>
HWY_INLINE VI codes_at(const std::uint8_t* block, int place) {
  const hn::Rebind<std::uint8_t, F> u8;
  const hn::Rebind<std::uint16_t, F> u16;
  if constexpr (bits == 8) {
    return hn::PromoteTo(i32_tag, hn::LoadU(u8, block + place));
  } else {
    const int lane = place % 16, field = place / 16;
    auto out = hn::Zero(i32_tag);
    int shift = 0;
    if constexpr ((bits & 4) != 0) {
      auto words =
          hn::LoadU(u16, reinterpret_cast<const std::uint16_t*>(block) + lane);
      out = hn::And(
          hn::ShiftRightSame(hn::PromoteTo(i32_tag, words), 4 * field),
          hn::Set(i32_tag, 15));
      block += block_bytes(4);
      shift = 4;
    }
    if constexpr ((bits & 2) != 0) {
      auto bytes = hn::PromoteTo(i32_tag, hn::LoadU(u8, block + lane));
      auto two =
          hn::And(hn::ShiftRightSame(bytes, 2 * field), hn::Set(i32_tag, 3));
      out = shift ? hn::Or(out, hn::ShiftLeftSame(two, shift)) : two;
      block += block_bytes(2);
      shift += 2;
    }
    if constexpr ((bits & 1) != 0) {
      std::uint16_t word;
      std::memcpy(&word, block + 2 * field, sizeof(word));
      // Bit `lane` of the word moves to bit `shift`.
      auto spread = hn::Set(i32_tag, int(unsigned(word) >> lane << shift));
      auto one = hn::And(
          hn::Shr(spread, hn::Iota(i32_tag, 0)), hn::Set(i32_tag, 1 << shift));
      out = shift ? hn::Or(out, one) : one;
    }
    return out;
  }
}

template <int bits>
struct Numbers { // the codes themselves
  static constexpr std::size_t stride = 8 * bits; // of blocks
  HWY_INLINE VF get(const std::byte* block, int place) const {
    auto* at = reinterpret_cast<const std::uint8_t*>(block);
    return hn::ConvertTo(f_tag, codes_at<bits>(at, place));
  }
};

template <int bits>
struct Looked { // table[code]
  static constexpr std::size_t stride = 8 * bits;
  const float* table; // 16: the centroids again and again
  VF low, high;

  explicit Looked(const float* t)
      : table(t), low(load(t)), high(load(t + up())) {}
  static std::size_t up() {
    return hn::Lanes(f_tag) >= 16 ? 0 : hn::Lanes(f_tag);
  }
  HWY_INLINE VF get(const std::byte* block, int place) const {
#if HWY_TARGET == HWY_AVX3 && !HWY_IS_DEBUG_BUILD
    // The lookup reads the lowest four bits of an index, where `table` repeats
    // for what other fields leave there.
    if constexpr (bits == 4 || bits == 2) {
      const hn::Rebind<std::uint8_t, F> u8;
      const hn::Rebind<std::uint16_t, F> u16;
      const int lane = place % 16, field = place / 16;
      auto* at = reinterpret_cast<const std::uint8_t*>(block);
      if constexpr (bits == 4) {
        auto words =
            hn::LoadU(u16, reinterpret_cast<const std::uint16_t*>(at) + lane);
        auto index =
            hn::ShiftRightSame(hn::PromoteTo(i32_tag, words), 4 * field);
        return hn::TableLookupLanes(low, hn::IndicesFromVec(f_tag, index));
      } else {
        auto bytes = hn::PromoteTo(i32_tag, hn::LoadU(u8, at + lane));
        auto index = hn::ShiftRightSame(bytes, 2 * field);
        return hn::TableLookupLanes(low, hn::IndicesFromVec(f_tag, index));
      }
    }
#endif
    auto codes =
        codes_at<bits>(reinterpret_cast<const std::uint8_t*>(block), place);
    constexpr int count = 1 << bits;
    const int lanes = int(hn::Lanes(f_tag));
    if (count <= lanes)
      return hn::TableLookupLanes(low, hn::IndicesFromVec(f_tag, codes));
    if (count <= 2 * lanes) {
      auto half = hn::Set(i32_tag, lanes);
      auto within = hn::IndicesFromVec(f_tag, hn::AndNot(half, codes));
      auto upper = hn::Eq(hn::And(codes, half), half);
      return hn::IfThenElse(
          hn::RebindMask(f_tag, upper),
          hn::TableLookupLanes(high, within),
          hn::TableLookupLanes(low, within));
    }
    return hn::GatherIndex(f_tag, table, codes);
  }
};

// fn(reader) for codes of a codebook of up to 4 bits.
template <typename Fn>
HWY_INLINE void with_looked(int bits, const float* table, Fn fn) {
  switch (bits) {
    case 1:
      return fn(Looked<1>(table));
    case 2:
      return fn(Looked<2>(table));
    case 3:
      return fn(Looked<3>(table));
    default:
      return fn(Looked<4>(table));
  }
}

template <typename T>
struct Plain {
  static constexpr std::size_t stride = block_codes * sizeof(T);
  HWY_INLINE VF get(const std::byte* block, int place) const {
    return load(reinterpret_cast<const T*>(block) + place);
  }
};

// NOLINTNEXTLINE(google-readability-namespace-comments)
} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif // toggle
