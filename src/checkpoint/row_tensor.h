// A tensor as models ask for it: a shape over rows of stored elements that may
// lie anywhere in the mapped files. Slicing, stacking, transposing and
// permuting rows only rearrange these references; no weight is read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/tensor.h"

namespace mlxlm {

using Shape64 = std::vector<std::int64_t>;

// `count` rows: row i begins at bytes[offset + i * row_stride], its blocks lie
// `block_stride` apart.
struct RowSegment {
  std::shared_ptr<const TensorView> view;
  std::int64_t offset = 0;
  std::int64_t row_stride = 0;
  std::int64_t block_stride = 0;
  std::int64_t count = 0;
};

class RowTensor {
 public:
  RowTensor() = default;
  explicit RowTensor(std::shared_ptr<const TensorView> view);

  // The name it has after rewriting, and the one in the file (of its first
  // part).
  const std::string& name() const {
    return name_;
  }
  const std::string& origin() const {
    return origin_;
  }
  void set_name(std::string name) {
    name_ = std::move(name);
  }
  Storage storage() const {
    return storage_;
  }
  const Shape64& shape() const {
    return shape_;
  }
  // Added to every value on reading (norm weights stored with or without the
  // 1).
  float offset() const {
    return offset_;
  }
  std::int64_t elements() const;
  std::int64_t rows() const; // over all dimensions but the last; 1 for a scalar
  std::size_t row_bytes() const;
  std::size_t bytes() const {
    return static_cast<std::size_t>(rows()) * row_bytes();
  }
  std::string where() const;

  // The stored bytes of a row: where they lie, or gathered in `scratch`
  // (row_bytes() long). Any alignment. Safe from several threads.
  std::span<const std::byte> row(
      std::int64_t index,
      std::span<std::byte> scratch) const;
  // Rows [begin, end) are not needed any more: their pages may go.
  void drop(std::int64_t begin, std::int64_t end) const;
  // Where its first element lies; no file: in memory.
  struct Place {
    const MappedFile* file = nullptr;
    std::size_t offset = 0;
  };
  Place place() const;

  // Views; negative axes count from the end. Each throws Error(weights) naming
  // the tensor when the storage or shape does not allow it.
  RowTensor slice(
      int axis,
      std::int64_t begin,
      std::int64_t end,
      std::int64_t step = 1) const;
  RowTensor permute(const std::vector<int>& axes) const;
  RowTensor reshape(const Shape64& shape) const;
  RowTensor plus(float offset) const;
  // Rows of each of `heads` heads go from interleaved rotary pairs to halves.
  RowTensor unpair_rows(std::int64_t heads) const;
  static RowTensor stack(const std::vector<RowTensor>& parts); // new first axis
  // A tensor in memory of its own.
  static RowTensor from_bytes(
      std::string name,
      Storage storage,
      Shape64 shape,
      std::vector<std::byte> bytes);

 private:
  int axis_of(int axis) const; // 0 <= result < dimensions
  std::int64_t last() const;
  std::int64_t row_blocks() const;
  // Appends rows first, first + step, ... of `other`.
  void append_rows(
      const RowTensor& other,
      std::int64_t first,
      std::int64_t count,
      std::int64_t step = 1);
  void append_column(
      const RowTensor& other,
      std::int64_t first,
      std::int64_t step,
      std::int64_t count,
      std::int64_t inside);
  void append(const RowSegment& segment);
  static RowTensor stack_scalars(
      const std::vector<RowTensor>& parts,
      const RowTensor& like);
  std::vector<std::size_t> order_of(const std::vector<int>& axes) const;
  std::size_t segment_of(std::int64_t row) const;
  RowTensor without_rows() const; // everything but shape and segments
  [[noreturn]] void refuse(const std::string& operation) const;

  std::string name_;
  std::string origin_;
  Storage storage_ = Storage::f32;
  Shape64 shape_;
  float offset_ = 0;
  std::vector<RowSegment> segments_;
  std::vector<std::int64_t> first_row_; // of each segment
};

} // namespace mlxlm
