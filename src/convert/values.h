// The values of a matrix or tensor, a few rows at a time, whatever stores them.
#pragma once

#include <mlx/array.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "checkpoint/row_tensor.h"
#include "weights/inventory.h"

namespace mlxlm::converting {

namespace mx = mlx::core;

class Values {
 public:
  virtual ~Values() = default;
  virtual const Shape64& shape() const = 0;
  virtual mx::Dtype type() const = 0;
  // Rows [begin, end) over all dimensions but the last: [end - begin, cols].
  virtual mx::array rows(std::int64_t begin, std::int64_t end) const = 0;
  // Rows [begin, end) are not needed any more.
  virtual void drop(std::int64_t, std::int64_t) const {}

  std::int64_t cols() const;
  std::int64_t row_count() const;
};
using ValuesPtr = std::shared_ptr<const Values>;

// A stored tensor of a type that MLX has.
ValuesPtr stored_values(const RowTensor& tensor);
// A matrix in MLX's packed form, unpacked as mx::dequantize does; affine scales
// are made `type` first.
ValuesPtr unpacked_values(
    const RowTensor& weight,
    const RowTensor& scales,
    const RowTensor* biases,
    int bits,
    int group,
    const std::string& mode,
    mx::Dtype type);
// A matrix of any format, its order and factors applied, as `type`.
ValuesPtr decoded_values(const EncodedMatrix& matrix, mx::Dtype type);
// Rows [begin, end) of the second dimension of `values` seen as
// [heads, rows / heads, cols]; `transposed`: as [heads, cols, end - begin].
ValuesPtr head_values(
    ValuesPtr values,
    std::int64_t heads,
    std::int64_t begin,
    std::int64_t end,
    bool transposed);

// Of plain types that MLX has as well; nothing for others.
std::optional<mx::Dtype> mlx_type(Storage storage);
Storage storage_of(mx::Dtype type);

} // namespace mlxlm::converting
