// Router gates of JANG checkpoints: quantized in the file, float32 in the
// model.

#include "core/strings.h"
#include "quant/families.h"
#include "weights/kernels.h"

namespace mlxlm::quant {
namespace {

class JangGates final : public WeightFormat {
 public:
  JangGates() : stored_(mlx_format(Fields(Json::object(), "config.json"))) {}
  std::string_view name() const override {
    return "JANG gate";
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto& path = module.path();
    return (ends_with(path, ".gate") ||
            ends_with(path, ".shared_expert_gate")) &&
        stored_->recognises(module);
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    return dequantized(stored_->open(module));
  }

 private:
  WeightFormatPtr stored_;
};

} // namespace

WeightFormatPtr jang_gates() {
  return std::make_shared<JangGates>();
}

} // namespace mlxlm::quant
