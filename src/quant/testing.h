// For tests of formats: tensors from values, and matrices read back.
#pragma once

#include <mlx/mlx.h>

#include <cmath>
#include <string>
#include <vector>

#include "checkpoint/testing.h"
#include "quant/formats.h"
#include "weights/loader.h"

namespace mlxlm::testing {

using Floats = std::vector<float>;

inline Floats floats(const mx::array& a) {
  auto out = mx::contiguous(mx::astype(a, mx::float32));
  out.eval();
  return {out.data<float>(), out.data<float>() + out.size()};
}

inline std::shared_ptr<Loader> open_formats(
    const TensorSource& source,
    const std::string& config,
    bool packed = true) {
  return Loader::open(
      source,
      {},
      quant::formats(Fields(parse_json(config, "config.json"), "config.json")),
      {.packed = packed});
}

template <typename T>
MemorySource& put(
    MemorySource& to,
    const std::string& name,
    Storage storage,
    Shape64 shape,
    const std::vector<T>& values) {
  return to.add(name, storage, std::move(shape), raw(values));
}

// Values of a linear layer, read all the ways it can be: as a matrix, as rows,
// as products with unit vectors, packed and as MLX arrays. Fails the test when
// the ways differ by more than `error`.
inline void expect_matrix(
    const TensorSource& source,
    const std::string& config,
    int in,
    int out,
    const Floats& want,
    float error = 0) {
  for (bool packed : {true, false}) {
    auto loader = open_formats(source, config, packed);
    auto linear = loader->root().linear("m", in, out);
    loader->finish();
    auto whole = floats(linear.kernel().dense(mx::float32));
    auto ids = mx::arange(0, out, 1, mx::int32);
    auto rows = floats(linear.kernel().rows(ids, mx::float32));
    auto product = floats(mx::swapaxes(linear(mx::eye(in, mx::float32)), 0, 1));
    ASSERT_EQ(whole.size(), want.size());
    ASSERT_EQ(product.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(whole[i], want[i], error) << i << (packed ? " packed" : "");
      ASSERT_NEAR(rows[i], want[i], error) << i << (packed ? " packed" : "");
      ASSERT_NEAR(
          product[i], want[i], error + 1e-5f + 1e-4f * std::fabs(want[i]))
          << i << (packed ? " packed" : "");
    }
  }
}

// The same of two experts, whose matrices follow each other in `want`.
inline void expect_experts(
    const TensorSource& source,
    const std::string& config,
    int in,
    int out,
    const Floats& want,
    const std::vector<Rule>& rules,
    float error = 0) {
  for (bool packed : {true, false}) {
    auto loader = Loader::open(
        source,
        rules,
        quant::formats(
            Fields(parse_json(config, "config.json"), "config.json")),
        {.packed = packed});
    auto linear = loader->root().linear("m", in, out, {.experts = 2});
    loader->finish();
    auto whole = floats(linear.kernel().dense(mx::float32));
    ASSERT_EQ(whole.size(), want.size());
    auto x = mx::expand_dims(mx::eye(in, mx::float32), 1); // [in, 1, in]
    auto ids = mx::broadcast_to(mx::array({1, 0}, mx::uint32), {in, 2});
    auto y = floats(linear.kernel().gather(x, ids)); // [in, 2, out]
    const auto matrix = static_cast<std::size_t>(in * out);
    for (std::size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(whole[i], want[i], error) << i << (packed ? " packed" : "");
      const auto e = i / matrix, r = i % matrix / static_cast<std::size_t>(in);
      const auto j = i % static_cast<std::size_t>(in);
      ASSERT_NEAR(
          y[(j * 2 + 1 - e) * static_cast<std::size_t>(out) + r],
          want[i],
          error + 1e-5f + 1e-4f * std::fabs(want[i]))
          << i << (packed ? " packed" : "");
    }
  }
}

} // namespace mlxlm::testing
