#include "convert/values.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <array>
#include <cstring>

#include "checkpoint/values.h"
#include "core/check.h"
#include "runtime/kernels/matrix.h"

namespace mlxlm::converting {
namespace {

struct TypePair {
  Storage storage;
  mx::Dtype type;
};
const std::array<TypePair, 12>& types() {
  static const std::array<TypePair, 12> table = {{
      {Storage::f32, mx::float32},
      {Storage::f16, mx::float16},
      {Storage::bf16, mx::bfloat16},
      {Storage::i64, mx::int64},
      {Storage::i32, mx::int32},
      {Storage::i16, mx::int16},
      {Storage::i8, mx::int8},
      {Storage::u64, mx::uint64},
      {Storage::u32, mx::uint32},
      {Storage::u16, mx::uint16},
      {Storage::u8, mx::uint8},
      {Storage::boolean, mx::bool_},
  }};
  return table;
}

// An array of `type` over a copy of `bytes`.
mx::array array_from(
    std::vector<std::uint64_t> bytes,
    const mx::Shape& shape,
    mx::Dtype type) {
  auto* words = new std::vector<std::uint64_t>(std::move(bytes));
  return mx::array(
      words->data(), shape, type, [words](void*) { delete words; });
}

// Rows of a tensor as stored, aligned.
std::vector<std::uint64_t> gathered(
    const RowTensor& tensor,
    std::int64_t begin,
    std::int64_t end) {
  const auto width = tensor.row_bytes();
  const auto count = static_cast<std::size_t>(end - begin);
  std::vector<std::uint64_t> out((width * count + 7) / 8);
  std::vector<std::byte> scratch(width);
  auto* at = reinterpret_cast<std::byte*>(out.data());
  for (auto i = begin; i < end; ++i, at += width) {
    auto row = tensor.row(i, scratch);
    std::memcpy(at, row.data(), width);
  }
  return out;
}

mx::array stored_rows(
    const RowTensor& tensor,
    std::int64_t begin,
    std::int64_t end,
    mx::Dtype type) {
  const auto n = static_cast<int>(end - begin);
  const auto cols = static_cast<int>(
      tensor.row_bytes() / static_cast<std::size_t>(size_of(type)));
  return array_from(gathered(tensor, begin, end), {n, cols}, type);
}

class Stored final : public Values {
 public:
  Stored(RowTensor tensor, mx::Dtype type)
      : tensor_(std::move(tensor)), type_(type) {}
  const Shape64& shape() const override {
    return tensor_.shape();
  }
  mx::Dtype type() const override {
    return type_;
  }
  mx::array rows(std::int64_t begin, std::int64_t end) const override {
    auto out = stored_rows(tensor_, begin, end, type_);
    if (tensor_.offset() == 0) return out;
    return out + mx::array(tensor_.offset(), type_);
  }
  void drop(std::int64_t begin, std::int64_t end) const override {
    tensor_.drop(begin, end);
  }

 private:
  RowTensor tensor_;
  mx::Dtype type_;
};

class Unpacked final : public Values {
 public:
  Unpacked(
      RowTensor weight,
      RowTensor scales,
      std::optional<RowTensor> biases,
      int bits,
      int group,
      std::string mode,
      mx::Dtype type)
      : weight_(std::move(weight)),
        scales_(std::move(scales)),
        biases_(std::move(biases)),
        bits_(bits),
        group_(group),
        mode_(std::move(mode)),
        shape_(scales_.shape()),
        type_(biases_ ? type : mx::bfloat16) {
    shape_.back() *= group_;
  }
  const Shape64& shape() const override {
    return shape_;
  }
  mx::Dtype type() const override {
    return type_;
  }
  mx::array rows(std::int64_t begin, std::int64_t end) const override {
    auto parameters = [&](const RowTensor& tensor) {
      if (!biases_) return stored_rows(tensor, begin, end, mx::uint8);
      auto stored = *mlx_type(tensor.storage());
      return mx::astype(stored_rows(tensor, begin, end, stored), type_);
    };
    std::optional<mx::array> biases;
    if (biases_) biases = parameters(*biases_);
    return mx::dequantize(
        stored_rows(weight_, begin, end, mx::uint32),
        parameters(scales_),
        biases,
        group_,
        bits_,
        mode_);
  }
  void drop(std::int64_t begin, std::int64_t end) const override {
    weight_.drop(begin, end);
    scales_.drop(begin, end);
    if (biases_) biases_->drop(begin, end);
  }

 private:
  RowTensor weight_, scales_;
  std::optional<RowTensor> biases_;
  int bits_, group_;
  std::string mode_;
  Shape64 shape_;
  mx::Dtype type_;
};

// Rows of `source` from `first` on.
class LaterRows final : public kernels::RowSource {
 public:
  LaterRows(std::shared_ptr<const kernels::RowSource> source, int first)
      : source_(std::move(source)), first_(first) {}
  void row(int index, kernels::Row out) const override {
    source_->row(first_ + index, out);
  }

 private:
  std::shared_ptr<const kernels::RowSource> source_;
  int first_;
};

class Decoded final : public Values {
 public:
  Decoded(EncodedMatrix matrix, mx::Dtype type)
      : matrix_(std::move(matrix)),
        type_(type),
        shape_({matrix_.rows, matrix_.cols}) {
    if (matrix_.stacked) shape_.insert(shape_.begin(), matrix_.experts);
  }
  const Shape64& shape() const override {
    return shape_;
  }
  mx::Dtype type() const override {
    return type_;
  }
  mx::array rows(std::int64_t begin, std::int64_t end) const override {
    const auto n = static_cast<int>(end - begin);
    LaterRows source(matrix_.source, static_cast<int>(begin));
    auto packed =
        kernels::pack(matrix_.spec, n, matrix_.cols, 1, source, matrix_.where);
    const auto cols = static_cast<std::size_t>(matrix_.cols);
    std::vector<float> out(static_cast<std::size_t>(n) * cols);
    for (int i = 0; i < n; ++i) {
      auto row =
          std::span(out).subspan(static_cast<std::size_t>(i) * cols, cols);
      packed->dequantize(i, row);
      matrix_.unframe(static_cast<int>(begin) + i, row);
    }
    mx::array values(out.data(), {n, matrix_.cols}, mx::float32);
    return mx::astype(values, type_);
  }
  void drop(std::int64_t, std::int64_t end) const override {
    matrix_.source->done(static_cast<int>(end));
  }

 private:
  EncodedMatrix matrix_;
  mx::Dtype type_;
  Shape64 shape_;
};

// Needs its source whole when transposed; these matrices are small.
class Heads final : public Values {
 public:
  Heads(
      ValuesPtr values,
      std::int64_t heads,
      std::int64_t begin,
      std::int64_t end,
      bool transposed)
      : values_(std::move(values)),
        begin_(begin),
        size_(end - begin),
        per_head_(values_->row_count() / heads),
        transposed_(transposed),
        shape_(
            transposed ? Shape64{heads, values_->cols(), size_}
                       : Shape64{heads, size_, values_->cols()}) {}
  const Shape64& shape() const override {
    return shape_;
  }
  mx::Dtype type() const override {
    return values_->type();
  }
  mx::array rows(std::int64_t begin, std::int64_t end) const override {
    const auto inner = shape_[1]; // rows of a head
    std::vector<mx::array> parts;
    for (auto at = begin; at < end;) {
      const auto head = at / inner;
      const auto stop = std::min(end, (head + 1) * inner);
      parts.push_back(of_head(head, at - head * inner, stop - head * inner));
      at = stop;
    }
    return mx::concatenate(std::move(parts), 0);
  }

 private:
  mx::array of_head(std::int64_t head, std::int64_t begin, std::int64_t end)
      const {
    const auto base = head * per_head_ + begin_;
    if (!transposed_) return values_->rows(base + begin, base + end);
    auto whole = mx::transpose(values_->rows(base, base + size_)); // [cols, n]
    return mx::slice(
        whole,
        {static_cast<int>(begin), 0},
        {static_cast<int>(end), static_cast<int>(size_)});
  }

  ValuesPtr values_;
  std::int64_t begin_, size_, per_head_;
  bool transposed_;
  Shape64 shape_;
};

} // namespace

std::int64_t Values::cols() const {
  return shape().empty() ? 1 : shape().back();
}

std::int64_t Values::row_count() const {
  std::int64_t n = 1;
  for (std::size_t i = 0; i + 1 < shape().size(); ++i)
    n *= shape()[i];
  return n;
}

std::optional<mx::Dtype> mlx_type(Storage storage) {
  for (const auto& pair : types())
    if (pair.storage == storage) return pair.type;
  return std::nullopt;
}

Storage storage_of(mx::Dtype type) {
  for (const auto& pair : types())
    if (pair.type == type) return pair.storage;
  fail(ErrorKind::internal, "convert", "expected a type that files have");
}

ValuesPtr stored_values(const RowTensor& tensor) {
  auto type = mlx_type(tensor.storage());
  if (!type)
    fail(
        ErrorKind::weights,
        tensor.where(),
        "expected a type that MLX has, found {}",
        info(tensor.storage()).name);
  return std::make_shared<Stored>(tensor, *type);
}

ValuesPtr unpacked_values(
    const RowTensor& weight,
    const RowTensor& scales,
    const RowTensor* biases,
    int bits,
    int group,
    const std::string& mode,
    mx::Dtype type) {
  std::optional<RowTensor> b;
  if (biases != nullptr) b = *biases;
  return std::make_shared<Unpacked>(weight, scales, b, bits, group, mode, type);
}

ValuesPtr decoded_values(const EncodedMatrix& matrix, mx::Dtype type) {
  return std::make_shared<Decoded>(matrix, type);
}

ValuesPtr head_values(
    ValuesPtr values,
    std::int64_t heads,
    std::int64_t begin,
    std::int64_t end,
    bool transposed) {
  MLXLM_CHECK(
      heads > 0 && values->row_count() % heads == 0 &&
          end <= values->row_count() / heads,
      "heads divide the rows of their matrix");
  return std::make_shared<Heads>(
      std::move(values), heads, begin, end, transposed);
}

} // namespace mlxlm::converting
