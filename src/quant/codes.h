// What formats with integer codes share: unpacking, and rows whose groups have
// a scale and a zero point.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/row_tensor.h"
#include "core/fields.h"
#include "weights/format.h"

namespace mlxlm::quant {

// Codes of `bits` bits one after the other, lowest bits first.
void unpack_bits(
    std::span<const std::byte> bytes,
    int bits,
    std::span<std::uint8_t> out);

// Scales and zero points [experts * rows, groups]: scale * (code - zero).
struct Scales {
  Storage type = Storage::f32; // what the scales are stored in
  int groups = 1;
  std::vector<float> scales;
  std::vector<std::int16_t> zeros;
};

// Sets spec and label of a matrix of codes of `bits` bits, whose rows and cols
// are known. A bias -scale * zero is rounded to the scales' type, as mlx-lm
// does; with bfloat16 scales and zero points that are not powers of two it
// stays float32. Throws Error(weights) naming `matrix.where` when the groups do
// not divide the inputs.
void set_grouping(
    EncodedMatrix& matrix,
    int bits,
    const Scales& scales,
    std::string_view method);

// Rows of codes that a format unpacks, with those parameters.
class GroupedRows : public kernels::RowSource {
 public:
  GroupedRows(const EncodedMatrix& matrix, Scales scales);
  void row(int index, kernels::Row out) const override;

 protected:
  virtual void codes(int index, std::span<std::uint8_t> out) const = 0;

 private:
  kernels::Params params_;
  int repeat_; // kernel groups that share a stored group
  Scales scales_;
};

// Which inputs make up each group, group after group ([experts, cols]), from a
// tensor with each input's group; empty when they are neighbours.
std::vector<int> group_order(
    const RowTensor& group_of,
    const EncodedMatrix& matrix,
    int groups);

// Throws Error(weights).
void check_shape(const RowTensor& tensor, const Shape64& shape);

} // namespace mlxlm::quant
