#include "quant/formats.h"

#include "quant/families.h"

namespace mlxlm::quant {

std::vector<WeightFormatPtr> formats(const Fields& config, bool jang) {
  std::vector<WeightFormatPtr> out = {
      mlx_format(config), // a module with scales
      gguf_format(), // blocks of GGUF types
      dense_format(), // F32, F16, BF16
  };
  if (jang) out.insert(out.begin(), jang_gates());
  return out;
}

} // namespace mlxlm::quant
