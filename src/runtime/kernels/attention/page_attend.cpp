// SIMD attention over pages of plain floats; see page_layout.h. Every row of
// queries is computed with the same operations in the same order whatever rows
// stand beside it.
#include "runtime/kernels/attention/page_layout.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/page_attend.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/attention/softmax-inl.h"
#include "runtime/kernels/floats-inl.h"
#include "runtime/kernels/typed-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

// Query rows and vectors that are accumulated in registers at a time.
constexpr int most_rows = 6;
constexpr int vectors = HWY_MAX_BYTES >= 64 ? 4 : 2;

// ---- fetching ahead ---------------------------------------------------------

// While one block of keys or values is used the next is fetched, as much a turn
// as the turn reads.
template <typename T>
class Ahead {
 public:
  explicit Ahead(const void* p) : p_(static_cast<const char*>(p)) {}
  HWY_INLINE void turn() {
    constexpr int bytes = int(vectors * hn::MaxLanes(f_tag) * sizeof(T));
    if (!p_) return;
    for (int i = 0; i < bytes; i += 64)
      hwy::Prefetch(p_ + i);
    p_ += bytes;
  }

 private:
  const char* p_;
};

// ---- scores -----------------------------------------------------------------

// scores[r][t] = q[r] . k[t] for the first `tokens` of a page, keys across
// tokens.
template <int R, typename T>
HWY_INLINE void score_across(
    const T* keys,
    int k_dim,
    int page_tokens,
    int tokens,
    const float* q,
    float* scores,
    std::size_t stride,
    Ahead<T> ahead) {
  const int lanes = int(hn::Lanes(f_tag));
  auto block = [&](int t, auto count) {
    constexpr int n = decltype(count)::value;
    VF acc[R][n];
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < n; ++i)
        acc[r][i] = hn::Zero(f_tag);
    }
    const T* row = keys + t;
    for (int d = 0; d < k_dim; ++d, row += page_tokens) {
      ahead.turn();
      VF k[n];
      for (int i = 0; i < n; ++i)
        k[i] = load(row + i * lanes);
      for (int r = 0; r < R; ++r) {
        auto x = hn::Set(f_tag, q[std::size_t(r) * k_dim + d]);
        for (int i = 0; i < n; ++i)
          acc[r][i] = hn::MulAdd(x, k[i], acc[r][i]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < n; ++i) {
        store(acc[r][i], scores + r * stride + t + i * lanes);
      }
    }
  };
  int t = 0;
  for (; t + (vectors - 1) * lanes < tokens; t += vectors * lanes) {
    block(t, std::integral_constant<int, vectors>{});
  }
  for (; t < tokens; t += lanes)
    block(t, std::integral_constant<int, 1>{});
}

// The same with keys token after token: sums over lanes.
template <int R, typename T>
HWY_INLINE void score_along(
    const T* keys,
    int k_dim,
    int first,
    int tokens,
    const float* q,
    float* scores,
    std::size_t stride) {
  const std::size_t lanes = hn::Lanes(f_tag);
  const std::size_t whole = k_dim / lanes * lanes, rest = k_dim - whole;
  auto dot = [&](int t, auto count) {
    constexpr int n = decltype(count)::value;
    const T* row = keys + std::size_t(t) * k_dim;
    VF acc[R][n];
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < n; ++i)
        acc[r][i] = hn::Zero(f_tag);
    }
    auto step = [&](std::size_t d, auto get) {
      VF k[n];
      for (int i = 0; i < n; ++i)
        k[i] = get(row + std::size_t(i) * k_dim + d);
      for (int r = 0; r < R; ++r) {
        auto x = get(q + std::size_t(r) * k_dim + d);
        for (int i = 0; i < n; ++i)
          acc[r][i] = hn::MulAdd(x, k[i], acc[r][i]);
      }
    };
    for (std::size_t d = 0; d < whole; d += lanes) {
      step(d, [](auto* p) { return load(p); });
    }
    if (rest) step(whole, [&](auto* p) { return load_some(p, rest); });
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < n; ++i) {
        scores[r * stride + t + i] =
            hn::GetLane(hn::SumOfLanes(f_tag, acc[r][i]));
      }
    }
  };
  int t = first;
  for (; t + 2 <= tokens; t += 2)
    dot(t, std::integral_constant<int, 2>{});
  if (t < tokens) dot(t, std::integral_constant<int, 1>{});
}

// ---- values -----------------------------------------------------------------

// acc[r] = acc[r] * keep[r] + sum over tokens of p[r][t] * v[t].
template <int R, typename T>
HWY_INLINE void accumulate(
    const T* values,
    std::size_t v_stride,
    std::size_t v_dim,
    int first,
    int last,
    const float* p,
    std::size_t p_stride,
    const float* keep,
    float* acc,
    std::size_t acc_step,
    Ahead<T> ahead) {
  const std::size_t lanes = hn::Lanes(f_tag);
  auto loop = [&](std::size_t d, auto count) {
    constexpr int n = decltype(count)::value;
    VF sums[R][n];
    for (int r = 0; r < R; ++r) {
      auto k = hn::Set(f_tag, keep[r]);
      for (int i = 0; i < n; ++i) {
        sums[r][i] = hn::Mul(load(acc + r * acc_step + d + i * lanes), k);
      }
    }
    const T* row = values + first * v_stride + d;
    for (int t = first; t < last; ++t, row += v_stride) {
      ahead.turn();
      VF v[n];
      for (int i = 0; i < n; ++i)
        v[i] = load(row + i * lanes);
      for (int r = 0; r < R; ++r) {
        auto weight = hn::Set(f_tag, p[r * p_stride + t]);
        for (int i = 0; i < n; ++i) {
          sums[r][i] = hn::MulAdd(weight, v[i], sums[r][i]);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < n; ++i) {
        store(sums[r][i], acc + r * acc_step + d + i * lanes);
      }
    }
  };
  std::size_t d = 0;
  for (; d + (vectors - 1) * lanes < v_dim; d += vectors * lanes) {
    loop(d, std::integral_constant<int, vectors>{});
  }
  for (; d < v_dim; d += lanes)
    loop(d, std::integral_constant<int, 1>{});
}

// ---- pages ------------------------------------------------------------------

template <typename T>
struct Attend {
  const AttendPages& job;
  const PageLayout& layout;
  std::size_t score_step, acc_step;
  float* sums; // [most_rows][lanes] partial sums of weights

  template <int R>
  void page(
      const std::byte* data,
      const std::byte* next,
      int position,
      int row,
      Seen all) {
    auto* keys = reinterpret_cast<const T*>(data + layout.key_offset(job.head));
    auto* values =
        reinterpret_cast<const T*>(data + layout.value_offset(job.head));
    auto* q = job.q + std::size_t(row) * layout.k_dim;
    if (layout.latent) {
      score_along<R>(
          keys, layout.k_dim, all.first, all.last, q, job.scores, score_step);
    } else {
      score_across<R>(
          keys,
          layout.k_dim,
          layout.tokens,
          all.last,
          q,
          job.scores,
          score_step,
          Ahead<T>(next ? values : nullptr));
    }
    float keep[R];
    auto n = up_to_lanes(all.last);
    for (int r = 0; r < R; ++r) {
      auto seen = on_page(job.visible[row + r], position, layout.tokens);
      keep[r] = soften(
          job.scores + r * score_step,
          n,
          seen,
          job.softcap,
          job.max[row + r],
          sums + r * hn::Lanes(f_tag));
    }
    accumulate<R>(
        values,
        layout.latent ? layout.k_dim : layout.v_dim,
        layout.v_dim,
        all.first,
        all.last,
        job.scores,
        score_step,
        keep,
        job.acc + row * acc_step,
        acc_step,
        Ahead<T>(next ? next + layout.key_offset(job.head) : nullptr));
  }

  template <int R>
  void rows(int row) {
    const auto lanes = hn::Lanes(f_tag);
    for (std::size_t i = 0; i < R * lanes; i += lanes) {
      store(hn::Zero(f_tag), sums + i);
    }
    for (int r = row; r < row + R; ++r) {
      job.max[r] = minus_infinity;
      for (std::size_t i = 0; i < acc_step; i += lanes) {
        store(hn::Zero(f_tag), job.acc + r * acc_step + i);
      }
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
      bool last = i + 1 == job.page_count;
      auto* next = job.next && !last ? job.pages[i + 1] : job.next;
      page<R>(job.pages[i], next, position, row, all);
    }
    for (int r = 0; r < R; ++r) {
      job.sum[row + r] =
          hn::GetLane(hn::SumOfLanes(f_tag, load(sums + r * lanes)));
    }
  }

  void run() {
    int row = 0;
    for (; row + most_rows <= job.rows; row += most_rows)
      rows<most_rows>(row);
    switch (job.rows - row) {
      case 1:
        return rows<1>(row);
      case 2:
        return rows<2>(row);
      case 3:
        return rows<3>(row);
      case 4:
        return rows<4>(row);
      case 5:
        return rows<5>(row);
    }
  }
};

std::size_t acc_stride_impl(const PageLayout& layout) {
  return up_to_lanes(layout.v_dim);
}

std::size_t score_floats_impl(const PageLayout& layout) {
  return most_rows * up_to_lanes(layout.tokens + vectors * hn::Lanes(f_tag));
}

void attend_impl(const AttendPages& job) {
  HWY_ALIGN float sums[most_rows * hn::MaxLanes(f_tag)];
  auto& layout = *job.layout;
  typed(layout.type, [&](auto zero) {
    Attend<decltype(zero)>{
        job,
        layout,
        score_floats_impl(layout) / most_rows,
        acc_stride_impl(layout),
        sums}
        .run();
  });
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(attend_impl);
HWY_EXPORT(acc_stride_impl);
HWY_EXPORT(score_floats_impl);

void attend_pages(const AttendPages& job) {
  HWY_DYNAMIC_DISPATCH(attend_impl)(job);
}

std::size_t acc_stride(const PageLayout& layout) {
  return HWY_DYNAMIC_DISPATCH(acc_stride_impl)(layout);
}

std::size_t score_floats(const PageLayout& layout) {
  return HWY_DYNAMIC_DISPATCH(score_floats_impl)(layout);
}

} // namespace mlxlm::kernels
#endif
