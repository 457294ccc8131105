// Linear layers with what a fine-tuning adds to them: LoRA and DoRA, over any
// base.

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>

#include "weights/kernels.h"

namespace mlxlm {
namespace {

class AdaptedLinear final : public LinearKernel {
 public:
  AdaptedLinear(LinearKernelPtr base, LowRankLinear parts)
      : base_(std::move(base)), parts_(std::move(parts)) {
    if (!parts_.magnitude) return;
    gain_ = *parts_.magnitude / lengths();
    if (auto b = base_->bias()) bias_rest_ = *b - *gain_ * *b;
    mx::eval(*gain_);
    if (bias_rest_) mx::eval(*bias_rest_);
  }

  mx::array operator()(const mx::array& x) const override {
    auto y = plus((*base_)(x), (*parts_.up)((*parts_.down)(x)));
    if (!gain_) return y;
    // The base's bias keeps its size.
    y = y * *gain_;
    return mx::astype(bias_rest_ ? y + *bias_rest_ : y, x.dtype());
  }
  mx::array gather(const mx::array& x, const mx::array& ids) const override {
    return plus(
        base_->gather(x, ids),
        parts_.up->gather(parts_.down->gather(x, ids), ids));
  }
  mx::array rows(const mx::array& ids, mx::Dtype type) const override {
    auto added = mx::matmul(
        parts_.up->rows(ids, mx::float32), parts_.down->dense(mx::float32));
    auto out = plus(base_->rows(ids, mx::float32), added);
    if (gain_) out = out * mx::expand_dims(mx::take(*gain_, ids, 0), -1);
    return mx::astype(out, type);
  }
  mx::array dense(mx::Dtype type) const override {
    auto added = mx::matmul(
        parts_.up->dense(mx::float32), parts_.down->dense(mx::float32));
    auto out = plus(base_->dense(mx::float32), added);
    if (gain_) out = out * mx::expand_dims(*gain_, -1);
    return mx::astype(out, type);
  }
  std::optional<mx::array> bias() const override {
    return base_->bias();
  }
  kernels::Activations activations() const override {
    return base_->activations();
  }
  mx::Shape shape() const override {
    return base_->shape();
  }
  std::size_t bytes() const override {
    return base_->bytes() + parts_.down->bytes() + parts_.up->bytes() +
        (gain_ ? gain_->nbytes() : 0);
  }
  std::string format() const override {
    return base_->format();
  }

 private:
  mx::array plus(const mx::array& y, const mx::array& z) const {
    return y + mx::astype(z * mx::array(parts_.scale, z.dtype()), y.dtype());
  }
  // Of the adapted rows [out], some thousands of them at a time.
  mx::array lengths() const {
    constexpr int some = 4096;
    const int out = base_->shape()[0];
    const auto down = parts_.down->dense(mx::float32);
    std::vector<mx::array> all;
    for (int begin = 0; begin < out; begin += some) {
      auto ids = mx::arange(begin, std::min(out, begin + some), mx::int32);
      auto added = mx::matmul(parts_.up->rows(ids, mx::float32), down);
      auto w = plus(base_->rows(ids, mx::float32), added);
      all.push_back(mx::sqrt(mx::sum(mx::square(w), -1)));
      all.back().eval();
    }
    return mx::concatenate(std::move(all));
  }

  LinearKernelPtr base_;
  LowRankLinear parts_;
  std::optional<mx::array> gain_, bias_rest_; // [out]
};

} // namespace

LinearKernelPtr adapted_linear(LinearKernelPtr base, LowRankLinear parts) {
  return std::make_shared<AdaptedLinear>(std::move(base), std::move(parts));
}

} // namespace mlxlm
