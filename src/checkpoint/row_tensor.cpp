#include "checkpoint/row_tensor.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "checkpoint/checked.h"
#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {

RowTensor::RowTensor(std::shared_ptr<const TensorView> view)
    : name_(view->name),
      origin_(view->name),
      storage_(view->storage),
      shape_(view->shape) {
  const auto stride = static_cast<std::int64_t>(row_bytes());
  append({std::move(view), 0, stride, info(storage_).bytes, rows()});
}

RowTensor RowTensor::from_bytes(
    std::string name,
    Storage storage,
    Shape64 shape,
    std::vector<std::byte> bytes) {
  struct Owned {
    std::vector<std::byte> bytes;
    TensorView view;
  };
  const auto& type = info(storage);
  auto size = storage_bytes(shape, type.block, type.bytes);
  MLXLM_CHECK(
      size && *size == bytes.size(), "bytes of a tensor equal its shape");
  auto owned = std::make_shared<Owned>();
  owned->bytes = std::move(bytes);
  owned->view.name = std::move(name);
  owned->view.storage = storage;
  owned->view.shape = std::move(shape);
  owned->view.bytes = owned->bytes;
  return RowTensor(std::shared_ptr<const TensorView>(owned, &owned->view));
}

std::int64_t RowTensor::last() const {
  return shape_.empty() ? 1 : shape_.back();
}

std::int64_t RowTensor::row_blocks() const {
  return last() / info(storage_).block;
}

std::int64_t RowTensor::rows() const {
  if (shape_.empty()) return 1;
  return std::accumulate(
      shape_.begin(), shape_.end() - 1, std::int64_t{1}, std::multiplies<>());
}

std::int64_t RowTensor::elements() const {
  return rows() * last();
}

std::size_t RowTensor::row_bytes() const {
  return static_cast<std::size_t>(row_blocks() * info(storage_).bytes);
}

std::string RowTensor::where() const {
  if (segments_.empty()) return printable(name_);
  auto where = segments_.front().view->where();
  if (name_ == origin_) return where;
  return fmt::format("{} (as {})", where, printable(name_));
}

void RowTensor::refuse(const std::string& operation) const {
  fail(
      ErrorKind::weights,
      where(),
      "expected a tensor that allows {}, found [{}] of {}",
      operation,
      fmt::join(shape_, ", "),
      info(storage_).name);
}

int RowTensor::axis_of(int axis) const {
  const int dimensions = static_cast<int>(shape_.size());
  if (axis < -dimensions || axis >= dimensions)
    refuse(fmt::format("axis {}", axis));
  return axis < 0 ? axis + dimensions : axis;
}

RowTensor RowTensor::without_rows() const {
  RowTensor out;
  out.name_ = name_;
  out.origin_ = origin_;
  out.storage_ = storage_;
  out.offset_ = offset_;
  return out;
}

std::size_t RowTensor::segment_of(std::int64_t row) const {
  auto after = std::upper_bound(first_row_.begin(), first_row_.end(), row);
  return static_cast<std::size_t>(after - first_row_.begin()) - 1;
}

// Joins neighbours that lie in one arithmetic sequence.
void RowTensor::append(const RowSegment& segment) {
  if (segment.count == 0) return;
  if (!segments_.empty()) {
    auto& before = segments_.back();
    const bool same = before.view == segment.view &&
        before.block_stride == segment.block_stride;
    const auto gap = segment.offset - before.offset;
    if (same && before.count == 1 &&
        (segment.count == 1 || segment.row_stride == gap)) {
      before.row_stride = gap;
      before.count += segment.count;
      return;
    }
    if (same && gap == before.row_stride * before.count &&
        (segment.count == 1 || segment.row_stride == before.row_stride)) {
      before.count += segment.count;
      return;
    }
  }
  first_row_.push_back(
      segments_.empty() ? 0 : first_row_.back() + segments_.back().count);
  segments_.push_back(segment);
}

void RowTensor::append_rows(
    const RowTensor& other,
    std::int64_t first,
    std::int64_t count,
    std::int64_t step) {
  while (count > 0) {
    const auto at = other.segment_of(first);
    const auto& from = other.segments_[at];
    const auto inside = first - other.first_row_[at];
    const auto here = std::min(count, (from.count - inside + step - 1) / step);
    append(
        {from.view,
         from.offset + inside * from.row_stride,
         from.row_stride * step,
         from.block_stride,
         here});
    first += here * step;
    count -= here;
  }
}

std::span<const std::byte> RowTensor::row(
    std::int64_t index,
    std::span<std::byte> scratch) const {
  const auto at = segment_of(index);
  const auto& s = segments_[at];
  const auto begin = static_cast<std::size_t>(
      s.offset + (index - first_row_[at]) * s.row_stride);
  const auto block = static_cast<std::size_t>(info(storage_).bytes);
  if (s.block_stride == static_cast<std::int64_t>(block))
    return s.view->bytes.subspan(begin, row_bytes());
  const auto blocks = static_cast<std::size_t>(row_blocks());
  for (std::size_t i = 0; i < blocks; ++i)
    std::memcpy(
        scratch.data() + i * block,
        s.view->bytes.data() + begin +
            i * static_cast<std::size_t>(s.block_stride),
        block);
  return scratch.first(row_bytes());
}

void RowTensor::drop(std::int64_t begin, std::int64_t end) const {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const auto& s = segments_[i];
    const auto from = std::max(begin, first_row_[i]) - first_row_[i];
    const auto to = std::min(end, first_row_[i] + s.count) - first_row_[i];
    if (from >= to || s.view->file == nullptr || s.row_stride <= 0 ||
        s.block_stride != info(storage_).bytes)
      continue;
    s.view->file->drop(
        s.view->offset +
            static_cast<std::size_t>(s.offset + from * s.row_stride),
        static_cast<std::size_t>((to - from) * s.row_stride));
  }
}

RowTensor::Place RowTensor::place() const {
  if (segments_.empty()) return {};
  const auto& first = segments_.front();
  return {
      first.view->file.get(),
      first.view->offset + static_cast<std::size_t>(first.offset)};
}

} // namespace mlxlm
