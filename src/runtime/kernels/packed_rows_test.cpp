#include "runtime/kernels/packed_rows.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include "runtime/kernels/ops.h"
#include "runtime/kernels/tape.h"

namespace mlxlm::kernels {
namespace {

namespace mx = mlx::core;

TEST(PackedRows, RowsThatLieApart) {
  auto x = mx::reshape(mx::arange(0, 24, mx::float32), {2, 3, 4});
  for (const auto& y :
       {mx::transpose(x, {2, 0, 1}),
        mx::slice(x, {0, 1, 1}, {2, 3, 3}),
        mx::broadcast_to(mx::slice(x, {0, 0, 0}, {1, 3, 1}), {2, 3, 4})}) {
    auto packed = packed_rows(y);
    mx::eval(packed);
    EXPECT_TRUE(packed.flags().row_contiguous);
    EXPECT_TRUE(mx::array_equal(packed, y).item<bool>());
  }
}

// Though it lies in a block that is far larger.
TEST(PackedRows, WhatIsOneAlreadyIsNotCopied) {
  auto x = rms_norm(mx::ones({3, 64}), mx::ones({64}), 1e-5F);
  auto y = packed_rows(x);
  mx::eval(x, y);
  EXPECT_TRUE(same_buffer(x, y));
}

} // namespace
} // namespace mlxlm::kernels
