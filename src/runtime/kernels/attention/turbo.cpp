// Encoding and decoding of TurboQuant rows; see turbo.h.
#include "runtime/kernels/attention/turbo.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "core/check.h"
#include "runtime/kernels/attention/codebook.h"

#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/turbo.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/floats-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

float square_sum_impl(const float* x, int n) {
  auto sum = hn::Zero(f_tag);
  each_vector(
      n,
      [&](std::size_t i) { sum = hn::MulAdd(load(x + i), load(x + i), sum); },
      [&](std::size_t i, std::size_t rest) {
        auto v = load_some(x + i, rest);
        sum = hn::MulAdd(v, v, sum);
      });
  return hn::GetLane(hn::SumOfLanes(f_tag, sum));
}

// The codes of y times a length; how much of y they have, and their square.
void fit_impl(
    const float* y,
    int n,
    float length,
    const TurboState& state,
    std::uint8_t* codes,
    float* share,
    float* square) {
  const hn::RebindToSigned<F> i32;
  const hn::Rebind<std::uint8_t, F> u8;
  auto a = hn::Zero(f_tag), b = hn::Zero(f_tag);
  auto one = [&](VF v, hn::Mask<F> there) {
    auto sum = hn::Zero(i32);
    auto longer = hn::Mul(v, hn::Set(f_tag, length));
    for (float limit : state.limits) {
      auto above = hn::RebindMask(i32, hn::Gt(longer, hn::Set(f_tag, limit)));
      sum = hn::Sub(sum, hn::VecFromMask(i32, above));
    }
    auto c = hn::GatherIndex(f_tag, state.centroids.data(), sum);
    c = hn::IfThenElseZero(there, c);
    a = hn::MulAdd(v, c, a);
    b = hn::MulAdd(c, c, b);
    return hn::DemoteTo(u8, sum);
  };
  const auto all = hn::FirstN(f_tag, hn::Lanes(f_tag));
  each_vector(
      n,
      [&](std::size_t i) { hn::StoreU(one(load(y + i), all), u8, codes + i); },
      [&](std::size_t i, std::size_t rest) {
        HWY_ALIGN std::uint8_t buffer[hn::MaxLanes(f_tag)];
        auto some = one(load_some(y + i, rest), hn::FirstN(f_tag, rest));
        hn::StoreU(some, u8, buffer);
        std::memcpy(codes + i, buffer, rest);
      });
  *share = hn::GetLane(hn::SumOfLanes(f_tag, a));
  *square = hn::GetLane(hn::SumOfLanes(f_tag, b));
}

// How many of `limits` lie below each value.
void codes_impl(
    const float* y,
    int n,
    const float* limits,
    int count,
    std::uint8_t* codes) {
  const hn::RebindToSigned<F> i32;
  const hn::Rebind<std::uint8_t, F> u8;
  auto code = [&](VF v) {
    auto sum = hn::Zero(i32);
    for (int i = 0; i < count; ++i) {
      auto above = hn::RebindMask(i32, hn::Gt(v, hn::Set(f_tag, limits[i])));
      sum = hn::Sub(sum, hn::VecFromMask(i32, above));
    }
    return hn::DemoteTo(u8, sum);
  };
  each_vector(
      n,
      [&](std::size_t i) { hn::StoreU(code(load(y + i)), u8, codes + i); },
      [&](std::size_t i, std::size_t rest) {
        HWY_ALIGN std::uint8_t buffer[hn::MaxLanes(f_tag)];
        hn::StoreU(code(load_some(y + i, rest)), u8, buffer);
        std::memcpy(codes + i, buffer, rest);
      });
}

float dot_impl(const float* a, const float* b, int n) {
  auto sum = hn::Zero(f_tag);
  each_vector(
      n,
      [&](std::size_t i) { sum = hn::MulAdd(load(a + i), load(b + i), sum); },
      [&](std::size_t i, std::size_t rest) {
        sum = hn::MulAdd(load_some(a + i, rest), load_some(b + i, rest), sum);
      });
  return hn::GetLane(hn::SumOfLanes(f_tag, sum));
}

// out += x * row
void add_impl(const float* row, float x, int n, float* out) {
  auto times = hn::Set(f_tag, x);
  each_vector(
      n,
      [&](std::size_t i) {
        store(hn::MulAdd(times, load(row + i), load(out + i)), out + i);
      },
      [&](std::size_t i, std::size_t rest) {
        auto v = hn::MulAdd(
            times, load_some(row + i, rest), load_some(out + i, rest));
        store_some(v, out + i, rest);
      });
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(square_sum_impl);
HWY_EXPORT(codes_impl);
HWY_EXPORT(fit_impl);
HWY_EXPORT(dot_impl);
HWY_EXPORT(add_impl);

namespace {

// Independent standard normal numbers, the same on every machine: Box-Muller
// over splitmix64.
std::vector<float> normal_numbers(std::size_t count, std::uint64_t seed) {
  auto next = [&] {
    seed += 0x9E3779B97F4A7C15;
    auto z = seed;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return (double((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53; // (0, 1)
  };
  std::vector<float> out(count);
  for (auto& x : out) {
    double radius = std::sqrt(-2 * std::log(next()));
    x = float(radius * std::cos(2 * std::numbers::pi * next()));
  }
  return out;
}

constexpr std::uint32_t projection_seed = 1000; // added to the rotation's

} // namespace

TurboState::TurboState(
    Rotation r,
    std::vector<float> c,
    std::vector<float> projection)
    : rotation(std::move(r)),
      centroids(std::move(c)),
      projection(std::move(projection)),
      limits(midpoints(centroids)) {}

TurboState::TurboState(int dim, int bits, std::uint32_t seed, bool sketch)
    : TurboState(
          Rotation(dim, seed),
          lloyd_max(dim, sketch ? std::max(bits - 1, 1) : bits),
          sketch ? normal_numbers(
                       std::size_t(dim) * dim,
                       std::uint64_t(seed) + projection_seed)
                 : std::vector<float>{}) {}

namespace {

float norm_of(const float* x, int n) {
  return std::sqrt(HWY_DYNAMIC_DISPATCH(square_sum_impl)(x, n));
}

// The direction of x.
void shrink(const float* x, float norm, int n, float* out) {
  float scale = 1 / (norm + 1e-8f);
  for (int i = 0; i < n; ++i)
    out[i] = x[i] * scale;
}

// Of a rotated direction, which is overwritten. z: dim floats.
void encode_direction(
    const TurboState& state,
    float* y,
    TurboRow& row,
    float* z) {
  int n = state.dim();
  HWY_DYNAMIC_DISPATCH(codes_impl)
  (y, n, state.limits.data(), int(state.limits.size()), row.codes);
  if (state.projection.empty()) return;
  for (int i = 0; i < n; ++i)
    y[i] -= state.centroids[row.codes[i]];
  row.residual = norm_of(y, n);
  project(state.projection, y, n, z);
  for (int i = 0; i < n; ++i)
    row.signs[i] = z[i] >= 0;
}

void decode_direction(
    const TurboState& state,
    const TurboRow& row,
    float* y,
    float* scratch) {
  int n = state.dim();
  for (int i = 0; i < n; ++i)
    y[i] = state.centroids[row.codes[i]];
  if (state.projection.empty()) return;
  auto *z = scratch, *back = scratch + n;
  for (int i = 0; i < n; ++i)
    z[i] = row.signs[i] ? 1.0f : -1.0f;
  project_back(state.projection, z, n, back);
  for (int i = 0; i < n; ++i)
    y[i] += sketch_step(n) * row.residual * back[i];
}

} // namespace

void turbo_encode(
    const TurboState& state,
    const float* x,
    TurboRow& row,
    float* scratch) {
  int n = state.dim();
  row.norm = norm_of(x, n);
  shrink(x, row.norm, n, scratch);
  state.rotation.apply(scratch);
  encode_direction(state, scratch, row, scratch + n);
}

void turbo_encode_rotated(
    const TurboState& state,
    float* y,
    TurboRow& row,
    float* scratch,
    TurboNorm norm) {
  int n = state.dim();
  row.norm = norm_of(y, n);
  shrink(y, row.norm, n, y);
  if (!state.projection.empty())
    return encode_direction(state, y, row, scratch);
  auto* codes = reinterpret_cast<std::uint8_t*>(scratch);
  float best = -1, share = 0, square = 1;
  for (float length : turbo_lengths) {
    float a, b;
    HWY_DYNAMIC_DISPATCH(fit_impl)(y, n, length, state, codes, &a, &b);
    if (!(a * a / b > best)) continue;
    best = a * a / b;
    share = a, square = b;
    std::copy_n(codes, n, row.codes);
  }
  if (best < 0) std::fill_n(row.codes, n, std::uint8_t(0)); // no numbers
  if (share > 0)
    row.norm *= norm == TurboNorm::least ? share / square : 1 / share;
}

void turbo_decode(
    const TurboState& state,
    const TurboRow& row,
    float* x,
    float* scratch) {
  decode_direction(state, row, x, scratch);
  state.rotation.inverse(x);
  for (int i = 0; i < state.dim(); ++i)
    x[i] *= row.norm;
}

void turbo_decode_rotated(
    const TurboState& state,
    const TurboRow& row,
    float* y,
    float* scratch) {
  decode_direction(state, row, y, scratch);
  for (int i = 0; i < state.dim(); ++i)
    y[i] *= row.norm;
}

float sketch_step(int dim) {
  return float(std::sqrt(std::numbers::pi / 2) / dim);
}

void project(const std::vector<float>& s, const float* x, int n, float* out) {
  for (int i = 0; i < n; ++i) {
    out[i] =
        HWY_DYNAMIC_DISPATCH(dot_impl)(s.data() + std::size_t(i) * n, x, n);
  }
}

void project_back(
    const std::vector<float>& s,
    const float* x,
    int n,
    float* out) {
  std::fill_n(out, n, 0.0f);
  for (int i = 0; i < n; ++i) {
    HWY_DYNAMIC_DISPATCH(add_impl)(s.data() + std::size_t(i) * n, x[i], n, out);
  }
}

} // namespace mlxlm::kernels
#endif
