// SIMD: scores of packed keys that lie across tokens; see packed_parts.h. A row
// is computed with the same operations whatever rows stand beside it.
#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/packed_scores.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/attention/packed_parts-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// Keys across tokens: scores of the page's first `tokens`.
template <int R, typename Reader>
HWY_INLINE void score_codes(
    const PagePart& page,
    int tokens,
    const Reader& reader,
    const Scored& to) {
  auto& p = page.codes;
  auto* head = page.head;
  const Scale scale(page.scale_type);
  const int lanes = int(hn::Lanes(f_tag));
  for (int t = 0; t < tokens; t += wide * lanes) {
    auto* codes =
        head + p.codes + std::size_t(t) / block_codes * Reader::stride;
    const int place = t % block_codes;
    for (int g = 0; g < p.groups; ++g) {
      int first = g * p.group, last = std::min(first + p.group, p.dim);
      VF acc[R][wide];
      for (int r = 0; r < R; ++r) {
        for (int i = 0; i < wide; ++i)
          acc[r][i] = hn::Zero(f_tag);
      }
      auto* block = codes + p.step * first;
      for (int d = first; d < last; ++d, block += p.step) {
        to.ahead->turn();
        VF k[wide];
        for (int i = 0; i < wide; ++i)
          k[i] = reader.get(block, place + i * lanes);
        for (int r = 0; r < R; ++r) {
          auto x = hn::Set(f_tag, to.q[r * to.q_step + d]);
          for (int i = 0; i < wide; ++i)
            acc[r][i] = hn::MulAdd(x, k[i], acc[r][i]);
        }
      }
      for (int i = 0; i < wide; ++i) {
        auto at = g * page.padded + t + i * lanes;
        auto a = hn::Set(f_tag, 1.0f), b = hn::Zero(f_tag);
        if (p.scales) a = scale(head + p.scales, at);
        if (p.biases) b = scale(head + p.biases, at);
        for (int r = 0; r < R; ++r) {
          auto* out = to.scores + r * to.step + t + i * lanes;
          auto sum = to.add || g > 0 ? load(out) : hn::Zero(f_tag);
          sum = hn::MulAdd(acc[r][i], a, sum);
          if (p.biases) {
            auto total = hn::Set(f_tag, to.q[r * to.q_step + p.dim + g]);
            sum = hn::MulAdd(total, b, sum);
          }
          store(sum, out);
        }
      }
    }
  }
}

void score_across_impl(
    const PagePart& part,
    int rows,
    int tokens,
    const Scored& to) {
  with_reader(part.codes, part.type, [&](auto reader) HWY_ATTR {
    with_rows(rows, [&](auto r) HWY_ATTR {
      score_codes<decltype(r)::value>(part, tokens, reader, to);
    });
  });
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(score_across_impl);

void score_across(
    const PagePart& part,
    int rows,
    int tokens,
    const Scored& to) {
  HWY_DYNAMIC_DISPATCH(score_across_impl)(part, rows, tokens, to);
}

} // namespace mlxlm::kernels
#endif
