// Where centers of keys are; see key_center.h.
#include "runtime/kernels/attention/key_center.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/kernels/attention/key_stretch.h"
#include "runtime/kernels/attention/packed_layout.h"
#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
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

// What a page tells the one behind it, of one head: the center that follows,
// neither stretched nor rotated, and mean squares of differences from centers.
struct Told {
  std::vector<float> center, energy; // [k_dim]
};

// A page of floats has one center, the mean of its keys.
Told told_by_floats(
    const PackedLayout& layout,
    const PageBefore& before,
    int head) {
  int tokens = before.plain_layout->tokens, dim = layout.k_dim;
  Told out{std::vector<float>(dim), std::vector<float>(dim)};
  std::vector<float> rows(std::size_t(tokens) * dim), value(layout.v_dim);
  for (int t = 0; t < tokens; ++t) {
    auto* row = rows.data() + std::size_t(t) * dim;
    load_row(*before.plain_layout, before.plain, head, t, row, value.data());
    for (int d = 0; d < dim; ++d)
      out.center[d] += row[d] / float(tokens);
  }
  for (int t = 0; t < tokens; ++t) {
    for (int d = 0; d < dim; ++d) {
      float x = rows[std::size_t(t) * dim + d] - out.center[d];
      out.energy[d] += x * x / float(tokens);
    }
  }
  return out;
}

Told told_by_codes(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    bool measures) {
  int dim = layout.k_dim;
  Told out{std::vector<float>(dim), std::vector<float>(dim)};
  auto& rotation = layout.keys[0].turbo->rotation;
  std::vector<float> shrink(dim), row(dim);
  shrink_factors(layout.stretch_of(layer, head), dim, shrink.data());
  key_center(layout, layer, head, layout.tokens, out.center.data());
  rotation.inverse(out.center.data());
  for (int d = 0; d < dim; ++d)
    out.center[d] *= shrink[d];
  for (int t = 0; measures && t < layout.tokens; ++t) {
    load_difference(layout, layer, head, t, row.data());
    rotation.inverse(row.data());
    for (int d = 0; d < dim; ++d) {
      float x = row[d] * shrink[d];
      out.energy[d] += x * x / float(layout.tokens);
    }
  }
  return out;
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
    const PageBefore& before,
    const float* first_key,
    const float* query_energy) {
  if (!layout.centered) return;
  int dim = layout.k_dim;
  auto* steps = layout.stretch_of(layer, head);
  std::vector<float> center(first_key, first_key + dim);
  std::fill_n(steps, dim, std::int8_t(0));
  if (before.packed || before.plain) {
    auto told = before.packed
        ? told_by_codes(layout, before.packed, head, query_energy != nullptr)
        : told_by_floats(layout, before, head);
    if (before.packed)
      std::copy_n(layout.stretch_of(before.packed, head), dim, steps);
    if (query_energy)
      move_stretch(query_energy, told.energy.data(), dim, steps);
    stretch_factors(steps, dim, center.data());
    for (int d = 0; d < dim; ++d)
      center[d] *= told.center[d];
  }
  layout.keys[0].turbo->rotation.apply(center.data());
  for (auto& x : center) // of rows that nobody wrote it may be anything
    x = std::isfinite(x) ? std::clamp(x, -65504.0f, 65504.0f) : 0;
  auto* to = layer + head * layout.head_bytes + layout.center;
  from_floats(FloatType::f16, center.data(), dim, 1, to);
}

} // namespace mlxlm::kernels
#endif
