// The recurrences equal their references, for whole vectors and odd rests, and
// a sequence alone equals itself among others, bit for bit.
#include "runtime/kernels/scan.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "runtime/testing.h"

namespace mlxlm::kernels {
namespace {

using testing::distance;
using testing::noise;

mx::array gates(const mx::Shape& shape, int seed) { // (0, 1)
  return mx::sigmoid(noise(shape, seed));
}

// Sequence `index` of a batch.
mx::array alone(const mx::array& x, int index) {
  auto start = mx::Shape(x.ndim(), 0);
  auto stop = x.shape();
  start[0] = index;
  stop[0] = index + 1;
  return mx::slice(x, start, stop);
}

TEST(Scan, LinearEqualsItsReference) {
  for (int width : {1, 16, 37, 300}) {
    auto a = gates({2, 19, width}, 1), b = noise({2, 19, width}, 2);
    auto h = noise({2, width}, 3);
    auto y = linear_scan(a, b, h);
    EXPECT_LT(distance(y, reference::linear_scan(a, b, h)), 1e-5f) << width;
    auto one = linear_scan(alone(a, 1), alone(b, 1), alone(h, 1));
    EXPECT_EQ(distance(one, alone(y, 1)), 0) << width;
  }
}

TEST(Scan, SelectiveEqualsItsReference) {
  for (auto [channels, state] : {std::pair{8, 5}, {33, 16}, {512, 40}}) {
    auto x = noise({2, 70, channels}, 1), dt = gates({2, 70, channels}, 2);
    auto a = mx::negative(mx::exp(noise({channels, state}, 3)));
    auto b = noise({2, 70, state}, 4), c = noise({2, 70, state}, 5);
    auto d = noise({channels}, 6), h = noise({2, channels, state}, 7);
    auto [y, last] = selective_scan(x, dt, a, b, c, d, h);
    auto [y2, last2] = reference::selective_scan(x, dt, a, b, c, d, h);
    EXPECT_LT(distance(y, y2), 1e-4f) << channels;
    EXPECT_LT(distance(last, last2), 1e-4f) << channels;
    auto one = selective_scan(
        alone(x, 1), alone(dt, 1), a, alone(b, 1), alone(c, 1), d, alone(h, 1));
    EXPECT_EQ(distance(one.first, alone(y, 1)), 0) << channels;
  }
}

TEST(Scan, StateSpaceEqualsItsReference) {
  for (auto [dim, state] : {std::pair{3, 5}, {8, 16}, {64, 40}}) {
    int length = 11, heads = 4, groups = 2;
    auto x = noise({2, length, heads, dim}, 1);
    auto dt = gates({2, length, heads}, 2);
    auto a = mx::negative(mx::exp(noise({heads}, 3))), d = noise({heads}, 4);
    auto b = noise({2, length, groups, state}, 5);
    auto c = noise({2, length, groups, state}, 6);
    auto h = noise({2, heads, dim, state}, 7);
    auto [y, last] = state_space(x, dt, a, b, c, d, h);
    auto [y2, last2] = reference::state_space(x, dt, a, b, c, d, h);
    EXPECT_LT(distance(y, y2), 1e-4f) << dim;
    EXPECT_LT(distance(last, last2), 1e-4f) << dim;
    auto one = state_space(
        alone(x, 1), alone(dt, 1), a, alone(b, 1), alone(c, 1), d, alone(h, 1));
    EXPECT_EQ(distance(one.first, alone(y, 1)), 0) << dim;
  }
}

TEST(Scan, DeltaRuleEqualsItsReference) {
  for (bool by_channel : {false, true}) {
    for (auto [dk, dv] : {std::pair{6, 12}, {32, 8}, {128, 128}}) {
      int length = 9, keys = 2, heads = 4;
      auto q = noise({2, length, keys, dk}, 1);
      auto k = noise({2, length, keys, dk}, 2) * mx::array(0.1f);
      auto v = noise({2, length, heads, dv}, 3);
      mx::Shape shape{2, length, heads};
      auto beta = gates(shape, 5);
      if (by_channel) shape.push_back(dk);
      auto g = gates(shape, 4), s = noise({2, heads, dv, dk}, 6);
      auto [y, last] = delta_rule(q, k, v, g, beta, s);
      auto [y2, last2] = reference::delta_rule(q, k, v, g, beta, s);
      EXPECT_LT(distance(y, y2), 1e-4f) << dk << by_channel;
      EXPECT_LT(distance(last, last2), 1e-4f) << dk << by_channel;
      auto one = delta_rule(
          alone(q, 1),
          alone(k, 1),
          alone(v, 1),
          alone(g, 1),
          alone(beta, 1),
          alone(s, 1));
      EXPECT_EQ(distance(one.first, alone(y, 1)), 0) << dk << by_channel;
    }
  }
}

TEST(Scan, Wkv7EqualsItsReference) {
  for (int dim : {8, 20, 64}) {
    mx::Shape shape{2, 7, 3, dim};
    auto r = noise(shape, 1), k = noise(shape, 3), v = noise(shape, 4);
    auto w = gates(shape, 2);
    auto a = noise(shape, 5) * mx::array(0.1f);
    auto b = noise(shape, 6) * mx::array(0.1f), s = noise({2, 3, dim, dim}, 7);
    auto [y, last] = wkv7(r, w, k, v, a, b, s);
    auto [y2, last2] = reference::wkv7(r, w, k, v, a, b, s);
    EXPECT_LT(distance(y, y2), 2e-4f) << dim;
    EXPECT_LT(distance(last, last2), 2e-4f) << dim;
  }
}

TEST(Scan, GradientsAreTheReferences) {
  auto a = gates({1, 5, 3}, 1), b = noise({1, 5, 3}, 2), h = noise({1, 3}, 3);
  auto fast = mx::grad(
      [&](const mx::array& x) { return mx::sum(linear_scan(x, b, h)); })(a);
  auto plain = mx::grad([&](const mx::array& x) {
    return mx::sum(reference::linear_scan(x, b, h));
  })(a);
  EXPECT_LT(distance(fast, plain), 1e-6f);
}

} // namespace
} // namespace mlxlm::kernels
