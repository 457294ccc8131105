// RowTensors made from others: parts, permutations, stacks. Rows are pointed at
// where they lie; only what has no rows left is copied.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "checkpoint/row_tensor.h"
#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {

RowTensor RowTensor::slice(
    int axis,
    std::int64_t begin,
    std::int64_t end,
    std::int64_t step) const {
  axis = axis_of(axis);
  const auto dim = shape_[static_cast<std::size_t>(axis)];
  if (begin < 0 || begin > end || end > dim || step < 1)
    refuse(fmt::format("a slice [{}, {}) of axis {}", begin, end, axis));
  const auto taken = (end - begin + step - 1) / step;
  auto out = without_rows();
  out.shape_ = shape_;
  out.shape_[static_cast<std::size_t>(axis)] = taken;
  if (axis + 1 == static_cast<int>(shape_.size())) {
    const std::int64_t block = info(storage_).block;
    if (begin % block != 0 || end % block != 0 || (block > 1 && step > 1))
      refuse(fmt::format("a slice [{}, {}) of its rows", begin, end));
    for (auto s : segments_) {
      s.offset += begin / block * s.block_stride;
      s.block_stride *= step;
      out.append(s);
    }
    return out;
  }
  std::int64_t inner = 1; // rows below one index of the axis
  for (std::size_t i = static_cast<std::size_t>(axis) + 1;
       i + 1 < shape_.size();
       ++i)
    inner *= shape_[i];
  const auto outer = inner * dim == 0 ? 0 : rows() / (inner * dim);
  for (std::int64_t o = 0; o < outer; ++o) {
    const auto base = o * dim * inner;
    if (step == 1) {
      out.append_rows(*this, base + begin * inner, taken * inner);
    } else if (inner == 1) {
      out.append_rows(*this, base + begin, taken, step);
    } else {
      for (std::int64_t k = 0; k < taken; ++k)
        out.append_rows(*this, base + (begin + k * step) * inner, inner);
    }
  }
  return out;
}

std::vector<std::size_t> RowTensor::order_of(
    const std::vector<int>& axes) const {
  std::vector<std::size_t> order;
  for (int axis : axes)
    order.push_back(static_cast<std::size_t>(axis_of(axis)));
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i)
    if (sorted[i] != i) refuse("such a permutation");
  if (sorted.size() != shape_.size()) refuse("such a permutation");
  return order;
}

// Appends as a row what element `inside` of `count` rows of `other`, from
// `first` on and `step` apart, makes.
void RowTensor::append_column(
    const RowTensor& other,
    std::int64_t first,
    std::int64_t step,
    std::int64_t count,
    std::int64_t inside) {
  const auto at = other.segment_of(first);
  const auto& s = other.segments_[at];
  if (other.segment_of(first + (count - 1) * step) != at)
    other.refuse("a transposition");
  append(
      {s.view,
       s.offset + (first - other.first_row_[at]) * s.row_stride +
           inside * s.block_stride,
       0,
       s.row_stride * step,
       1});
}

RowTensor RowTensor::permute(const std::vector<int>& axes) const {
  const std::size_t n = shape_.size();
  const auto order = order_of(axes); // new axis -> old axis
  if (n < 2) return *this;
  auto out = without_rows();
  for (auto axis : order)
    out.shape_.push_back(shape_[axis]);
  const bool rows_stay = order.back() + 1 == n;
  if (!rows_stay && info(storage_).block != 1) refuse("a transposition");
  if (elements() == 0) return out;

  // Rows each old axis steps over; the old last axis steps inside a row.
  std::vector<std::int64_t> step(n, 0);
  std::int64_t rows_below = 1;
  for (std::size_t i = n - 1; i-- > 0;) {
    step[i] = rows_below;
    rows_below *= shape_[i];
  }
  std::vector<std::int64_t> index(n, 0); // in the new order
  const auto total = out.rows();
  for (std::int64_t r = 0; r < total; ++r) {
    std::int64_t old_row = 0, inside = 0;
    for (std::size_t i = 0; i + 1 < n; ++i)
      (order[i] + 1 == n ? inside : old_row) +=
          index[i] * (order[i] + 1 == n ? 1 : step[order[i]]);
    if (rows_stay)
      out.append_rows(*this, old_row, 1);
    else
      out.append_column(*this, old_row, step[order.back()], out.last(), inside);
    for (std::size_t i = n - 1; i-- > 0;) {
      if (++index[i] < out.shape_[i]) break;
      index[i] = 0;
    }
  }
  return out;
}

RowTensor RowTensor::reshape(const Shape64& shape) const {
  const auto count = std::accumulate(
      shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  const auto old_last = last();
  const auto new_last = shape.empty() ? 1 : shape.back();
  if (count != elements() || new_last % info(storage_).block != 0)
    refuse(fmt::format("the shape [{}]", fmt::join(shape, ", ")));
  auto out = without_rows();
  out.shape_ = shape;
  if (new_last == old_last || count == 0) {
    out.segments_ = segments_;
    out.first_row_ = first_row_;
    return out;
  }
  // Rows join or divide only where they follow each other in the file.
  for (auto s : segments_) {
    const bool packed = s.block_stride == info(storage_).bytes &&
        (s.count == 1 ||
         s.row_stride == static_cast<std::int64_t>(row_bytes()));
    const auto elements_here = s.count * old_last;
    if (!packed || elements_here % new_last != 0)
      refuse(fmt::format("the shape [{}]", fmt::join(shape, ", ")));
    s.row_stride = static_cast<std::int64_t>(out.row_bytes());
    s.count = elements_here / new_last;
    out.append(s);
  }
  return out;
}

RowTensor RowTensor::plus(float offset) const {
  auto out = *this;
  out.offset_ += offset;
  return out;
}

RowTensor RowTensor::unpair_rows(std::int64_t heads) const {
  if (shape_.empty() || heads < 1 || shape_[0] % (2 * heads) != 0)
    refuse(fmt::format("{} heads of rotary pairs", heads));
  const auto width = shape_[0] / heads;
  if (shape_.size() ==
      1) { // a bias: its elements move, so it gets its own memory
    const auto size = static_cast<std::size_t>(info(storage_).bytes);
    std::vector<std::byte> scratch(row_bytes()), moved(row_bytes());
    auto from = row(0, scratch);
    std::size_t at = 0;
    for (std::int64_t head = 0; head < heads; ++head)
      for (std::int64_t half = 0; half < 2; ++half)
        for (std::int64_t i = 0; i < width / 2; ++i)
          std::memcpy(
              moved.data() + size * at++,
              from.data() +
                  size * static_cast<std::size_t>(head * width + 2 * i + half),
              size);
    auto out = from_bytes(origin_, storage_, shape_, std::move(moved));
    out.name_ = name_;
    out.offset_ = offset_;
    return out;
  }
  auto out = without_rows();
  out.shape_ = shape_;
  const auto inner = rows() / shape_[0];
  if (inner != 1) refuse("rotary pairs of rows");
  for (std::int64_t head = 0; head < heads; ++head)
    for (std::int64_t half = 0; half < 2; ++half)
      out.append_rows(*this, head * width + half, width / 2, 2);
  return out;
}

// One row, which must lie in one piece.
RowTensor RowTensor::stack_scalars(
    const std::vector<RowTensor>& parts,
    const RowTensor& like) {
  std::vector<std::byte> bytes, scratch(like.row_bytes() / parts.size());
  for (const auto& part : parts) {
    auto value = part.row(0, scratch);
    bytes.insert(bytes.end(), value.begin(), value.end());
  }
  auto out =
      from_bytes(like.origin_, like.storage_, like.shape_, std::move(bytes));
  out.name_ = like.name_;
  out.offset_ = like.offset_;
  return out;
}

RowTensor RowTensor::stack(const std::vector<RowTensor>& parts) {
  MLXLM_CHECK(!parts.empty(), "a stack has parts");
  auto out = parts.front().without_rows();
  out.shape_ = parts.front().shape_;
  out.shape_.insert(
      out.shape_.begin(), static_cast<std::int64_t>(parts.size()));
  for (const auto& part : parts) {
    if (part.shape_ != parts.front().shape_ || part.storage_ != out.storage_ ||
        part.offset_ != out.offset_)
      fail(
          ErrorKind::weights,
          part.where(),
          "expected [{}] of {} like {}, found [{}] of {}",
          fmt::join(parts.front().shape_, ", "),
          info(out.storage_).name,
          printable(parts.front().origin_),
          fmt::join(part.shape_, ", "),
          info(part.storage_).name);
    if (part.elements() > 0 && !part.shape_.empty())
      out.append_rows(part, 0, part.rows());
  }
  if (parts.front().shape_.empty()) return stack_scalars(parts, out);
  return out;
}

} // namespace mlxlm
