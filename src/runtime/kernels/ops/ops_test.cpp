// The small operations: the reference against MLX's own, every fast path
// against its reference, and that rows do not influence each other.
#include "runtime/kernels/ops.h"

#include <gtest/gtest.h>
#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <cmath>

namespace mlxlm::kernels {
namespace {

mx::array normal(mx::Shape shape, int seed, mx::Dtype type = mx::float32) {
  return mx::astype(
      mx::random::normal(shape, mx::float32, mx::random::key(seed)), type);
}

// Largest difference, relative to the largest of `want`.
float distance(const mx::array& got, const mx::array& want) {
  EXPECT_EQ(got.shape(), want.shape());
  EXPECT_EQ(got.dtype(), want.dtype());
  auto a = mx::astype(got, mx::float32), b = mx::astype(want, mx::float32);
  return mx::max(mx::abs(a - b)).item<float>() /
      std::max(mx::max(mx::abs(b)).item<float>(), 1e-20f);
}

TEST(OpsReference, AgreesWithMlx) {
  auto x = normal({3, 40}, 1), w = normal({40}, 2), b = normal({40}, 3);
  EXPECT_LT(
      distance(
          reference::rms_norm(x, w, 1e-5f), mx::fast::rms_norm(x, w, 1e-5f)),
      1e-6f);
  EXPECT_LT(
      distance(
          reference::rms_norm(x, w, 1e-5f, 1),
          mx::fast::rms_norm(x, w + mx::array(1.f), 1e-5f)),
      1e-6f);
  EXPECT_LT(
      distance(
          reference::layer_norm(x, w, b, 1e-5f),
          mx::fast::layer_norm(x, w, b, 1e-5f)),
      1e-6f);
  // One token a sequence at positions 7, 8, 9.
  auto y = normal({1, 3, 2, 16}, 4);
  auto freqs = mx::power(
      mx::array(100.f), mx::arange(0, 12, 2, mx::float32) / mx::array(12.f));
  for (bool traditional : {false, true}) {
    auto got = reference::rope(
        y, mx::array({7, 8, 9}), mx::reciprocal(freqs), 12, traditional);
    auto heads = mx::transpose(y, {0, 2, 1, 3});
    auto want =
        mx::fast::rope(heads, 12, traditional, std::nullopt, 1.f, 7, freqs);
    EXPECT_LT(distance(got, mx::transpose(want, {0, 2, 1, 3})), 1e-5f);
  }
}

TEST(TopK, BestFirstTiesToLowerIndex) {
  auto x = mx::array({1.f, 5.f, 3.f, 5.f, 3.f, -1.f}, {1, 6});
  auto [index, value] = top_k(x, 4);
  index = mx::contiguous(index);
  mx::eval(index, value);
  EXPECT_EQ(index.dtype(), mx::uint32);
  std::vector<uint32_t> got(index.data<uint32_t>(), index.data<uint32_t>() + 4);
  EXPECT_EQ(got, (std::vector<uint32_t>{1, 3, 2, 4}));
  EXPECT_EQ(mx::sum(value).item<float>(), 16);
}

} // namespace
} // namespace mlxlm::kernels
