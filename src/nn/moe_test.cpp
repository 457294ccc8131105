#include "nn/moe.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cmath>

namespace mlxlm {
namespace {

mx::array row(std::vector<float> v) {
  return mx::array(v.data(), {1, static_cast<int>(v.size())}, mx::float32);
}

struct Chosen {
  std::vector<int> experts;
  std::vector<float> weights;
};

Chosen choose(
    std::vector<float> logits,
    const RouterOptions& o,
    const std::optional<mx::array>& correction = std::nullopt) {
  auto c = Router::choose(row(std::move(logits)), correction, o);
  auto ids = mx::contiguous(mx::astype(c.experts, mx::int32));
  auto weights = mx::contiguous(c.weights);
  mx::eval(ids, weights);
  return {
      {ids.data<int>(), ids.data<int>() + ids.size()},
      {weights.data<float>(), weights.data<float>() + weights.size()}};
}

float sigmoid(float x) {
  return 1 / (1 + std::exp(-x));
}

TEST(Router, SoftmaxOverAllAndOverTheChosen) {
  RouterOptions o{.experts = 4, .routing = {.top_k = 2}};
  auto c = choose({0, 2, 1, -1}, o);
  EXPECT_EQ(c.experts, (std::vector<int>{1, 2}));
  float total = std::exp(0.f) + std::exp(2.f) + std::exp(1.f) + std::exp(-1.f);
  EXPECT_NEAR(c.weights[0], std::exp(2.f) / total, 1e-6);
  o.routing.normalize = true;
  c = choose({0, 2, 1, -1}, o);
  EXPECT_NEAR(c.weights[0], sigmoid(1), 1e-6); // softmax of {2, 1}
  EXPECT_NEAR(c.weights[0] + c.weights[1], 1, 1e-6);
}

TEST(Router, CorrectionCountsForTheChoiceOnly) {
  RouterOptions o{
      .experts = 3,
      .routing = {.top_k = 1, .score = Routing::Score::sigmoid, .scale = 2.5f}};
  auto c = choose({1, 0, -1}, o, row({0, 0, 5}));
  EXPECT_EQ(c.experts, (std::vector<int>{2}));
  EXPECT_NEAR(c.weights[0], 2.5f * sigmoid(-1), 1e-6);
}

TEST(Router, OnlyTheBestGroupsCount) {
  RouterOptions o{
      .experts = 6,
      .routing = {
          .top_k = 2,
          .score = Routing::Score::sigmoid,
          .groups = 3,
          .top_groups = 1}};
  std::vector<float> logits = {3, -9, 2, 2, 1, 1};
  // By its best expert the first group wins, by its best two the second.
  EXPECT_EQ(choose(logits, o).experts, (std::vector<int>{0, 1}));
  o.routing.pairs = true;
  EXPECT_EQ(choose(logits, o).experts, (std::vector<int>{2, 3}));
}

} // namespace
} // namespace mlxlm
