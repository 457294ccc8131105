// The weight formats, in the order in which they are asked. A new format is one
// file here and one row in formats.cpp.
#pragma once

#include <vector>

#include "core/fields.h"
#include "weights/format.h"

namespace mlxlm::quant {

// `config`: the model's config.json (its `quantization` block, per-layer map
// included). `jang`: of a JANG checkpoint.
std::vector<WeightFormatPtr> formats(const Fields& config, bool jang = false);

} // namespace mlxlm::quant
