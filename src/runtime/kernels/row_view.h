// An evaluated array as rows along its last axis, whatever its strides, and a
// loop over rows that wakes the thread pool only for enough work.
#pragma once

#include <mlx/array.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "runtime/threads.h"

namespace mlxlm::kernels {

namespace mx = mlx::core;

class RowView {
 public:
  explicit RowView(const mx::array& x)
      : base_(x.data<std::byte>()),
        item_(x.itemsize()),
        dim_(x.ndim() ? x.shape(-1) : 1) {
    if (x.flags().row_contiguous) return;
    step_ = x.strides().back();
    shape_ = x.shape();
    strides_ = x.strides();
    shape_.pop_back();
    strides_.pop_back();
  }

  // Row `index`; `scratch` holds a row, used when its elements lie apart.
  const std::byte* row(std::size_t index, std::byte* scratch) const {
    if (shape_.empty()) return base_ + index * dim_ * item_;
    std::ptrdiff_t offset = 0;
    for (int i = int(shape_.size()) - 1; i >= 0; --i) {
      offset += std::ptrdiff_t(index % shape_[i]) * strides_[i];
      index /= shape_[i];
    }
    auto* first = base_ + offset * std::ptrdiff_t(item_);
    if (step_ == 1 || dim_ == 1) return first;
    for (int i = 0; i < dim_; ++i) {
      std::memcpy(scratch + i * item_, first + i * step_ * item_, item_);
    }
    return scratch;
  }

  std::size_t row_bytes() const {
    return dim_ * item_;
  }

 private:
  const std::byte* base_;
  std::ptrdiff_t item_;
  int dim_;
  std::ptrdiff_t step_ = 1;
  mx::Shape shape_; // of the rows; empty: contiguous
  mx::Strides strides_;
};

// body(first, last) over [0, rows) in blocks; `cost`: values touched by one
// row.
template <typename Body>
void for_row_blocks(std::size_t rows, std::size_t cost, const Body& body) {
  constexpr std::size_t worth_a_thread = 32768;
  auto blocks = std::min<std::size_t>(rows * cost / worth_a_thread, rows);
  blocks = std::min<std::size_t>(blocks, 4 * thread_count());
  if (blocks < 2) return body(std::size_t(0), rows);
  parallel_for(int(blocks), [&](int i) {
    body(rows * i / blocks, rows * (i + 1) / blocks);
  });
}

} // namespace mlxlm::kernels
