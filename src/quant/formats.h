// The weight formats, in the order in which they are asked. A new format is one
// file here and one row in formats.cpp.
#pragma once

#include <vector>

#include "core/fields.h"
#include "weights/format.h"

namespace mlxlm::quant {

// `config`: the model's config.json (its `quantization` block, per-layer map
// included).
std::vector<WeightFormatPtr> formats(const Fields& config);

} // namespace mlxlm::quant
