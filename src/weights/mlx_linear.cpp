// Linear layers over MLX arrays.

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cstring>

#include "core/check.h"
#include "weights/kernels.h"

namespace mlxlm {
namespace {

// x: [T, 1 or k, in] with one expert's matrix per choice -> [T, k, out].
mx::array gather_bias(
    mx::array y,
    const std::optional<mx::array>& bias,
    const mx::array& ids) {
  y = mx::squeeze(y, -2);
  if (bias) y = y + mx::take(*bias, ids, 0);
  return y;
}

class MlxLinear : public LinearKernel {
 public:
  MlxLinear(std::optional<mx::array> bias, mx::Shape shape, std::string format)
      : bias_(std::move(bias)),
        shape_(std::move(shape)),
        format_(std::move(format)) {}
  std::optional<mx::array> bias() const override {
    return bias_;
  }
  mx::Shape shape() const override {
    return shape_;
  }
  std::string format() const override {
    return format_;
  }

 protected:
  mx::array finish(const mx::array& y, mx::Dtype type) const {
    return mx::astype(bias_ ? y + *bias_ : y, type);
  }
  std::size_t bias_bytes() const {
    return bias_ ? bias_->nbytes() : 0;
  }

 private:
  std::optional<mx::array> bias_;
  mx::Shape shape_;
  std::string format_;
};

class QuantizedLinear final : public MlxLinear {
 public:
  QuantizedLinear(
      MlxForm form,
      std::optional<mx::array> bias,
      mx::Shape shape,
      std::string format)
      : MlxLinear(std::move(bias), std::move(shape), std::move(format)),
        f_(std::move(form)) {}

  mx::array operator()(const mx::array& x) const override {
    auto y = mx::quantized_matmul(
        x, f_.weight, f_.scales, f_.biases, true, f_.group, f_.bits, f_.mode);
    return finish(y, x.dtype());
  }
  mx::array gather(const mx::array& x, const mx::array& ids) const override {
    auto y = mx::gather_qmm(
        mx::expand_dims(x, -2),
        f_.weight,
        f_.scales,
        f_.biases,
        std::nullopt,
        ids,
        true,
        f_.group,
        f_.bits,
        f_.mode);
    return mx::astype(gather_bias(y, bias(), ids), x.dtype());
  }
  mx::array rows(const mx::array& ids, mx::Dtype type) const override {
    std::optional<mx::array> biases;
    if (f_.biases) biases = mx::take(*f_.biases, ids, 0);
    return values(
        mx::take(f_.weight, ids, 0), mx::take(f_.scales, ids, 0), biases, type);
  }
  mx::array dense(mx::Dtype type) const override {
    return values(f_.weight, f_.scales, f_.biases, type);
  }
  std::size_t bytes() const override {
    return f_.weight.nbytes() + f_.scales.nbytes() +
        (f_.biases ? f_.biases->nbytes() : 0) + bias_bytes();
  }

 private:
  mx::array values(
      const mx::array& w,
      const mx::array& scales,
      const std::optional<mx::array>& biases,
      mx::Dtype type) const {
    // Affine scales may be f16; the values are worked out in `type`.
    auto out = biases ? mx::dequantize(
                            w,
                            mx::astype(scales, type),
                            mx::astype(*biases, type),
                            f_.group,
                            f_.bits,
                            f_.mode)
                      : mx::dequantize(
                            w,
                            scales,
                            std::nullopt,
                            f_.group,
                            f_.bits,
                            f_.mode,
                            std::nullopt,
                            mx::float32);
    return mx::astype(out, type);
  }
  MlxForm f_;
};

class DenseLinear final : public MlxLinear {
 public:
  DenseLinear(
      mx::array weight,
      std::optional<mx::array> bias,
      std::string format)
      : MlxLinear(std::move(bias), weight.shape(), std::move(format)),
        weight_(std::move(weight)) {}

  mx::array operator()(const mx::array& x) const override {
    return finish(mx::matmul(x, mx::swapaxes(weight_, -1, -2)), x.dtype());
  }
  mx::array gather(const mx::array& x, const mx::array& ids) const override {
    auto y = mx::gather_mm(
        mx::expand_dims(x, -2),
        mx::swapaxes(weight_, -1, -2),
        std::nullopt,
        ids);
    return mx::astype(gather_bias(y, bias(), ids), x.dtype());
  }
  mx::array rows(const mx::array& ids, mx::Dtype type) const override {
    return mx::astype(mx::take(weight_, ids, 0), type);
  }
  mx::array dense(mx::Dtype type) const override {
    return mx::astype(weight_, type);
  }
  std::size_t bytes() const override {
    return weight_.nbytes() + bias_bytes();
  }

 private:
  mx::array weight_;
};

// A dense matrix as stored, then in `type`.
mx::array dense_array(
    const EncodedMatrix& m,
    const mx::Shape& shape,
    mx::Dtype type) {
  const auto rows =
      static_cast<std::size_t>(m.rows) * static_cast<std::size_t>(m.experts);
  const bool wide = m.spec.codes == kernels::Codes::f32;
  const std::size_t row_bytes =
      static_cast<std::size_t>(m.cols) * (wide ? 4 : 2);
  std::vector<std::uint8_t> bytes(rows * row_bytes);
  for (std::size_t r = 0; r < rows; ++r)
    m.source->row(
        static_cast<int>(r),
        {std::span(bytes).subspan(r * row_bytes, row_bytes), {}});
  m.source->done(static_cast<int>(rows));
  auto stored = wide
      ? mx::array(
            reinterpret_cast<const float*>(bytes.data()), shape, mx::float32)
      : mx::view(
            mx::array(
                reinterpret_cast<const std::uint16_t*>(bytes.data()),
                shape,
                mx::uint16),
            m.spec.codes == kernels::Codes::f16 ? mx::float16 : mx::bfloat16);
  auto out = mx::astype(stored, type);
  out.eval();
  return out;
}

} // namespace

LinearKernelPtr mlx_linear(
    const EncodedMatrix& m,
    std::optional<mx::array> bias,
    mx::Dtype type) {
  mx::Shape shape = m.stacked ? mx::Shape{m.experts, m.rows, m.cols}
                              : mx::Shape{m.rows, m.cols};
  if (m.spec.dense())
    return std::make_shared<DenseLinear>(
        dense_array(m, shape, type), std::move(bias), m.label);
  if (auto form = mlx_form(m))
    return std::make_shared<QuantizedLinear>(
        std::move(*form), std::move(bias), std::move(shape), m.label);
  auto packed =
      kernels::pack(m.spec, m.rows, m.cols, m.experts, *m.source, m.where);
  auto weight = mx::reshape(kernels::unpack(packed, mx::float16), shape);
  weight.eval();
  return std::make_shared<DenseLinear>(
      weight, std::move(bias), m.label + " as F16");
}

} // namespace mlxlm
