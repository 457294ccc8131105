// What the products of linear.h share: their inputs as a task sees them, and
// the checks of what they are given.
#pragma once

#include <mlx/array.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/kernels/linear/multiply.h"
#include "runtime/kernels/matrix.h"
#include "runtime/kernels/primitive.h"

namespace mlxlm::kernels {

using PackedPtr = std::shared_ptr<const Packed>;

PackedPtr packed(const MatrixPtr& matrix);

bool is_value_type(mx::Dtype type); // f32, f16 or bf16
Float operand_type(mx::Dtype type);

// An input as its task sees it: arrays themselves stay on the thread that built
// them.
struct InputView {
  explicit InputView(const mx::array& a)
      : data(a.data<char>()),
        type(a.dtype()),
        size(a.size()),
        shape(a.shape()),
        strides(a.strides()),
        contiguous(a.flags().row_contiguous) {}

  // The elements in row-major order; `space` holds them if they lie otherwise.
  const void* elements(std::vector<std::byte>& space) const;

  const char* data;
  mx::Dtype type;
  std::size_t size;
  mx::Shape shape;
  mx::Strides strides;
  bool contiguous;
};

std::vector<InputView> views(const Arrays& inputs);

// Memory for the results, and where it is.
std::vector<void*> allocate_all(Arrays& outputs);

// Activations [..., inputs of w].
void check_input(const mx::array& x, const Packed& w, const char* where);

void check_bias(
    const mx::array& bias,
    const mx::Shape& shape,
    const char* where);

// Ids as 32-bit integers. Unsigned ones read as signed: those that change are
// out of range anyway.
mx::array index_array(const mx::array& ids, const char* where);

} // namespace mlxlm::kernels
