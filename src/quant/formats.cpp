#include "quant/formats.h"

#include "quant/families.h"

namespace mlxlm::quant {

std::vector<WeightFormatPtr> formats(const Fields& config) {
  return {
      mlx_format(config), // a module with scales
      gguf_format(), // blocks of GGUF types
      dense_format(), // F32, F16, BF16
  };
}

} // namespace mlxlm::quant
