#include "weights/format.h"

#include <array>
#include <limits>

#include "core/check.h"

namespace mlxlm {

void EncodedMatrix::set_shape(const RowTensor& weight) {
  const auto& shape = weight.shape();
  if (shape.size() < 2 || shape.size() > 3 || weight.elements() == 0 ||
      weight.rows() > std::numeric_limits<int>::max() || weight.offset() != 0)
    fail(
        ErrorKind::weights,
        weight.where(),
        "expected a matrix or a stack of them, found [{}]",
        fmt::join(shape, ", "));
  stacked = shape.size() == 3;
  experts = stacked ? static_cast<int>(shape[0]) : 1;
  rows = static_cast<int>(shape[shape.size() - 2]);
  stored_bytes = weight.bytes();
  where = weight.where();
}

void EncodedMatrix::unframe(int row, std::span<float> values) const {
  const auto expert = static_cast<std::size_t>(row / rows);
  if (!order.empty()) {
    const std::vector<float> codes(values.begin(), values.end());
    const auto* place = order.data() + expert * codes.size();
    for (std::size_t j = 0; j < codes.size(); ++j)
      values[static_cast<std::size_t>(place[j])] = codes[j];
  }
  if (!factors.empty())
    for (auto& value : values)
      value *= factors[expert];
}

std::span<const std::byte> TensorRows::stored(std::size_t which, int index)
    const {
  thread_local std::array<std::vector<std::byte>, 4> scratch;
  MLXLM_CHECK(which < scratch.size(), "a format reads at most four tensors");
  const auto& tensor = tensors_[which];
  scratch[which].resize(tensor.row_bytes());
  return tensor.row(index, scratch[which]);
}

void TensorRows::done(int index) const {
  const int before = dropped_.exchange(index);
  if (index <= before) return;
  for (const auto& tensor : tensors_)
    tensor.drop(before, index);
}

} // namespace mlxlm
