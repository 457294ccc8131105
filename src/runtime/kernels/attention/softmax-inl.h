// Per target: scores of one query against a page's tokens become weights of an
// online softmax. Included once a target; see Highway's foreach_target.h.
#if defined(MLXLM_SOFTMAX_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXLM_SOFTMAX_INL_H
#undef MLXLM_SOFTMAX_INL_H
#else
#define MLXLM_SOFTMAX_INL_H
#endif

#include <algorithm>
#include <limits>

#include "runtime/kernels/attention/page_layout.h"
#include "runtime/kernels/floats-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

HWY_INLINE std::size_t up_to_lanes(std::size_t n) {
  const auto lanes = hn::Lanes(f_tag);
  return (n + lanes - 1) / lanes * lanes;
}

struct Seen {
  int first, last; // tokens of the page, last exclusive; none: first >= last
};

// Scores of one row become weights e^(score - max); hidden ones 0. Gives what
// the sums so far are to be multiplied by.
HWY_INLINE float soften(
    float* scores,
    std::size_t n,
    Seen seen,
    float softcap,
    float& max,
    float* sum) {
  const std::size_t lanes = hn::Lanes(f_tag);
  const hn::RebindToSigned<F> i32;
  if (seen.first >= seen.last) {
    for (std::size_t i = 0; i < n; i += lanes)
      store(hn::Zero(f_tag), scores + i);
    return 1;
  }
  auto first = hn::Set(i32, seen.first), last = hn::Set(i32, seen.last);
  auto most = hn::Set(f_tag, minus_infinity);
  auto cap = hn::Set(f_tag, softcap),
       shrink = hn::Set(f_tag, softcap > 0 ? 1 / softcap : 1);
  for (std::size_t i = 0; i < n; i += lanes) {
    auto s = load(scores + i);
    if (softcap > 0) s = hn::Mul(cap, tanh_of(hn::Mul(s, shrink)));
    auto at = hn::Iota(i32, int(i));
    auto visible = hn::AndNot(hn::Lt(at, first), hn::Lt(at, last));
    s = hn::IfThenElse(
        hn::RebindMask(f_tag, visible), s, hn::Set(f_tag, minus_infinity));
    store(s, scores + i);
    most = hn::Max(most, s);
  }
  float next = std::max(max, hn::GetLane(hn::MaxOfLanes(f_tag, most)));
  auto high = hn::Set(f_tag, next);
  float keep = max == next ? 1 : std::exp(max - next);
  auto total = hn::Mul(load(sum), hn::Set(f_tag, keep));
  for (std::size_t i = 0; i < n; i += lanes) {
    auto p = exp_of(hn::Sub(load(scores + i), high));
    store(p, scores + i);
    total = hn::Add(total, p);
  }
  store(total, sum);
  max = next;
  return keep;
}

HWY_INLINE Seen on_page(Visible v, int position, int tokens) {
  return {
      std::max(v.first - position, 0), std::min(v.last - position + 1, tokens)};
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif // toggle
