// Where centers of keys are; see key_center.h.
#include "runtime/kernels/attention/key_center.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/kernels/attention/packed_layout.h"
#include "runtime/kernels/ops/rows.h"

#define HWY_DISABLED_TARGETS                                               \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | \
   HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/key_center.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/attention/code_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// out[d] += the sum over tokens of weights[t] * codebook[code]; weights are 0
// from the last token to the end of its vector.
void add_weighted_impl(
    const CodePart& p,
    const std::byte* head,
    const float* weights,
    int tokens,
    float* out) {
  const int lanes = int(hn::Lanes(f_tag));
  HWY_ALIGN float table[16];
  for (int i = 0; i < 16; ++i)
    table[i] = p.turbo->centroids[i % (1 << p.bits)];
  with_looked(p.bits, table, [&](auto reader) HWY_ATTR {
    for (int d = 0; d < p.dim; ++d) {
      auto* row = head + p.codes + p.step * d;
      auto sum = hn::Zero(f_tag);
      for (int t = 0; t < tokens; t += lanes) {
        auto* block = row + std::size_t(t) / block_codes * reader.stride;
        sum = hn::MulAdd(
            load(weights + t), reader.get(block, t % block_codes), sum);
      }
      out[d] += hn::GetLane(hn::SumOfLanes(f_tag, sum));
    }
  });
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(add_weighted_impl);

namespace {

// The center that follows a page of floats: the mean of its keys.
void mean_key(
    const PackedLayout& layout,
    const PageBefore& before,
    int head,
    float* out) {
  int tokens = before.plain_layout->tokens;
  std::vector<float> row(layout.k_dim + layout.v_dim);
  std::fill_n(out, layout.k_dim, 0.0f);
  for (int t = 0; t < tokens; ++t) {
    load_row(
        *before.plain_layout,
        before.plain,
        head,
        t,
        row.data(),
        row.data() + layout.k_dim);
    for (int d = 0; d < layout.k_dim; ++d)
      out[d] += row[d] / float(tokens);
  }
  layout.keys[0].turbo->rotation.apply(out);
}

} // namespace

void key_center(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int tokens,
    float* out) {
  auto* base = layer + head * layout.head_bytes;
  auto& part = layout.keys[0];
  to_floats(FloatType::f16, base + layout.center, layout.k_dim, 0, out);
  if (tokens == 0) return;
  thread_local std::vector<float> weights;
  weights.assign(std::size_t(layout.blocks()) * block_codes, 0.0f);
  to_floats(FloatType::f16, base + part.scales, tokens, 0, weights.data());
  for (int t = 0; t < tokens; ++t)
    weights[t] *= center_step;
  HWY_DYNAMIC_DISPATCH(add_weighted_impl)
  (part, base, weights.data(), tokens, out);
}

void begin_page(
    const PackedLayout& layout,
    std::byte* layer,
    int head,
    const PageBefore& before) {
  if (!layout.centered) return;
  std::vector<float> center(layout.k_dim);
  if (before.packed) {
    key_center(layout, before.packed, head, layout.tokens, center.data());
  } else if (before.plain) {
    mean_key(layout, before, head, center.data());
  }
  for (auto& x : center) // of rows that nobody wrote it may be anything
    x = std::isfinite(x) ? std::clamp(x, -65504.0f, 65504.0f) : 0;
  auto* to = layer + head * layout.head_bytes + layout.center;
  from_floats(FloatType::f16, center.data(), layout.k_dim, 1, to);
}

} // namespace mlxlm::kernels
#endif
