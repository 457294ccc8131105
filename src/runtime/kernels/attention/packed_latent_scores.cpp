// SIMD: scores of packed rows that lie along; see packed_parts.h. A row is
// computed with the same operations whatever rows stand beside it.
#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/packed_latent_scores.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/attention/packed_parts-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// Keys along the row: sums over lanes.
template <int R, typename Reader>
HWY_INLINE void score_rows(
    const PagePart& page,
    int first_token,
    int last_token,
    const Reader& reader,
    const Scored& to) {
  auto& p = page.codes;
  auto* head = page.head;
  const Scale scale(page.scale_type);
  const int lanes = int(hn::Lanes(f_tag));
  for (int t = first_token; t < last_token; ++t) {
    auto* row = head + p.codes + p.step * t;
    for (std::size_t i = 0; i < p.step; i += 64)
      to.ahead->turn();
    VF total[R];
    float bias[R] = {};
    for (int r = 0; r < R; ++r)
      total[r] = hn::Zero(f_tag);
    for (int g = 0; g < p.groups; ++g) {
      int first = g * p.group, last = std::min(first + p.group, p.dim);
      VF acc[R];
      for (int r = 0; r < R; ++r)
        acc[r] = hn::Zero(f_tag);
      for (int d = first; d < last; d += lanes) {
        auto k =
            reader.get(row + d / block_codes * Reader::stride, d % block_codes);
        bool whole = d + lanes <= last;
        if (!whole) k = hn::IfThenElseZero(hn::FirstN(f_tag, last - d), k);
        for (int r = 0; r < R; ++r) {
          auto* q = to.q + r * to.q_step + d;
          auto x = whole ? load(q) : load_some(q, last - d);
          acc[r] = hn::MulAdd(x, k, acc[r]);
        }
      }
      auto at = g * page.padded + t;
      auto a = 1.0f, b = 0.0f;
      if (p.scales) a = hn::GetLane(scale(head + p.scales, at));
      if (p.biases) b = hn::GetLane(scale(head + p.biases, at));
      for (int r = 0; r < R; ++r) {
        total[r] = hn::MulAdd(hn::Set(f_tag, a), acc[r], total[r]);
        if (p.biases) bias[r] += b * to.q[r * to.q_step + p.dim + g];
      }
    }
    for (int r = 0; r < R; ++r) {
      auto* out = to.scores + r * to.step + t;
      float sum = hn::GetLane(hn::SumOfLanes(f_tag, total[r])) + bias[r];
      *out = to.add ? *out + sum : sum;
    }
  }
}

void score_along_impl(
    const PagePart& part,
    int rows,
    int first,
    int last,
    const Scored& to) {
  with_reader(part.codes, part.type, [&](auto reader) HWY_ATTR {
    with_rows(rows, [&](auto r) HWY_ATTR {
      score_rows<decltype(r)::value>(part, first, last, reader, to);
    });
  });
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(score_along_impl);

void score_along(
    const PagePart& part,
    int rows,
    int first,
    int last,
    const Scored& to) {
  HWY_DYNAMIC_DISPATCH(score_along_impl)(part, rows, first, last, to);
}

} // namespace mlxlm::kernels
#endif
