// What the fused primitives read: rows of any float type, and vectors as f32.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <vector>

#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels::fused {

inline FloatType type_of(const mx::array& x) {
  return *float_type(x.dtype());
}

inline std::size_t rows_of(const mx::array& x) {
  return x.shape(-1) ? x.size() / x.shape(-1) : 0;
}

// A vector of any float type and stride as f32; empty when there is none.
class FloatVector {
 public:
  FloatVector() = default;
  explicit FloatVector(const mx::array& x, float offset = 0)
      : view_(x), type_(type_of(x)), size_(int(x.size())), offset_(offset) {}

  // Reads on the thread that calls; `buffer` keeps the values.
  const float* read(std::vector<float>& buffer) const {
    if (!view_) return nullptr;
    std::vector<std::byte> apart(view_->row_bytes());
    auto* row = view_->row(0, apart.data());
    bool as_it_is =
        type_ == FloatType::f32 && offset_ == 0 && row != apart.data();
    if (as_it_is) return reinterpret_cast<const float*>(row);
    buffer.resize(size_);
    to_floats(type_, row, size_, offset_, buffer.data());
    return buffer.data();
  }

 private:
  std::optional<RowView> view_;
  FloatType type_ = FloatType::f32;
  int size_ = 0;
  float offset_ = 0;
};

} // namespace mlxlm::kernels::fused
