// Linear layers whose columns are stored in another order than the inputs come
// in, or whose outputs are scaled as a whole: GPTQ's act-order, NVFP4's global
// scale.

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <numeric>

#include "core/check.h"
#include "weights/kernels.h"

namespace mlxlm {
namespace {

class FramedLinear final : public LinearKernel {
 public:
  FramedLinear(
      LinearKernelPtr inner,
      const EncodedMatrix& m,
      std::optional<mx::array> bias)
      : inner_(std::move(inner)), bias_(std::move(bias)) {
    if (!m.order.empty()) {
      auto shape = mx::Shape{m.experts, m.cols};
      order_ = mx::array(m.order.data(), shape, mx::int32);
      place_ = mx::argsort(*order_, -1);
      mx::eval(*order_, *place_);
    }
    if (!m.factors.empty())
      factors_ = mx::array(m.factors.data(), {m.experts}, mx::float32);
  }

  mx::array operator()(const mx::array& x) const override {
    auto in = order_ ? mx::take(x, mx::squeeze(*order_, 0), -1) : x;
    auto y = (*inner_)(wide(in));
    if (factors_) y = y * *factors_;
    return mx::astype(bias_ ? y + *bias_ : y, x.dtype());
  }
  mx::array gather(const mx::array& x, const mx::array& ids) const override {
    auto in = x;
    if (order_) { // each choice has an order of its own
      auto order = mx::take(*order_, ids, 0); // [T, k, in]
      in = mx::take_along_axis(mx::broadcast_to(x, order.shape()), order, -1);
    }
    auto y = inner_->gather(wide(in), ids);
    if (factors_) y = y * mx::expand_dims(mx::take(*factors_, ids, 0), -1);
    if (bias_) y = y + mx::take(*bias_, ids, 0);
    return mx::astype(y, x.dtype());
  }
  mx::array rows(const mx::array& ids, mx::Dtype type) const override {
    auto out = inner_->rows(ids, mx::float32);
    if (place_) out = mx::take(out, mx::squeeze(*place_, 0), -1);
    return mx::astype(factors_ ? out * *factors_ : out, type);
  }
  mx::array dense(mx::Dtype type) const override {
    auto out = inner_->dense(mx::float32);
    const bool stacked = out.ndim() == 3;
    if (place_ && stacked)
      out = mx::take_along_axis(
          out, mx::broadcast_to(mx::expand_dims(*place_, 1), out.shape()), -1);
    else if (place_)
      out = mx::take(out, mx::squeeze(*place_, 0), -1);
    if (factors_)
      out = out * (stacked ? mx::reshape(*factors_, {-1, 1, 1}) : *factors_);
    return mx::astype(out, type);
  }
  std::optional<mx::array> bias() const override {
    return bias_;
  }
  kernels::Activations activations() const override {
    return inner_->activations();
  }
  mx::Shape shape() const override {
    return inner_->shape();
  }
  std::size_t bytes() const override {
    return inner_->bytes() + (bias_ ? bias_->nbytes() : 0) +
        (order_ ? 2 * order_->nbytes() : 0);
  }
  std::string format() const override {
    return inner_->format();
  }

 private:
  // Without their factor values may leave float16's range.
  mx::array wide(const mx::array& x) const {
    return factors_ && x.dtype() == mx::float16 ? mx::astype(x, mx::float32)
                                                : x;
  }

  LinearKernelPtr inner_;
  std::optional<mx::array> bias_;
  std::optional<mx::array> order_,
      place_; // [experts, in]; one undoes the other
  std::optional<mx::array> factors_; // [experts]
};

} // namespace

LinearKernelPtr framed_linear(
    LinearKernelPtr inner,
    const EncodedMatrix& matrix,
    std::optional<mx::array> bias) {
  const auto experts = static_cast<std::size_t>(matrix.experts);
  MLXLM_CHECK(
      matrix.order.empty() ||
          matrix.order.size() ==
              experts * static_cast<std::size_t>(matrix.cols),
      "an order has every column");
  MLXLM_CHECK(
      matrix.factors.empty() || matrix.factors.size() == experts,
      "an expert has one factor");
  return std::make_shared<FramedLinear>(
      std::move(inner), matrix, std::move(bias));
}

} // namespace mlxlm
