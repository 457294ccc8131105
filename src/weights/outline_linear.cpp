// Linear layers of a model that is only looked at: a shape and no values.
#include <mlx/ops.h>

#include "weights/kernels.h"

namespace mlxlm {
namespace {

class OutlineLinear final : public LinearKernel {
 public:
  OutlineLinear(mx::Shape shape, std::string format, std::size_t bytes)
      : shape_(std::move(shape)), format_(std::move(format)), bytes_(bytes) {}

  // Zeros of the right shapes, for what families work out when they are built.
  mx::array operator()(const mx::array& x) const override {
    auto shape = x.shape();
    shape.back() = shape_[shape_.size() - 2];
    return mx::zeros(shape, x.dtype());
  }
  mx::array gather(const mx::array& x, const mx::array& ids) const override {
    auto shape = ids.shape();
    shape.push_back(shape_[shape_.size() - 2]);
    return mx::zeros(shape, x.dtype());
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
