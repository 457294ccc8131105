// The kernels of recurrent blocks equal the plain forms, over ragged segments,
// in one pass or cut in two, and leave the states where they are told.
#include "runtime/kernels/mixers.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "runtime/kernels/scan.h"
#include "runtime/slices.h"
#include "runtime/testing.h"

namespace mlxlm::kernels {
namespace {

using testing::distance;
using testing::noise;

mx::array tokens(const mx::array& x, int first, int count) {
  return slice_axis(x, 1, first, first + count);
}

// States of two sequences, of 5 tokens and 1 (or a long one), and their places.
struct States {
  States(const mx::Shape& shape, std::vector<int> counts) {
    int first = 0;
    for (int count : counts) {
      before.push_back(mx::contiguous(noise(shape, 90 + first)));
      after.push_back(mx::contiguous(noise(shape, 95)));
      mx::eval(before.back(), after.back());
      places->segments.push_back(
          {first,
           count,
           before.back().data<std::byte>(),
           const_cast<std::byte*>(after.back().data<std::byte>())});
      first += count;
    }
  }
  std::vector<mx::array> before, after;
  StatePlacesPtr places = std::make_shared<StatePlaces>();
};

const std::vector<std::vector<int>> ragged{{5, 1}, {1, 1, 1}, {3, 150, 2}};

int total(const std::vector<int>& counts) {
  int sum = 0;
  for (int n : counts)
    sum += n;
  return sum;
}

TEST(Mixers, ConvolutionEqualsThePlainForm) {
  for (auto& counts : ragged) {
    int n = total(counts), channels = 37, taps = 4;
    auto x = noise({1, n, channels}, 1), w = noise({taps, channels}, 2);
    auto bias = noise({channels}, 3);
    States s({taps - 1, channels}, counts);
    auto y = short_conv(x, w, bias, s.places, {.silu = true});
    mx::eval(y);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      auto& p = s.places->segments[i];
      auto own = mx::squeeze(tokens(x, p.first, p.count), 0);
      auto past = mx::concatenate({s.before[i], own}, 0);
      auto rows = [&](int from, int count) {
        return mx::slice(past, {from, 0}, {from + count, channels});
      };
      auto sum = bias;
      for (int j = 0; j < taps; ++j)
        sum = sum + rows(j, p.count) * mx::slice(w, {j, 0}, {j + 1, channels});
      auto want = mx::expand_dims(sum * mx::sigmoid(sum), 0);
      EXPECT_LT(distance(tokens(y, p.first, p.count), want), 1e-5f);
      EXPECT_EQ(distance(s.after[i], rows(p.count, taps - 1)), 0);
    }
  }
}

TEST(Mixers, SpaceEqualsStateSpace) {
  SpaceShape shape{4, 8, 2, 24, 0.001f, 3};
  int inner = shape.heads * shape.dim, shared = shape.groups * shape.state;
  auto a_log = noise({shape.heads}, 1), d = noise({shape.heads}, 2);
  auto bias = noise({shape.heads}, 3);
  for (auto& counts : ragged) {
    int n = total(counts);
    auto xbc = noise({1, n, inner + 2 * shared}, 4);
    auto dt = noise({1, n, shape.heads}, 5);
    States s({shape.heads, shape.dim, shape.state}, counts);
    auto y = space_mixer(xbc, dt, a_log, d, bias, s.places, shape);
    mx::eval(y);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      auto& p = s.places->segments[i];
      auto parts = mx::split(
          tokens(xbc, p.first, p.count), mx::Shape{inner, inner + shared}, -1);
      auto rows = [&](const mx::array& v, int heads, int width) {
        return mx::reshape(v, {1, p.count, heads, width});
      };
      auto rate = mx::clip(
          mx::logaddexp(tokens(dt, p.first, p.count) + bias, mx::array(0.0f)),
          mx::array(shape.dt_min),
          mx::array(shape.dt_max));
      auto [want, state] = reference::state_space(
          rows(parts[0], shape.heads, shape.dim),
          rate,
          mx::negative(mx::exp(a_log)),
          rows(parts[1], shape.groups, shape.state),
          rows(parts[2], shape.groups, shape.state),
          d,
          mx::expand_dims(s.before[i], 0));
      auto got = rows(tokens(y, p.first, p.count), shape.heads, shape.dim);
      EXPECT_LT(distance(got, want), 1e-3f);
      EXPECT_LT(distance(mx::expand_dims(s.after[i], 0), state), 1e-3f);
    }
  }
}

mx::array unit(const mx::array& x, float scale) {
  auto sum = mx::sum(mx::square(x), -1, true);
  return x * mx::rsqrt(sum + mx::array(1e-6f)) * mx::array(scale);
}

TEST(Mixers, DeltaEqualsDeltaRule) {
  DeltaHeads h{2, 4, 24, 16};
  int keys = h.key_heads * h.key_dim, values = h.value_heads * h.value_dim;
  for (auto& counts : ragged) {
    for (bool by_channel : {false, true}) {
      int n = total(counts);
      auto qkv = noise({1, n, 2 * keys + values}, 1);
      mx::Shape gates{1, n, h.value_heads};
      auto beta = mx::sigmoid(noise(gates, 2));
      if (by_channel) gates.push_back(h.key_dim);
      auto decay = mx::sigmoid(noise(gates, 3) + mx::array(2.0f));
      States s({h.value_heads, h.value_dim, h.key_dim}, counts);
      auto y = delta_mixer(qkv, decay, beta, s.places, h);
      mx::eval(y);
      for (std::size_t i = 0; i < counts.size(); ++i) {
        auto& p = s.places->segments[i];
        auto own = [&](const mx::array& v) {
          return tokens(v, p.first, p.count);
        };
        auto parts = mx::split(own(qkv), mx::Shape{keys, 2 * keys}, -1);
        auto rows = [&](const mx::array& v, int heads, int width) {
          return mx::reshape(v, {1, p.count, heads, width});
        };
        auto [want, state] = reference::delta_rule(
            unit(rows(parts[0], h.key_heads, h.key_dim), 1 / std::sqrt(24.0f)),
            unit(rows(parts[1], h.key_heads, h.key_dim), 1),
            rows(parts[2], h.value_heads, h.value_dim),
            own(decay),
            own(beta),
            mx::expand_dims(s.before[i], 0));
        EXPECT_LT(distance(own(y), want), 1e-4f);
        EXPECT_LT(distance(mx::expand_dims(s.after[i], 0), state), 1e-4f);
      }
    }
  }
}

TEST(Mixers, GatesAndNormsEqualTheirReferences) {
  auto wide = noise({1, 7, 40}, 1); // views with strides
  auto a = mx::slice(wide, {0, 0, 0}, {1, 7, 12});
  auto b = mx::slice(wide, {0, 0, 20}, {1, 7, 32});
  auto log = noise({12}, 2), bias = noise({12}, 3);
  auto [g, w] = delta_gates(a, b, log, bias, 2);
  auto [g2, w2] = reference::delta_gates(a, b, log, bias, 2);
  EXPECT_LT(distance(g, g2), 1e-6f);
  EXPECT_LT(distance(w, w2), 1e-6f);
  for (bool first : {false, true})
    for (bool sigmoid : {false, true})
      for (int groups : {1, 3}) {
        GatedNorm norm{1e-5f, groups, first, sigmoid};
        EXPECT_LT(
            distance(
                gated_norm(a, b, bias, norm),
                reference::gated_norm(a, b, bias, norm)),
            1e-5f);
      }
  EXPECT_EQ(distance(joined({a, b, a}), mx::concatenate({a, b, a}, -1)), 0);
}

} // namespace
} // namespace mlxlm::kernels
