#include "runtime/kernels/linear.h"

#include <gtest/gtest.h>

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cmath>

#include "mlxlm/error.h"
#include "runtime/kernels/linear/sample.h"
#include "runtime/kernels/linear/target.h"

namespace mlxlm::kernels {
namespace {

MatrixPtr sample(const MatrixSpec& spec, int rows, int cols, int experts = 1) {
  return pack(
      spec,
      rows,
      cols,
      experts,
      SampleRows(spec, rows * experts, cols, 7),
      "w");
}

mx::array values(const mx::Shape& shape, unsigned seed = 3) {
  std::size_t size = 1;
  for (int n : shape) {
    size *= n;
  }
  auto data = sample_values(size, seed);
  return mx::array(data.data(), shape);
}

std::vector<float> floats(const mx::array& a) {
  auto f = mx::contiguous(mx::astype(a, mx::float32));
  mx::eval(f);
  return {f.data<float>(), f.data<float>() + f.size()};
}

// x W^T in double precision, rows of `width`.
std::vector<double> product(
    const mx::array& x,
    const MatrixPtr& w,
    int expert = 0) {
  auto data = floats(x);
  int cols = w->cols();
  std::vector<double> out;
  std::vector<std::vector<float>> weights(w->rows(), std::vector<float>(cols));
  for (int r = 0; r < w->rows(); r++) {
    w->dequantize(expert * w->rows() + r, weights[r]);
  }
  for (std::size_t m = 0; m < data.size() / cols; m++) {
    for (int r = 0; r < w->rows(); r++) {
      double sum = 0;
      for (int k = 0; k < cols; k++) {
        sum += static_cast<double>(weights[r][k]) * data[m * cols + k];
      }
      out.push_back(sum);
    }
  }
  return out;
}

// The largest error relative to its row's largest value.
double error(
    const std::vector<float>& found,
    const std::vector<double>& expected,
    int width) {
  EXPECT_EQ(found.size(), expected.size());
  double worst = 0;
  for (std::size_t row = 0; row < found.size(); row += width) {
    double largest = 0, off = 0;
    for (int i = 0; i < width; i++) {
      largest = std::max(largest, std::abs(expected[row + i]));
      auto difference = std::abs(found[row + i] - expected[row + i]);
      off = std::isnan(difference) ? HUGE_VAL : std::max(off, difference);
    }
    worst = std::max(worst, off / largest);
  }
  return worst;
}

struct Kernels : ::testing::TestWithParam<std::tuple<std::string, Format>> {
  void SetUp() override {
    before_ = target().name;
    set_target(std::get<0>(GetParam()));
  }
  void TearDown() override {
    set_target(before_);
  }
  const MatrixSpec& spec() {
    return std::get<1>(GetParam()).spec;
  }
  int cols() {
    bool k = spec().params == Params::k_affine ||
        spec().params == Params::k_scale || spec().group == 256;
    return k ? 768 : spec().group == 16 ? 592 : 640;
  }
  std::string before_;
};

TEST_P(Kernels, AccurateAndBatchInvariant) {
  auto w = sample(spec(), 40, cols());
  int most = 15; // tiles of 8, 4, 2 and 1
  auto x = values({most, cols()});
  for (auto mode : {Activations::exact, Activations::int8}) {
    auto y = floats(linear(x, w, std::nullopt, mode));
    bool dense = w->spec().dense() || w->spec().codes == Codes::e4m3;
    double limit = mode == Activations::exact || dense ? 1e-4 : 2e-2;
    EXPECT_LT(error(y, product(x, w), 40), limit);
    for (int rows : {1, 2, 3, 6, 9}) {
      auto part = floats(linear(
          mx::slice(x, {most - rows, 0}, {most, cols()}),
          w,
          std::nullopt,
          mode));
      std::vector<float> expected(y.end() - rows * 40, y.end());
      EXPECT_EQ(part, expected) << rows << " rows";
    }
  }
}

std::vector<std::string> names() {
  return target_names();
}

INSTANTIATE_TEST_SUITE_P(
    All,
    Kernels,
    ::testing::Combine(
        ::testing::ValuesIn(names()),
        ::testing::ValuesIn(all_formats())),
    [](const auto& info) {
      return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
    });

struct Targets : ::testing::TestWithParam<std::string> {
  void SetUp() override {
    before_ = target().name;
    set_target(GetParam());
  }
  void TearDown() override {
    set_target(before_);
  }
  std::string before_;
};

TEST_P(Targets, ManyRowsEqualSingleRows) {
  auto w = sample(format("q4_1"), 333, 1056);
  auto x = values({131, 1056});
  auto y = floats(linear(x, w));
  for (int row : {0, 50, 95, 96, 130}) {
    auto one = floats(linear(mx::slice(x, {row, 0}, {row + 1, 1056}), w));
    std::vector<float> expected(
        y.begin() + row * 333, y.begin() + (row + 1) * 333);
    EXPECT_EQ(one, expected);
  }
}

TEST_P(Targets, KeepsSmallGroupsBesideHugeOnes) {
  // One scale for the whole row would lose the small inputs.
  auto w = sample(format("q4_1"), 16, 64);
  auto data = sample_values(64, 5);
  for (int k = 0; k < 32; k++) {
    data[k] *= 1e-6f;
  }
  std::fill(data.begin() + 32, data.end(), 0.0f);
  auto x = mx::array(data.data(), {1, 64});
  EXPECT_LT(error(floats(linear(x, w)), product(x, w), 16), 1e-4);
}

TEST_P(Targets, PassesOnNanAndZero) {
  auto w = sample(format("q4_0"), 16, 64);
  auto y = floats(linear(mx::zeros({1, 64}), w));
  EXPECT_EQ(y, std::vector<float>(16, 0.0f));
  auto x = mx::full({1, 64}, NAN);
  for (float value : floats(linear(x, w))) {
    EXPECT_TRUE(std::isnan(value));
  }
}

TEST_P(Targets, Gated) {
  auto wg = sample(format("q4_1"), 48, 96), wu = sample(format("q8_0"), 48, 96);
  auto x = values({5, 96});
  auto g = product(x, wg), u = product(x, wu);
  auto expect = [&](Activation act, auto f) {
    std::vector<double> expected(g.size());
    for (std::size_t i = 0; i < g.size(); i++) {
      expected[i] = f(g[i]) * u[i];
    }
    EXPECT_LT(error(floats(gated_linear(x, wg, wu, act)), expected, 48), 2e-4);
  };
  expect(Activation::silu, [](double v) { return v / (1 + std::exp(-v)); });
  expect(Activation::gelu_erf, [](double v) {
    return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
  });
  expect(Activation::gelu_tanh, [](double v) {
    return 0.5 * v *
        (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
  });
  expect(Activation::relu, [](double v) { return std::max(v, 0.0); });
  expect(Activation::relu2, [](double v) {
    return std::max(v, 0.0) * std::max(v, 0.0);
  });
}

TEST_P(Targets, HalfPrecisionWithinTwiceItsOwnError) {
  for (auto type : {mx::float16, mx::bfloat16}) {
    auto w = sample(format("affine4_g64_bf16"), 64, 256);
    auto x = mx::astype(values({3, 256}), type);
    auto y = linear(x, w);
    EXPECT_EQ(y.dtype(), type);
    auto expected = product(x, w);
    auto same = mx::matmul(x, mx::transpose(unpack(w, type)));
    EXPECT_LE(
        error(floats(y), expected, 64), 2 * error(floats(same), expected, 64));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All,
    Targets,
    ::testing::ValuesIn(names()),
    [](const auto& info) { return info.param; });

TEST(Linear, BiasShapesAndStrides) {
  auto w = sample(format("q4_0"), 24, 64);
  auto bias = values({24}, 9);
  auto x = mx::transpose(values({2, 64, 3}), {0, 2, 1}); // [2, 3, 64], strided
  auto y = linear(x, w, bias);
  EXPECT_EQ(y.shape(), (mx::Shape{2, 3, 24}));
  auto expected = product(x, w);
  auto b = floats(bias);
  for (std::size_t i = 0; i < expected.size(); i++) {
    expected[i] += b[i % 24];
  }
  EXPECT_LT(error(floats(y), expected, 24), 1e-4);
}

TEST(Linear, SeveralMatricesAtOnce) {
  auto q = sample(format("q4_1"), 40, 256), k = sample(format("q6_k"), 8, 256);
  auto v = sample(format("bf16"), 8, 256);
  auto x = values({4, 256});
  auto bias = values({8}, 2);
  auto all = linears(x, {q, k, v}, {std::nullopt, bias, std::nullopt});
  EXPECT_EQ(floats(all[0]), floats(linear(x, q)));
  EXPECT_EQ(floats(all[1]), floats(linear(x, k, bias)));
  EXPECT_EQ(floats(all[2]), floats(linear(x, v)));
}

TEST(Linear, EmptyInput) {
  auto w = sample(format("q4_1"), 16, 32);
  auto y = linear(mx::zeros({0, 32}), w);
  mx::eval(y);
  EXPECT_EQ(y.shape(), (mx::Shape{0, 16}));
}

TEST(Linear, RefusesWrongInputs) {
  auto w = sample(format("q4_1"), 16, 32);
  EXPECT_THROW(linear(mx::zeros({2, 64}), w), Error);
  EXPECT_THROW(linear(mx::zeros({2, 32}, mx::int32), w), Error);
  EXPECT_THROW(linear(mx::zeros({2, 32}), w, mx::zeros({3})), Error);
}

TEST(Linear, GradientIsTheReferences) {
  auto w = sample(format("q4_1"), 24, 64), up = sample(format("q8_0"), 24, 64);
  auto x = values({3, 64});
  auto bias = values({24}, 4);
  auto g = values({3, 24}, 8);
  auto f = [&](const std::vector<mx::array>& in) {
    return std::vector<mx::array>{linear(in[0], w, in[1])};
  };
  auto grads = mx::vjp(f, {x, bias}, {g}).second;
  auto dense = unpack(w, mx::float32);
  EXPECT_TRUE(
      mx::allclose(grads[0], mx::matmul(g, dense), 1e-4, 1e-4).item<bool>());
  EXPECT_TRUE(mx::allclose(grads[1], mx::sum(g, 0), 1e-4, 1e-4).item<bool>());

  auto gated = [&](const mx::array& in) {
    return mx::sum(gated_linear(in, w, up, Activation::silu) * g);
  };
  auto plain = [&](const mx::array& in) {
    auto a = mx::matmul(in, mx::transpose(dense));
    auto b = mx::matmul(in, mx::transpose(unpack(up, mx::float32)));
    return mx::sum(a * mx::sigmoid(a) * b * g);
  };
  EXPECT_TRUE(mx::allclose(mx::grad(gated)(x), mx::grad(plain)(x), 1e-3, 1e-3)
                  .item<bool>());
}

TEST(Gather, ChoosesExperts) {
  int experts = 5, rows = 20, cols = 96;
  auto w = sample(format("q4_1"), rows, cols, experts);
  auto bias = values({experts, rows}, 6);
  std::vector<int> choice = {0, 4, 4, 1, 2, 0, 3, 3};
  auto ids = mx::array(choice.data(), {4, 2});
  auto b = floats(bias);
  for (int width : {1, 2}) {
    auto x = values({4, width, cols});
    auto y = floats(gather_linear(x, w, ids, bias));
    ASSERT_EQ(y.size(), 4u * 2 * rows);
    for (int i = 0; i < 8; i++) {
      int t = i / 2, row = width == 1 ? 0 : i % 2;
      auto one = mx::slice(x, {t, row, 0}, {t + 1, row + 1, cols});
      auto expected = product(one, w, choice[i]);
      for (int r = 0; r < rows; r++) {
        expected[r] += b[choice[i] * rows + r];
      }
      std::vector<float> found(
          y.begin() + i * rows, y.begin() + (i + 1) * rows);
      EXPECT_LT(error(found, expected, rows), 1e-4);
    }
  }
}

TEST(Gather, GradientIsTheReferences) {
  auto w = sample(format("q8_0"), 12, 64, 3);
  std::vector<int> choice = {2, 0, 1, 1};
  auto ids = mx::array(choice.data(), {2, 2});
  auto g = values({2, 2, 12}, 8);
  auto f = [&](const mx::array& x) {
    return mx::sum(gather_linear(x, w, ids) * g);
  };
  auto dx = floats(mx::grad(f)(values({2, 1, 64})));
  auto gd = floats(g);
  std::vector<float> row(64);
  for (int t = 0; t < 2; t++) {
    std::vector<double> expected(64, 0.0);
    for (int i = 0; i < 2; i++) {
      for (int r = 0; r < 12; r++) {
        w->dequantize(choice[t * 2 + i] * 12 + r, row);
        for (int k = 0; k < 64; k++) {
          expected[k] += row[k] * gd[(t * 2 + i) * 12 + r];
        }
      }
    }
    std::vector<float> found(dx.begin() + t * 64, dx.begin() + (t + 1) * 64);
    EXPECT_LT(error(found, expected, 64), 1e-4);
  }
}

TEST(Rows, AreTheMatrix) {
  for (const char* name : {"q4_1", "q6_k", "bf16", "nvfp4"}) {
    auto w = sample(format(name), 50, 256);
    std::vector<int> which = {49, 0, 7, 7, 31, 1};
    auto ids = mx::array(which.data(), {2, 3});
    auto found = rows(w, ids, mx::float32);
    EXPECT_EQ(found.shape(), (mx::Shape{2, 3, 256}));
    auto y = floats(found);
    std::vector<float> row(256);
    for (int i = 0; i < 6; i++) {
      w->dequantize(which[i], row);
      EXPECT_EQ(
          row,
          std::vector<float>(y.begin() + i * 256, y.begin() + (i + 1) * 256));
    }
    auto all = floats(unpack(w, mx::float32));
    EXPECT_TRUE(std::equal(row.begin(), row.end(), all.begin() + 256));
  }
}

TEST(Target, RefusesUnknownNames) {
  EXPECT_THROW(set_target("vax"), Error);
}

} // namespace
} // namespace mlxlm::kernels
