#include "weights/adapter_bank.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include "mlxlm/error.h"
#include "weights/kernels.h"
#include "weights/random.h"

namespace mlxlm {
namespace {

constexpr int inputs = 64, outputs = 32;

LowRank low_rank(std::uint64_t seed, int rows = outputs) {
  return {
      random_tensor(seed, "m.lora_a.weight", {4, inputs}),
      random_tensor(seed, "m.lora_b.weight", {rows, 4}),
      std::nullopt,
      2.0f};
}

Adapter adapter_of(std::uint64_t seed) {
  Adapter out;
  out.modules.emplace("m", low_rank(seed));
  return out;
}

std::vector<float> values(mx::array x) {
  x = mx::contiguous(x);
  mx::eval(x);
  return {x.data<float>(), x.data<float>() + x.size()};
}

class AdapterBankTest : public ::testing::TestWithParam<bool> {
 protected:
  AdapterBankTest()
      : matrix(dense_matrix(random_tensor(1, "m.weight", {outputs, inputs}))),
        linear(
            GetParam() ? packed_linear(
                             matrix,
                             std::nullopt,
                             kernels::Activations::exact)
                       : mlx_linear(matrix, std::nullopt, mx::float32)) {
    auto table = std::make_shared<ParameterTable>();
    table->add("m", linear);
    bank = std::make_shared<AdapterBank>(
        table, AdapterBankOptions{GetParam(), mx::float32});
  }

  std::vector<float> run(std::vector<int> ids, const mx::array& x) {
    bank->pass().begin(std::move(ids), {});
    auto y = values(linear(x));
    bank->pass().end();
    return y;
  }

  EncodedMatrix matrix;
  Linear linear;
  std::shared_ptr<AdapterBank> bank;
};

TEST_P(AdapterBankTest, RowsGoThroughTheirOwn) {
  auto x = mx::astype(
      mx::reshape(mx::arange(5 * inputs), {1, 5, inputs}) % mx::array(7),
      mx::float32);
  auto plain = values(linear(x));
  int a = bank->add(adapter_of(2)), b = bank->add(adapter_of(3));
  EXPECT_EQ(values(linear(x)), plain);
  auto all_a = run({a, a, a, a, a}, x), all_b = run({b, b, b, b, b}, x);
  EXPECT_NE(all_a, plain);
  EXPECT_NE(all_a, all_b);
  auto mixed = run({a, 0, b, b, a}, x);
  const std::vector<float>* wanted[] = {&all_a, &plain, &all_b, &all_b, &all_a};
  for (int row = 0; row < 5; ++row)
    for (int i = row * outputs; i < (row + 1) * outputs; ++i)
      EXPECT_EQ(mixed[i], (*wanted[row])[i]) << row;
  // One row alone, as in a decode pass.
  auto one = run({b}, mx::slice(x, {0, 2, 0}, {1, 3, inputs}));
  EXPECT_TRUE(std::equal(one.begin(), one.end(), &all_b[2 * outputs]));
}

TEST_P(AdapterBankTest, LayersThatGetSomeRows) {
  auto x = mx::ones({1, 2, inputs});
  int a = bank->add(adapter_of(2));
  bank->pass().begin({0, 0, 0, a}, {{1, 3}});
  auto y = values(linear(x));
  bank->pass().end();
  EXPECT_EQ(
      std::vector<float>(y.begin(), y.begin() + outputs),
      values(linear(mx::ones({1, 1, inputs}))));
  EXPECT_NE(
      std::vector<float>(y.begin(), y.begin() + outputs),
      std::vector<float>(y.begin() + outputs, y.end()));
}

TEST_P(AdapterBankTest, WhatDoesNotFitIsRefused) {
  auto other = adapter_of(2);
  other.modules.emplace("other", low_rank(2));
  EXPECT_THROW(bank->add(other), Error);
  Adapter wide;
  wide.modules.emplace("m", low_rank(2, outputs + 1));
  EXPECT_THROW(bank->add(wide), Error);
  EXPECT_EQ(AdapterBank::obstacle(adapter_of(2)), "");
  wide.tensors.emplace("x", random_tensor(1, "x", {2}));
  EXPECT_NE(AdapterBank::obstacle(wide), "");
}

TEST_P(AdapterBankTest, ReleasedOnesAreGone) {
  auto x = mx::ones({1, 1, inputs});
  auto plain = values(linear(x));
  int a = bank->add(adapter_of(2));
  EXPECT_GT(bank->bytes(a), 0U);
  bank->release(a);
  bank->sweep();
  EXPECT_EQ(run({a}, x), plain);
  EXPECT_NE(run({bank->add(adapter_of(2))}, x), plain);
}

INSTANTIATE_TEST_SUITE_P(Weights, AdapterBankTest, ::testing::Bool());

} // namespace
} // namespace mlxlm
