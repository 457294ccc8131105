// SIMD attention over packed pages; see packed_layout.h. Codes become floats in
// registers; a key's or value's scale is applied to the score or weight, and
// rotated values are turned back once for all pages. As over plain pages, a row
// is computed with the same operations whatever rows stand beside it.
#include <hwy/cache_control.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"
#include "runtime/kernels/attention/packed_layout.h"

#define HWY_DISABLED_TARGETS                                               \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | \
   HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/packed_attend.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/attention/code_block-inl.h"
#include "runtime/kernels/attention/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

constexpr int packed_rows = 4; // query rows at a time
constexpr int wide = HWY_MAX_BYTES >= 64 ? 4 : 2; // vectors at a time

template <int R>
using Rows = std::integral_constant<int, R>;

// fn(reader) for the codes of a part.
template <typename Fn>
HWY_INLINE void with_reader(const CodePart& p, FloatType type, Fn fn) {
  if (p.kind == RowCodec::Kind::floats) {
    switch (type) {
      case FloatType::f32:
        return fn(Plain<float>{});
      case FloatType::f16:
        return fn(Plain<hwy::float16_t>{});
      case FloatType::bf16:
        return fn(Plain<hwy::bfloat16_t>{});
    }
  }
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

// Fetches a stretch of memory while another is used, a cache line a turn.
class Fetch {
 public:
  Fetch(const std::byte* p, std::size_t bytes)
      : p_(reinterpret_cast<const char*>(p)), end_(p_ + (p ? bytes : 0)) {}
  HWY_INLINE void turn() {
    if (p_ >= end_) return;
    hwy::Prefetch(p_);
    p_ += 64;
  }

 private:
  const char *p_, *end_;
};

struct Scored { // rows of prepared queries and of scores
  const float* q;
  std::size_t q_step;
  float* scores;
  std::size_t step;
  bool add; // to what is there
  Fetch* ahead;
};

// Keys across tokens: scores of the page's first `tokens`.
template <int R, typename Reader>
HWY_INLINE void score_across(
    const CodePart& p,
    const std::byte* head,
    std::size_t padded,
    int tokens,
    const Reader& reader,
    const Scale& scale,
    const Scored& to) {
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
        auto at = g * padded + t + i * lanes;
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

// Keys along the row: sums over lanes.
template <int R, typename Reader>
HWY_INLINE void score_along(
    const CodePart& p,
    const std::byte* head,
    std::size_t padded,
    int first_token,
    int tokens,
    const Reader& reader,
    const Scale& scale,
    const Scored& to) {
  const int lanes = int(hn::Lanes(f_tag));
  for (int t = first_token; t < tokens; ++t) {
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
      auto at = g * padded + t;
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

struct Weighted { // weights of tokens [first, last) and the sums they go to
  int first, last;
  const float* p;
  std::size_t step;
  const float* keep;
  float* scaled; // scratch, rows of `step`
  float* acc;
  std::size_t acc_step;
  Fetch* ahead;
};

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
HWY_INLINE void accumulate(
    const CodePart& p,
    const std::byte* head,
    std::size_t padded,
    const Reader& reader,
    const Scale& scale,
    const Weighted& w) {
  const int lanes = int(hn::Lanes(f_tag));
  for (int g = 0; g < p.groups; ++g) {
    float bias[R];
    scale_weights<R>(p, head, g * padded, scale, w, bias);
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
      const Scale scale(layout.scale_type(part));
      with_reader(part, layout.type, [&](auto reader) {
        if (layout.latent) {
          score_along<R>(
              part, head, padded, all.first, all.last, reader, scale, to);
        } else {
          score_across<R>(part, head, padded, all.last, reader, scale, to);
        }
      });
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
    auto& part = layout.values;
    const Scale scale(layout.scale_type(part));
    with_reader(part, layout.type, [&](auto reader) {
      accumulate<R>(part, head, padded, reader, scale, w);
    });
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
