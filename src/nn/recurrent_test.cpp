// Chunked, stepwise and ragged runs of the recurrent blocks' maths agree with a
// plain loop over time.
#include "nn/recurrent.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "nn/gated_delta.h"
#include "nn/mamba2.h"
#include "runtime/slices.h"
#include "runtime/testing.h"

namespace mlxlm {
namespace {

using testing::distance;
using testing::noise;

mx::array times(const mx::array& x, int begin, int end) {
  return slice_axis(x, 1, begin, end);
}

TEST(StateSpace, ChunksEqualSteps) {
  int length = 21, heads = 4, dim = 3, groups = 2, state = 5;
  auto x = noise({2, length, heads, dim}, 1);
  auto dt = mx::abs(noise({2, length, heads}, 2));
  auto a = mx::negative(mx::abs(noise({heads}, 3)));
  auto b = noise({2, length, groups, state}, 4);
  auto c = noise({2, length, groups, state}, 5);
  auto d = noise({heads}, 6);
  auto h = noise({2, heads, dim, state}, 7);
  auto [steps, end] = state_space(x, dt, a, b, c, d, h, 1);
  for (int chunk : {2, 8, 20, 64}) {
    auto [y, last] = state_space(x, dt, a, b, c, d, h, chunk);
    EXPECT_LT(distance(y, steps), 1e-4f) << chunk;
    EXPECT_LT(distance(last, end), 1e-4f) << chunk;
  }
}

TEST(StateSpace, OneStepIsTheRecurrence) {
  auto x = mx::array({2.f}, {1, 1, 1, 1}), dt = mx::array({0.5f}, {1, 1, 1});
  auto a = mx::array({-1.f}, {1}), d = mx::array({3.f}, {1});
  auto b = mx::array({1.f, 2.f}, {1, 1, 1, 2});
  auto c = mx::array({4.f, 5.f}, {1, 1, 1, 2});
  auto h = mx::array({1.f, 1.f}, {1, 1, 1, 2});
  auto [y, last] = state_space(x, dt, a, b, c, d, h);
  float keep = std::exp(-0.5f);
  float h0 = keep + 1, h1 = keep + 2;
  EXPECT_NEAR(y.item<float>(), 4 * h0 + 5 * h1 + 6, 1e-5);
}

TEST(DeltaRule, EqualsALoopOverTime) {
  int length = 7, keys = 2, values = 4, dk = 32, dv = 8;
  auto q = noise({1, length, keys, dk}, 1), k = noise({1, length, keys, dk}, 2);
  k = k * mx::array(0.1f);
  auto v = noise({1, length, values, dv}, 3);
  auto g = mx::sigmoid(noise({1, length, values}, 4));
  auto beta = mx::sigmoid(noise({1, length, values}, 5));
  auto state = noise({1, values, dv, dk}, 6);
  auto [y, last] = delta_rule(q, k, v, g, beta, state);
  auto s = state;
  std::vector<mx::array> expected;
  auto at = [&](const mx::array& x, int t) {
    return mx::squeeze(times(x, t, t + 1), 1);
  };
  for (int t = 0; t < length; ++t) {
    auto kt = mx::expand_dims(mx::repeat(at(k, t), values / keys, 1), -2);
    auto qt = mx::expand_dims(mx::repeat(at(q, t), values / keys, 1), -2);
    auto wide = [&](const mx::array& x) {
      return mx::expand_dims(mx::expand_dims(at(x, t), -1), -1);
    };
    s = s * wide(g);
    auto error = mx::expand_dims(at(v, t), -1) - mx::sum(s * kt, -1, true);
    s = s + wide(beta) * error * kt;
    expected.push_back(mx::expand_dims(mx::sum(s * qt, -1), 1));
  }
  EXPECT_LT(distance(y, mx::concatenate(expected, 1)), 1e-4f);
  EXPECT_LT(distance(last, s), 1e-4f);
}

TEST(CausalConv, ContinuesFromItsState) {
  auto x = noise({1, 9, 3}, 1), w = noise({3, 4}, 2), bias = noise({3}, 3);
  auto zero = mx::zeros({1, 3, 3});
  auto [whole, end] = causal_conv(x, zero, w, bias);
  auto [first, middle] = causal_conv(times(x, 0, 5), zero, w, bias);
  auto [second, last] = causal_conv(times(x, 5, 9), middle, w, bias);
  EXPECT_LT(distance(whole, mx::concatenate({first, second}, 1)), 1e-6f);
  EXPECT_LT(distance(end, last), 1e-6f);
  // The last tap meets the newest input.
  auto y0 =
      mx::sum(times(x, 0, 1) * mx::slice(mx::transpose(w), {3, 0}, {4, 3}));
  EXPECT_NEAR(
      mx::sum(times(whole, 0, 1) - bias).item<float>(), y0.item<float>(), 1e-5);
}

TEST(Batches, ComeBackInOrder) {
  Step step({{nullptr, 0, 1, 4}, {nullptr, 1, 3, 0}, {nullptr, 4, 1, 9}});
  auto x = mx::reshape(mx::arange(0, 10, 1, mx::float32), {1, 5, 2});
  auto groups = batches(step);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].of(x).shape(), (mx::Shape{2, 1, 2}));
  EXPECT_EQ(groups[1].of(x).shape(), (mx::Shape{1, 3, 2}));
  auto back = in_order(groups, {groups[0].of(x), groups[1].of(x)});
  EXPECT_EQ(distance(back, x), 0);
}

} // namespace
} // namespace mlxlm
