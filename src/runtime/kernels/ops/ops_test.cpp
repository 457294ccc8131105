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
float relative_distance(const mx::array& got, const mx::array& want) {
  EXPECT_EQ(got.shape(), want.shape());
  EXPECT_EQ(got.dtype(), want.dtype());
  auto a = mx::astype(got, mx::float32), b = mx::astype(want, mx::float32);
  return mx::max(mx::abs(a - b)).item<float>() /
      std::max(mx::max(mx::abs(b)).item<float>(), 1e-20f);
}

TEST(OpsReference, AgreesWithMlx) {
  auto x = normal({3, 40}, 1), w = normal({40}, 2), b = normal({40}, 3);
  EXPECT_LT(
      relative_distance(
          reference::rms_norm(x, w, 1e-5f), mx::fast::rms_norm(x, w, 1e-5f)),
      1e-6f);
  EXPECT_LT(
      relative_distance(
          reference::rms_norm(x, w, 1e-5f, 1),
          mx::fast::rms_norm(x, w + mx::array(1.f), 1e-5f)),
      1e-6f);
  EXPECT_LT(
      relative_distance(
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
    EXPECT_LT(relative_distance(got, mx::transpose(want, {0, 2, 1, 3})), 1e-5f);
  }
}

// ---- fast paths -------------------------------------------------------------

// Twice the error of rounding to the type once, and what f32 sums differ by.
float allowed(mx::Dtype type) {
  if (type == mx::float16) return 1e-3f;
  return type == mx::bfloat16 ? 8e-3f : 2e-6f;
}

class FusedOps : public ::testing::TestWithParam<std::tuple<mx::Dtype, int>> {
 protected:
  mx::Dtype type() const {
    return std::get<0>(GetParam());
  }
  int dim() const {
    return std::get<1>(GetParam());
  }
  mx::array x(int rows, int seed) const {
    return normal({1, rows, dim()}, seed, type());
  }
  void same(const mx::array& got, const mx::array& want) const {
    EXPECT_LE(relative_distance(got, want), allowed(type())) << "dim " << dim();
  }
};

TEST_P(FusedOps, Norms) {
  auto a = x(5, 1), b = x(5, 2), w = normal({dim()}, 3, type());
  auto bias = normal({dim()}, 4);
  same(rms_norm(a, w, 1e-5f), reference::rms_norm(a, w, 1e-5f));
  same(rms_norm(a, w, 1e-5f, 1), reference::rms_norm(a, w, 1e-5f, 1));
  same(
      rms_norm(a, std::nullopt, 0.1f),
      reference::rms_norm(a, std::nullopt, 0.1f));
  same(layer_norm(a, w, bias, 1e-5f), reference::layer_norm(a, w, bias, 1e-5f));
  same(
      layer_norm(a, std::nullopt, std::nullopt, 1e-5f),
      reference::layer_norm(a, std::nullopt, std::nullopt, 1e-5f));
  auto [sum, norm] = add_rms_norm(a, b, w, 1e-5f);
  EXPECT_TRUE(mx::array_equal(sum, a + b).item<bool>());
  same(norm, reference::rms_norm(a + b, w, 1e-5f));
}

TEST_P(FusedOps, GatedActivations) {
  auto a = x(5, 1) * mx::array(4, type()), b = x(5, 2);
  for (auto act :
       {Activation::silu,
        Activation::gelu_tanh,
        Activation::gelu_erf,
        Activation::relu,
        Activation::relu2})
    same(glu(act, a, b), reference::glu(act, a, b));
}

TEST_P(FusedOps, StridedRows) {
  auto a = normal({dim(), 6}, 1, type());
  auto t = mx::transpose(a); // elements of a row lie apart
  same(
      rms_norm(t, std::nullopt, 1e-5f),
      reference::rms_norm(t, std::nullopt, 1e-5f));
  auto wide = normal({4, 3, 2 * dim()}, 2, type());
  auto parts = mx::split(mx::swapaxes(wide, 0, 1), 2, -1);
  auto silu = Activation::silu;
  same(glu(silu, parts[0], parts[1]), reference::glu(silu, parts[0], parts[1]));
}

TEST_P(FusedOps, RowsAreIndependent) {
  auto a = x(300, 1), w = normal({dim()}, 3);
  auto all = rms_norm(a, w, 1e-5f);
  auto one = mx::slice(a, {0, 217, 0}, {1, 218, dim()});
  auto row = mx::slice(all, {0, 217, 0}, {1, 218, dim()});
  EXPECT_TRUE(mx::array_equal(rms_norm(one, w, 1e-5f), row).item<bool>());
}

TEST_P(FusedOps, TopK) {
  auto a = mx::round(x(5, 1) * mx::array(8, type())); // many ties
  for (int k : {1, 2, dim() / 2, dim()}) {
    if (k < 1 || k > dim()) continue;
    auto [index, value] = top_k(a, k);
    auto [want_index, want_value] = reference::top_k(a, k);
    EXPECT_TRUE(mx::array_equal(index, want_index).item<bool>()) << k;
    EXPECT_TRUE(mx::array_equal(value, want_value).item<bool>()) << k;
  }
}

INSTANTIATE_TEST_SUITE_P(
    TypesAndSizes,
    FusedOps,
    ::testing::Combine(
        ::testing::Values(mx::float32, mx::float16, mx::bfloat16),
        ::testing::Values(1, 7, 64, 131, 576)));

TEST(FusedRope, AgreesWithReference) {
  auto positions = mx::array({0, 3, 1000, 131071, 7});
  for (auto type : {mx::float32, mx::float16, mx::bfloat16}) {
    for (int dims : {2, 22, 32}) {
      for (bool traditional : {false, true}) {
        auto freqs =
            mx::exp(mx::arange(0, dims / 2, mx::float32) * mx::array(-0.4f));
        RopeShape shape{dims, traditional, 1.25f};
        auto q = normal({1, 5, 4 * 32}, 1, type);
        auto k = normal({1, 5, 3, 32}, 2, type);
        auto w = normal({32}, 3, type);
        std::vector<RopeInput> in{{q, 32, w, 1e-5f, 1}, {k, 32}};
        auto got = rope(in, positions, freqs, shape);
        auto want = reference::rope(in, positions, freqs, shape);
        for (int i : {0, 1}) {
          EXPECT_EQ(got[i].dtype(), type);
          EXPECT_LE(
              relative_distance(got[i], want[i]),
              type == mx::float32 ? 2e-5f : 2 * allowed(type))
              << dims << traditional << type;
        }
        auto single = rope(k, positions, freqs, dims, traditional, 1.25f);
        EXPECT_TRUE(mx::array_equal(single, got[1]).item<bool>());
      }
    }
  }
}

TEST(FusedRope, AnglesAreExact) {
  // One pair a position at frequency 1: cos and sin of the position.
  std::vector<int> list{0, 1, 2, 3, 100, 4097, 99999, 131072, 999999};
  int n = int(list.size());
  auto positions = mx::array(list.begin(), {n}, mx::int32);
  auto x = mx::broadcast_to(mx::array({1.f, 0.f}, {1, 1, 1, 2}), {1, n, 1, 2});
  auto got = mx::contiguous(rope(x, positions, mx::array({1.f}), 2, false));
  mx::eval(got);
  for (int i = 0; i < n; ++i) {
    EXPECT_NEAR(got.data<float>()[2 * i], std::cos(double(list[i])), 2e-7);
    EXPECT_NEAR(got.data<float>()[2 * i + 1], std::sin(double(list[i])), 2e-7);
  }
}

TEST(FusedOpsGradient, IsTheReferences) {
  auto x = normal({1, 3, 8}, 1), w = normal({8}, 2);
  auto positions = mx::array({1, 2, 3}), freqs = mx::array({1.f, .1f});
  auto run = [&](const std::vector<mx::array>& in, bool fast) {
    auto y = fast ? rms_norm(in[0], in[1], 1e-5f)
                  : reference::rms_norm(in[0], in[1], 1e-5f);
    auto [h, z] = add_rms_norm(y, in[0], in[1], 1e-5f);
    if (!fast) {
      h = y + in[0];
      z = reference::rms_norm(h, in[1], 1e-5f);
    }
    auto silu = Activation::silu;
    auto g = fast ? glu(silu, h, z) : reference::glu(silu, h, z);
    std::vector<RopeInput> parts{{g, 4, std::nullopt}};
    auto r = fast ? rope(parts, positions, freqs, {4})
                  : reference::rope(parts, positions, freqs, {4});
    return mx::sum(mx::sin(r[0]));
  };
  for (int arg : {0, 1}) {
    auto gradient = [&](bool fast) {
      return mx::grad(
          [&](const std::vector<mx::array>& in) { return run(in, fast); },
          std::vector<int>{arg})({x, w})[0];
    };
    EXPECT_LE(relative_distance(gradient(true), gradient(false)), 1e-5f);
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
