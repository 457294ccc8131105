// SIMD rows of the recurrences; see rows.h.
#include "runtime/kernels/scan/rows.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS MLXLM_NEEDLESS_TARGETS
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/scan/rows.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/floats-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

void linear_scan_impl(const LinearScan& s, int first, int last) {
  const std::size_t n = last - first;
  const float* before = s.h + first;
  for (int t = 0; t < s.length; ++t) {
    std::size_t at = std::size_t(t) * s.width + first;
    const float *a = s.a + at, *b = s.b + at;
    float* out = s.out + at;
    each_vector(
        n,
        [&](std::size_t i) {
          store(
              hn::MulAdd(load(a + i), load(before + i), load(b + i)), out + i);
        },
        [&](std::size_t i, std::size_t rest) {
          auto h = load_some(before + i, rest);
          auto y =
              hn::MulAdd(load_some(a + i, rest), h, load_some(b + i, rest));
          store_some(y, out + i, rest);
        });
    before = out;
  }
}

void selective_scan_impl(const SelectiveScan& s, int first, int last) {
  const std::size_t n = s.state;
  auto row = [&](int channel) { return std::size_t(channel) * n; };
  std::memcpy(
      s.last + row(first),
      s.h + row(first),
      (row(last) - row(first)) * sizeof(float));
  for (int t = 0; t < s.length; ++t) {
    const float *b = s.b + t * n, *c = s.c + t * n;
    for (int i = first; i < last; ++i) {
      std::size_t at = std::size_t(t) * s.channels + i;
      auto dt = hn::Set(f_tag, s.dt[at]);
      auto in = hn::Set(f_tag, s.dt[at] * s.x[at]);
      const float* a = s.a + row(i);
      float* h = s.last + row(i);
      auto sum = hn::Zero(f_tag);
      // Lanes past the end: zero b and c, so they add nothing.
      auto next = [&](VF rate, VF before, VF write) {
        auto keep = exp_of(hn::Mul(dt, rate));
        return hn::MulAdd(keep, before, hn::Mul(in, write));
      };
      each_vector(
          n,
          [&](std::size_t j) {
            auto v = next(load(a + j), load(h + j), load(b + j));
            store(v, h + j);
            sum = hn::MulAdd(v, load(c + j), sum);
          },
          [&](std::size_t j, std::size_t rest) {
            auto v = next(
                load_some(a + j, rest),
                load_some(h + j, rest),
                load_some(b + j, rest));
            store_some(v, h + j, rest);
            sum = hn::MulAdd(v, load_some(c + j, rest), sum);
          });
      s.y[at] = hn::GetLane(hn::SumOfLanes(f_tag, sum)) + s.d[i] * s.x[at];
    }
  }
}

HWY_INLINE float dot(const float* x, const float* y, std::size_t n) {
  auto sum = hn::Zero(f_tag);
  each_vector(
      n,
      [&](std::size_t i) { sum = hn::MulAdd(load(x + i), load(y + i), sum); },
      [&](std::size_t i, std::size_t rest) {
        sum = hn::MulAdd(load_some(x + i, rest), load_some(y + i, rest), sum);
      });
  return hn::GetLane(hn::SumOfLanes(f_tag, sum));
}

// s = change(from, get), where get(p) is the same lanes of another row; returns
// s . read.
template <typename Change>
HWY_INLINE float update(
    const float* from,
    float* s,
    const float* read,
    std::size_t n,
    Change change) {
  auto sum = hn::Zero(f_tag);
  each_vector(
      n,
      [&](std::size_t i) {
        auto v =
            change(load(from + i), [&](const float* p) { return load(p + i); });
        store(v, s + i);
        sum = hn::MulAdd(v, load(read + i), sum);
      },
      [&](std::size_t i, std::size_t rest) {
        auto v = change(load_some(from + i, rest), [&](const float* p) {
          return load_some(p + i, rest);
        });
        store_some(v, s + i, rest);
        sum = hn::MulAdd(v, load_some(read + i, rest), sum);
      });
  return hn::GetLane(hn::SumOfLanes(f_tag, sum));
}

void state_space_impl(const StateSpace& p, int first, int end) {
  const std::size_t n = p.dim;
  const float* before = p.state;
  for (int t = 0; t < p.length; ++t, before = p.last) {
    const float *b = p.b + t * p.group_step, *c = p.c + t * p.group_step;
    const float* x = p.x + t * p.x_step;
    float* y = p.y + t * p.y_step;
    float dt = p.dt[t * p.dt_step];
    auto keep = hn::Set(f_tag, std::exp(dt * p.a));
    for (int row = first; row < end; ++row) {
      auto in = hn::Set(f_tag, dt * x[row]);
      float* s = p.last + row * n;
      float read = update(before + row * n, s, c, n, [&](VF old, auto get) {
        return hn::MulAdd(in, get(b), hn::Mul(old, keep));
      });
      y[row] = read + p.d * x[row];
    }
  }
}

void delta_rule_impl(const DeltaRule& d, int first, int end) {
  const std::size_t n = d.dim;
  std::vector<float> decayed(d.by_channel ? n : 0); // k * g
  const float* before = d.state;
  for (int t = 0; t < d.length; ++t, before = d.last) {
    const float *k = d.k + t * d.key_step, *q = d.q + t * d.key_step;
    const float *v = d.v + t * d.value_step, *g = d.g + t * d.gate_step;
    float* y = d.y + t * d.y_step;
    float rate = d.beta[t * d.beta_step];
    if (d.by_channel)
      for (std::size_t i = 0; i < n; ++i)
        decayed[i] = k[i] * g[i];
    for (int row = first; row < end; ++row) {
      const float* from = before + row * n;
      float* s = d.last + row * n;
      if (d.by_channel) {
        float error = v[row] - dot(from, decayed.data(), n);
        auto write = hn::Set(f_tag, rate * error);
        y[row] = update(from, s, q, n, [&](VF old, auto get) {
          return hn::MulAdd(write, get(k), hn::Mul(old, get(g)));
        });
      } else {
        float error = v[row] - *g * dot(from, k, n);
        auto write = hn::Set(f_tag, rate * error), keep = hn::Set(f_tag, *g);
        y[row] = update(from, s, q, n, [&](VF old, auto get) {
          return hn::MulAdd(write, get(k), hn::Mul(old, keep));
        });
      }
    }
  }
}

void wkv7_impl(const Wkv7& d, int first, int end) {
  const std::size_t n = d.dim;
  std::memcpy(
      d.last + first * n,
      d.state + first * n,
      (end - first) * n * sizeof(float));
  for (int t = 0; t < d.length; ++t) {
    const std::size_t at = t * d.step;
    for (int row = first; row < end; ++row) {
      float* s = d.last + row * n;
      auto read = hn::Set(f_tag, dot(s, d.a + at, n));
      auto value = hn::Set(f_tag, d.v[at + row]);
      d.y[at + row] = update(s, s, d.r + at, n, [&](VF old, auto get) {
        auto kept = hn::Mul(old, get(d.w + at));
        kept = hn::MulAdd(read, get(d.b + at), kept);
        return hn::MulAdd(value, get(d.k + at), kept);
      });
    }
  }
}

void conv_row_impl(const ConvRow& r) {
  auto run = [&](auto get, auto put) {
    auto sum = r.bias ? get(r.bias) : hn::Zero(f_tag);
    for (int j = 0; j < r.taps_count; ++j)
      sum = hn::MulAdd(get(r.taps + j * r.tap_step), get(r.inputs[j]), sum);
    put(r.silu ? hn::Mul(sum, sigmoid_of(sum)) : sum);
  };
  each_vector(
      r.count,
      [&](std::size_t i) {
        run([&](const float* p) { return load(p + i); },
            [&](VF v) { store(v, r.y + i); });
      },
      [&](std::size_t i, std::size_t rest) {
        run([&](const float* p) { return load_some(p + i, rest); },
            [&](VF v) { store_some(v, r.y + i, rest); });
      });
}

// x[i] = change(x[i], get), where get(p) is the same lanes of another row.
template <typename Change>
HWY_INLINE void each(float* x, std::size_t n, Change change) {
  each_vector(
      n,
      [&](std::size_t i) {
        auto get = [&](const float* p) { return load(p + i); };
        store(change(load(x + i), get), x + i);
      },
      [&](std::size_t i, std::size_t rest) {
        auto get = [&](const float* p) { return load_some(p + i, rest); };
        store_some(change(load_some(x + i, rest), get), x + i, rest);
      });
}

void gated_norm_row_impl(const GatedNormRow& r) {
  auto gated = [&](VF v, VF z) {
    auto s = sigmoid_of(z);
    return hn::Mul(v, r.sigmoid ? s : hn::Mul(z, s));
  };
  const std::size_t n = r.width / r.groups;
  for (int g = 0; g < r.groups; ++g) {
    float* x = r.x + g * n;
    const float *z = r.gate + g * n, *w = r.weight + g * n;
    if (r.gate_first)
      each(x, n, [&](VF v, auto get) { return gated(v, get(z)); });
    float mean = dot(x, x, n) / static_cast<float>(n);
    auto scale = hn::Set(f_tag, 1 / std::sqrt(mean + r.eps));
    each(x, n, [&](VF v, auto get) {
      v = hn::Mul(hn::Mul(v, scale), get(w));
      return r.gate_first ? v : gated(v, get(z));
    });
  }
}

void unit_row_impl(const float* x, int count, float scale, float* y) {
  auto by = hn::Set(f_tag, scale / std::sqrt(dot(x, x, count) + 1e-6f));
  std::memcpy(y, x, count * sizeof(float));
  each(y, count, [&](VF v, auto) { return hn::Mul(v, by); });
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(linear_scan_impl);
HWY_EXPORT(selective_scan_impl);
HWY_EXPORT(state_space_impl);
HWY_EXPORT(delta_rule_impl);
HWY_EXPORT(wkv7_impl);
HWY_EXPORT(conv_row_impl);
HWY_EXPORT(gated_norm_row_impl);
HWY_EXPORT(unit_row_impl);

void linear_scan_columns(const LinearScan& scan, int first, int last) {
  HWY_DYNAMIC_DISPATCH(linear_scan_impl)(scan, first, last);
}

void selective_scan_channels(const SelectiveScan& scan, int first, int last) {
  HWY_DYNAMIC_DISPATCH(selective_scan_impl)(scan, first, last);
}

void state_space_rows(const StateSpace& space, int first, int end) {
  HWY_DYNAMIC_DISPATCH(state_space_impl)(space, first, end);
}

void delta_rule_rows(const DeltaRule& rule, int first, int end) {
  HWY_DYNAMIC_DISPATCH(delta_rule_impl)(rule, first, end);
}

void wkv7_rows(const Wkv7& wkv, int first, int end) {
  HWY_DYNAMIC_DISPATCH(wkv7_impl)(wkv, first, end);
}

void conv_row(const ConvRow& row) {
  HWY_DYNAMIC_DISPATCH(conv_row_impl)(row);
}

void gated_norm_row(const GatedNormRow& row) {
  HWY_DYNAMIC_DISPATCH(gated_norm_row_impl)(row);
}

void unit_row(const float* x, int count, float scale, float* y) {
  HWY_DYNAMIC_DISPATCH(unit_row_impl)(x, count, scale, y);
}

} // namespace mlxlm::kernels
#endif
