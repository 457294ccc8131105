// Sparse latent attention against dense attention and a plain sum.
#include "nn/indexer.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>

#include <cmath>

#include "runtime/kernels/attention/reference.h"
#include "runtime/testing.h"

namespace mlxlm {
namespace {

using testing::distance;
using testing::noise;

constexpr int rank = 6, width = 10, heads = 3;
constexpr float scale = 0.4f;

mx::array dense(const mx::array& q, const mx::array& rows, int first) {
  auto k = mx::reshape(rows, {1, rows.shape(0), 1, width});
  auto v = mx::slice(k, {0, 0, 0, 0}, {1, rows.shape(0), 1, rank});
  auto y = kernels::reference::attention(
      mx::expand_dims(q, 0), k, v, {scale}, std::nullopt, first, 0);
  return mx::squeeze(y, 0);
}

TEST(AttendChosen, WithoutAChoiceIsCausalAttention) {
  auto q = noise({4, heads, width}, 1), rows = noise({9, width}, 2);
  auto y = attend_chosen(q, rows, std::nullopt, 5, rank, scale);
  EXPECT_EQ(y.shape(), (mx::Shape{4, heads, rank}));
  EXPECT_LT(distance(y, dense(q, rows, 5)), 1e-5f);
}

TEST(AttendChosen, SeesOnlyWhatWasChosenUpToItself) {
  auto q = noise({2, heads, width}, 3), rows = noise({6, width}, 4);
  // Token 5 is behind the first query, at position 4.
  std::vector<int> ids = {0, 3, 5, 1, 2, 5};
  mx::array tokens(ids.data(), {2, 3}, mx::int32);
  auto y = attend_chosen(q, rows, tokens, 4, rank, scale);
  auto seen = [&](int query, std::vector<int> which) {
    auto some = mx::take(
        rows,
        mx::array(which.data(), {static_cast<int>(which.size())}, mx::int32),
        0);
    auto one = mx::slice(q, {query, 0, 0}, {query + 1, heads, width});
    return mx::squeeze(dense(one, some, static_cast<int>(which.size()) - 1), 0);
  };
  EXPECT_LT(distance(mx::take(y, 0, 0), seen(0, {0, 3})), 1e-5f);
  EXPECT_LT(distance(mx::take(y, 1, 0), seen(1, {1, 2, 5})), 1e-5f);
  // A query alone reads only those rows.
  auto last = mx::slice(q, {1, 0, 0}, {2, heads, width});
  auto alone = attend_chosen(
      last, rows, mx::slice(tokens, {1, 0}, {2, 3}), 5, rank, scale);
  EXPECT_LT(distance(mx::take(alone, 0, 0), seen(1, {1, 2, 5})), 1e-5f);
}

} // namespace
} // namespace mlxlm
