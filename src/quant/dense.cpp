// Plain F32, F16 and BF16 matrices.

#include "quant/families.h"
#include "weights/random.h"

namespace mlxlm::quant {
namespace {

class Dense final : public WeightFormat {
 public:
  std::string_view name() const override {
    return "dense";
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto* weight = module.peek("weight");
    if (weight == nullptr) return false;
    auto storage = weight->storage();
    return storage == Storage::f32 || storage == Storage::f16 ||
        storage == Storage::bf16;
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    return dense_matrix(module.take("weight"));
  }
};

} // namespace

WeightFormatPtr dense_format() {
  return std::make_shared<Dense>();
}

} // namespace mlxlm::quant
