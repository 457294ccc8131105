// Frequencies against the formulas of transformers, evaluated apart in float64.
#include "nn/rope.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cmath>

#include "mlxlm/error.h"

namespace mlxlm {
namespace {

Fields config(Json json) {
  return Fields(std::move(json), "config.json");
}

void expect_frequencies(
    const Rope& rope,
    int length,
    const std::vector<double>& expected) {
  auto found = rope.inverse_frequencies(length);
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], 2e-7 * expected[i] + 1e-12) << i;
}

TEST(Rope, BothConfigStylesAgree) {
  auto old = config({{"rope_theta", 500.0}, {"partial_rotary_factor", 0.5}});
  auto now = config(
      {{"rope_parameters",
        {{"rope_theta", 500.0}, {"partial_rotary_factor", 0.5}}}});
  auto a = Rope::from(old, 16), b = Rope::from(now, 16);
  EXPECT_EQ(a.dims(), 8);
  EXPECT_EQ(a.inverse_frequencies(1), b.inverse_frequencies(1));
  EXPECT_NEAR(a.inverse_frequencies(1)[1], std::pow(500.0, -0.25), 1e-7);
}

TEST(Rope, ByLayerType) {
  auto f = config(
      {{"rope_parameters",
        {{"full_attention",
          {{"rope_theta", 10000.0}, {"rope_type", "linear"}, {"factor", 8.0}}},
         {"sliding_attention", {{"rope_theta", 100.0}}}}}});
  auto full = Rope::from(f, 4, {.layer_type = "full_attention"});
  auto sliding = Rope::from(f, 4, {.layer_type = "sliding_attention"});
  expect_frequencies(full, 1, {1.0 / 8, 0.01 / 8});
  expect_frequencies(sliding, 1, {1, 0.1});
}

TEST(Rope, Llama3) {
  auto f = config(
      {{"rope_scaling",
        {{"rope_type", "llama3"},
         {"factor", 8.0},
         {"low_freq_factor", 1.0},
         {"high_freq_factor", 4.0},
         {"original_max_position_embeddings", 32}}}});
  expect_frequencies(
      Rope::from(f, 16),
      1,
      {1.0,
       9.58399859e-02,
       1.25e-02,
       3.95284708e-03,
       1.25e-03,
       3.95284708e-04,
       1.25e-04,
       3.95284708e-05});
}

TEST(Rope, Yarn) {
  Json scaling = {
      {"type", "yarn"},
      {"factor", 4.0},
      {"original_max_position_embeddings", 4096}};
  auto rope = Rope::from(config({{"rope_scaling", scaling}}), 16);
  expect_frequencies(
      rope,
      1,
      {1.0,
       3.16227766e-01,
       1.0e-01,
       2.56935060e-02,
       6.25e-03,
       1.38349648e-03,
       2.5e-04,
       7.90569415e-05});
  EXPECT_NEAR(rope.magnitude(), 0.1 * std::log(4.0) + 1, 1e-6);

  scaling["mscale"] = 1.0;
  scaling["mscale_all_dim"] = 0.5;
  rope = Rope::from(config({{"rope_scaling", scaling}}), 16);
  EXPECT_NEAR(
      rope.magnitude(),
      (0.1 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1),
      1e-6);
  scaling["attention_factor"] = 1.25;
  rope = Rope::from(config({{"rope_scaling", scaling}}), 16);
  EXPECT_FLOAT_EQ(rope.magnitude(), 1.25f);

  auto untruncated = config(
      {{"rope_theta", 150000.0},
       {"rope_scaling",
        {{"rope_type", "yarn"},
         {"factor", 8.0},
         {"truncate", false},
         {"original_max_position_embeddings", 4096}}}});
  expect_frequencies(
      Rope::from(untruncated, 16),
      1,
      {1.0,
       2.25418000e-01,
       5.08132748e-02,
       7.24585633e-03,
       6.62177949e-04,
       7.27533467e-05,
       1.63999139e-05,
       3.69683580e-06});
}

TEST(Rope, LengthsBeyondTheOriginal) {
  auto dynamic = Rope::from(
      config(
          {{"max_position_embeddings", 128},
           {"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}),
      8);
  expect_frequencies(dynamic, 128, {1, 0.1, 0.01, 0.001});
  expect_frequencies(
      dynamic, 200, {1.0, 7.77822237e-02, 6.05007433e-03, 4.70588235e-04});

  auto longrope = Rope::from(
      config(
          {{"max_position_embeddings", 128},
           {"original_max_position_embeddings", 16},
           {"rope_scaling",
            {{"type", "longrope"},
             {"short_factor", {1.0, 1.0}},
             {"long_factor", {1.0, 4.0}}}}}),
      4);
  expect_frequencies(longrope, 16, {1, 0.01});
  expect_frequencies(longrope, 17, {1, 0.0025});
  EXPECT_NEAR(
      longrope.magnitude(), std::sqrt(1 + std::log(8.0) / std::log(16)), 1e-6);
}

TEST(Rope, AlphaAndProportional) {
  auto alpha = Rope::from(
      config({{"rope_scaling", {{"type", "dynamic"}, {"alpha", 1000.0}}}}), 8);
  expect_frequencies(alpha, 1, {1, 1e-2, 1e-4, 1e-6});
  auto part = Rope::from(
      config(
          {{"rope_parameters",
            {{"rope_type", "proportional"},
             {"rope_theta", 10000.0},
             {"partial_rotary_factor", 0.5}}}}),
      8);
  EXPECT_EQ(part.dims(), 8);
  expect_frequencies(part, 1, {1, 0.1, 0, 0});
}

TEST(Rope, MixedLengthsInOnePassTurnEachSequenceAlone) {
  auto rope = Rope::from(
      config(
          {{"max_position_embeddings", 64},
           {"rope_scaling",
            {{"type", "longrope"},
             {"original_max_position_embeddings", 8},
             {"short_factor", {1.0, 1.0}},
             {"long_factor", {2.0, 4.0}}}}}),
      4);
  auto x = mx::reshape(mx::arange(0, 48, 1, mx::float32), {1, 6, 2, 4});
  Step both({{nullptr, 0, 4, 0}, {nullptr, 4, 2, 7}});
  Step first({{nullptr, 0, 4, 0}}), second({{nullptr, 0, 2, 7}});
  auto apart = mx::concatenate(
      {rope(mx::slice(x, {0, 0, 0, 0}, {1, 4, 2, 4}), first),
       rope(mx::slice(x, {0, 4, 0, 0}, {1, 6, 2, 4}), second)},
      1);
  EXPECT_TRUE(mx::allclose(rope(x, both), apart).item<bool>());
}

TEST(Rope, RefusesNonsense) {
  auto expect_error = [](Json json) {
    EXPECT_THROW(Rope::from(config(std::move(json)), 16), Error);
  };
  expect_error({{"rope_theta", 0.0}});
  expect_error({{"rope_theta", -1.0}});
  expect_error({{"partial_rotary_factor", 1.5}});
  expect_error({{"rope_scaling", {{"type", "spiral"}}}});
  expect_error({{"rope_scaling", {{"type", "linear"}}}});
  expect_error({{"rope_scaling", {{"type", "linear"}, {"factor", 0.0}}}});
  expect_error(
      {{"original_max_position_embeddings", 8},
       {"rope_scaling",
        {{"type", "longrope"},
         {"factor", 2.0},
         {"short_factor", {1.0}},
         {"long_factor", {1.0}}}}});
}

} // namespace
} // namespace mlxlm
