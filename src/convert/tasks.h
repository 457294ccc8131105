// One module or tensor of the folder: which files' tensors it becomes, and how
// they are made, a few rows at a time.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "convert/values.h"
#include "mlxlm/convert.h"
#include "weights/kernels.h"

namespace mlxlm::converting {

struct Output {
  std::string name;
  Storage storage = Storage::f32;
  Shape64 shape;
  std::size_t bytes() const;
  std::size_t elements() const;
};

// Puts bytes at `offset` of a task's output.
using Write = std::function<void(
    std::size_t output,
    std::size_t offset,
    std::span<const std::byte> bytes)>;

struct Task {
  std::vector<Output> outputs;
  std::function<void(const Write&)> run;
  int bits = 0; // of a packed weight, the first output; 0: plain
};

// The stored bytes as they are.
Task copied(std::string name, const RowTensor& tensor);
// Values as `type`.
Task cast(std::string name, ValuesPtr values, mx::Dtype type);
// `path.weight`, `path.scales` and for the affine mode `path.biases`, packed
// from values of `type`.
Task packed(
    const std::string& path,
    ValuesPtr values,
    mx::Dtype type,
    const Quantization& q);

// The same, of a matrix that another library packed in a way MLX can tell:
// codes as they are, affine parameters as `scales`.
Task repacked(
    const std::string& path,
    const EncodedMatrix& matrix,
    const MlxPacking& packing,
    mx::Dtype scales);

} // namespace mlxlm::converting
