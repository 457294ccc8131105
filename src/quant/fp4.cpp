// NVFP4 and MXFP4 of modelopt and compressed-tensors: two e2m1 codes to a byte,
// a scale of one byte for 16 (e4m3) or 32 (e8m0) inputs, and for NVFP4 one more
// for the whole matrix.

#include <cmath>
#include <cstring>

#include "checkpoint/values.h"
#include "core/check.h"
#include "quant/codes.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

using kernels::Params;

class Fp4Rows final : public TensorRows {
 public:
  using TensorRows::TensorRows;
  void row(int index, kernels::Row out) const override {
    unpack_bits(stored(0, index), 4, out.codes);
    auto scales = stored(1, index);
    std::memcpy(out.params.data(), scales.data(), scales.size());
  }
};

class Fp4 final : public WeightFormat {
 public:
  std::string_view name() const override {
    return "FP4";
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto* weight = module.peek("weight");
    const auto* scale = module.peek("weight_scale");
    return weight != nullptr && scale != nullptr &&
        weight->storage() == Storage::u8 && !weight->shape().empty() &&
        scale->shape().size() == weight->shape().size() &&
        weight->shape().back() * 2 == module.in();
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    auto weight = module.take("weight"), scales = module.take("weight_scale");
    EncodedMatrix m;
    m.set_shape(weight);
    m.cols = module.in();
    const bool nv = scales.storage() == Storage::f8_e4m3 ||
        (scales.storage() == Storage::u8 &&
         m.cols / 16 == scales.shape().back());
    m.spec.codes = kernels::Codes::table;
    m.spec.bits = 4;
    m.spec.table = e2m1;
    m.spec.half = true;
    m.spec.group = nv ? 16 : 32;
    m.spec.params = nv ? Params::e4m3_scale : Params::e8m0_scale;
    auto shape = weight.shape();
    shape.back() = m.cols / m.spec.group;
    check_shape(scales, shape);
    if (!nv && scales.storage() != Storage::u8 &&
        scales.storage() != Storage::f8_e8m0)
      fail(
          ErrorKind::weights,
          scales.where(),
          "expected scales of F8_E4M3, F8_E8M0 or U8, found {}",
          info(scales.storage()).name);
    m.stored_bytes += scales.bytes();
    m.label = nv ? "nvfp4" : "mxfp4";
    add_factors(module, m);
    m.source = std::make_shared<Fp4Rows>(std::vector{weight, scales});
    return m;
  }

 private:
  // modelopt multiplies by its second scale, compressed-tensors divides.
  static void add_factors(const ModuleTensors& module, EncodedMatrix& m) {
    const bool divides = module.has("weight_global_scale");
    if (!divides && !module.has("weight_scale_2")) return;
    auto stored =
        module.take(divides ? "weight_global_scale" : "weight_scale_2");
    auto values = read_floats(stored);
    if (values.size() != static_cast<std::size_t>(m.experts))
      fail(
          ErrorKind::weights,
          stored.where(),
          "expected one scale a matrix, found [{}]",
          fmt::join(stored.shape(), ", "));
    bool ones = true;
    for (auto& value : values) {
      if (divides) value = 1 / value;
      if (!std::isfinite(value) || value == 0)
        fail(
            ErrorKind::weights,
            stored.where(),
            "expected finite scales other than 0, found others");
      ones = ones && value == 1;
    }
    if (!ones) m.factors = std::move(values);
  }
};

} // namespace

WeightFormatPtr fp4_format() {
  return std::make_shared<Fp4>();
}

} // namespace mlxlm::quant
