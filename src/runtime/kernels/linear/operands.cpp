#include "runtime/kernels/linear/operands.h"

#include <mlx/ops.h>

#include <cstring>

#include "core/check.h"

namespace mlxlm::kernels {

PackedPtr packed(const MatrixPtr& matrix) {
  auto packed = std::dynamic_pointer_cast<const Packed>(matrix);
  MLXLM_CHECK(packed, "expected a matrix made by pack()");
  return packed;
}

bool is_value_type(mx::Dtype type) {
  return type == mx::float32 || type == mx::float16 || type == mx::bfloat16;
}

Float operand_type(mx::Dtype type) {
  return type == mx::float32 ? Float::f32
      : type == mx::float16  ? Float::f16
                             : Float::bf16;
}

const void* InputView::elements(std::vector<std::byte>& space) const {
  if (contiguous) {
    return data;
  }
  std::size_t bytes = mx::size_of(type);
  space.resize(size * bytes);
  std::vector<int> at(shape.size(), 0);
  std::int64_t from = 0;
  for (std::size_t i = 0; i < size; i++) {
    std::memcpy(
        space.data() + i * bytes,
        data + from * static_cast<std::int64_t>(bytes),
        bytes);
    for (auto d = shape.size(); d-- > 0;) {
      from += strides[d];
      if (++at[d] < shape[d]) {
        break;
      }
      from -= strides[d] * shape[d];
      at[d] = 0;
    }
  }
  return space.data();
}

std::vector<InputView> views(const Arrays& inputs) {
  return {inputs.begin(), inputs.end()};
}

std::vector<void*> allocate_all(Arrays& outputs) {
  std::vector<void*> data;
  for (auto& out : outputs) {
    allocate(out);
    data.push_back(out.data<void>());
  }
  return data;
}

void check_input(const mx::array& x, const Packed& w, const char* where) {
  if (!is_value_type(x.dtype())) {
    fail(
        ErrorKind::internal, where, "expected activations in f32, f16 or bf16");
  }
  if (x.ndim() == 0 || x.shape(-1) != w.cols()) {
    fail(
        ErrorKind::internal,
        where,
        "expected {} inputs, found {}",
        w.cols(),
        x.ndim() == 0 ? 0 : x.shape(-1));
  }
}

void check_bias(
    const mx::array& bias,
    const mx::Shape& shape,
    const char* where) {
  if (!is_value_type(bias.dtype()) || bias.shape() != shape) {
    fail(
        ErrorKind::internal,
        where,
        "expected a bias of {} outputs",
        shape.back());
  }
}

mx::array index_array(const mx::array& ids, const char* where) {
  if (!mx::issubdtype(ids.dtype(), mx::integer)) {
    fail(ErrorKind::internal, where, "expected integer ids");
  }
  return ids.dtype() == mx::int32 || ids.dtype() == mx::uint32
      ? ids
      : mx::astype(ids, mx::int32);
}

} // namespace mlxlm::kernels
