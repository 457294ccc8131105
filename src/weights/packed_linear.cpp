// Linear layers over matrices repacked for the CPU kernels.

#include <mlx/ops.h>

#include <cstring>

#include "core/check.h"
#include "weights/kernels.h"

namespace mlxlm {
namespace {

class PackedLinear final : public LinearKernel {
 public:
  PackedLinear(
      kernels::MatrixPtr matrix,
      std::optional<mx::array> bias,
      kernels::Activations activations,
      std::string format,
      bool stacked)
      : matrix_(std::move(matrix)),
        bias_(std::move(bias)),
        activations_(activations),
        format_(std::move(format)),
        stacked_(stacked) {}

  mx::array operator()(const mx::array& x) const override {
    return kernels::linear(x, matrix_, bias_, activations_);
  }
  mx::array gather(const mx::array& x, const mx::array& ids) const override {
    return kernels::gather_linear(x, matrix_, ids, bias_, activations_);
  }
  mx::array rows(const mx::array& ids, mx::Dtype type) const override {
    return kernels::rows(matrix_, ids, type);
  }
  mx::array dense(mx::Dtype type) const override {
    return mx::reshape(kernels::unpack(matrix_, type), shape());
  }
  std::optional<mx::array> bias() const override {
    return bias_;
  }
  kernels::MatrixPtr packed() const override {
    return matrix_;
  }
  kernels::Activations activations() const override {
    return activations_;
  }
  mx::Shape shape() const override {
    if (stacked_) return {matrix_->experts(), matrix_->rows(), matrix_->cols()};
    return {matrix_->rows(), matrix_->cols()};
  }
  std::size_t bytes() const override {
    return matrix_->bytes() + (bias_ ? bias_->nbytes() : 0);
  }
  std::string format() const override {
    return format_;
  }

 private:
  kernels::MatrixPtr matrix_;
  std::optional<mx::array> bias_;
  kernels::Activations activations_;
  std::string format_;
  bool stacked_;
};

// Some rows of each expert.
class RowRange final : public kernels::RowSource {
 public:
  RowRange(
      std::shared_ptr<const kernels::RowSource> source,
      int rows,
      int begin,
      int end)
      : source_(std::move(source)),
        rows_(rows),
        begin_(begin),
        count_(end - begin) {}
  void row(int index, kernels::Row out) const override {
    source_->row(stored(index), out);
  }
  bool words(
      int index,
      std::span<std::uint32_t> codes,
      std::span<std::byte> params) const override {
    return source_->words(stored(index), codes, params);
  }
  // Other rows may still be wanted, but they are only read again.
  void done(int index) const override {
    source_->done(stored(index));
  }

 private:
  int stored(int index) const {
    return index / count_ * rows_ + begin_ + index % count_;
  }

  std::shared_ptr<const kernels::RowSource> source_;
  int rows_, begin_, count_;
};

// A packed matrix as rows of float32.
class FloatRows final : public kernels::RowSource {
 public:
  explicit FloatRows(kernels::MatrixPtr matrix) : matrix_(std::move(matrix)) {}
  void row(int index, kernels::Row out) const override {
    std::vector<float> values(static_cast<std::size_t>(matrix_->cols()));
    matrix_->dequantize(index, values);
    std::memcpy(out.codes.data(), values.data(), out.codes.size());
  }

 private:
  kernels::MatrixPtr matrix_;
};

} // namespace

EncodedMatrix dequantized(const EncodedMatrix& m) {
  auto out = m;
  out.source = std::make_shared<FloatRows>(
      kernels::pack(m.spec, m.rows, m.cols, m.experts, *m.source, m.where));
  out.spec = {};
  out.label = m.label + " as F32";
  return out;
}

EncodedMatrix row_range(const EncodedMatrix& matrix, int begin, int end) {
  MLXLM_CHECK(
      0 <= begin && begin < end && end <= matrix.rows,
      "a row range lies inside its matrix");
  if (begin == 0 && end == matrix.rows) return matrix;
  auto out = matrix;
  out.source =
      std::make_shared<RowRange>(matrix.source, matrix.rows, begin, end);
  out.rows = end - begin;
  out.stored_bytes = matrix.stored_bytes /
      static_cast<std::size_t>(matrix.rows) *
      static_cast<std::size_t>(out.rows);
  return out;
}

LinearKernelPtr packed_linear(
    const EncodedMatrix& m,
    std::optional<mx::array> bias,
    kernels::Activations activations) {
  auto packed =
      kernels::pack(m.spec, m.rows, m.cols, m.experts, *m.source, m.where);
  return std::make_shared<PackedLinear>(
      std::move(packed), std::move(bias), activations, m.label, m.stacked);
}

} // namespace mlxlm
