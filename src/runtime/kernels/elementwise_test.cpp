#include "runtime/kernels/elementwise.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>

#include "runtime/kernels/primitive.h"

namespace mlxlm::kernels {
namespace {

float far(const mx::array& a, const mx::array& b) {
  return mx::max(
             mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32)))
      .item<float>();
}

class Types : public ::testing::TestWithParam<mx::Dtype> {
 protected:
  mx::array noise(mx::Shape shape, int key) const {
    auto x = mx::random::normal(shape, mx::float32, mx::random::key(key));
    return mx::astype(x * mx::array(3.0f), GetParam());
  }
  float allowed() const {
    return GetParam() == mx::float32 ? 2e-6f : 0.07f;
  }
};

TEST_P(Types, SumsScalesAndGates) {
  auto a = noise({2, 5, 77}, 1), b = noise({2, 5, 77}, 2);
  EXPECT_EQ(far(kernels::add(a, b), a + b), 0);
  EXPECT_EQ(far(scaled(a, 0.37f), a * mx::array(0.37f, GetParam())), 0);
  EXPECT_LT(far(gated_by(a, b), a * mx::sigmoid(b)), allowed());
  auto turned = mx::swapaxes(a, 0, 1);
  EXPECT_EQ(far(kernels::add(turned, turned), turned + turned), 0);
}

TEST_P(Types, Activates) {
  auto x = noise({3, 129}, 3);
  for (auto act :
       {Activation::silu,
        Activation::gelu_tanh,
        Activation::gelu_erf,
        Activation::relu,
        Activation::relu2})
    EXPECT_LT(far(activated(act, x), reference::activated(act, x)), allowed());
}

TEST_P(Types, WeighsExperts) {
  auto parts = noise({4, 3, 65}, 4);
  auto weights = mx::random::uniform(0.0f, 1.0f, {4, 3}, mx::float32);
  EXPECT_LT(
      far(weighted_sum(parts, weights),
          reference::weighted_sum(parts, weights)),
      4 * allowed());
}

INSTANTIATE_TEST_SUITE_P(
    Elementwise,
    Types,
    ::testing::Values(mx::float32, mx::float16, mx::bfloat16));

} // namespace
} // namespace mlxlm::kernels
