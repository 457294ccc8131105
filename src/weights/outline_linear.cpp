// Linear layers of a model that is only looked at: a shape and no values.
#include <mlx/ops.h>

#include "core/check.h"
#include "weights/kernels.h"

namespace mlxlm {
namespace {

class OutlineLinear final : public LinearKernel {
 public:
  OutlineLinear(mx::Shape shape, std::string format, std::size_t bytes)
      : shape_(std::move(shape)), format_(std::move(format)), bytes_(bytes) {}

  mx::array operator()(const mx::array&) const override {
    refuse();
  }
  mx::array gather(const mx::array&, const mx::array&) const override {
    refuse();
  }
  mx::array rows(const mx::array& ids, mx::Dtype type) const override {
    auto shape = ids.shape();
    shape.push_back(shape_.back());
    return mx::zeros(shape, type);
  }
  mx::array dense(mx::Dtype type) const override {
    return mx::zeros(shape_, type); // never evaluated
  }
  mx::Shape shape() const override {
    return shape_;
  }
  std::size_t bytes() const override {
    return bytes_;
  }
  std::string format() const override {
    return format_;
  }

 private:
  [[noreturn]] void refuse() const {
    fail(
        ErrorKind::internal,
        "outline of a model",
        "expected no call, found a product with a matrix [{}]",
        fmt::join(shape_, ", "));
  }

  mx::Shape shape_;
  std::string format_;
  std::size_t bytes_;
};

} // namespace

LinearKernelPtr outline_linear(const EncodedMatrix& matrix) {
  mx::Shape shape{matrix.rows, matrix.cols};
  if (matrix.stacked) shape.insert(shape.begin(), matrix.experts);
  return std::make_shared<OutlineLinear>(
      std::move(shape), matrix.label, matrix.stored_bytes);
}

} // namespace mlxlm
