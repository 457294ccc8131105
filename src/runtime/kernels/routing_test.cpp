#include "runtime/kernels/routing.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>

#include "runtime/kernels/primitive.h"

namespace mlxlm::kernels {
namespace {

class Routes : public ::testing::TestWithParam<Routing> {};

TEST_P(Routes, AsTheReference) {
  for (bool corrected : {false, true}) {
    auto logits = mx::random::normal({7, 24}, mx::float32, mx::random::key(1));
    std::optional<mx::array> correction;
    if (corrected)
      correction = mx::random::normal({24}, mx::float32, mx::random::key(2));
    auto [ids, weights] = route(logits, correction, GetParam());
    auto [want, want_weights] =
        reference::route(logits, correction, GetParam());
    EXPECT_TRUE(mx::array_equal(ids, want).item<bool>());
    auto far = mx::max(mx::abs(weights - want_weights)).item<float>();
    EXPECT_LT(far, 1e-5f);
  }
}

using Score = Routing::Score;
INSTANTIATE_TEST_SUITE_P(
    Routing,
    Routes,
    ::testing::Values(
        Routing{.top_k = 3},
        Routing{.top_k = 5, .score = Score::sigmoid, .scale = 2.5f},
        Routing{.top_k = 4, .normalize = true},
        Routing{.top_k = 3, .groups = 6, .top_groups = 2},
        Routing{
            .top_k = 6,
            .score = Score::sigmoid,
            .groups = 4,
            .top_groups = 2,
            .pairs = true,
            .normalize = true,
            .normalize_eps = 1e-20f,
            .scale = 1.5f}));

TEST(Routes, TiesGoToTheLowerIndex) {
  auto [ids, weights] =
      route(mx::zeros({1, 8}, mx::float32), std::nullopt, {.top_k = 3});
  mx::eval(ids, weights);
  EXPECT_EQ(ids.data<std::uint32_t>()[0], 0u);
  EXPECT_EQ(ids.data<std::uint32_t>()[2], 2u);
  EXPECT_FLOAT_EQ(weights.data<float>()[1], 0.125f);
}

} // namespace
} // namespace mlxlm::kernels
