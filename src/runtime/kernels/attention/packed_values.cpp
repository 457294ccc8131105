// SIMD: sums of packed values; see packed_parts.h. A row is computed with the
// same operations whatever rows stand beside it.
#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/packed_values.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/attention/packed_parts-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// scaled[r][t] = p[r][t] * scale[t]; gives each row's sum of p * bias.
template <int R>
HWY_INLINE void scale_weights(
    const CodePart& p,
    const std::byte* head,
    std::size_t at,
    const Scale& scale,
    const Weighted& w,
    float* bias) {
  const int lanes = int(hn::Lanes(f_tag));
  for (int r = 0; r < R; ++r)
    bias[r] = 0;
  int t = w.first / lanes * lanes;
  for (; t < w.last; t += lanes) {
    auto a = hn::Set(f_tag, 1.0f);
    if (p.scales) a = scale(head + p.scales, at + t);
    for (int r = 0; r < R; ++r)
      store(hn::Mul(load(w.p + r * w.step + t), a), w.scaled + r * w.step + t);
  }
  if (!p.biases) return;
  VF sums[R];
  for (int r = 0; r < R; ++r)
    sums[r] = hn::Zero(f_tag);
  auto first = hn::Set(i32_tag, w.first), last = hn::Set(i32_tag, w.last);
  for (t = w.first / lanes * lanes; t < w.last; t += lanes) {
    // What no token has written may be anything.
    auto place = hn::Iota(i32_tag, t);
    auto there = hn::AndNot(hn::Lt(place, first), hn::Lt(place, last));
    auto b = hn::IfThenElseZero(
        hn::RebindMask(f_tag, there), scale(head + p.biases, at + t));
    for (int r = 0; r < R; ++r)
      sums[r] = hn::MulAdd(load(w.p + r * w.step + t), b, sums[r]);
  }
  for (int r = 0; r < R; ++r)
    bias[r] = hn::GetLane(hn::SumOfLanes(f_tag, sums[r]));
}

// acc[r] = acc[r] * keep[r] + sum over tokens of p[r][t] * v[t].
template <int R, typename Reader>
HWY_INLINE void weigh_values(
    const PagePart& page,
    const Reader& reader,
    const Weighted& w) {
  auto& p = page.codes;
  auto* head = page.head;
  const Scale scale(page.scale_type);
  const int lanes = int(hn::Lanes(f_tag));
  for (int g = 0; g < p.groups; ++g) {
    float bias[R];
    scale_weights<R>(p, head, g * page.padded, scale, w, bias);
    auto loop = [&](int d, auto count) HWY_ATTR {
      constexpr int n = decltype(count)::value;
      VF sums[R][n];
      for (int r = 0; r < R; ++r) {
        auto k = hn::Set(f_tag, w.keep[r]), b = hn::Set(f_tag, bias[r]);
        for (int i = 0; i < n; ++i) {
          auto* acc = w.acc + r * w.acc_step + d + i * lanes;
          sums[r][i] = hn::MulAdd(load(acc), k, b);
        }
      }
      auto* row =
          head + p.codes + p.step * w.first + d / block_codes * Reader::stride;
      const int place = d % block_codes;
      for (int t = w.first; t < w.last; ++t, row += p.step) {
        w.ahead->turn();
        VF v[n];
        for (int i = 0; i < n; ++i)
          v[i] = reader.get(row, place + i * lanes);
        for (int r = 0; r < R; ++r) {
          auto weight = hn::Set(f_tag, w.scaled[r * w.step + t]);
          for (int i = 0; i < n; ++i)
            sums[r][i] = hn::MulAdd(weight, v[i], sums[r][i]);
        }
      }
      for (int r = 0; r < R; ++r) {
        for (int i = 0; i < n; ++i)
          store(sums[r][i], w.acc + r * w.acc_step + d + i * lanes);
      }
    };
    int d = g * p.group, last = std::min(d + p.group, p.dim);
    for (; d % block_codes + wide * lanes <= block_codes &&
         d + wide * lanes <= last;
         d += wide * lanes)
      loop(d, Rows<wide>{});
    for (; d < last; d += lanes)
      loop(d, Rows<1>{});
  }
}

void add_values_impl(const PagePart& part, int rows, const Weighted& w) {
  with_reader(part.codes, part.type, [&](auto reader) HWY_ATTR {
    with_rows(rows, [&](auto r) HWY_ATTR {
      weigh_values<decltype(r)::value>(part, reader, w);
    });
  });
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(add_values_impl);

void add_values(const PagePart& part, int rows, const Weighted& w) {
  HWY_DYNAMIC_DISPATCH(add_values_impl)(part, rows, w);
}

} // namespace mlxlm::kernels
#endif
