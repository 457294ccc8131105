// SIMD attention over packed pages; see packed_layout.h. Codes become floats in
// registers (packed_parts.h); a key's or value's scale is applied to the score
// or weight, and rotated values are turned back once for all pages. As over
// plain pages, a row is computed with the same operations whatever rows stand
// beside it.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/kernels/attention/code_block.h"
#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"
#include "runtime/kernels/attention/packed_parts.h"
#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/packed_attend.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/attention/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// Scores of differences become scores of keys; see key_center.h.
template <int R>
HWY_INLINE void add_centers(
    const std::byte* center,
    int dim,
    int tokens,
    const Scored& to) {
  const int lanes = int(hn::Lanes(f_tag));
  auto* c = reinterpret_cast<const hwy::float16_t*>(center);
  VF sums[R];
  for (int r = 0; r < R; ++r)
    sums[r] = hn::Zero(f_tag);
  for (int d = 0; d < dim; d += lanes) {
    bool whole = d + lanes <= dim;
    auto x = whole ? load(c + d) : load_some(c + d, dim - d);
    for (int r = 0; r < R; ++r) {
      auto* q = to.q + r * to.q_step + d;
      auto y = whole ? load(q) : load_some(q, dim - d);
      sums[r] = hn::MulAdd(x, y, sums[r]);
    }
  }
  const hn::CappedTag<float, center_block> block;
  static_assert(center_block == 4, "a block is a vector of 128 bits");
  const auto step = hn::Set(block, center_step);
  for (int r = 0; r < R; ++r) {
    auto* scores = to.scores + r * to.step;
    auto shift = hn::Set(block, hn::GetLane(hn::SumOfLanes(f_tag, sums[r])));
    for (int t = 0; t < tokens; t += center_block) {
      auto s = hn::LoadU(block, scores + t);
      hn::StoreU(hn::Add(s, shift), block, scores + t);
      shift = hn::MulAdd(step, hn::SumOfLanes(block, s), shift);
    }
  }
}

struct PackedRun {
  const AttendPacked& job;
  const PackedLayout& layout;
  std::size_t step, padded;
  float *scores, *scaled, *sums, *shrunk;
  const std::int8_t* stretch = nullptr; // that these rows are prepared for
  bool same = true; // all rows saw pages, and all pages have `first`
  const std::int8_t* first = nullptr;

  // Pages of one stretch mostly stand together.
  void prepare(const std::byte* data, int row, int rows) {
    auto dim = std::size_t(layout.k_dim);
    auto* steps = layout.stretch_of(data, job.head);
    auto equal = [&](const std::int8_t* x) {
      return x && std::memcmp(x, steps, dim) == 0;
    };
    if (equal(stretch)) return;
    stretch = steps;
    if (!first) first = steps;
    same = same && equal(first);
    if (equal(*job.prepared)) return;
    *job.prepared = nullptr;
    auto* q = shrunk + dim;
    shrink_factors(steps, layout.k_dim, shrunk);
    for (int r = row; r < row + rows; ++r) {
      for (std::size_t d = 0; d < dim; ++d)
        q[d] = job.plain_q[r * dim + d] * shrunk[d];
      prepare_query(layout, q, job.q + std::size_t(r) * layout.query_floats);
    }
  }

  PagePart place_of(const CodePart& part, const std::byte* head) const {
    return {part, layout.type, layout.scale_type(part), head, padded};
  }

  template <int R>
  void page(
      const std::byte* data,
      const std::byte* next,
      int position,
      int row,
      Seen all) {
    if (layout.centered) prepare(data, row, R);
    auto* head = data + job.head * layout.head_bytes;
    auto values_at = layout.latent ? 0 : layout.values.codes;
    Fetch values(
        layout.latent ? nullptr : head + values_at,
        layout.head_bytes - values_at);
    Fetch keys(
        next ? next + job.head * layout.head_bytes : nullptr,
        layout.latent ? layout.head_bytes : values_at);
    bool add = false;
    for (auto& part : layout.keys) {
      Scored to{
          job.q + std::size_t(row) * layout.query_floats + part.query,
          std::size_t(layout.query_floats),
          scores,
          step,
          add,
          &values};
      auto place = place_of(part, head);
      if (layout.latent)
        score_along(place, R, all.first, all.last, to);
      else
        score_across(place, R, all.last, to);
      if (layout.centered && !add)
        add_centers<R>(head + layout.center, part.dim, all.last, to);
      add = true;
    }
    float keep[R];
    const auto lanes = hn::Lanes(f_tag);
    for (int r = 0; r < R; ++r) {
      keep[r] = soften(
          scores + r * step,
          up_to_lanes(all.last),
          on_page(job.visible[row + r], position, layout.tokens),
          job.softcap,
          job.max[row + r],
          sums + r * lanes);
    }
    Weighted w{
        all.first,
        all.last,
        scores,
        step,
        keep,
        scaled,
        job.acc + row * job.acc_step,
        job.acc_step,
        &keys};
    add_values(place_of(layout.values, head), R, w);
  }

  template <int R>
  void rows(int row) {
    const auto lanes = hn::Lanes(f_tag);
    stretch = nullptr;
    for (std::size_t i = 0; i < R * lanes; i += lanes)
      store(hn::Zero(f_tag), sums + i);
    for (int r = row; r < row + R; ++r) {
      job.max[r] = minus_infinity;
      for (std::size_t i = 0; i < job.acc_step; i += lanes)
        store(hn::Zero(f_tag), job.acc + r * job.acc_step + i);
    }
    for (int i = 0; i < job.page_count; ++i) {
      int position = job.position + i * layout.tokens;
      Seen all{layout.tokens, 0};
      for (int r = row; r < row + R; ++r) {
        auto seen = on_page(job.visible[r], position, layout.tokens);
        if (seen.first >= seen.last) continue;
        all.first = std::min(all.first, seen.first);
        all.last = std::max(all.last, seen.last);
      }
      if (all.first >= all.last) continue;
      bool end = i + 1 == job.page_count;
      auto* next = end ? job.next : job.pages[i + 1];
      page<R>(job.pages[i], next, position, row, all);
    }
    same = same && stretch; // rows that saw nothing are not prepared
    for (int r = 0; r < R; ++r) {
      job.sum[row + r] =
          hn::GetLane(hn::SumOfLanes(f_tag, load(sums + r * lanes)));
      if (layout.values.turbo) {
        layout.values.turbo->rotation.inverse(
            job.acc + (row + r) * job.acc_step);
      }
    }
  }

  void run() {
    int row = 0;
    for (; row + packed_rows <= job.rows; row += packed_rows)
      rows<packed_rows>(row);
    for (; row + 2 <= job.rows; row += 2)
      rows<2>(row);
    if (row < job.rows) rows<1>(row);
    *job.prepared = same ? first : nullptr;
  }
};

std::size_t step_of(const PackedLayout& layout) {
  return std::size_t(layout.blocks()) * block_codes;
}

std::size_t packed_scratch_impl(const PackedLayout& layout) {
  return packed_rows * (2 * step_of(layout) + hn::Lanes(f_tag)) +
      2 * std::size_t(layout.k_dim);
}

void attend_packed_impl(const AttendPacked& job) {
  auto& layout = *job.layout;
  auto step = step_of(layout);
  auto* scaled = job.scratch + packed_rows * step;
  auto* sums = scaled + packed_rows * step;
  auto* shrunk = sums + packed_rows * hn::Lanes(f_tag);
  PackedRun{job, layout, step, step, job.scratch, scaled, sums, shrunk}.run();
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(packed_scratch_impl);
HWY_EXPORT(attend_packed_impl);

std::size_t packed_scratch_floats(const PackedLayout& layout) {
  return HWY_DYNAMIC_DISPATCH(packed_scratch_impl)(layout);
}

void attend_packed(const AttendPacked& job) {
  HWY_DYNAMIC_DISPATCH(attend_packed_impl)(job);
}

} // namespace mlxlm::kernels
#endif
